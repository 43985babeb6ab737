/*
 * Jobs that may be claimed, as a claim gathers and sorts them. Memory only; one
 * thread at a time.
 */
#ifndef CANDIDATES_H
#define CANDIDATES_H

#include <stdbool.h>

#include "store/work.h"

struct candidate {
    struct claim claim; /* its args are malloc'd, or not read yet */
    int64_t queue, sort_key;
    char *limit_key; /* malloc'd; NULL: none */
    bool is_arrival; /* it has no row in _ready (arrivals.h) */
};

struct candidates {
    struct candidate *all;
    size_t n, room;
};

/* Add one; its limit_key and args are taken on success. */
ROTA_MUST_USE enum rota_error candidates_add(struct candidates *candidates,
                                             const struct candidate *candidate);

/* Move all of from to the end. */
ROTA_MUST_USE enum rota_error candidates_join(struct candidates *candidates,
                                              struct candidates *from);

/* The soonest first: by sort key, then by id. */
void candidates_sort(struct candidates *candidates);
int candidates_order(const void *a, const void *b);

/* Free all of them, not the array. */
void candidates_clear(struct candidates *candidates);

#endif
