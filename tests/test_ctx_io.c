/*
 * What include/rota/io.h, ctx_fd() and ctx_with_peer() promise.
 */
#define _GNU_SOURCE
#include <rota/io.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota/scheduler.h>

#include "context/node.h"
#include "faults.h"
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

/* -- What the kernel may answer -------------------------------------------- */

static char got[8];

static enum rota_error
ready_read(void)
{
    size_t n = 0;
    enum rota_error error;

    ck_assert_int_eq(write(pair[1], "abc", 3), 3);
    error = ctx_read(ctx, pair[0], got, sizeof(got), ROTA_FOREVER, &n);
    ck_assert_uint_eq(n, error == ROTA_OK ? 3 : 0);
    return error;
}

static enum rota_error
ready_write(void)
{
    size_t n = 0;
    enum rota_error error;

    error = ctx_write(ctx, pair[0], "abc", 3, ROTA_FOREVER, &n);
    ck_assert_uint_eq(n, error == ROTA_OK ? 3 : 0);
    return error;
}

static enum rota_error
ready_accept(void)
{
    struct sockaddr_in address;
    int fd = listener(&address), client = socket(AF_INET, SOCK_STREAM, 0);
    int accepted = -1;
    enum rota_error error;

    ck_assert_int_eq(
        connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    error = ctx_accept(ctx, fd, NULL, NULL, ROTA_FOREVER, &accepted);
    ck_assert_int_eq(accepted >= 0, error == ROTA_OK);
    if (accepted >= 0)
        (void)close(accepted);
    (void)close(client);
    (void)close(fd);
    return error;
}

/* Whatever comes of it, the descriptor blocks as before. */
static enum rota_error
ready_connect(void)
{
    struct sockaddr_in address;
    int fd = listener(&address), client = socket(AF_INET, SOCK_STREAM, 0);
    enum rota_error error;
    int code;

    error = ctx_connect(ctx, client, (struct sockaddr *)&address,
                        sizeof(address), ROTA_FOREVER);
    code = errno;
    ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
    (void)close(client);
    (void)close(fd);
    errno = code;
    return error;
}

static enum rota_error
ready_waitpid(void)
{
    enum rota_error error;
    int status = -1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(7);
    error = ctx_waitpid(ctx, pid, ROTA_FOREVER, &status);
    if (error == ROTA_OK)
        ck_assert_int_eq(WEXITSTATUS(status), 7);
    else
        ck_assert_int_eq(status, -1);
    return error;
}

/* Not ready after all: the other one was faster, or it was interrupted, or who
 * wanted to be accepted has gone. */
static const struct answer {
    enum rota_error (*call)(void);
    const char *name;
    int n, error;
    const char *words;
} for_the_moment[] =
    {
        {ready_read, "recv", 0, EAGAIN, NULL},
        {ready_read, "recv", 0, EINTR, NULL},
        {ready_write, "send", 0, EAGAIN, NULL},
        {ready_write, "send", 0, EINTR, NULL},
        {ready_accept, "accept4", 0, EAGAIN, NULL},
        {ready_accept, "accept4", 0, EINTR, NULL},
        {ready_accept, "accept4", 0, ECONNABORTED, NULL},
        {ready_waitpid, "waitpid", 0, EINTR, NULL},
},
  for_good[] = {
      {ready_read, "recv", 0, ECONNRESET, "read: Connection reset by peer"},
      {ready_write, "send", 0, ENOBUFS, "write: No buffer space available"},
      {ready_accept, "accept4", 0, EMFILE, "accept: Too many open files"},
      {ready_connect, "connect", 0, ENETUNREACH,
       "connect: Network is unreachable"},
      {ready_connect, "getsockopt", 0, ENOBUFS,
       "connect: No buffer space available"},
      {ready_connect, "fcntl", 0, EIO, "connect: Input/output error"},
      {ready_connect, "fcntl", 1, EPERM, "connect: Operation not permitted"},
      {ready_waitpid, "waitpid", 0, ECHILD, "waitpid: No child processes"},
};
#define ANSWERS(of) ((int)(sizeof(of) / sizeof((of)[0])))

START_TEST(call_that_was_not_to_be_done_yet_is_done_again)
{
    const struct answer *answer = &for_the_moment[_i];

    faults_answer(answer->name, answer->n, answer->error);
    ck_assert_int_eq(answer->call(), ROTA_OK);
    ck_assert(faults_disarm());
}
END_TEST

START_TEST(call_that_cannot_be_done_says_why_in_errno_and_in_words)
{
    const struct answer *answer = &for_good[_i];

    faults_answer(answer->name, answer->n, answer->error);
    ck_assert_int_eq(answer->call(), ROTA_SYSTEM);
    ck_assert_int_eq(errno, answer->error);
    ck_assert(faults_disarm());
    ck_assert_str_eq(rota_errmsg(NULL), answer->words);
    ck_assert(!ctx_done(ctx));
}
END_TEST

/* The descriptor and the address of a connect() that is interrupted, and goes
 * on in the kernel. */
static struct {
    struct sockaddr_in address;
    int client;
} interrupted;

static void
connect_for_real(void *arg)
{
    (void)arg;
    ck_assert_int_eq(connect(interrupted.client,
                             (struct sockaddr *)&interrupted.address,
                             sizeof(interrupted.address)),
                     -1);
    ck_assert_int_eq(errno, EINPROGRESS);
}

START_TEST(connect_that_is_interrupted_goes_on)
{
    int fd = listener(&interrupted.address), accepted;
    enum rota_error error;

    interrupted.client = socket(AF_INET, SOCK_STREAM, 0);
    faults_meet("connect", 0, connect_for_real, NULL);
    faults_answer("connect", 1, EINTR);
    error = ctx_connect(ctx, interrupted.client,
                        (struct sockaddr *)&interrupted.address,
                        sizeof(interrupted.address), ROTA_FOREVER);
    ck_assert(faults_disarm());
    ck_assert_int_eq(error, ROTA_OK);
    ck_assert_int_eq(ctx_accept(ctx, fd, NULL, NULL, ROTA_FOREVER, &accepted),
                     ROTA_OK);
    ck_assert_int_eq(write(interrupted.client, "x", 1), 1);
    (void)close(accepted);
    (void)close(interrupted.client);
    (void)close(fd);
}
END_TEST

/* An address that needs no file. */
static socklen_t
local_address(struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                       (size_t)snprintf(address->sun_path + 1, 40, "rota-%d",
                                        (int)getpid()));
}

START_TEST(connect_leaves_a_descriptor_as_it_is)
{
    int flags = _i ? O_NONBLOCK : 0;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address;
    socklen_t size = local_address(&address);

    ck_assert_int_eq(fcntl(client, F_SETFL, flags), 0);
    ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *)&address, size,
                                 ROTA_FOREVER),
                     ROTA_SYSTEM); /* nobody is there */
    ck_assert_int_eq(errno, ECONNREFUSED);
    ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, flags);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *)&address, size,
                                 ROTA_FOREVER),
                     ROTA_OK); /* at once, as local ones are */
    ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, flags);
    (void)close(client);
    (void)close(fd);
}
END_TEST

START_TEST(connect_of_what_is_no_descriptor_fails_in_words)
{
    struct sockaddr_un address;
    socklen_t size = local_address(&address);

    ck_assert_int_eq(
        ctx_connect(ctx, -1, (struct sockaddr *)&address, size, ROTA_FOREVER),
        ROTA_SYSTEM);
    ck_assert_str_eq(rota_errmsg(NULL), "connect: Bad file descriptor");
}
END_TEST

START_TEST(child_that_the_program_lets_nobody_wait_for_is_told_as_that)
{
    int status;
    pid_t pid;

    ck_assert_ptr_ne(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    ck_assert_int_eq(ctx_waitpid(ctx, pid, ctx_now(), &status), ROTA_TIMEOUT);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    /* it is gone by the time it can be looked for, or after it was awaited */
    ck_assert_int_eq(ctx_waitpid(ctx, pid, ROTA_FOREVER, &status), ROTA_SYSTEM);
    ck_assert(errno == ECHILD || errno == ESRCH);
}
END_TEST

START_TEST(pipe_gives_what_there_is_and_takes_what_there_is_room_for)
{
    static char data[300000];
    int fds[2], room;
    size_t n;

    ck_assert_int_eq(pipe(fds), 0);
    room = fcntl(fds[1], F_GETPIPE_SZ);
    ck_assert_int_gt(room, PIPE_BUF);
    faults_answer("fcntl", 0, EBADF); /* no matter: little never blocks */
    ck_assert_int_eq(ctx_write(ctx, fds[1], data, 10, ROTA_FOREVER, &n),
                     ROTA_OK);
    ck_assert_uint_eq(n, 10);
    ck_assert(faults_disarm());
    ck_assert_int_eq(
        ctx_read(ctx, fds[0], data, sizeof(data), ROTA_FOREVER, &n), ROTA_OK);
    ck_assert_uint_eq(n, 10);
    ck_assert_int_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(
        ctx_write(ctx, fds[1], data, sizeof(data), ROTA_FOREVER, &n), ROTA_OK);
    ck_assert_uint_eq(n, (size_t)room); /* all at once: it does not block */
    (void)close(fds[0]);
    (void)close(fds[1]);
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

static struct gate has_looked;

static void
gate_open_fn(void *gate)
{
    gate_open(gate);
}

/* Looks for its place in the condition's ring with its fifth unlock: it joins,
 * lets the mutex go, joins and leaves the context. */
static void *
look_and_tell(void *under)
{
    enum rota_error error;

    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    faults_meet("pthread_mutex_unlock", 4, gate_open_fn, &has_looked);
    error = ctx_cond_wait(under, &cond, &mutex, ROTA_FOREVER);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    return (void *)(intptr_t)error;
}

/* By now the sleeper is taken, and is not yet woken. */
static void
cancel_meanwhile(void *under)
{
    ctx_cancel(under);
    gate_pass(&has_looked);
}

START_TEST(signal_that_has_taken_one_wins_over_the_end_of_its_context)
{
    static const struct gate fresh = GATE_INIT;
    pthread_t sleeper;

    has_looked = fresh;
    ctx_cond_init(&cond);
    sleeper = thread_new(look_and_tell, ctx);
    AWAIT(ctx_waiters(ctx) == 1);
    faults_meet("pthread_mutex_unlock", 0, cancel_meanwhile, ctx);
    ctx_cond_signal(&cond);
    ck_assert_int_eq((intptr_t)thread_join(sleeper), ROTA_OK);
    ck_assert(ctx_done(ctx));
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
          *answers = tcase_create("answers"), *peers = tcase_create("peers"),
          *conds = tcase_create("conditions");
    TCase *cases[] = {fds, calls, answers, peers, conds};

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
    tcase_add_test(fds,
                   two_who_are_the_first_to_ask_a_root_get_the_same_descriptor);
    tcase_add_test(
        fds, without_a_descriptor_a_root_says_so_and_gives_one_the_next_time);
    tcase_add_test(fds, without_a_descriptor_to_be_had_waits_end_all_the_same);
    tcase_add_loop_test(calls, poll_says_what_is_ready, 0, 40);
    tcase_add_test(calls, poll_of_what_has_ended_does_nothing);
    tcase_add_test(calls, poll_tells_its_own_time_from_the_contexts);
    tcase_add_test(calls,
                   poll_meets_the_contexts_deadline_though_nobody_else_does);
    tcase_add_test(calls,
                   poll_without_memory_for_many_says_so_and_touches_nothing);
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
    tcase_add_loop_test(answers, call_that_was_not_to_be_done_yet_is_done_again,
                        0, ANSWERS(for_the_moment));
    tcase_add_loop_test(answers,
                        call_that_cannot_be_done_says_why_in_errno_and_in_words,
                        0, ANSWERS(for_good));
    tcase_add_test(answers, connect_that_is_interrupted_goes_on);
    tcase_add_loop_test(answers, connect_leaves_a_descriptor_as_it_is, 0, 2);
    tcase_add_test(answers, connect_of_what_is_no_descriptor_fails_in_words);
    tcase_add_test(answers,
                   child_that_the_program_lets_nobody_wait_for_is_told_as_that);
    tcase_add_test(answers,
                   pipe_gives_what_there_is_and_takes_what_there_is_room_for);
    tcase_add_test(peers, context_ends_when_the_peer_hangs_up);
    tcase_add_test(
        peers,
        peer_is_watched_when_our_descriptor_is_closed_and_until_it_is_freed);
    tcase_add_test(peers, what_is_no_socket_cannot_be_watched);
    tcase_add_test(peers, peers_are_watched_though_a_signal_wakes_who_watches);
    tcase_add_test(
        peers, peer_that_hangs_up_on_what_nobody_holds_any_more_ends_nothing);
    tcase_add_test(peers, peers_may_hang_up_while_their_contexts_are_freed);
    tcase_add_test(conds, signal_wakes_the_one_that_has_waited_longest);
    tcase_add_test(conds, broadcast_wakes_all);
    tcase_add_test(conds, cancel_wakes_those_under_it_and_needs_not_the_mutex);
    tcase_add_test(conds,
                   signal_that_has_taken_one_wins_over_the_end_of_its_context);
    tcase_add_test(conds, signal_is_never_lost_to_one_that_was_cancelled);
    return suite;
}

int
main(void)
{
    return suite_run(io_suite());
}
