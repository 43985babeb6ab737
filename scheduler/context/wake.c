/*
 * Wakes: how a thread sleeps until another one sets a bit, on a futex of its
 * own. See wake.h. Any thread.
 *
 * Locking: none. The word is the only thing that both sides touch.
 */
#define _GNU_SOURCE
#include "context/wake.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "context/node.h"

/* The sleeper went to the kernel: where it is not set, wake_up() spares itself
 * the call. Once set it stays. */
#define WAKE_ASLEEP (1u << 31)

/* -- The kernel's part ---------------------------------------------------- */

/* What the kernel answers does not matter: the word differs, the time is up, a
 * signal has come, somebody woke us; the caller looks again whatever it was.
 * errno stays as the caller had it. */
void
futex_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    const struct timespec at = {.tv_sec = (time_t)(deadline / 1000000000),
                                .tv_nsec = (long)(deadline % 1000000000)};
    int saved = errno;

    /* without FUTEX_CLOCK_REALTIME: absolute, on CLOCK_MONOTONIC */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected,
                  deadline == ROTA_FOREVER ? NULL : &at, NULL,
                  FUTEX_BITSET_MATCH_ANY);
    errno = saved;
}

void
futex_wake_all(_Atomic uint32_t *word)
{
    int saved = errno;

    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL,
                  0);
    errno = saved;
}

/* -- Wakes ----------------------------------------------------------------- */

/* The hard case: the sleeper sees the bit before we are through, returns, and
 * its stack is used for something else. So after the store only the address is
 * used: at worst a stranger who has since put a futex there wakes up once for
 * nothing, which every futex sleeper has to bear. */
void
wake_up(struct wake *wake, uint32_t bits)
{
    uint32_t before =
        atomic_fetch_or_explicit(&wake->word, bits, memory_order_release);

    if (before & WAKE_ASLEEP)
        futex_wake_all(&wake->word);
}

uint32_t
wake_wait_for(struct wake *wake, uint32_t bits, int64_t deadline)
{
    for (;;) {
        uint32_t word = atomic_load_explicit(&wake->word, memory_order_acquire);

        if (word & bits)
            return word & bits;
        if (deadline != ROTA_FOREVER && ctx_now() >= deadline)
            return 0;
        if (!(word & WAKE_ASLEEP) &&
            !atomic_compare_exchange_strong(&wake->word, &word,
                                            word | WAKE_ASLEEP))
            continue;
        futex_sleep(&wake->word, word | WAKE_ASLEEP, deadline);
    }
}

uint32_t
wake_wait(struct wake *wake, int64_t deadline)
{
    return wake_wait_for(wake, WAKE_SET | WAKE_DONE, deadline);
}

void
waiters_wake(struct link *woken)
{
    struct link *item, *next;

    for (item = woken->next; item != woken; item = next) {
        next = item->next; /* item is gone once its sleeper is awake */
        wake_up(OWNER_OF(item, struct waiter, on_node)->wake, WAKE_DONE);
    }
}
