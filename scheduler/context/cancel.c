/*
 * Ending: the sweep that ends a context and everything below it. Any thread,
 * also inside a callback.
 *
 * Locking: tree->lock is held for the time of a sweep; no call out of these
 * files, no allocation and no wake-up happens under it, but for a write to the
 * descriptor of a context that has one.
 *
 * The hard case is two threads that cancel at once: the one that comes too late
 * must not return while the other is half-way through the subtree. A sweep
 * flips a whole subtree under one hold of the lock. So whoever takes the lock
 * and finds a node done knows that everything below it is done, which is what
 * ctx_cancel() promises, and why it takes the lock also when it comes too late.
 * Only ctx_done(), which takes no lock, can see a sweep half-way.
 */
#include "context/debug.h"
#include "context/node.h"

/* The node whose place in its parent's list this is. */
static struct node *
node_of_sibling(struct link *on_parent)
{
    return OWNER_OF(on_parent, struct node, on_parent);
}

/* The node that comes after node when from and all below it are walked through,
 * each parent before its children, and these in the order they were made; those
 * of node are left out unless descend. NULL at the end. It needs no stack, for
 * the way back up is the parents. tree->lock held. */
static struct node *
sweep_next(const struct node *from, struct node *node, bool descend)
{
    if (descend && !list_is_empty(&node->children))
        return node_of_sibling(node->children.next);
    while (node != from && node->on_parent.next == &node->parent->children)
        node = node->parent;
    return node == from ? NULL : node_of_sibling(node->on_parent.next);
}

/* Flip from, which is live, and what is live below it. Where a node is done
 * already, all below it is done, and it is passed over. tree->lock held. */
static void
sweep(struct node *from, enum rota_error error, struct cause *cause,
      struct link *pending, struct link *woken)
{
    struct node *node = from;
    uint32_t flipped = 0;

    while (node != NULL) {
        bool is_live = !ctx_done(&node->pub);

        if (is_live) {
            /* the cause, then with release the state that publishes it: who
             * sees the end sees its words */
            node->cause = cause;
            __atomic_store_n(&node->pub.state_, (uint32_t)error,
                             __ATOMIC_RELEASE);
            list_splice(pending, &node->hooks);
            list_splice(woken, &node->waiters);
            if (node->fd >= 0)
                fd_make_readable(node->fd);
            flipped++;
        }
        node = sweep_next(from, node, is_live);
    }
    /* one reference for each node at once, of which the caller gave the first.
     * Late, but not too late: no node can drop its own before we drop the
     * lock */
    cause_ref(cause, flipped - 1);
}

/* The sleepers are woken after the lock was dropped, so that they do not wake
 * only to wait for it, and before any hook is run, which may take its time. */
bool
node_end(struct node *node, enum rota_error error, struct cause *cause,
         struct link *pending, bool *ret_has_hooks)
{
    struct link woken;
    bool is_live;

    list_init(&woken);
    lock_take(&node->tree->lock);
    is_live = !ctx_done(&node->pub);
    if (is_live) {
        sweep(node, error, cause, pending, &woken);
        *ret_has_hooks = !list_is_empty(pending);
    }
    lock_drop(&node->tree->lock);
    if (!is_live)
        cause_unref(cause); /* the first end has won */
    waiters_wake(&woken);
    return is_live;
}

bool
node_cancel(struct node *node, struct cause *cause)
{
    struct link pending;
    bool has_hooks;

    list_init(&pending);
    if (!node_end(node, ROTA_CANCELED, cause, &pending, &has_hooks))
        return false;
    if (has_hooks) {
        node_ref(node); /* a hook may drop the caller's */
        hooks_run(node, &pending);
        node_unref(node);
    }
    return true;
}

/* Allocates nothing: the usual cause is static. */
bool
ctx_cancel(struct ctx *ctx)
{
    if (debug_is_on())
        debug_check(node_of(ctx));
    if (node_is_static(node_of(ctx)))
        return false;
    return node_cancel(node_of(ctx), cause_usual(ROTA_CANCELED));
}

/* What the two below have in common. */
__attribute__((format(printf, 3, 0))) static bool
cancel_with(struct ctx *ctx, enum rota_error code, const char *format,
            va_list args)
{
    struct cause *cause;

    if (debug_is_on())
        debug_check(node_of(ctx));
    if (node_is_static(node_of(ctx)))
        return false;
    if (ctx_done(ctx)) /* too late for words, but not for the promise */
        cause = cause_usual(code);
    else
        cause = cause_format(code, format, args);
    return node_cancel(node_of(ctx), cause);
}

bool
ctx_cancel_cause(struct ctx *ctx, const char *format, ...)
{
    va_list args;
    bool ended;

    va_start(args, format);
    ended = cancel_with(ctx, ROTA_CANCELED, format, args);
    va_end(args);
    return ended;
}

bool
ctx_cancel_error(struct ctx *ctx, enum rota_error code, const char *format, ...)
{
    va_list args;
    bool ended;

    va_start(args, format);
    ended = cancel_with(ctx, code, format, args);
    va_end(args);
    return ended;
}

/* True if nobody would notice node's end: whoever is below it or has a callback
 * on it has a reference, too. Who waits on it should have one. If he has none,
 * which is a mistake of his, he is found in the ring here and woken all the
 * same. */
static bool
node_is_alone(const struct node *node)
{
    return atomic_load_explicit(&node->refs, memory_order_acquire) == 1 &&
           list_is_empty(&node->waiters);
}

void
ctx_end(struct ctx *ctx)
{
    if (ctx == NULL)
        return;
    if (debug_is_on() || node_is_static(node_of(ctx)) ||
        !node_is_alone(node_of(ctx)))
        ctx_cancel(ctx);
    ctx_unref(ctx);
}
