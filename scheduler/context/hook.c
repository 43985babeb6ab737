/*
 * Hooks: callbacks that run once when a context has ended. Any thread.
 *
 *              ctx_after()
 *                  │
 *                ARMED ──────> RUNNING ──> WAITED ──> DONE
 *                  │               └───────────────────┘
 *                  └──> STOPPED      WAITED: somebody sleeps until DONE
 *
 * Locking: a hook hangs in a ring, its context's or the pending ring of a
 * sweep, and its link there is under tree->lock. Its state is an atomic of its
 * own: the one who changes it from ARMED, a stopper or a runner, owns the
 * hook's reference on the context, and nobody else touches the context through
 * the hook. A runner makes that change under tree->lock, a stopper before he
 * takes the lock; and a stopper does not return before he has held it, so that
 * no runner can still be looking at a hook that its stopper frees.
 *
 * A hook is its caller's memory. A runner's last touch of it is the store of
 * DONE, and not even that if the callback itself has called
 * ctx_hook_stop_wait(), after which it may free the hook.
 */
#include "context/debug.h"
#include "context/node.h"

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
struct active {
    const struct hook *hook;
    struct active *outer;
    bool is_gone; /* the callback may have freed the hook */
};
static _Thread_local struct active *innermost;

static struct hook *
hook_of(struct ctx_hook *hook)
{
    return (struct hook *)(void *)hook;
}

/* Run a hook that is RUNNING by our hand. No lock is held. */
static void
hook_run(struct hook *hook)
{
    struct active self = {.hook = hook, .outer = innermost};
    struct node *node = hook->node; /* for when hook is gone */
    struct debug_run run;

    if (debug_is_on()) {
        debug_hook_over(hook);
        debug_run_begin(&run, hook);
    }
    innermost = &self;
    hook->fn(hook->arg);
    innermost = self.outer;
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

/* Each hook is claimed under the lock when its turn comes, rather than all at
 * once: until then it can be stopped, also by the one that runs before it. */
static void
pending_run(struct node *node, struct link *pending)
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

/* -- Hooks that are put off ------------------------------------------------ */

/*
 * The hook of a merged context is run among the hooks of its second parent, and
 * ends a context whose own hooks are then to be run, among which may be that of
 * another merged context, and so on: a chain of them may be a million long, and
 * is not to need as deep a stack. So they are not run where they turn up, but
 * put in a queue of the thread's, and the outermost hooks_run_later() on the
 * thread runs what is in it until it is empty.
 */
static _Thread_local struct {
    struct hooks_later *first, **last;
    bool is_served; /* somebody further out on this thread empties it */
} put_off;

void
hooks_run_later(struct node *node, struct hooks_later *later)
{
    if (put_off.first == NULL)
        put_off.last = &put_off.first;
    later->node = node;
    later->next = NULL;
    *put_off.last = later;
    put_off.last = &later->next;
    if (put_off.is_served)
        return;
    put_off.is_served = true;
    while ((later = put_off.first) != NULL) {
        put_off.first = later->next;
        pending_run(later->node, &later->pending);
        node_unref(later->node); /* later may be gone with it */
    }
    put_off.is_served = false;
}

/* A callback that ends a context is promised that all of its hooks have run
 * when ctx_cancel() returns, also if it was itself called by
 * hooks_run_later(): so what is put off from here on is not left to who is
 * further out. */
void
hooks_run(struct node *node, struct link *pending)
{
    bool before = put_off.is_served;

    put_off.is_served = false;
    pending_run(node, pending);
    put_off.is_served = before;
}

/* -- The interface --------------------------------------------------------- */

/* Put hook into node's ring if node is live. */
static bool
hook_join(struct hook *hook, struct node *node)
{
    bool is_live;

    if (node_is_static(node))
        return !ctx_done(&node->pub);
    /* the lock is taken also if node is done: a sweep may be half-way, and
     * the callback is promised that the whole subtree is done */
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

/* This thread's entry for hook, if it is running it; else NULL. An entry whose
 * hook is gone does not count: another hook may be in the same memory since. */
static struct active *
active_find(const struct hook *hook)
{
    struct active *entry = innermost;

    while (entry != NULL && (entry->hook != hook || entry->is_gone))
        entry = entry->outer;
    return entry;
}

/* Called from inside hook's own callback, which may free the hook when this
 * returns: so DONE is stored here and now, and hook_run() leaves the hook
 * alone. The hard case is that another thread waits for the hook at the same
 * time: the state is WAITED then, and stays so. He sleeps on the hook's memory
 * until the callback has ended, so nobody may free it before, and hook_run()
 * stores DONE as usual. */
static void
hook_leave(struct hook *hook, struct active *entry)
{
    uint32_t state = RUNNING;

    if (atomic_compare_exchange_strong(&hook->state, &state, DONE))
        entry->is_gone = true;
}

void
ctx_hook_stop_wait(struct ctx_hook *ctx_hook)
{
    struct hook *hook = hook_of(ctx_hook);
    struct active *entry;
    struct debug_wait wait;
    uint32_t state;

    if (ctx_hook_stop(ctx_hook))
        return;
    state = atomic_load_explicit(&hook->state, memory_order_acquire);
    if (state != RUNNING && state != WAITED)
        return;
    entry = active_find(hook);
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
