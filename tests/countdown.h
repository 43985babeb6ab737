/*
 * What is to fail on order: the n-th call of some kind, or all from it on, on
 * whichever thread they are made.
 */
#ifndef COUNTDOWN_H
#define COUNTDOWN_H

#include <stdatomic.h>
#include <stdbool.h>

struct countdown {
    atomic_int left; /* calls until it; below 0: none is to fail */
    atomic_int at;   /* calls that were let through, once it is stopped */
    atomic_bool goes_on, has_failed;
};
#define COUNTDOWN_INIT \
    {                  \
        .left = -1     \
    }

/* Let the n-th call from here on fail, the first being 0; goes_on: and all
 * after it. */
void countdown_start(struct countdown *countdown, int n, bool goes_on);

/* Let none fail; true if one has. */
bool countdown_stop(struct countdown *countdown);

/* Count a call: whether it is to fail. */
bool countdown_is_due(struct countdown *countdown);

/* Let nothing fail, nor count, anywhere, until the test has had its own. */
void countdowns_hold(bool held);

#endif
