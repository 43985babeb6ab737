/*
 * See items.h. What is read goes into one buffer, and items are handed out from
 * where they stand in it, each with a NUL in the place of its end: nothing is
 * copied, and so they last only until more is read.
 */
#define _GNU_SOURCE
#include "cli/items.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rota/io.h>

#include "jobs/grow.h"

void
items_of_words(struct items *items, char *const *words, size_t n)
{
    *items = (struct items){.words = words, .n_words = n, .fd = -1};
}

void
items_of_fd(struct items *items, int fd, char end)
{
    *items = (struct items){.fd = fd, .end = end};
}

void
items_close(struct items *items)
{
    free(items->data);
}

bool
items_at_end(const struct items *items)
{
    return items->words != NULL ? items->n_words == 0
                                : items->at_eof && items->at == items->used;
}

/* -- Reading --------------------------------------------------------------- */

/* Room for more behind what is there, with a byte to spare for a NUL. */
static bool
make_room(struct items *items)
{
    if (items->at > 0) {
        memmove(items->data, items->data + items->at, items->used - items->at);
        items->used -= items->at;
        items->searched -= items->at;
        items->at = 0;
    }
    if (items->room > items->used + 1)
        return true;
    if (GROW(items->data, items->room,
             items->room == 0 ? 65536 : items->room + 1))
        return true;
    items->error = ENOMEM;
    return false;
}

/* Read some more. False at the end, or when ctx has ended. */
static bool
read_more(struct items *items, struct ctx *ctx)
{
    enum rota_error error;
    size_t n = 0;

    if (items->at_eof || items->error != 0 || !make_room(items))
        return false;
    error = ctx_read(ctx, items->fd, items->data + items->used,
                     items->room - items->used - 1, ROTA_FOREVER, &n);
    if (error == ROTA_SYSTEM)
        items->error = errno;
    items->at_eof = error == ROTA_OK && n == 0;
    if (n > 0)
        items->used += n;
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
    items->at = items->searched = end < items->used ? end + 1 : end;
    return item;
}

/* The next item of what has been read; NULL if none is whole. An item that
 * comes in many pieces is searched for its end piece by piece. */
static const char *
next_whole(struct items *items)
{
    const char *end;

    if (items->has_nul || items->at == items->used)
        return NULL;
    end = memchr(items->data + items->searched, items->end,
                 items->used - items->searched);
    if (end != NULL)
        return cut(items, (size_t)(end - items->data));
    items->searched = items->used;
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
