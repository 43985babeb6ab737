/*
 * Groups: tasks that share a context, on a pool.
 *
 * A task waits in its worker's queue, or, given by another thread, in the
 * pool's: a group itself has none. It counts those of its tasks that have not
 * ended, and knows who waits for that. A worker that waits runs the group's
 * tasks, wherever they are queued, and those of the groups within it, which
 * would have to be waited for as well.
 *
 * How a task is counted at the price of an increment on its worker: a worker
 * that ends a task of a group holds on to its count, and gives it to the next
 * task that it queues for that group; it takes more in advance, but only while
 * it runs a task of that group, so that what it holds never keeps a group from
 * its end. It gives back what it holds, group_settle(), before it runs anything
 * else, looks for work elsewhere, or waits. A group with a limit counts one by
 * one.
 *
 * Locking: group->lock guards what it says below. It is a leaf: tasks, contexts
 * and the pool are called without it. The count falls to 0 under it only, so
 * that who finds it at 0, under it too, may free the group.
 *
 * Why nobody waits for ever: a worker that is about to sleep on a group first
 * says so in helpers, and then looks into every queue under its lock; who
 * queues a task does so under the queue's lock and looks at helpers afterwards.
 * So a task that has not ended and whose group is waited for by a worker is
 * running, or is taken by who waits; and what a running task waits on in turn
 * is further in.
 */
#include <rota/group.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "base/base.h"
#include "context/node.h"
#include "pool/worker.h"

/* So much of a group's count a worker takes in advance. */
#define ADVANCE 64

/* A failure that is kept. */
struct failure {
    struct link on_group;
    struct rota_failure what;
};

struct rota_group {
    struct ctx *ctx;          /* read-only, as the next six are */
    struct rota_pool *pool;   /* NULL: the one that stands for "no memory" */
    struct rota_group *outer; /* whose task opened it, with a reference */
    struct side required, optional; /* of this group */
    int limit;                      /* 0: none */
    int depth;                      /* how many are outside it */
    atomic_bool is_fed_from_outside;
    atomic_int helpers;      /* workers about to sleep on it, or asleep */
    char apart_[64];         /* what is read often from what is written often */
    _Atomic int64_t pending; /* tasks queued and running, and what is held */
    _Atomic int refs;
    pthread_mutex_t lock;    /* guards the rest */
    int others;              /* that sleep on it and are no workers */
    unsigned news;           /* a task was queued, or has ended */
    struct ctx_cond changed; /* news has risen, or pending fallen to 0 */
    struct link failed;      /* struct failure */
    enum rota_error first;   /* failure that was not optional */
    bool was_late;           /* the context had ended before the last task */
};

static struct rota_group no_memory = {.ctx = &node_nomem.pub};

/* The tasks that run on this thread, the innermost first. */
struct running {
    struct rota_group *group;
    struct running *outer;
};
static _Thread_local struct running *running;

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

/* True in a task of group, or in one of a group within it. */
static bool
is_inside(const struct rota_group *group)
{
    const struct running *entry = running;

    while (entry != NULL && !group_is_within(entry->group, group))
        entry = entry->outer;
    return entry != NULL;
}

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

/* Tell those who sleep on the group. group->lock held. */
static void
group_tell(struct rota_group *group)
{
    group->news++;
    if (atomic_load(&group->helpers) > 0 || group->others > 0)
        ctx_cond_broadcast(&group->changed);
}

/* n of pending are no more. No lock is held. Afterwards the group may be gone,
 * unless the caller has a task of it or is going to wait for it. */
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
    group_tell(group);
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

static void
hold_of(struct worker *self, struct rota_group *group)
{
    if (self->held_of == group)
        return;
    group_settle(self);
    self->held_of = group;
}

/* Count n tasks that are to be queued by self, or, if it is NULL, by another
 * thread. The group has no limit. */
static void
pending_add(struct rota_group *group, struct worker *self, int64_t n)
{
    if (self == NULL || running == NULL || running->group != group) {
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

/* Count one more if there is room. The group has a limit. */
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

/* Keep a failure, and call the others off if it is the first that counts. No
 * lock is held. */
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

/* The task itself, and what becomes of its failure. No lock is held. */
static void
call(struct rota_group *group, rota_group_fn *fn, void *arg, bool is_optional)
{
    struct running self = {.group = group, .outer = running};
    enum rota_error error;

    running = &self;
    error = fn(group->ctx, arg);
    running = self.outer;
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
    call(group, task->call.fn, task->arg, task->call.side->is_optional);
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

/* Run a task of the group, or sleep until there is news. self holds nothing of
 * it. */
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

/* Returns when it is over; self may be NULL. */
static void
await(struct rota_group *group, struct worker *self, bool for_room)
{
    struct task task;
    bool is_over_now;

    if (self != NULL)
        pool_turn(self, group);
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

/* Queue what is counted. False without memory. */
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
        group_tell(group);
        lock_drop(&group->lock);
    }
    return true;
}

enum go_how { GO, GO_OPTIONAL, GO_AT_ONCE };

/* Count a task of a group with a limit. False: it is to be run here, because
 * the caller is one of those that fill it, or not at all if at once. */
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

/* False: at once was not possible. */
static bool
go(struct rota_group *group, rota_group_fn *fn, void *arg, enum go_how how)
{
    bool is_optional = how == GO_OPTIONAL;
    const struct call what = {
        {.fn = fn}, is_optional ? &group->optional : &group->required};
    struct worker *self;
    bool is_counted = false;

    if (group->pool == NULL) {
        call(group, fn, arg, is_optional);
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
    call(group, fn, arg, is_optional);
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
    struct rota_group *outer = running != NULL ? running->group : NULL;
    struct ctx *own = group != NULL ? ctx_with_cancel(ctx) : NULL;

    if (group == NULL || own == &node_nomem.pub) {
        free(group);
        return &no_memory;
    }
    if (outer != NULL && outer->pool != pool)
        outer = NULL; /* of one pool only: the other's tasks are not ours */
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
