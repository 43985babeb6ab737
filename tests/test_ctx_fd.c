/*
 * ctx_fd(): a descriptor that is readable once the context has ended, the same
 * for all who ask, and none that is missed when there is none to be had.
 *
 * Threads that ask at once come through a gate.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <rota/io.h>
#include <rota/scheduler.h>

#include "context/node.h"
#include "faults.h"
#include "pair.h"

/* Whether poll() finds fd readable by now. */
static bool
is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    ck_assert_int_ge(poll(&one, 1, 0), 0);
    return one.revents == POLLIN;
}

START_TEST(descriptor_is_readable_once_the_context_has_ended_and_stays_so)
{
    struct ctx *child = ctx_with_cancel(ctx);
    int fd = ctx_fd(child);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ctx_fd(child), fd);
    ck_assert(!is_readable(fd));
    ctx_cancel(ctx);
    ck_assert(is_readable(fd));
    ck_assert(is_readable(fd));
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ctx_end(child);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* it went with it */
}
END_TEST

START_TEST(descriptor_of_what_is_done_is_readable_at_once)
{
    struct ctx *late = ctx_with_timeout(ctx, 0);

    ck_assert(is_readable(ctx_fd(late)));
    ck_assert(is_readable(ctx_fd(&node_nomem.pub)));
    ctx_end(late);
}
END_TEST

START_TEST(descriptor_of_a_root_never_is)
{
    ck_assert(!is_readable(ctx_fd(ctx_background())));
    ck_assert_int_eq(ctx_fd(ctx_todo()), ctx_fd(ctx_background()));
}
END_TEST

START_TEST(descriptor_tells_of_a_deadline)
{
    struct ctx *soon = ctx_with_timeout(ctx, ROTA_MS(1));
    struct pollfd one = {.fd = ctx_fd(soon), .events = POLLIN};

    ck_assert_int_eq(poll(&one, 1, -1), 1);
    ck_assert_int_eq(ctx_err(soon), ROTA_DEADLINE);
    ctx_end(soon);
}
END_TEST

static void *
ask_fd(void *gate)
{
    gate_pass(gate);
    return (void *)(intptr_t)ctx_fd(ctx);
}

START_TEST(descriptor_is_the_same_for_all_who_ask_while_it_ends)
{
    for (int i = 0; i < MANY(2000); i++) {
        struct gate gate = GATE_INIT;
        pthread_t a = thread_new(ask_fd, &gate);
        pthread_t b = thread_new(ask_fd, &gate);
        void *fd;

        gate_await(&gate, 2);
        gate_open(&gate);
        ctx_cancel(ctx);
        fd = thread_join(a);
        ck_assert_ptr_eq(thread_join(b), fd);
        ck_assert(is_readable((int)(intptr_t)fd));
        ctx_end(ctx);
        ctx = ctx_with_cancel(NULL);
    }
}
END_TEST

static void
ask_root_fd(void *ret_fd)
{
    *(int *)ret_fd = ctx_fd(ctx_background());
}

START_TEST(two_who_are_the_first_to_ask_a_root_get_the_same_descriptor)
{
    int first = -1, second, next = dup(0), after;

    (void)close(next);
    faults_meet("eventfd", 0, ask_root_fd, &first); /* he is faster */
    second = ctx_fd(ctx_background());
    ck_assert_int_ge(first, 0);
    ck_assert_int_eq(second, first);
    after = dup(0); /* and what the slower one had made is closed */
    ck_assert_int_eq(after, next == first ? first + 1 : next);
    (void)close(after);
}
END_TEST

START_TEST(without_a_descriptor_a_root_says_so_and_gives_one_the_next_time)
{
    int fd;

    faults_arm(0);
    fd = ctx_fd(ctx_background());
    ck_assert(faults_disarm());
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(errno, EMFILE);
    ck_assert_int_ge(ctx_fd(ctx_background()), 0);
}
END_TEST

/* Take all descriptors there are to be had. */
static void
exhaust_descriptors(struct rlimit *before)
{
    struct rlimit few;
    int fd;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, before), 0);
    fd = dup(0);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    few = (struct rlimit){(rlim_t)fd, before->rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
}

START_TEST(without_a_descriptor_to_be_had_waits_end_all_the_same)
{
    struct pollfd one = {.fd = pair[0], .events = POLLIN};
    struct gate gate = GATE_INIT;
    pthread_t canceller = thread_new(cancel_when_open, &gate);
    struct rlimit before;
    int ready;

    exhaust_descriptors(&before);
    ck_assert_int_eq(ctx_fd(ctx), -1);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "descriptor"));
    ck_assert_int_eq(ctx_poll(ctx, &one, 1, ctx_now() + ROTA_MS(30), &ready),
                     ROTA_TIMEOUT);
    gate_open(&gate);
    ck_assert_int_eq(ctx_poll(ctx, &one, 1, ROTA_FOREVER, &ready),
                     ROTA_CANCELED);
    (void)thread_join(canceller);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_fds(TCase *t)
{
    tcase_add_test(
        t, descriptor_is_readable_once_the_context_has_ended_and_stays_so);
    tcase_add_test(t, descriptor_of_what_is_done_is_readable_at_once);
    tcase_add_test(t, descriptor_of_a_root_never_is);
    tcase_add_test(t, descriptor_tells_of_a_deadline);
    tcase_add_test(t, descriptor_is_the_same_for_all_who_ask_while_it_ends);
    tcase_add_test(t,
                   two_who_are_the_first_to_ask_a_root_get_the_same_descriptor);
    tcase_add_test(
        t, without_a_descriptor_a_root_says_so_and_gives_one_the_next_time);
    tcase_add_test(t, without_a_descriptor_to_be_had_waits_end_all_the_same);
}

int
main(void)
{
    Suite *suite = suite_create("ctx_fd");

    add_fds(pair_case(suite, "descriptors"));
    return suite_run(suite);
}
