/*
 * Hooks: callbacks that run once when a context has ended.
 *
 *              ctx_after()
 *                  │
 *                ARMED ──────> RUNNING ──> WAITED ──> DONE
 *                  │               └───────────────────┘
 *                  └──> STOPPED      WAITED: somebody sleeps until DONE
 *
 * Locking: a hook's place in a ring, its context's or the pending ring of a
 * sweep, is under tree->lock. Its state is an atomic of its own: the one who
 * changes it from ARMED, a stopper or a runner, owns the hook's reference on
 * the context, and nobody else touches the context through the hook. A runner
 * does so under tree->lock, a stopper before taking it; the stopper does not
 * return before it has held the lock, so a runner's hands are off by then.
 *
 * A hook is its caller's memory. A runner's last touch of it is the store of
 * DONE, and not even that if the callback itself was told, by
 * ctx_hook_stop_wait(), that it may free the hook.
 */
#include "context/node.h"
#include "context/debug.h"

enum hook_state { ARMED = 1, RUNNING, WAITED, DONE, STOPPED };

struct hook {
    struct link on_node;    /* under tree->lock */
    _Atomic uint32_t state; /* enum hook_state; a futex for who waits */
    ctx_hook_fn *fn;        /* read-only, as the rest is */
    void *arg;
    struct node *node; /* a reference, of who changes ARMED */
};
_Static_assert(sizeof(struct hook) <= sizeof(struct ctx_hook),
               "a hook fits into what callers provide");
_Static_assert(_Alignof(struct hook) <= _Alignof(struct ctx_hook),
               "at an address that suits it");

/* The hooks that are running on this thread, the innermost first: a callback
 * may end another context and so run others. Each is on its runner's stack. */
struct running {
    const struct hook *hook;
    struct running *outer;
    bool is_gone; /* the callback may have freed the hook */
};
static _Thread_local struct running *running;

static struct hook *
hook_of(struct ctx_hook *hook)
{
    return (struct hook *)(void *)hook;
}

/* Run a hook that is RUNNING by our hand. No lock is held. */
static void
hook_run(struct hook *hook)
{
    struct running self = {.hook = hook, .outer = running};
    struct node *node = hook->node; /* for when hook is gone */
    struct debug_run run;

    if (debug_is_on()) {
        debug_hook_over(hook);
        debug_run_begin(&run, hook);
    }
    running = &self;
    hook->fn(hook->arg);
    running = self.outer;
    if (debug_is_on())
        debug_run_end(&run);
    /* release: a stopper that sees DONE sees what the callback did */
    if (!self.is_gone &&
        atomic_exchange_explicit(&hook->state, DONE, memory_order_release) ==
            WAITED)
        futex_wake_all(&hook->state);
    node_unref(node);
}

/* The next hook of pending that nobody stopped, now RUNNING. tree->lock
 * held. */
static struct hook *
hook_claim_next(struct link *pending)
{
    struct link *item;

    while ((item = list_take(pending)) != NULL) {
        struct hook *hook = OWNER_OF(item, struct hook, on_node);
        uint32_t state = ARMED;

        if (atomic_compare_exchange_strong(&hook->state, &state, RUNNING))
            return hook;
    }
    return NULL;
}

/* One by one under the lock, rather than all at once: until its turn comes a
 * hook can be stopped, by the one before it too. */
void
hooks_run(struct node *node, struct link *pending)
{
    struct hook *hook;

    lock_take(&node->tree->lock);
    while ((hook = hook_claim_next(pending)) != NULL) {
        lock_drop(&node->tree->lock);
        hook_run(hook); /* the only line that is not ours */
        lock_take(&node->tree->lock);
    }
    lock_drop(&node->tree->lock);
}

/* Put hook into node's ring if node is live. */
static bool
hook_join(struct hook *hook, struct node *node)
{
    bool is_live;

    if (node_is_static(node))
        return !ctx_done(&node->pub);
    /* under the lock also if it is done: to see the sweep to its end */
    lock_take(&node->tree->lock);
    is_live = !ctx_done(&node->pub);
    if (is_live)
        list_append(&node->hooks, &hook->on_node);
    lock_drop(&node->tree->lock);
    return is_live;
}

void
ctx_after(struct ctx *ctx, struct ctx_hook *ctx_hook, ctx_hook_fn *fn,
          void *arg)
{
    struct hook *hook = hook_of(ctx_hook);

    list_init(&hook->on_node);
    hook->fn = fn;
    hook->arg = arg;
    hook->node = node_ref(node_of(ctx));
    if (debug_is_on())
        debug_hook_armed(hook, hook->node);
    atomic_init(&hook->state, ARMED);
    if (hook_join(hook, node_of(ctx)))
        return;
    atomic_store_explicit(&hook->state, RUNNING, memory_order_relaxed);
    hook_run(hook);
}

bool
ctx_hook_stop(struct ctx_hook *ctx_hook)
{
    struct hook *hook = hook_of(ctx_hook);
    uint32_t state = ARMED;
    struct node *node;

    if (!atomic_compare_exchange_strong(&hook->state, &state, STOPPED))
        return false;
    node = hook->node;
    if (debug_is_on())
        debug_hook_over(hook);
    if (!node_is_static(node)) {
        lock_take(&node->tree->lock);
        list_remove(&hook->on_node);
        lock_drop(&node->tree->lock);
    }
    node_unref(node);
    return true;
}

/* Our own entry for a hook that this thread is running. One that is gone does
 * not count: its memory may hold another hook since. */
static struct running *
running_find(const struct hook *hook)
{
    struct running *entry = running;

    while (entry != NULL && (entry->hook != hook || entry->is_gone))
        entry = entry->outer;
    return entry;
}

/* Called from inside hook's own callback: let go of the hook here and now. If
 * somebody else waits for it, it cannot be freed before he has left, and he
 * waits for the end of the callback: then hook_run() does it. */
static void
hook_leave(struct hook *hook, struct running *entry)
{
    uint32_t state = RUNNING;

    if (atomic_compare_exchange_strong(&hook->state, &state, DONE))
        entry->is_gone = true;
}

void
ctx_hook_stop_wait(struct ctx_hook *ctx_hook)
{
    struct hook *hook = hook_of(ctx_hook);
    struct running *entry;
    struct debug_wait wait;
    uint32_t state;

    if (ctx_hook_stop(ctx_hook))
        return;
    state = atomic_load_explicit(&hook->state, memory_order_acquire);
    if (state != RUNNING && state != WAITED)
        return;
    entry = running_find(hook);
    if (entry != NULL) {
        hook_leave(hook, entry);
        return;
    }
    if (debug_is_on())
        debug_wait_begin(&wait, hook);
    while (state == RUNNING || state == WAITED) {
        /* a failed exchange, too, has loaded with acquire */
        if (state == WAITED ||
            atomic_compare_exchange_strong(&hook->state, &state, WAITED)) {
            futex_sleep(&hook->state, WAITED, ROTA_FOREVER);
            state = atomic_load_explicit(&hook->state, memory_order_acquire);
        }
    }
    if (debug_is_on())
        debug_wait_end(&wait);
}
