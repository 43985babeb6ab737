/*
 * Where the items of `each` come from: words of the command line, or standard
 * input, one a line, or ended by a NUL. The feeder's alone (each_feed.c), and
 * main's before and after it; no lock.
 */
#ifndef ITEMS_H
#define ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/ctx.h>

struct items {
    char *const *words; /* NULL: a descriptor is read */
    size_t n_words;
    int fd;
    char end;   /* of an item */
    char *data; /* what was read: from at to used is not taken yet */
    size_t at, used, room;
    size_t searched; /* up to here there is no end behind at */
    bool at_eof;
    int error;    /* errno of what ended the reading, or 0 */
    int64_t n;    /* taken so far */
    bool has_nul; /* a line had a NUL in it: it ends the reading */
};

void items_of_words(struct items *items, char *const *words, size_t n);
void items_of_fd(struct items *items, int fd, char end);

/* Take some items, at least one and at most max, waiting for the first only;
 * they last until the next call. 0: there are no more, or ctx has ended, or
 * something is wrong with them. */
size_t items_take(struct items *items, struct ctx *ctx, const char **all,
                  size_t max);

/* Whether all have been taken. */
bool items_at_end(const struct items *items);

void items_close(struct items *items);

#endif
