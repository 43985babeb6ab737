/*
 * Groups: tasks that share a context, on a pool (rota/group.h). Programs call
 * it on any thread; a worker of pool.c calls what worker.h lists.
 *
 * Locking: group->lock guards what is said below. It is a leaf: tasks, contexts
 * and the pool are called without it. The count of pending tasks falls to 0
 * under it only, so that a waiter that finds 0, under it too, may free the
 * group.
 *
 * A task waits in its worker's own queue, or, given by another thread, in the
 * pool's shared one: a group itself has none. It counts those of its tasks that
 * have not ended, and knows who waits for that. A worker that waits runs the
 * group's tasks, wherever they are queued, and those of the groups within it,
 * which would have to be waited for as well.
 *
 * How a task is counted at the price of an increment on its worker: a worker
 * that ends a task of a group does not take it off the group's count, but holds
 * that count back, and gives it to the next task that it queues for the group.
 * It takes more in advance, but only while it runs a task of that group, which
 * is pending itself, so that what is held never keeps a group from its end. It
 * gives back what it holds, group_settle(), before it runs anything else, looks
 * for work elsewhere, or waits. A group with a limit counts one by one.
 *
 * Why nobody waits for ever: a worker that is about to sleep on a group first
 * counts itself in helpers, and then looks into every queue under its lock; a
 * thread that queues a task does so under the queue's lock and looks at helpers
 * afterwards. So either the worker finds the task, or the thread sees helpers
 * and wakes it: a task that has not ended, of a group that a worker waits for,
 * is running or is taken by that worker. And the group that a running task
 * waits for in turn is further in, so that the tasks of the innermost one go
 * on.
 */
#include <rota/group.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "base/base.h"
#include "context/node.h"
#include "pool/worker.h"

/* A worker that has to add to a group's count adds so much more in advance. */
#define ADVANCE 64

/* A failure that is kept until the group is freed. */
struct failure {
    struct link on_group; /* in group->failed */
    struct rota_failure what;
};

struct rota_group {
    struct ctx *ctx;          /* the tasks'; read-only, as the next six are */
    struct rota_pool *pool;   /* NULL: this is no_memory_group */
    struct rota_group *outer; /* whose task opened it, with a reference */
    struct side required, optional; /* what its tasks' calls point to */
    int limit;                      /* 0: none */
    int depth;                      /* how many groups are outside it */
    /* Set once, before the first task that a thread which is no worker gives is
     * queued, under no lock: the queue's lock makes it seen with the task. */
    atomic_bool is_fed_from_outside;
    /* Workers about to sleep on it, or asleep. Changed under lock. Read without
     * it by put() after the queue's lock: see "why nobody waits for ever". */
    atomic_int helpers;
    char apart_[64]; /* keeps what is seldom written off pending's cache line */
    /* Tasks queued and running, and what workers hold back. Rises without the
     * lock; falls without it too, by a release, but never to 0. */
    _Atomic int64_t pending;
    _Atomic int refs;     /* its own until it is closed, and groups within it */
    pthread_mutex_t lock; /* guards the rest */
    int others;           /* threads that sleep on it and are no workers */
    unsigned news; /* how often a task was queued or ended; wraps round */
    struct ctx_cond changed; /* news has risen, so pending may be 0 */
    struct link failed;      /* struct failure, in the order they came */
    enum rota_error first;   /* of the failures, the first not optional */
    bool was_late; /* the context had ended when pending last fell to 0 */
};

/* What rota_group_open() returns without memory: it runs tasks at once, in a
 * context that has ended. */
static struct rota_group no_memory_group = {.ctx = &node_nomem.pub};

/* The tasks that run on this thread, the innermost first: a task that waits for
 * a group has that group's tasks run inside it. On the stack of run_here(). */
struct frame {
    struct rota_group *group;
    struct frame *outer;
};
static _Thread_local struct frame *innermost;

bool
group_is_within(const struct rota_group *inner, const struct rota_group *outer)
{
    while (inner->depth > outer->depth)
        inner = inner->outer;
    return inner == outer;
}

bool
group_is_fed_from_outside(const struct rota_group *group)
{
    return atomic_load(&group->is_fed_from_outside);
}

/* True if this thread is in a task of group, or in one of a group within it. */
static bool
is_inside(const struct rota_group *group)
{
    const struct frame *frame = innermost;

    while (frame != NULL && !group_is_within(frame->group, group))
        frame = frame->outer;
    return frame != NULL;
}

/* Drop a reference. The last frees the group, and drops its own to the group
 * outside it. No lock is held. The order, acq_rel, makes what others did to the
 * group before they dropped theirs visible to who frees it. */
static void
group_unref(struct rota_group *group)
{
    struct link *item;

    while (group != NULL && atomic_fetch_sub_explicit(
                                &group->refs, 1, memory_order_acq_rel) == 1) {
        struct rota_group *outer = group->outer;

        while ((item = list_take(&group->failed)) != NULL)
            free(OWNER_OF(item, struct failure, on_group));
        MUST(pthread_mutex_destroy(&group->lock));
        free(group);
        group = outer;
    }
}

/* -- Counting -------------------------------------------------------------- */

/* There is news: wake those who sleep on the group. group->lock held. */
static void
group_wake(struct rota_group *group)
{
    group->news++;
    if (atomic_load(&group->helpers) > 0 || group->others > 0)
        ctx_cond_broadcast(&group->changed);
}

/* Take n off pending, and wake the waiters if that may be the end, or makes
 * room in a group with a limit. No lock is held. Afterwards the group may be
 * gone, unless the caller has a task of it or is going to wait for it. */
static void
pending_drop(struct rota_group *group, int64_t n)
{
    int64_t pending =
        atomic_load_explicit(&group->pending, memory_order_relaxed);

    while (group->limit == 0 && pending > n)
        if (atomic_compare_exchange_weak_explicit(
                &group->pending, &pending, pending - n, memory_order_acq_rel,
                memory_order_relaxed))
            return;
    lock_take(&group->lock);
    if (atomic_fetch_sub(&group->pending, n) == n)
        group->was_late = ctx_done(group->ctx);
    group_wake(group);
    lock_drop(&group->lock);
}

void
group_settle(struct worker *self)
{
    struct rota_group *group = self->held_of;
    int64_t held = self->held;

    self->held_of = NULL;
    self->held = 0;
    if (group != NULL && held > 0)
        pending_drop(group, held);
}

/* What self holds is of group from now on. No lock is held. */
static void
hold_of(struct worker *self, struct rota_group *group)
{
    if (self->held_of == group)
        return;
    group_settle(self);
    self->held_of = group;
}

/* Count n tasks that are to be queued by self, or, if it is NULL, by a thread
 * that is no worker. The group has no limit. No lock is held. */
static void
pending_add(struct rota_group *group, struct worker *self, int64_t n)
{
    if (self == NULL || innermost == NULL || innermost->group != group) {
        atomic_fetch_add_explicit(&group->pending, n, memory_order_relaxed);
        return;
    }
    hold_of(self, group);
    if (self->held < n) {
        atomic_fetch_add_explicit(&group->pending, n + ADVANCE,
                                  memory_order_relaxed);
        self->held += n + ADVANCE;
    }
    self->held -= n;
}

/* Count one task more if there is room. The group has a limit. No lock is held.
 */
static bool
pending_add_within_limit(struct rota_group *group)
{
    int64_t pending =
        atomic_load_explicit(&group->pending, memory_order_relaxed);

    while (pending < group->limit)
        if (atomic_compare_exchange_weak_explicit(
                &group->pending, &pending, pending + 1, memory_order_acq_rel,
                memory_order_relaxed))
            return true;
    return false;
}

/* -- Running --------------------------------------------------------------- */

/* Keep a failure, and end the context of all if it is the first that is not
 * optional. Without memory it is not kept. No lock is held. */
static void
group_fail(struct rota_group *group, const struct rota_failure *what)
{
    struct failure *failure = malloc(sizeof(*failure));
    bool is_first;

    lock_take(&group->lock);
    is_first = !what->is_optional && group->first == ROTA_OK;
    if (is_first)
        group->first = what->error;
    if (failure != NULL) {
        failure->what = *what;
        list_append(&group->failed, &failure->on_group);
    }
    lock_drop(&group->lock);
    if (is_first)
        (void)ctx_cancel_error(group->ctx, what->error, "%s",
                               rota_strerror(what->error));
}

/* Run a task on this thread, and see to its failure. No lock is held. */
static void
run_here(struct rota_group *group, rota_group_fn *fn, void *arg,
         bool is_optional)
{
    struct frame frame = {.group = group, .outer = innermost};
    enum rota_error error;

    innermost = &frame;
    error = fn(group->ctx, arg);
    innermost = frame.outer;
    if (error != ROTA_OK && group->pool != NULL) {
        const struct rota_failure failure = {error, is_optional, arg};

        group_fail(group, &failure);
    }
}

void
group_run(struct worker *self, const struct task *task)
{
    struct rota_group *group = task->call.side->group;

    if (self->held_of != group)
        group_settle(self);
    run_here(group, task->call.fn, task->arg, task->call.side->is_optional);
    if (group->limit > 0) {
        pending_drop(group, 1);
        return;
    }
    hold_of(self, group);
    self->held++;
}

/* -- Waiting --------------------------------------------------------------- */

/* True if there is nothing to wait for: no task is left, or one more has room.
 * group->lock held. */
static bool
is_over(const struct rota_group *group, bool for_room)
{
    int64_t pending = atomic_load(&group->pending);

    return pending == 0 || (for_room && pending < group->limit);
}

/* Run one task of the group, or sleep until there is news. No lock is held, and
 * self holds nothing of the group. */
static void
help(struct rota_group *group, struct worker *self, bool for_room)
{
    struct task task;
    unsigned seen;
    bool is_found;

    lock_take(&group->lock);
    atomic_fetch_add(&group->helpers, 1);
    seen = group->news;
    lock_drop(&group->lock);
    is_found = pool_take(self, group, &task);
    lock_take(&group->lock);
    while (!is_found && group->news == seen && !is_over(group, for_room))
        (void)ctx_cond_wait(ctx_background(), &group->changed, &group->lock,
                            ROTA_FOREVER);
    atomic_fetch_sub(&group->helpers, 1);
    lock_drop(&group->lock);
    if (is_found)
        group_run(self, &task);
}

/* Wait until it is over. self is this thread's worker, which runs the group's
 * tasks meanwhile; NULL: this is no worker, and sleeps. No lock is held. */
static void
await(struct rota_group *group, struct worker *self, bool for_room)
{
    struct task task;
    bool is_over_now;

    if (self != NULL)
        pool_turn_round(self, group);
    for (;;) {
        while (self != NULL && pool_take_own(self, group, &task))
            group_run(self, &task);
        if (self != NULL)
            group_settle(self);
        lock_take(&group->lock);
        while (!(is_over_now = is_over(group, for_room)) && self == NULL) {
            group->others++;
            (void)ctx_cond_wait(ctx_background(), &group->changed, &group->lock,
                                ROTA_FOREVER);
            group->others--;
        }
        lock_drop(&group->lock);
        if (is_over_now)
            return;
        help(group, self, for_room);
    }
}

/* -- Giving tasks ---------------------------------------------------------- */

/* Queue tasks that have been counted, and wake a worker that waits for them.
 * False without memory. No lock is held. */
static bool
put(struct rota_group *group, struct worker *self, struct call call,
    void *const *args, size_t n)
{
    if (self == NULL && !group_is_fed_from_outside(group))
        atomic_store(&group->is_fed_from_outside, true);
    if (!pool_put(group->pool, self, call, args, n))
        return false;
    if (atomic_load(&group->helpers) > 0) {
        lock_take(&group->lock);
        group_wake(group);
        lock_drop(&group->lock);
    }
    return true;
}

/* Which public call it is: the last does not wait for room. */
enum go_how { GO, GO_OPTIONAL, GO_AT_ONCE };

/* Wait for room in a group with a limit, and count a task. False: there is
 * none. GO_AT_ONCE is refused then; otherwise the caller is in one of the tasks
 * that fill the group, so that waiting for room might be for ever, and runs the
 * task itself. No lock is held. */
static bool
await_room(struct rota_group *group, struct worker *self, enum go_how how)
{
    while (!pending_add_within_limit(group)) {
        if (how == GO_AT_ONCE || is_inside(group))
            return false;
        await(group, self, true);
    }
    return true;
}

/* Give the group a task. Without memory it is run here. False: it was to be at
 * once, and there is no room. No lock is held. */
static bool
go(struct rota_group *group, rota_group_fn *fn, void *arg, enum go_how how)
{
    bool is_optional = how == GO_OPTIONAL;
    const struct call what = {
        {.fn = fn}, is_optional ? &group->optional : &group->required};
    struct worker *self;
    bool is_counted = false;

    if (group->pool == NULL) {
        run_here(group, fn, arg, is_optional);
        return true;
    }
    self = pool_self(group->pool);
    if (group->limit == 0) {
        pending_add(group, self, 1);
        is_counted = true;
    } else if (await_room(group, self, how)) {
        is_counted = true;
    } else if (how == GO_AT_ONCE) {
        return false;
    }
    if (is_counted && put(group, self, what, &arg, 1))
        return true;
    run_here(group, fn, arg, is_optional);
    if (is_counted)
        pending_drop(group, 1);
    return true;
}

void
rota_group_go(struct rota_group *group, rota_group_fn *fn, void *arg)
{
    (void)go(group, fn, arg, GO);
}

void
rota_group_go_optional(struct rota_group *group, rota_group_fn *fn, void *arg)
{
    (void)go(group, fn, arg, GO_OPTIONAL);
}

void
rota_group_go_many(struct rota_group *group, rota_group_fn *fn,
                   void *const *args, size_t n)
{
    const struct call what = {{.fn = fn}, &group->required};
    struct worker *self;

    if (group->pool != NULL && group->limit == 0) {
        self = pool_self(group->pool);
        pending_add(group, self, (int64_t)n);
        if (put(group, self, what, args, n))
            return;
        pending_drop(group, (int64_t)n);
    }
    for (size_t i = 0; i < n; i++)
        (void)go(group, fn, args[i], GO);
}

bool
rota_group_try_go(struct rota_group *group, rota_group_fn *fn, void *arg)
{
    return go(group, fn, arg, GO_AT_ONCE);
}

/* -- Asking ---------------------------------------------------------------- */

enum rota_error
rota_group_wait(struct rota_group *group)
{
    enum rota_error error;

    if (group->pool == NULL)
        return ROTA_NOMEM;
    if (is_inside(group)) {
        message_set("a task cannot wait for the group that it is in");
        return ROTA_INVALID;
    }
    await(group, pool_self(group->pool), false);
    lock_take(&group->lock);
    error = group->first;
    if (error == ROTA_OK && group->was_late)
        error = ctx_err(group->ctx);
    lock_drop(&group->lock);
    return error;
}

size_t
rota_group_failures(struct rota_group *group, struct rota_failure *ret_failures,
                    size_t n)
{
    size_t all = 0;

    if (group->pool == NULL)
        return 0;
    lock_take(&group->lock);
    for (struct link *l = group->failed.next; l != &group->failed;
         l = l->next, all++) {
        if (all < n)
            ret_failures[all] = OWNER_OF(l, struct failure, on_group)->what;
    }
    lock_drop(&group->lock);
    return all;
}

/* -- Life ------------------------------------------------------------------ */

struct rota_group *
rota_group_open(struct ctx *ctx, struct rota_pool *pool, int limit)
{
    struct rota_group *group = malloc(sizeof(*group));
    struct rota_group *outer = innermost != NULL ? innermost->group : NULL;
    struct ctx *own = group != NULL ? ctx_with_cancel(ctx) : NULL;

    if (group == NULL || own == &node_nomem.pub) {
        free(group);
        return &no_memory_group;
    }
    if (outer != NULL && outer->pool != pool)
        outer = NULL; /* who waits here cannot run the tasks of another pool */
    if (outer != NULL)
        atomic_fetch_add_explicit(&outer->refs, 1, memory_order_relaxed);
    *group = (struct rota_group){.ctx = own,
                                 .pool = pool,
                                 .outer = outer,
                                 .required = {group, false},
                                 .optional = {group, true},
                                 .depth = outer != NULL ? outer->depth + 1 : 0,
                                 .limit = limit > 0 ? limit : 0,
                                 .refs = 1};
    lock_init(&group->lock);
    list_init(&group->failed);
    ctx_cond_init(&group->changed);
    return group;
}

struct ctx *
rota_group_ctx(struct rota_group *group)
{
    return group->ctx;
}

enum rota_error
rota_group_close(struct rota_group *group)
{
    enum rota_error error;

    if (group == NULL)
        return ROTA_OK;
    error = rota_group_wait(group);
    if (group->pool == NULL || (error == ROTA_INVALID && is_inside(group)))
        return error;
    ctx_end(group->ctx);
    group_unref(group);
    return error;
}
