/*
 * rota/io.h: calls that poll, read, write, accept, connect or wait for a child
 * end with their context or their own deadline, and do as the system's do
 * otherwise. What the kernel may answer is in test_ctx_io_errors.c.
 *
 * Who ends a blocked call waits for some milliseconds, so that most are asleep
 * by then; it is right if they are not.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota/io.h>
#include <rota/scheduler.h>

#include "context/node.h"
#include "faults.h"
#include "pair.h"

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

START_TEST(poll_meets_the_contexts_deadline_though_nobody_else_does)
{
    struct ctx *first = ctx_with_timeout(NULL, ROTA_MS(20)), *soon;
    pthread_mutex_t *lock = &node_of(first)->tree->lock;
    enum rota_error error;
    int ready;

    lock_take(lock); /* here the service hangs when that is due */
    soon = ctx_with_timeout(NULL, ROTA_MS(25));
    error = ctx_poll(soon, NULL, 0, ROTA_FOREVER, &ready);
    lock_drop(lock);
    ck_assert_int_eq(error, ROTA_DEADLINE);
    ck_assert_int_eq(ctx_err(soon), ROTA_DEADLINE);
    ctx_end(soon);
    ctx_end(first);
}
END_TEST

START_TEST(poll_without_memory_for_many_says_so_and_touches_nothing)
{
    struct pollfd fds[17];
    int ready = 7;

    for (int i = 0; i < 17; i++)
        fds[i] = (struct pollfd){pair[0], POLLOUT, 7};
    for (int persists = 0; persists < 2; persists++) {
        enum rota_error error;

        persists ? faults_arm_from(0) : faults_arm(0);
        error = ctx_poll(ctx, fds, 17, ROTA_FOREVER, &ready);
        ck_assert(faults_disarm());
        ck_assert_int_eq(error, ROTA_NOMEM);
        ck_assert_int_eq(ready, 7);
        ck_assert_int_eq(fds[16].revents, 7);
        ck_assert(!ctx_done(ctx));
    }
    ck_assert_int_eq(ctx_poll(ctx, fds, 17, ROTA_FOREVER, &ready), ROTA_OK);
    ck_assert_int_eq(ready, 17);
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

/* -- The suite ------------------------------------------------------------ */

static void
add_poll(TCase *t)
{
    tcase_add_loop_test(t, poll_says_what_is_ready, 0, 40);
    tcase_add_test(t, poll_of_what_has_ended_does_nothing);
    tcase_add_test(t, poll_tells_its_own_time_from_the_contexts);
    tcase_add_test(t, poll_meets_the_contexts_deadline_though_nobody_else_does);
    tcase_add_test(t, poll_without_memory_for_many_says_so_and_touches_nothing);
    tcase_add_test(t, poll_that_is_wrong_fails_in_words);
}

static void
add_calls(TCase *t)
{
    tcase_add_loop_test(t, cancel_ends_a_blocked_call, 0, BLOCKED);
    tcase_add_loop_test(
        t, deadline_of_the_context_ends_a_blocked_call_and_the_context, 0,
        BLOCKED);
    tcase_add_loop_test(t, deadline_of_a_blocked_call_leaves_the_context_live,
                        0, BLOCKED);
    tcase_add_loop_test(t, call_under_what_has_ended_does_nothing, 0, BLOCKED);
    tcase_add_loop_test(t, signals_do_not_wake_a_blocked_call, 0, BLOCKED);
    tcase_add_test(t, reading_gives_what_there_is_and_0_at_the_end);
    tcase_add_test(t, writing_to_a_pipe_that_blocks_never_waits_in_the_kernel);
    tcase_add_test(t, connect_and_accept_meet);
}

int
main(void)
{
    Suite *suite = suite_create("ctx_io");

    add_poll(pair_case(suite, "poll"));
    add_calls(pair_case(suite, "calls"));
    return suite_run(suite);
}
