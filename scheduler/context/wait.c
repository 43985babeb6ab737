/*
 * Waiting: one futex word per sleeper, on the sleeper's stack.
 *
 * A waiter sits in its context's ring by a node of its own, so that ending a
 * context wakes the sleepers of that subtree and nobody else.
 *
 * Locking: the ring is under tree->lock. A waiter joins it under the lock
 * after seeing that the context is live, and a sweep empties it in the same
 * hold that flips the state: so a waiter is in the ring if and only if the
 * context is live, and no end slips in between looking and sleeping. Once the
 * context is done the waiter belongs to the ender, who sets WAKE_DONE when the
 * lock is dropped; that store is its last touch, and a sleeper that wants to
 * leave for another reason waits for it.
 */
#define _GNU_SOURCE
#include "context/node.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The sleeper went to the kernel: saves wake_up() a call if it did not. Once
 * set it stays. */
#define WAKE_ASLEEP (1u << 31)

struct waiter {
    struct link on_node; /* under tree->lock while the context is live */
    struct wake *wake;
};

/* -- The kernel's part ---------------------------------------------------- */

/* Any error means to look again: the word differs, the time is up, or a signal
 * has come. errno is the caller's. */
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

/* After the store only the address is used: at worst a stranger who has since
 * put a futex there wakes up once for nothing. */
void
wake_up(struct wake *wake, uint32_t bits)
{
    uint32_t before =
        atomic_fetch_or_explicit(&wake->word, bits, memory_order_release);

    if (before & WAKE_ASLEEP)
        futex_wake_all(&wake->word);
}

/* Sleep until one of bits is set. Those that are set; 0 at deadline. */
static uint32_t
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

/* -- Waiters --------------------------------------------------------------- */

void
waiters_wake(struct link *woken)
{
    struct link *item, *next;

    for (item = woken->next; item != woken; item = next) {
        next = item->next; /* item is gone once its sleeper is awake */
        wake_up(OWNER_OF(item, struct waiter, on_node)->wake, WAKE_DONE);
    }
}

/* Put waiter into node's ring if node is live. */
static bool
waiter_join(struct waiter *waiter, struct node *node)
{
    bool is_live;

    lock_take(&node->tree->lock);
    is_live = !ctx_done(&node->pub);
    if (is_live)
        list_append(&node->waiters, &waiter->on_node);
    lock_drop(&node->tree->lock);
    return is_live;
}

/* Take waiter, which has joined, back from the ring or from the ender. */
static void
waiter_leave(struct waiter *waiter, struct node *node)
{
    bool is_live;

    lock_take(&node->tree->lock);
    is_live = !ctx_done(&node->pub);
    if (is_live)
        list_remove(&waiter->on_node);
    lock_drop(&node->tree->lock);
    if (is_live)
        return;
    (void)wake_wait_for(waiter->wake, WAKE_DONE, ROTA_FOREVER);
    /* between this context and this wait all is said; the same wake may be
     * waited on with another context */
    atomic_fetch_and_explicit(&waiter->wake->word, ~WAKE_DONE,
                              memory_order_relaxed);
}

/* Sleep until wake is set, node ends, or until. Reaching node's own deadline
 * ends it. */
static void
wait_in_tree(struct wake *wake, struct node *node, int64_t until)
{
    struct waiter waiter = {.wake = wake};

    if (!waiter_join(&waiter, node))
        return;
    /* the service thread may be late, or in the middle of it: whoever is
     * first ends the node, and the other one finds it done */
    if (wake_wait(wake, until) == 0 && until == node->deadline)
        deadline_reach(node);
    waiter_leave(&waiter, node);
}

enum rota_error
wake_wait_ctx(struct wake *wake, struct ctx *ctx, int64_t deadline)
{
    struct node *node = node_of(ctx);
    int64_t until = deadline < node->deadline ? deadline : node->deadline;

    if (atomic_load_explicit(&wake->word, memory_order_acquire) & WAKE_SET)
        return ROTA_OK;
    if (!node_is_static(node))
        wait_in_tree(wake, node, until);
    else if (!ctx_done(ctx))
        (void)wake_wait(wake, until);
    if (atomic_load_explicit(&wake->word, memory_order_acquire) & WAKE_SET)
        return ROTA_OK;
    return ctx_done(ctx) ? ctx_err(ctx) : ROTA_TIMEOUT;
}

enum rota_error
ctx_wait(struct ctx *ctx, int64_t deadline)
{
    struct wake wake = WAKE_INIT;

    return wake_wait_ctx(&wake, ctx, deadline);
}

enum rota_error
ctx_sleep(struct ctx *ctx, int64_t duration)
{
    enum rota_error error = ctx_wait(ctx, saturating_add(ctx_now(), duration));

    return error == ROTA_TIMEOUT ? ROTA_OK : error;
}
