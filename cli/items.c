#define _GNU_SOURCE
#include "cli/items.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void
items_of_words(struct items *items, char *const *words, size_t n)
{
    *items =
        (struct items){.words = words, .n_words = n, .fd = -1, .poked = -1};
}

void
items_of_fd(struct items *items, int fd, char end)
{
    *items = (struct items){.fd = fd, .end = end};
    items->poked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (items->poked < 0)
        items->error = errno;
}

void
items_close(struct items *items)
{
    if (items->poked >= 0)
        (void)close(items->poked);
    free(items->data);
}

bool
items_at_end(const struct items *items)
{
    return items->words != NULL ? items->n_words == 0
                                : items->at_eof && items->at == items->used;
}

/* -- Reading --------------------------------------------------------------- */

/* A ctx_hook_fn. */
static void
poke(void *arg)
{
    const struct items *items = arg;

    (void)eventfd_write(items->poked, 1);
}

/* Until there is something to read. False if ctx ended first. */
static bool
wait_to_read(const struct items *items, struct ctx *ctx)
{
    struct pollfd fds[] = {{items->fd, POLLIN, 0}, {items->poked, POLLIN, 0}};

    while (!ctx_done(ctx))
        if (poll(fds, 2, -1) > 0 && fds[0].revents != 0)
            return !ctx_done(ctx);
    return false;
}

/* Room for more behind what is there, with a byte to spare for a NUL. */
static bool
make_room(struct items *items)
{
    size_t room = items->room == 0 ? 65536 : items->room * 2;
    char *grown;

    if (items->at > 0) {
        memmove(items->data, items->data + items->at, items->used - items->at);
        items->used -= items->at;
        items->at = 0;
    }
    if (items->room > items->used + 1)
        return true;
    grown = realloc(items->data, room);
    if (grown == NULL) {
        items->error = ENOMEM;
        return false;
    }
    items->data = grown;
    items->room = room;
    return true;
}

/* Read some more. False at the end, or when ctx has ended. */
static bool
read_more(struct items *items, struct ctx *ctx)
{
    struct ctx_hook hook;
    ssize_t n = -1;
    bool is_there;

    if (items->at_eof || items->error != 0 || !make_room(items))
        return false;
    ctx_after(ctx, &hook, poke, items);
    do {
        is_there = wait_to_read(items, ctx);
        if (is_there)
            n = read(items->fd, items->data + items->used,
                     items->room - items->used - 1);
    } while (is_there && n < 0 && (errno == EINTR || errno == EAGAIN));
    if (is_there && n < 0)
        items->error = errno;
    ctx_hook_stop_wait(&hook);
    items->at_eof = n == 0;
    if (n > 0)
        items->used += (size_t)n;
    return n > 0;
}

/* -- Taking ---------------------------------------------------------------- */

/* The item from at to end, which gets a NUL. NULL if it has one already. */
static const char *
cut(struct items *items, size_t end)
{
    char *item = items->data + items->at;
    size_t size = end - items->at;

    if (items->end != '\0' && memchr(item, '\0', size) != NULL) {
        items->has_nul = true;
        return NULL;
    }
    item[size] = '\0';
    items->at = end < items->used ? end + 1 : end;
    return item;
}

/* The next item of what has been read; NULL if none is whole. */
static const char *
next_whole(struct items *items)
{
    const char *end;

    if (items->has_nul || items->at == items->used)
        return NULL;
    end = memchr(items->data + items->at, items->end, items->used - items->at);
    if (end != NULL)
        return cut(items, (size_t)(end - items->data));
    return items->at_eof ? cut(items, items->used) : NULL; /* the last one */
}

static size_t
take_words(struct items *items, const char **all, size_t max)
{
    size_t n = 0;

    while (n < max && items->n_words > 0) {
        all[n++] = *items->words++;
        items->n_words--;
    }
    return n;
}

size_t
items_take(struct items *items, struct ctx *ctx, const char **all, size_t max)
{
    size_t n = 0;

    if (ctx_done(ctx))
        return 0;
    if (items->words != NULL) {
        n = take_words(items, all, max);
    } else {
        do {
            while (n < max && (all[n] = next_whole(items)) != NULL)
                n++;
        } while (n == 0 && !items->has_nul &&
                 (read_more(items, ctx) ||
                  (items->at_eof && items->at < items->used)));
    }
    items->n += (int64_t)n;
    return n;
}
