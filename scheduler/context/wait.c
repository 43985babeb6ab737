/*
 * Waiting on a context: ctx_wait(), ctx_sleep(), and wake_wait_ctx(), which all
 * that waits and ends with a context is built on. Any thread, with no lock of
 * ours held.
 *
 * A waiter is on the sleeper's stack, and sits in its context's ring by a link
 * of its own, so that ending a context wakes the sleepers of that subtree and
 * nobody else.
 *
 * Locking: the ring is under tree->lock. A waiter joins it under the lock
 * after seeing that the context is live, and a sweep empties it in the same
 * hold that flips the state: so a waiter is in the ring if and only if the
 * context is live, and no end slips in between looking and sleeping. Once the
 * context is done the waiter belongs to the ender, who sets WAKE_DONE when the
 * lock is dropped; that store is its last touch, and a sleeper that wants to
 * leave for another reason waits for it.
 */
#include "context/node.h"

/* Put waiter into node's ring if node is live. Takes the tree's lock. */
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

/* Take waiter, which has joined, back from the ring; or, if the context has
 * ended, wait until who ended it is done with it. */
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
    /* the ender has had his last touch, so the bit is ours to clear: the same
     * wake may be waited on once more, with another context */
    atomic_fetch_and_explicit(&waiter->wake->word, ~WAKE_DONE,
                              memory_order_relaxed);
}

/* Sleep until wake is set, node ends, or until is reached. Reaching node's own
 * deadline ends it. No lock is held. */
static void
wait_in_tree(struct wake *wake, struct node *node, int64_t until)
{
    struct waiter waiter = {.wake = wake};

    if (!waiter_join(&waiter, node))
        return;
    /* at its own deadline node is to be done when we return, and the service
     * thread may be late, or in the middle of it: whoever is first ends the
     * node, and the other one finds it done */
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
