/*
 * What include/rota/io.h, ctx_fd() and ctx_with_peer() promise.
 */
#define _GNU_SOURCE
#include <rota/io.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota/scheduler.h>

#include "context/context.h"
#include "support.h"

static struct ctx *ctx;
static int pair[2];

static void
setup(void)
{
    ctx = ctx_with_cancel(NULL);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void
teardown(void)
{
    ctx_end(ctx);
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            ck_assert_int_eq(close(pair[i]), 0);
}

/* Whether poll() finds fd readable by now. */
static bool
is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    ck_assert_int_ge(poll(&one, 1, 0), 0);
    return one.revents == POLLIN;
}

/* -- ctx_fd ---------------------------------------------------------------- */

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

static void *
cancel_when_open(void *gate)
{
    gate_pass(gate);
    ctx_cancel(ctx);
    return NULL;
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

/* -- poll ------------------------------------------------------------------ */

START_TEST(poll_says_what_is_ready)
{
    struct pollfd fds[40];
    int ready = 0;

    for (int i = 0; i < 40; i++)
        fds[i] = (struct pollfd){.fd = -1, .revents = 7};
    fds[_i].fd = pair[0];
    fds[_i].events = POLLIN | POLLOUT;
    ck_assert_int_eq(ctx_poll(ctx, fds, (nfds_t)_i + 1, ROTA_FOREVER, &ready),
                     ROTA_OK);
    ck_assert_int_eq(ready, 1);
    ck_assert_int_eq(fds[_i].revents, POLLOUT);
    if (_i > 0)
        ck_assert_int_eq(fds[0].revents, 0);
    ck_assert_int_eq(fds[_i].fd, pair[0]);
}
END_TEST

START_TEST(poll_of_what_has_ended_does_nothing)
{
    struct pollfd one = {.fd = pair[0], .events = POLLOUT, .revents = 7};
    int ready = 7;

    ctx_cancel(ctx);
    ck_assert_int_eq(ctx_poll(ctx, &one, 1, ROTA_FOREVER, &ready),
                     ROTA_CANCELED);
    ck_assert_int_eq(ready, 7);
    ck_assert_int_eq(one.revents, 7);
}
END_TEST

START_TEST(poll_tells_its_own_time_from_the_contexts)
{
    struct ctx *soon = ctx_with_timeout(ctx, ROTA_MS(5));
    struct pollfd one = {.fd = pair[0], .events = POLLIN};
    int ready;

    ck_assert_int_eq(ctx_poll(ctx, &one, 1, ctx_now(), &ready), ROTA_TIMEOUT);
    ck_assert_int_eq(ctx_poll(ctx, NULL, 0, ctx_now() + ROTA_MS(1), &ready),
                     ROTA_TIMEOUT);
    ck_assert_int_eq(ctx_poll(soon, &one, 1, ROTA_FOREVER, &ready),
                     ROTA_DEADLINE);
    ck_assert(ctx_done(soon));
    ck_assert(!ctx_done(ctx));
    ctx_end(soon);
}
END_TEST

START_TEST(poll_that_is_wrong_fails_in_words)
{
    struct pollfd many[100] = {{.fd = pair[0]}};
    struct rlimit before, few;
    int ready;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){50, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    ck_assert_int_eq(ctx_poll(ctx, many, 100, ctx_now(), &ready), ROTA_SYSTEM);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_str_eq(rota_errmsg(NULL), "poll: Invalid argument");
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

/* -- Blocked calls --------------------------------------------------------- */

static enum rota_error
blocked_read(struct ctx *under, int64_t deadline)
{
    char byte;
    size_t n;

    return ctx_read(under, pair[0], &byte, 1, deadline, &n);
}

/* Into a pipe that is full. */
static enum rota_error
blocked_write(struct ctx *under, int64_t deadline)
{
    static char much[1 << 16];
    int fds[2];
    size_t n;
    enum rota_error error;

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    while (write(fds[1], much, sizeof(much)) > 0)
        continue;
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
    error = ctx_write(under, fds[1], much, sizeof(much), deadline, &n);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return error;
}

/* A socket that listens, on the loopback. */
static int
listener(struct sockaddr_in *address)
{
    socklen_t size = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(bind(fd, (struct sockaddr *)address, size), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static enum rota_error
blocked_accept(struct ctx *under, int64_t deadline)
{
    struct sockaddr_in address;
    int fd = listener(&address), accepted;
    enum rota_error error;

    error = ctx_accept(under, fd, NULL, NULL, deadline, &accepted);
    (void)close(fd);
    return error;
}

/* To a queue that is full, whose owner accepts nobody. */
static enum rota_error
blocked_connect(struct ctx *under, int64_t deadline)
{
    struct sockaddr_in address;
    int fd = listener(&address), clients[8];
    enum rota_error error = ROTA_OK;
    int n = 0;

    /* some get in; what does not, waits */
    while (n < 8 && error == ROTA_OK) {
        clients[n] = socket(AF_INET, SOCK_STREAM, 0);
        error = ctx_connect(under, clients[n], (struct sockaddr *)&address,
                            sizeof(address), deadline);
        ck_assert_int_eq(fcntl(clients[n++], F_GETFL) & O_NONBLOCK, 0);
    }
    while (n > 0)
        (void)close(clients[--n]);
    (void)close(fd);
    return error;
}

static enum rota_error
blocked_waitpid(struct ctx *under, int64_t deadline)
{
    enum rota_error error;
    int status, none;
    pid_t pid = fork();

    if (pid == 0)
        for (;;)
            pause();
    ck_assert_int_gt(pid, 0);
    error = ctx_waitpid(under, pid, deadline, &status);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(ctx_waitpid(ctx_background(), pid, ROTA_FOREVER, &status),
                     ROTA_OK);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(ctx_waitpid(ctx_background(), pid, ROTA_FOREVER, &none),
                     ROTA_SYSTEM);
    return error;
}

static struct ctx_cond cond;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static enum rota_error
blocked_cond(struct ctx *under, int64_t deadline)
{
    enum rota_error error;

    ctx_cond_init(&cond);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    error = ctx_cond_wait(under, &cond, &mutex, deadline);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    return error;
}

static enum rota_error (*const blocked[])(struct ctx *, int64_t) = {
    blocked_read,    blocked_write,   blocked_accept,
    blocked_connect, blocked_waitpid, blocked_cond};
#define BLOCKED ((int)(sizeof(blocked) / sizeof(blocked[0])))

/* Cancels ctx once this process has a thread asleep in a system call. */
static void *
cancel_later(void *arg)
{
    (void)arg;
    (void)ctx_sleep(ctx_background(), ROTA_MS(5)); /* or earlier: no matter */
    ctx_cancel_cause(ctx, "enough");
    return NULL;
}

START_TEST(cancel_ends_a_blocked_call)
{
    pthread_t canceller = thread_new(cancel_later, NULL);

    ck_assert_int_eq(blocked[_i](ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "enough");
    (void)thread_join(canceller);
}
END_TEST

START_TEST(deadline_of_the_context_ends_a_blocked_call_and_the_context)
{
    struct ctx *soon = ctx_with_timeout(ctx, ROTA_MS(5));

    ck_assert_int_eq(blocked[_i](soon, ROTA_FOREVER), ROTA_DEADLINE);
    ck_assert_int_eq(ctx_err(soon), ROTA_DEADLINE);
    ctx_end(soon);
}
END_TEST

START_TEST(deadline_of_a_blocked_call_leaves_the_context_live)
{
    ck_assert_int_eq(blocked[_i](ctx, ctx_now() + ROTA_MS(5)), ROTA_TIMEOUT);
    ck_assert(!ctx_done(ctx));
}
END_TEST

START_TEST(call_under_what_has_ended_does_nothing)
{
    ctx_cancel(ctx);
    ck_assert_int_eq(blocked[_i](ctx, ROTA_FOREVER), ROTA_CANCELED);
}
END_TEST

static void
on_alarm(int number)
{
    (void)number;
}

START_TEST(signals_do_not_wake_a_blocked_call)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};

    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    ck_assert_int_eq(blocked[_i](ctx, ctx_now() + ROTA_MS(20)), ROTA_TIMEOUT);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
}
END_TEST

/* -- What the calls do when they need not wait ----------------------------- */

START_TEST(reading_gives_what_there_is_and_0_at_the_end)
{
    char data[8] = "";
    size_t n = 0;

    ck_assert_int_eq(ctx_write(ctx, pair[1], "abc", 3, ROTA_FOREVER, &n),
                     ROTA_OK);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(ctx_read(ctx, pair[0], data, 8, ROTA_FOREVER, &n),
                     ROTA_OK);
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(data, "abc");
    (void)close(pair[1]);
    pair[1] = -1;
    ck_assert_int_eq(ctx_read(ctx, pair[0], data, 8, ROTA_FOREVER, &n),
                     ROTA_OK);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(ctx_write(ctx, pair[0], "abc", 3, ROTA_FOREVER, &n),
                     ROTA_SYSTEM);
    ck_assert_int_eq(errno, EPIPE);
    ck_assert_int_eq(ctx_read(ctx, -1, data, 8, ctx_now(), &n), ROTA_TIMEOUT);
}
END_TEST

static void *
read_slowly(void *fd)
{
    static char data[5000];
    ssize_t all = 0, n;

    while ((n = read((int)(intptr_t)fd, data, sizeof(data))) > 0)
        all += n;
    return (void *)all;
}

START_TEST(writing_to_a_pipe_that_blocks_never_waits_in_the_kernel)
{
    static char data[300000];
    size_t done = 0, n;
    pthread_t reader;
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    reader = thread_new(read_slowly, (void *)(intptr_t)fds[0]);
    while (done < sizeof(data)) {
        ck_assert_int_eq(ctx_write(ctx, fds[1], data + done,
                                   sizeof(data) - done, ROTA_FOREVER, &n),
                         ROTA_OK);
        done += n;
    }
    (void)close(fds[1]);
    ck_assert_int_eq((intptr_t)thread_join(reader), sizeof(data));
    (void)close(fds[0]);
}
END_TEST

START_TEST(connect_and_accept_meet)
{
    struct sockaddr_in address, peer;
    socklen_t size = sizeof(peer);
    int fd = listener(&address), client = socket(AF_INET, SOCK_STREAM, 0);
    int accepted;

    ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *)&address,
                                 sizeof(address), ROTA_FOREVER),
                     ROTA_OK);
    ck_assert_int_eq(ctx_accept(ctx, fd, (struct sockaddr *)&peer, &size,
                                ROTA_FOREVER, &accepted),
                     ROTA_OK);
    ck_assert_int_eq(peer.sin_family, AF_INET);
    ck_assert_int_eq(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
    (void)close(accepted);
    (void)close(client);
    (void)close(fd);
    client = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *)&address,
                                 sizeof(address), ROTA_FOREVER),
                     ROTA_SYSTEM);
    ck_assert_int_eq(errno, ECONNREFUSED);
    (void)close(client);
}
END_TEST

/* -- ctx_with_peer --------------------------------------------------------- */

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

    ck_assert_int_eq(ctx_err(peer), ROTA_NOMEM);
    ctx_end(peer);
    ctx_cancel(ctx);
    peer = ctx_with_peer(ctx, -1); /* born done: nobody looks */
    ck_assert_int_eq(ctx_err(peer), ROTA_CANCELED);
    ctx_end(peer);
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

/* -- Conditions ------------------------------------------------------------ */

static int served, wanted;

static void *
take_one(void *arg)
{
    enum rota_error error = ROTA_OK;

    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    served++;
    while (wanted == 0 && error == ROTA_OK)
        error = ctx_cond_wait(arg, &cond, &mutex, ROTA_FOREVER);
    if (error == ROTA_OK)
        wanted--;
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    return (void *)(intptr_t)error;
}

/* Until n threads are waiting. */
static void
await_waiters(int n)
{
    bool are_there;

    do {
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        are_there = served == n;
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    } while (!are_there);
}

START_TEST(signal_wakes_the_one_that_has_waited_longest)
{
    pthread_t threads[3];

    ctx_cond_init(&cond);
    ctx_cond_signal(&cond); /* nobody: it is not kept */
    for (int i = 0; i < 3; i++) {
        threads[i] = thread_new(take_one, ctx);
        await_waiters(i + 1);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        wanted++;
        ctx_cond_signal(&cond);
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        ck_assert_ptr_eq(thread_join(threads[i]), NULL);
    }
}
END_TEST

START_TEST(broadcast_wakes_all)
{
    pthread_t threads[8];

    ctx_cond_init(&cond);
    for (int i = 0; i < 8; i++)
        threads[i] = thread_new(take_one, ctx);
    await_waiters(8);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    wanted = 8;
    ctx_cond_broadcast(&cond);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_ptr_eq(thread_join(threads[i]), NULL);
}
END_TEST

START_TEST(cancel_wakes_those_under_it_and_needs_not_the_mutex)
{
    struct ctx *mine = ctx_with_cancel(ctx), *others = ctx_with_cancel(ctx);
    pthread_t a, b;

    ctx_cond_init(&cond);
    a = thread_new(take_one, mine);
    b = thread_new(take_one, others);
    await_waiters(2);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    ctx_cancel(mine);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq((intptr_t)thread_join(a), ROTA_CANCELED);
    ck_assert_uint_eq(ctx_waiters(others), 1);
    ctx_cancel(others);
    ck_assert_int_eq((intptr_t)thread_join(b), ROTA_CANCELED);
    ctx_end(mine);
    ctx_end(others);
}
END_TEST

/* Two wait; one is cancelled while a signal is given. Who is woken by it, takes
 * it: it is never lost on the one that was cancelled. */
START_TEST(signal_is_never_lost_to_one_that_was_cancelled)
{
    for (int i = 0; i < MANY(4000); i++) {
        struct ctx *mine = ctx_with_cancel(ctx);
        struct gate gate = GATE_INIT;
        pthread_t a, b, canceller;
        struct ctx *before = ctx;

        ctx_cond_init(&cond);
        served = wanted = 0;
        a = thread_new(take_one, mine);
        await_waiters(1);
        b = thread_new(take_one, ctx_background());
        await_waiters(2);
        ctx = mine;
        canceller = thread_new(cancel_when_open, &gate);
        gate_await(&gate, 1);
        gate_open(&gate);
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        wanted = 1;
        ctx_cond_signal(&cond);
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        (void)thread_join(canceller);
        ctx = before;
        if (thread_join(a) == NULL) { /* it took the one */
            ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
            wanted++;
            ctx_cond_signal(&cond);
            ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        }
        ck_assert_ptr_eq(thread_join(b), NULL);
        ctx_end(mine);
    }
}
END_TEST

/* -- The suite ------------------------------------------------------------- */

static Suite *
io_suite(void)
{
    Suite *suite = suite_create("ctx_io");
    TCase *fds = tcase_create("descriptors"), *calls = tcase_create("calls"),
          *peers = tcase_create("peers"), *conds = tcase_create("conditions");
    TCase *cases[] = {fds, calls, peers, conds};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tcase_add_checked_fixture(cases[i], setup, teardown);
        tcase_set_timeout(cases[i], 60);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_add_test(
        fds, descriptor_is_readable_once_the_context_has_ended_and_stays_so);
    tcase_add_test(fds, descriptor_of_what_is_done_is_readable_at_once);
    tcase_add_test(fds, descriptor_of_a_root_never_is);
    tcase_add_test(fds, descriptor_tells_of_a_deadline);
    tcase_add_test(fds, descriptor_is_the_same_for_all_who_ask_while_it_ends);
    tcase_add_test(fds, without_a_descriptor_to_be_had_waits_end_all_the_same);
    tcase_add_loop_test(calls, poll_says_what_is_ready, 0, 40);
    tcase_add_test(calls, poll_of_what_has_ended_does_nothing);
    tcase_add_test(calls, poll_tells_its_own_time_from_the_contexts);
    tcase_add_test(calls, poll_that_is_wrong_fails_in_words);
    tcase_add_loop_test(calls, cancel_ends_a_blocked_call, 0, BLOCKED);
    tcase_add_loop_test(
        calls, deadline_of_the_context_ends_a_blocked_call_and_the_context, 0,
        BLOCKED);
    tcase_add_loop_test(
        calls, deadline_of_a_blocked_call_leaves_the_context_live, 0, BLOCKED);
    tcase_add_loop_test(calls, call_under_what_has_ended_does_nothing, 0,
                        BLOCKED);
    tcase_add_loop_test(calls, signals_do_not_wake_a_blocked_call, 0, BLOCKED);
    tcase_add_test(calls, reading_gives_what_there_is_and_0_at_the_end);
    tcase_add_test(calls,
                   writing_to_a_pipe_that_blocks_never_waits_in_the_kernel);
    tcase_add_test(calls, connect_and_accept_meet);
    tcase_add_test(peers, context_ends_when_the_peer_hangs_up);
    tcase_add_test(
        peers,
        peer_is_watched_when_our_descriptor_is_closed_and_until_it_is_freed);
    tcase_add_test(peers, what_is_no_socket_cannot_be_watched);
    tcase_add_test(peers, peers_may_hang_up_while_their_contexts_are_freed);
    tcase_add_test(conds, signal_wakes_the_one_that_has_waited_longest);
    tcase_add_test(conds, broadcast_wakes_all);
    tcase_add_test(conds, cancel_wakes_those_under_it_and_needs_not_the_mutex);
    tcase_add_test(conds, signal_is_never_lost_to_one_that_was_cancelled);
    return suite;
}

int
main(void)
{
    return suite_run(io_suite());
}
