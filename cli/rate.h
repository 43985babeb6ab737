/*
 * How fast items are done, and how long the rest takes. Measured as the mean of
 * the last while: what is longer ago weighs less and less. Of items that take
 * long, several at a time, ends come in gusts, so the parts of those that run
 * count as well, as far as the time that others took tells them.
 *
 * Pure arithmetic: the caller says what time it is. One thread.
 */
#ifndef RATE_H
#define RATE_H

#include <stddef.h>
#include <stdint.h>

struct rate {
    int64_t at;          /* when it was last looked, in nanoseconds, */
    double done;         /* and what was done then, with parts */
    int64_t first;       /* items that were done at first */
    int64_t runs, spent; /* as of then */
    /* since the beginning, the older the less: */
    double work, time;          /* items, and seconds */
    double all_runs, all_spent; /* runs that ended, and seconds they took */
};

/* What there is to see. */
struct rate_look {
    int64_t at;          /* nanoseconds */
    int64_t done;        /* items that have ended */
    int64_t runs, spent; /* runs that have, and the nanoseconds of them all */
    const int64_t *ages; /* how long each of those has run that do */
    size_t n;
};

/* From now on. done: items that are done already. */
void rate_begin(struct rate *rate, int64_t now, int64_t done);

/* Look again: as often as anybody likes. */
void rate_note(struct rate *rate, const struct rate_look *look);

/* Items a second. Below 0: not known, as too few have ended. */
double rate_of(const struct rate *rate);

/* How many seconds it takes until the n items of these ages have ended, and
 * waiting others, if so many run at a time. Below 0: not known. */
double rate_left(const struct rate *rate, int64_t waiting, size_t at_a_time,
                 const int64_t *ages, size_t n);

#endif
