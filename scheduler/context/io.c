/*
 * System calls that end with a context (rota/io.h): poll() with the context's
 * descriptor beside the caller's, and what is built on it. Any thread, with no
 * lock of ours held.
 *
 * Locking: none here.
 */
#define _GNU_SOURCE
#include <rota/io.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "context/node.h"

/* When there is no descriptor to be had for the context, it is looked at so
 * often. */
#define LOOK_EVERY ROTA_MS(10)

/* So many descriptors are copied on the stack, and more on the heap. */
#define ON_STACK 16

static enum rota_error
fail(const char *what)
{
    message_set("%s: %s", what, strerror(errno));
    return ROTA_SYSTEM;
}

/* -- poll ------------------------------------------------------------------ */

static struct timespec
time_left(int64_t until)
{
    int64_t left = saturating_add(until, -ctx_now());

    if (left < 0)
        left = 0;
    return (struct timespec){.tv_sec = (time_t)(left / 1000000000),
                             .tv_nsec = (long)(left % 1000000000)};
}

/* all holds the caller's n descriptors and, behind them, that of ctx. */
static enum rota_error
poll_until(struct ctx *ctx, struct pollfd *all, nfds_t n, int64_t deadline,
           int *ret_ready)
{
    int64_t own = ctx_deadline(ctx);
    int64_t until = deadline < own ? deadline : own;

    for (;;) {
        int64_t look = until;
        struct timespec left;
        int ready;

        if (ctx_done(ctx))
            return ctx_err(ctx);
        if (all[n].fd < 0 && look > ctx_now() + LOOK_EVERY)
            look = ctx_now() + LOOK_EVERY;
        left = time_left(look);
        ready = ppoll(all, n + 1, look == ROTA_FOREVER ? NULL : &left, NULL);
        if (ready < 0 && errno != EINTR)
            return fail("poll");
        ready -= ready > 0 && all[n].revents != 0;
        if (ready > 0) {
            *ret_ready = ready;
            return ROTA_OK;
        }
        if (until == ROTA_FOREVER || ctx_now() < until || ctx_done(ctx))
            continue;
        if (until != own)
            return ROTA_TIMEOUT;
        deadline_reach(node_of(ctx));
    }
}

enum rota_error
ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n, int64_t deadline,
         int *ret_ready)
{
    struct pollfd few[ON_STACK + 1], *all = few;
    enum rota_error error;

    if (n > ON_STACK)
        all = malloc(((size_t)n + 1) * sizeof(*all));
    if (all == NULL)
        return ROTA_NOMEM;
    if (n > 0)
        memcpy(all, fds, (size_t)n * sizeof(*all));
    all[n] = (struct pollfd){.fd = ctx_done(ctx) ? -1 : ctx_fd(ctx),
                             .events = POLLIN};
    error = poll_until(ctx, all, n, deadline, ret_ready);
    for (nfds_t i = 0; error == ROTA_OK && i < n; i++)
        fds[i].revents = all[i].revents;
    if (all != few)
        free(all);
    return error;
}

/* -- One descriptor -------------------------------------------------------- */

static enum rota_error
await(struct ctx *ctx, int fd, short events, int64_t deadline)
{
    struct pollfd one = {.fd = fd, .events = events};
    int ready;

    return ctx_poll(ctx, &one, 1, deadline, &ready);
}

/* It was not ready after all: somebody else was faster, or it cannot be waited
 * for in this way. */
static bool
is_to_repeat(ssize_t code)
{
    return code < 0 && (errno == EAGAIN || errno == EINTR);
}

enum rota_error
ctx_read(struct ctx *ctx, int fd, void *data, size_t size, int64_t deadline,
         size_t *ret_n)
{
    enum rota_error error;
    ssize_t n;

    do {
        error = await(ctx, fd, POLLIN, deadline);
        if (error != ROTA_OK)
            return error;
        n = recv(fd, data, size, MSG_DONTWAIT);
        if (n < 0 && errno == ENOTSOCK)
            n = read(fd, data, size);
    } while (is_to_repeat(n));
    if (n < 0)
        return fail("read");
    *ret_n = (size_t)n;
    return ROTA_OK;
}

/* Write without blocking for long where poll() has said that there is room. A
 * socket can be told not to block. A pipe that blocks takes what it has room
 * for, and then waits, out of the context's reach, until it has room for the
 * rest; but PIPE_BUF bytes, for which poll() has found room, it takes at
 * once. */
static ssize_t
write_some(int fd, const void *data, size_t size)
{
    ssize_t n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    int flags;

    if (n >= 0 || errno != ENOTSOCK)
        return n;
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) == 0 && size > PIPE_BUF)
        size = PIPE_BUF;
    return write(fd, data, size);
}

enum rota_error
ctx_write(struct ctx *ctx, int fd, const void *data, size_t size,
          int64_t deadline, size_t *ret_n)
{
    enum rota_error error;
    ssize_t n;

    do {
        error = await(ctx, fd, POLLOUT, deadline);
        if (error != ROTA_OK)
            return error;
        n = write_some(fd, data, size);
    } while (is_to_repeat(n));
    if (n < 0)
        return fail("write");
    *ret_n = (size_t)n;
    return ROTA_OK;
}

enum rota_error
ctx_accept(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size,
           int64_t deadline, int *ret_fd)
{
    enum rota_error error;
    int accepted;

    do {
        error = await(ctx, fd, POLLIN, deadline);
        if (error != ROTA_OK)
            return error;
        accepted = descriptor_above(accept4(fd, address, size, SOCK_CLOEXEC));
    } while (is_to_repeat(accepted) || (accepted < 0 && errno == ECONNABORTED));
    if (accepted < 0)
        return fail("accept");
    *ret_fd = accepted;
    return ROTA_OK;
}

/* -- connect --------------------------------------------------------------- */

/* fd does not block. */
static enum rota_error
connect_now(struct ctx *ctx, int fd, const struct sockaddr *address,
            socklen_t size, int64_t deadline)
{
    enum rota_error error;
    socklen_t length = sizeof(int);
    int code = 0;

    if (ctx_done(ctx))
        return ctx_err(ctx);
    if (connect(fd, address, size) == 0)
        return ROTA_OK;
    if (errno != EINPROGRESS && errno != EINTR)
        return fail("connect");
    error = await(ctx, fd, POLLOUT, deadline);
    if (error != ROTA_OK)
        return error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0)
        return fail("connect");
    errno = code;
    return code == 0 ? ROTA_OK : fail("connect");
}

enum rota_error
ctx_connect(struct ctx *ctx, int fd, const struct sockaddr *address,
            socklen_t size, int64_t deadline)
{
    int flags = fcntl(fd, F_GETFL), code;
    bool blocks = flags >= 0 && (flags & O_NONBLOCK) == 0;
    enum rota_error error;

    if (flags < 0 || (blocks && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
        return fail("connect");
    error = connect_now(ctx, fd, address, size, deadline);
    code = errno;
    if (blocks)
        (void)fcntl(fd, F_SETFL, flags);
    errno = code;
    return error;
}

/* -- waitpid --------------------------------------------------------------- */

enum rota_error
ctx_waitpid(struct ctx *ctx, pid_t pid, int64_t deadline, int *ret_status)
{
    int fd = descriptor_above((int)syscall(SYS_pidfd_open, pid, 0));
    enum rota_error error;
    int status;

    if (fd < 0)
        return fail("waitpid");
    error = await(ctx, fd, POLLIN, deadline);
    (void)close(fd);
    if (error != ROTA_OK)
        return error;
    while (waitpid(pid, &status, 0) != pid)
        if (errno != EINTR)
            return fail("waitpid");
    *ret_status = status;
    return ROTA_OK;
}
