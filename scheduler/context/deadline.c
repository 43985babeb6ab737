/*
 * Deadlines: the heap of timers, and the two service threads. Any thread, with
 * no lock of ours held.
 *
 *   rota-deadline   sleeps until the earliest deadline, then flips and wakes
 *   rota-hooks      runs the hooks of contexts that a deadline ended, one at a
 *                   time, so that a slow hook delays no deadline
 *
 * Both are started with the first timer and live as long as the process.
 *
 * Locking: timers.lock guards the heap, due.lock the queue between the two
 * threads. Both are leaves; no tree->lock is ever taken under them.
 *
 * The heap owns no context. The hard case is a timer that fires while the last
 * reference on its context is dropped. A node leaves the heap when it is freed,
 * under timers.lock, or when it fires: the thread takes it out and takes a
 * reference under one hold of the lock; if the count is 0 already it takes none
 * and leaves the node alone, for its owner is then about to enter
 * timed_node_fini(), which waits for the lock.
 *
 * A context that ends early stays in the heap until it is freed or its time has
 * come: every cancel would otherwise have to take timers.lock, which all trees
 * share. To end what is done already does nothing.
 */
#define _GNU_SOURCE
#include "context/node.h"

#include "base/grow.h"

#define NO_SLOT SIZE_MAX
#define ARITY   4 /* shallower than 2, and a node's children share a line */

struct timed_node {
    struct node node;
    struct cause *text;  /* read-only; NULL: the usual words */
    size_t slot;         /* where in the heap; under timers.lock */
    struct link pending; /* hooks to run; under tree->lock */
    struct link on_due;  /* under due.lock */
};

struct timer {
    int64_t at; /* timed->node.deadline, here to be near */
    struct timed_node *timed;
};

static struct {
    pthread_mutex_t lock; /* guards all, but see changes */
    struct timer *heap;   /* the earliest first */
    size_t count, room;
    int64_t sleeps_until;     /* INT64_MIN while the thread is awake */
    bool is_served;           /* both threads run */
    bool has_hooks_thread;    /* at least the second does */
    _Atomic uint32_t changes; /* a futex: bumped, under lock, to wake the
                               * thread; it sleeps without the lock */
} timers = {.lock = PTHREAD_MUTEX_INITIALIZER, .sleeps_until = INT64_MIN};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct link nodes; /* timed_node.on_due; each with a reference */
} due = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .filled = PTHREAD_COND_INITIALIZER,
         .nodes = {&due.nodes, &due.nodes}};

/* -- The heap; timers.lock is held in all of this section ------------------ */

/* Every move of a timer goes through here, so that slot is always right. */
static void
heap_put(size_t slot, struct timer timer)
{
    timers.heap[slot] = timer;
    timer.timed->slot = slot;
}

/* Put timer at slot, or as far above as it belongs. */
static void
heap_rise(size_t slot, struct timer timer)
{
    while (slot > 0) {
        size_t above = (slot - 1) / ARITY;

        if (timers.heap[above].at <= timer.at)
            break;
        heap_put(slot, timers.heap[above]);
        slot = above;
    }
    heap_put(slot, timer);
}

/* The earliest of slot's children; the heap's end if it has none. */
static size_t
heap_earliest_below(size_t slot)
{
    size_t first = slot * ARITY + 1, best = first;

    if (first >= timers.count)
        return timers.count;
    for (size_t i = first + 1; i < first + ARITY && i < timers.count; i++) {
        if (timers.heap[i].at < timers.heap[best].at)
            best = i;
    }
    return best;
}

/* Take timed, which is in the heap, out of it. */
static void
heap_remove(struct timed_node *timed)
{
    size_t slot = timed->slot, below;
    struct timer last = timers.heap[--timers.count];

    timed->slot = NO_SLOT;
    if (last.timed == timed)
        return;
    /* fill the hole with the last one: down first, then up */
    while ((below = heap_earliest_below(slot)) < timers.count &&
           timers.heap[below].at < last.at) {
        heap_put(slot, timers.heap[below]);
        slot = below;
    }
    heap_rise(slot, last);
}

/* False without memory. The heap never shrinks: as many timers as there once
 * were at a time will be there again. */
static bool
heap_add(struct timed_node *timed)
{
    if (!grow(timers.heap, timers.count, timers.room))
        return false;
    heap_rise(timers.count++,
              (struct timer){.at = timed->node.deadline, .timed = timed});
    return true;
}

/* -- The threads ----------------------------------------------------------- */

/* Have rota-hooks run the hooks of timed. Takes over a reference; no lock is
 * held. */
static void
due_add(struct timed_node *timed)
{
    lock_take(&due.lock);
    list_append(&due.nodes, &timed->on_due);
    MUST(pthread_cond_signal(&due.filled));
    lock_drop(&due.lock);
}

/* rota-hooks. Contexts come in the order of their ends, and the hooks of one in
 * the order of its sweep. */
static void *
hooks_body(void *arg)
{
    (void)arg;
    lock_take(&due.lock);
    for (;;) {
        struct link *item;
        struct timed_node *timed;

        while ((item = list_take(&due.nodes)) == NULL)
            MUST(pthread_cond_wait(&due.filled, &due.lock));
        lock_drop(&due.lock);
        timed = OWNER_OF(item, struct timed_node, on_due);
        hooks_run(&timed->node, &timed->pending);
        node_unref(&timed->node);
        lock_take(&due.lock);
    }
    return NULL;
}

/* End timed by its deadline; takes over a reference. No lock is held. */
static void
timed_end(struct timed_node *timed)
{
    struct cause *cause = timed->text != NULL ? cause_ref(timed->text, 1)
                                              : cause_usual(ROTA_DEADLINE);
    bool has_hooks;

    if (node_end(&timed->node, ROTA_DEADLINE, cause, &timed->pending,
                 &has_hooks) &&
        has_hooks)
        due_add(timed);
    else
        node_unref(&timed->node);
}

/* Take out of the heap a node whose deadline has passed, with a reference.
 * NULL if there is none. timers.lock held. */
static struct timed_node *
timers_take(int64_t now)
{
    while (timers.count > 0 && timers.heap[0].at <= now) {
        struct timed_node *timed = timers.heap[0].timed;

        heap_remove(timed);
        if (node_ref_unless_freed(&timed->node))
            return timed;
    }
    return NULL;
}

/* rota-deadline. It must not sleep past a timer that is armed after it has
 * looked at the heap and before it sleeps. Who arms one that is earlier than
 * sleeps_until bumps changes under the lock; then it is no longer what was seen
 * here, and the futex does not sleep. */
static void *
deadline_body(void *arg)
{
    (void)arg;
    lock_take(&timers.lock);
    for (;;) {
        struct timed_node *timed = timers_take(ctx_now());

        if (timed != NULL) {
            lock_drop(&timers.lock);
            timed_end(timed);
        } else {
            int64_t until = timers.count > 0 ? timers.heap[0].at : ROTA_FOREVER;
            uint32_t seen =
                atomic_load_explicit(&timers.changes, memory_order_relaxed);

            timers.sleeps_until = until;
            lock_drop(&timers.lock);
            futex_sleep(&timers.changes, seen, until);
        }
        lock_take(&timers.lock);
        timers.sleeps_until = INT64_MIN;
    }
    return NULL;
}

/* Start what is not yet started. The hooks' thread is first: a timer must not
 * fire with nobody to run its hooks. timers.lock held. */
static bool
timers_are_served(void)
{
    pthread_t thread;

    if (timers.is_served)
        return true;
    if (!timers.has_hooks_thread) {
        if (thread_start(&thread, "rota-hooks", hooks_body, NULL) != 0)
            return false;
        MUST(pthread_detach(thread));
        timers.has_hooks_thread = true;
    }
    if (thread_start(&thread, "rota-deadline", deadline_body, NULL) != 0)
        return false;
    MUST(pthread_detach(thread));
    timers.is_served = true;
    return true;
}

/* Have timed end at its deadline. False without memory or threads. */
static bool
timer_arm(struct timed_node *timed)
{
    bool is_armed, wakes = false;

    lock_take(&timers.lock);
    is_armed = timers_are_served() && heap_add(timed);
    if (is_armed && timed->node.deadline < timers.sleeps_until) {
        timers.sleeps_until = INT64_MIN; /* one call is enough */
        atomic_fetch_add_explicit(&timers.changes, 1, memory_order_relaxed);
        wakes = true;
    }
    lock_drop(&timers.lock);
    if (wakes)
        futex_wake_all(&timers.changes);
    return is_armed;
}

/* -- Contexts -------------------------------------------------------------- */

void
timed_node_fini(struct node *node)
{
    struct timed_node *timed = OWNER_OF(node, struct timed_node, node);

    lock_take(&timers.lock);
    /* the lock is taken also if the node is out: it is the thread that may
     * have taken it out, and still be looking at its count */
    if (timed->slot != NO_SLOT)
        heap_remove(timed);
    lock_drop(&timers.lock);
    cause_unref(timed->text);
}

/* The node that the deadline came from is the highest with the same one: a
 * child with an equal deadline was made without a timer of its own. */
void
deadline_reach(struct node *node)
{
    while (node_is_linked(node) && node->parent->deadline == node->deadline)
        node = node->parent;
    node_ref(node);
    timed_end(OWNER_OF(node, struct timed_node, node));
}

struct ctx *
ctx_with_deadline_cause(struct ctx *parent, int64_t deadline, const char *cause)
{
    struct timed_node *timed;
    struct node *node;

    if (parent == NULL)
        parent = ctx_background();
    if (deadline >= ctx_deadline(parent)) {
        if (deadline <= ctx_now())
            deadline_reach(node_of(parent)); /* before its timer does */
        return ctx_with_cancel(parent);
    }
    node = node_new(parent, NODE_TIMED, sizeof(*timed));
    if (node == NULL)
        return &node_nomem.pub;
    timed = OWNER_OF(node, struct timed_node, node);
    timed->slot = NO_SLOT;
    timed->text = NULL;
    list_init(&timed->pending);
    node->deadline = deadline;
    if (cause != NULL &&
        (timed->text = cause_copy(ROTA_DEADLINE, cause)) == NULL)
        goto fail;
    node_join(node);
    if (ctx_done(&node->pub))
        return &node->pub; /* as the parent is; nothing to arm */
    if (deadline <= ctx_now()) {
        /* no hooks yet, so this needs no thread of ours */
        node_ref(node);
        timed_end(timed);
    } else if (!timer_arm(timed)) {
        goto fail;
    }
    return &node->pub;
fail:
    node_unref(node);
    return &node_nomem.pub;
}

struct ctx *
ctx_with_deadline(struct ctx *parent, int64_t deadline)
{
    return ctx_with_deadline_cause(parent, deadline, NULL);
}

struct ctx *
ctx_with_timeout(struct ctx *parent, int64_t timeout)
{
    return ctx_with_timeout_cause(parent, timeout, NULL);
}

struct ctx *
ctx_with_timeout_cause(struct ctx *parent, int64_t timeout, const char *cause)
{
    return ctx_with_deadline_cause(parent, saturating_add(ctx_now(), timeout),
                                   cause);
}

/* Where there is no memory, cleaning up is to go on all the same: then it has
 * no end. */
struct ctx *
ctx_shield(struct ctx *parent, int64_t grace)
{
    struct ctx *detached = ctx_without_cancel(parent), *ctx;

    ctx = ctx_with_timeout(detached, grace);
    ctx_unref(detached);
    return ctx == &node_nomem.pub ? ctx_background() : ctx;
}
