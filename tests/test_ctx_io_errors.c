/*
 * rota/io.h: what the kernel may answer. A call that was not to be done yet is
 * done again, one that cannot be done says why in errno and in words, and a
 * descriptor is left as it was.
 *
 * The answers are made by faults.h, on the test's thread.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota/io.h>
#include <rota/scheduler.h>

#include "faults.h"
#include "pair.h"

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

/* -- The suite ------------------------------------------------------------ */

static void
add_answers(TCase *t)
{
    tcase_add_loop_test(t, call_that_was_not_to_be_done_yet_is_done_again, 0,
                        ANSWERS(for_the_moment));
    tcase_add_loop_test(t,
                        call_that_cannot_be_done_says_why_in_errno_and_in_words,
                        0, ANSWERS(for_good));
    tcase_add_test(t, connect_that_is_interrupted_goes_on);
    tcase_add_loop_test(t, connect_leaves_a_descriptor_as_it_is, 0, 2);
    tcase_add_test(t, connect_of_what_is_no_descriptor_fails_in_words);
    tcase_add_test(t,
                   child_that_the_program_lets_nobody_wait_for_is_told_as_that);
    tcase_add_test(t,
                   pipe_gives_what_there_is_and_takes_what_there_is_room_for);
}

int
main(void)
{
    Suite *suite = suite_create("ctx_io_errors");

    add_answers(pair_case(suite, "answers"));
    return suite_run(suite);
}
