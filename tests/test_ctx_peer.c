/*
 * ctx_with_peer(): a context ends when the client at the other end of a socket
 * hangs up, though our descriptor is closed, until it is freed.
 *
 * What the service thread does is met on order (faults.h) or looked for.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <rota/io.h>

#include "faults.h"
#include "pair.h"

START_TEST(context_ends_when_the_peer_hangs_up)
{
    struct ctx *peer = ctx_with_peer(ctx, pair[0]);
    char byte;
    size_t n;

    ck_assert_int_eq(write(pair[1], "x", 1), 1);
    ck_assert_int_eq(ctx_wait(peer, ctx_now() + ROTA_MS(5)), ROTA_TIMEOUT);
    (void)close(pair[1]);
    pair[1] = -1;
    ck_assert_int_eq(ctx_wait(peer, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(peer), "the peer hung up");
    ck_assert(!ctx_done(ctx));
    /* what it said before is there */
    ck_assert_int_eq(ctx_read(ctx, pair[0], &byte, 1, ROTA_FOREVER, &n),
                     ROTA_OK);
    ck_assert_uint_eq(n, 1);
    ctx_end(peer);
}
END_TEST

START_TEST(peer_is_watched_when_our_descriptor_is_closed_and_until_it_is_freed)
{
    struct ctx *peer = ctx_with_peer(ctx, pair[0]);

    (void)close(pair[0]);
    pair[0] = -1;
    ck_assert_int_eq(write(pair[1], "x", 1), 1); /* our duplicate is open */
    ctx_end(peer);
    ck_assert_int_eq(send(pair[1], "x", 1, MSG_NOSIGNAL), -1);
    ck_assert_int_eq(errno, EPIPE);
}
END_TEST

START_TEST(what_is_no_socket_cannot_be_watched)
{
    struct ctx *peer = ctx_with_peer(ctx, -1);
    int file = open("/dev/null", O_RDWR), next = dup(0);

    ck_assert_int_eq(ctx_err(peer), ROTA_NOMEM);
    ctx_end(peer);
    (void)close(next);
    peer = ctx_with_peer(ctx, file); /* open, and never hangs up */
    ck_assert_int_eq(ctx_err(peer), ROTA_NOMEM);
    ctx_end(peer);
    ck_assert_int_eq(dup(0), next); /* its duplicate is closed */
    (void)close(next);
    (void)close(file);
    ctx_cancel(ctx);
    peer = ctx_with_peer(ctx, -1); /* born done: nobody looks */
    ck_assert_int_eq(ctx_err(peer), ROTA_CANCELED);
    ctx_end(peer);
}
END_TEST

START_TEST(peers_are_watched_though_a_signal_wakes_who_watches)
{
    struct ctx *peer;

    faults_answer("epoll_wait", 0, EINTR); /* the thread's first */
    peer = ctx_with_peer(ctx, pair[0]);
    AWAIT(faults_have_answered());
    (void)close(pair[1]);
    pair[1] = -1;
    ck_assert_int_eq(ctx_wait(peer, ROTA_FOREVER), ROTA_CANCELED);
    ctx_end(peer);
}
END_TEST

/* The peer hangs up, and whoever watches has looked twice. */
static void
hang_up(void *arg)
{
    (void)arg;
    faults_answer("epoll_wait", 3, EINTR);
    (void)close(pair[1]);
    pair[1] = -1;
    AWAIT(faults_have_answered());
}

START_TEST(peer_that_hangs_up_on_what_nobody_holds_any_more_ends_nothing)
{
    struct ctx *peer = ctx_with_peer(ctx, pair[0]), *next;
    int fds[2];

    /* the first lock that freeing takes; the last reference has gone */
    faults_meet("pthread_mutex_lock", 0, hang_up, NULL);
    ctx_unref(peer);
    ck_assert_int_eq(pair[1], -1);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    next = ctx_with_peer(ctx, fds[0]);
    (void)close(fds[1]);
    ck_assert_int_eq(ctx_wait(next, ROTA_FOREVER), ROTA_CANCELED);
    ctx_end(next);
    (void)close(fds[0]);
}
END_TEST

START_TEST(peers_may_hang_up_while_their_contexts_are_freed)
{
    for (int i = 0; i < MANY(4000); i++) {
        struct ctx *peer = ctx_with_peer(ctx, pair[0]);

        (void)close(pair[1]);
        if (i % 2 == 0)
            ctx_cancel(peer);
        ctx_end(peer);
        (void)close(pair[0]);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    }
    ck_assert_int_eq(threads_named("rota-peers"), 1);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_peers(TCase *t)
{
    tcase_add_test(t, context_ends_when_the_peer_hangs_up);
    tcase_add_test(
        t, peer_is_watched_when_our_descriptor_is_closed_and_until_it_is_freed);
    tcase_add_test(t, what_is_no_socket_cannot_be_watched);
    tcase_add_test(t, peers_are_watched_though_a_signal_wakes_who_watches);
    tcase_add_test(
        t, peer_that_hangs_up_on_what_nobody_holds_any_more_ends_nothing);
    tcase_add_test(t, peers_may_hang_up_while_their_contexts_are_freed);
}

int
main(void)
{
    Suite *suite = suite_create("ctx_peer");

    add_peers(pair_case(suite, "peers"));
    return suite_run(suite);
}
