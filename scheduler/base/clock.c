/*
 * The two clocks (clock.h). Any thread; no lock, one atomic.
 */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

#include <rota/ctx.h>

#include "base/base.h"

int64_t
ctx_now(void)
{
    struct timespec now;

    MUST(clock_gettime(CLOCK_MONOTONIC, &now));
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t
machine_clock(void *arg)
{
    static _Atomic int64_t latest; /* relaxed: orders nothing but itself */
    int64_t seen = atomic_load_explicit(&latest, memory_order_relaxed);
    struct timespec time;
    int64_t now;

    (void)arg;
    (void)clock_gettime(CLOCK_REALTIME, &time);
    now = (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
    /* the latest time stays what is answered, unless now is later, or so much
     * earlier that somebody has set the clock right */
    while (now > seen || now < seen - 1000)
        if (atomic_compare_exchange_weak_explicit(&latest, &seen, now,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
            return now;
    return seen;
}
