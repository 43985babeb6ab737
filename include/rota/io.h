/*
 * System calls that end with a context. They answer
 *
 *   ROTA_OK        it was done; what it gave is in *ret_...
 *   ctx_err(ctx)   ctx had ended, or did so first: nothing was done
 *   ROTA_TIMEOUT   deadline has passed, and ctx lives: nothing was done
 *   ROTA_SYSTEM    it failed: errno says how, and rota_errmsg(NULL) in words
 *   ROTA_NOMEM
 *
 * What had been done when the context ended is never called undone. Meeting the
 * context's own deadline ends it. No signal wakes them early.
 *
 * A descriptor may block or not, and is left as it is. On one that blocks, and
 * that somebody else reads or writes, too, he may be faster, and the call wait
 * in the kernel, where no context reaches it.
 *
 * rota.h does not include this header, which brings <poll.h> and
 * <sys/socket.h>.
 */
#ifndef ROTA_IO_H
#define ROTA_IO_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <rota/ctx.h>
#include <rota/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* poll(). *ret_ready is how many of fds have revents, at least 1. */
ROTA_API enum rota_error ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n,
                                  int64_t deadline, int *ret_ready);

/* read(), write(): some bytes, *ret_n of them; reading, 0 at the end. Writing
 * to what nobody reads gives EPIPE, and SIGPIPE unless it is a socket. */
ROTA_API enum rota_error ctx_read(struct ctx *ctx, int fd, void *data,
                                  size_t size, int64_t deadline, size_t *ret_n);
ROTA_API enum rota_error ctx_write(struct ctx *ctx, int fd, const void *data,
                                   size_t size, int64_t deadline,
                                   size_t *ret_n);

/* accept(), close-on-exec. address and size may be NULL. A listening socket
 * should not block: a caller who hangs up early would leave us waiting for the
 * next. */
ROTA_API enum rota_error ctx_accept(struct ctx *ctx, int fd,
                                    struct sockaddr *address, socklen_t *size,
                                    int64_t deadline, int *ret_fd);

/* connect(). If it was not done, close fd. */
ROTA_API enum rota_error ctx_connect(struct ctx *ctx, int fd,
                                     const struct sockaddr *address,
                                     socklen_t size, int64_t deadline);

/* waitpid() for a child of this process that nobody else waits for. */
ROTA_API enum rota_error ctx_waitpid(struct ctx *ctx, pid_t pid,
                                     int64_t deadline, int *ret_status);

#ifdef __cplusplus
}
#endif
#endif
