/*
 * Pairs of numbers that a query gives, kept so that what is asked about each is
 * asked behind the query, not in the midst of it. For work.c and each_ends.c,
 * on the main thread; no lock.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include <rota/scheduler.h>

struct pair {
    int64_t first, second;
};

struct pairs {
    struct pair *all; /* in the order of the rows */
    size_t n, room;
};

/* A rota_row_fn for rows of two integers. False without memory. */
bool pairs_keep(void *pairs, int n, const char *const *names,
                const struct rota_value *values);

void pairs_fini(struct pairs *pairs);

#endif
