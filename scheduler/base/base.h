/*
 * What every layer stands on: impossible failures abort, locks, threads that
 * leave the program's signals alone, the words of the last failure, and sums
 * that saturate. With list.h, which nearly everybody needs. Any thread.
 */
#ifndef BASE_H
#define BASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

/* A call that can only fail through a bug of ours. Bugs abort; the world's
 * failures are returned. */
#define MUST(call)                          \
    do {                                    \
        if ((call) != 0)                    \
            bug(#call, __FILE__, __LINE__); \
    } while (0)
#define MUST_BE(condition)                       \
    do {                                         \
        if (!(condition))                        \
            bug(#condition, __FILE__, __LINE__); \
    } while (0)
__attribute__((noreturn)) void bug(const char *what, const char *file,
                                   int line);

/* For a lock that is held for less time than it takes to sleep and be woken:
 * who finds it taken tries for a moment first. It is made by copying the
 * initializer: a call of pthread_mutex_init() would be a tenth of what it takes
 * to make a context. */
static inline void
lock_init(pthread_mutex_t *lock)
{
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    *lock = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
#else
    MUST(pthread_mutex_init(lock, NULL));
#endif
}

static inline void
lock_take(pthread_mutex_t *lock)
{
    MUST(pthread_mutex_lock(lock));
}

static inline void
lock_drop(pthread_mutex_t *lock)
{
    MUST(pthread_mutex_unlock(lock));
}

/* Start a joinable thread, named as ps and gdb show it (15 bytes), with every
 * signal blocked: the program's signals are for the program's threads. Returns
 * 0 or an errno number. */
int thread_start(pthread_t *ret_thread, const char *name,
                 void *(*body)(void *arg), void *arg);

/* What went wrong in the last call that failed on this thread, in words, for
 * rota_errmsg(). Cut to 511 bytes, as text.h says. message_get() is valid until
 * this thread's next message_set(). */
void message_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *message_get(void);

/* ROTA_NOMEM, after saying so. */
#define no_memory() (message_set("out of memory"), (enum rota_error)ROTA_NOMEM)

/* a + b, held at the ends of the range. */
static inline int64_t
saturating_add(int64_t a, int64_t b)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return a < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

/* So many milliseconds in nanoseconds, held at the ends of the range. */
static inline int64_t
saturating_ms(int64_t ms)
{
    int64_t ns;

    if (__builtin_mul_overflow(ms, INT64_C(1000000), &ns))
        return ms < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

#endif
