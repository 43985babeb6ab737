/*
 * ctx_fd(): an eventfd that becomes readable when its context ends, and stays
 * so. Made for a context when somebody first asks. Any thread.
 *
 * Locking: node->fd is under tree->lock. A sweep writes to it in the hold that
 * flips the state, so whoever makes one later sees that the context is done,
 * and makes it readable himself. None is made under the lock, as that may
 * block.
 */
#define _GNU_SOURCE
#include "base/descriptor.h"
#include "context/node.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void
fd_make_readable(int fd)
{
    const uint64_t one = 1;
    int saved = errno;

    /* it is written once and never read, so it cannot be full */
    (void)!write(fd, &one, sizeof(one));
    errno = saved;
}

static int
fd_new(bool is_readable)
{
    int fd = descriptor_above(eventfd(is_readable, EFD_CLOEXEC | EFD_NONBLOCK)),
        code = errno;

    if (fd < 0)
        message_set("cannot make a descriptor for a context: %s",
                    strerror(code));
    errno = code;
    return fd;
}

/* The static contexts share two descriptors, one for those that are live and
 * one for node_nomem. Two threads may make one at once: the one that is late
 * closes its own, and takes what it finds in the slot. */
static int
fd_of_static(const struct node *node)
{
    static _Atomic int fds[2] = {-1, -1};
    _Atomic int *slot = &fds[ctx_done(&node->pub)];
    int fd = atomic_load(slot), none = -1;

    if (fd >= 0)
        return fd;
    fd = fd_new(ctx_done(&node->pub));
    if (fd < 0 || atomic_compare_exchange_strong(slot, &none, fd))
        return fd;
    (void)close(fd);
    return none;
}

int
ctx_fd(struct ctx *ctx)
{
    struct node *node = node_of(ctx);
    int fd, made = -1;

    if (node_is_static(node))
        return fd_of_static(node);
    lock_take(&node->tree->lock);
    fd = node->fd;
    lock_drop(&node->tree->lock);
    if (fd >= 0)
        return fd;
    made = fd_new(false);
    if (made < 0)
        return -1;
    lock_take(&node->tree->lock);
    fd = node->fd;
    if (fd < 0) {
        node->fd = fd = made;
        if (ctx_done(ctx))
            fd_make_readable(fd);
    }
    lock_drop(&node->tree->lock);
    if (fd != made)
        (void)close(made); /* another thread was first */
    return fd;
}
