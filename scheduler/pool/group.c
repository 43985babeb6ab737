/*
 * Groups: tasks that share a context, on a pool.
 *
 *   go ──> group's queue ──> a ticket's worker, or one who waits ──> ended
 *
 * A group queues its tasks itself. What goes through the pool are tickets: a
 * worker that gets one runs the group's tasks until none is queued. There are
 * at most as many tickets as could run at once, so most tasks cost the pool
 * nothing; and whoever waits on the group may take tasks as well, without
 * asking which worker they were meant for.
 *
 * Locking: group->lock guards all but what is read-only. It is a leaf: tasks,
 * contexts and the pool are called without it.
 *
 * Life: a ticket may come to its worker when its tasks are long done and the
 * group is closed. It holds a reference; the last one frees.
 *
 * Why nobody waits for ever: a task that has not ended is queued, and who waits
 * on its group takes it (if he is a worker; if not, the ticket that was made
 * for it comes to one that is not waiting, or that waits on this group); or it
 * is running, and what it waits on in turn is further in.
 */
#include <rota/group.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base.h"
#include "context/context.h"
#include "pool/pool.h"

/* After so many tasks a ticket goes to the end of the pool's queue. */
#define TURN 64

struct group_task {
    struct link on_group; /* queued, or failed, or spare */
    rota_group_fn *fn;
    void *arg;
    bool is_optional;
    enum rota_error error;
};

struct rota_group {
    struct ctx *ctx;        /* read-only, as the next two are */
    struct rota_pool *pool; /* NULL: the one that stands for "no memory" */
    int limit;              /* 0: none */
    _Atomic int refs;
    pthread_mutex_t lock;              /* guards the rest */
    struct link queued, failed, spare; /* struct group_task */
    int64_t pending;                   /* tasks queued and running */
    int64_t n_queued;
    int tickets;             /* sent, and not used up */
    int busy;                /* of these, running a task */
    int helpers;             /* workers asleep on changed */
    int others;              /* other threads, likewise */
    struct ctx_cond changed; /* a task has ended, or was queued */
    enum rota_error first;   /* failure that was not optional */
    bool was_late;           /* the context had ended before the last task */
};

static struct rota_group no_memory = {.ctx = &node_nomem.pub};

/* The tasks that run on this thread, the innermost first. */
struct running {
    const struct rota_group *group;
    struct running *outer;
};
static _Thread_local struct running *running;

static bool
is_own_task(const struct rota_group *group)
{
    const struct running *entry = running;

    while (entry != NULL && entry->group != group)
        entry = entry->outer;
    return entry != NULL;
}

static void
group_unref(struct rota_group *group)
{
    struct link *item;

    if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) != 1)
        return;
    while ((item = list_take(&group->failed)) != NULL ||
           (item = list_take(&group->spare)) != NULL)
        free(OWNER_OF(item, struct group_task, on_group));
    MUST(pthread_mutex_destroy(&group->lock));
    free(group);
}

/* -- Sleeping; group->lock is held ------------------------------------------
 */

static void
sleep_on(struct rota_group *group, bool is_worker)
{
    int *count = is_worker ? &group->helpers : &group->others;

    ++*count;
    (void)ctx_cond_wait(ctx_background(), &group->changed, &group->lock,
                        ROTA_FOREVER);
    --*count;
}

static void
wake_all(struct rota_group *group)
{
    if (group->helpers > 0 || group->others > 0)
        ctx_cond_broadcast(&group->changed);
}

/* -- Running -----------------------------------------------------------------
 */

static enum rota_error
call(struct rota_group *group, rota_group_fn *fn, void *arg)
{
    struct running self = {.group = group, .outer = running};
    enum rota_error error;

    running = &self;
    error = fn(group->ctx, arg);
    running = self.outer;
    return error;
}

/* Run a task that is in no list any more, and that counts as pending. No lock
 * is held. */
static void
run(struct rota_group *group, struct group_task *task)
{
    bool is_first = false;

    task->error = call(group, task->fn, task->arg);
    if (task->error != ROTA_OK && !task->is_optional) {
        lock_take(&group->lock);
        is_first = group->first == ROTA_OK;
        if (is_first)
            group->first = task->error;
        lock_drop(&group->lock);
    }
    /* before its end is counted: who has waited finds the siblings called off
     */
    if (is_first)
        (void)ctx_cancel_error(group->ctx, task->error, "%s",
                               rota_strerror(task->error));
    lock_take(&group->lock);
    if (--group->pending == 0)
        group->was_late = ctx_done(group->ctx);
    list_append(task->error != ROTA_OK ? &group->failed : &group->spare,
                &task->on_group);
    if (group->pending == 0 || group->limit > 0)
        wake_all(group);
    lock_drop(&group->lock);
}

/* The next queued task, taken out; NULL if there is none. group->lock held. */
static struct group_task *
take(struct rota_group *group)
{
    struct link *item = list_take(&group->queued);

    if (item == NULL)
        return NULL;
    group->n_queued--;
    return OWNER_OF(item, struct group_task, on_group);
}

/* Run up to TURN tasks. False: none is left, and the ticket is used up. */
static bool
ticket_turn(struct rota_group *group)
{
    struct group_task *task;
    int turn = 0;
    bool goes_on;

    lock_take(&group->lock);
    while (turn++ < TURN && (task = take(group)) != NULL) {
        group->busy++;
        lock_drop(&group->lock);
        run(group, task);
        lock_take(&group->lock);
        group->busy--;
    }
    goes_on = group->n_queued > 0;
    if (!goes_on)
        group->tickets--;
    lock_drop(&group->lock);
    return goes_on;
}

/* A pool_fn: a ticket. Without memory to queue it again, its turn is not over:
 * a loop, for the queue may be of any length. */
static void
ticket_use(void *arg)
{
    struct rota_group *group = arg;

    while (ticket_turn(group))
        if (pool_submit(group->pool, ticket_use, group) == ROTA_OK)
            return;
    group_unref(group);
}

/* Have the pool run what is queued. No lock is held. */
static void
ticket_send(struct rota_group *group)
{
    if (pool_submit(group->pool, ticket_use, group) != ROTA_OK)
        ticket_use(group); /* no memory: here and now, then */
}

/* -- Giving tasks ------------------------------------------------------------
 */

/* Whether one more ticket is worth while: there are more tasks than tickets on
 * their way. If so it counts already. group->lock held. */
static bool
ticket_is_due(struct rota_group *group)
{
    int most = pool_workers(group->pool);

    if (group->tickets >= most ||
        group->tickets - group->busy >= group->n_queued)
        return false;
    group->tickets++;
    atomic_fetch_add_explicit(&group->refs, 1, memory_order_relaxed);
    return true;
}

static bool
is_full(const struct rota_group *group)
{
    return group->limit > 0 && group->pending >= group->limit;
}

/* Wait until there is room for one more. False: the caller is one of the tasks
 * that fill it. group->lock held. */
static bool
await_room(struct rota_group *group)
{
    bool is_worker = pool_is_worker(group->pool);
    struct group_task *task;

    while (is_full(group)) {
        if (is_own_task(group))
            return false;
        task = is_worker ? take(group) : NULL;
        if (task == NULL) {
            sleep_on(group, is_worker);
            continue;
        }
        lock_drop(&group->lock);
        run(group, task);
        lock_take(&group->lock);
    }
    return true;
}

/* A task with its memory, or NULL. group->lock held. */
static struct group_task *
task_new(struct rota_group *group)
{
    struct link *item = list_take(&group->spare);

    return item != NULL ? OWNER_OF(item, struct group_task, on_group)
                        : malloc(sizeof(struct group_task));
}

/* Queue task. group->lock held. */
static void
put(struct rota_group *group, struct group_task *task)
{
    list_append(&group->queued, &task->on_group);
    group->n_queued++;
    group->pending++;
    if (group->helpers > 0)
        ctx_cond_broadcast(&group->changed);
}

/* Run a task for which there is no room, or no memory, on this thread. Its
 * failure is kept as any, if there is memory for that by then. */
static void
run_here(struct rota_group *group, rota_group_fn *fn, void *arg,
         bool is_optional)
{
    enum rota_error error = call(group, fn, arg);
    struct group_task *task;
    bool is_first;

    if (error == ROTA_OK || group->pool == NULL)
        return;
    lock_take(&group->lock);
    is_first = !is_optional && group->first == ROTA_OK;
    if (is_first)
        group->first = error;
    task = task_new(group);
    if (task != NULL) {
        *task = (struct group_task){
            .arg = arg, .is_optional = is_optional, .error = error};
        list_append(&group->failed, &task->on_group);
    }
    lock_drop(&group->lock);
    if (is_first)
        (void)ctx_cancel_error(group->ctx, error, "%s", rota_strerror(error));
}

enum go_how { GO, GO_OPTIONAL, GO_AT_ONCE };

/* False: at once was not possible. */
static bool
go(struct rota_group *group, rota_group_fn *fn, void *arg, enum go_how how)
{
    struct group_task *task = NULL;
    bool is_optional = how == GO_OPTIONAL, is_due = false;

    if (group->pool == NULL) {
        run_here(group, fn, arg, is_optional);
        return true;
    }
    lock_take(&group->lock);
    if (how == GO_AT_ONCE && is_full(group)) {
        lock_drop(&group->lock);
        return false;
    }
    if (await_room(group))
        task = task_new(group);
    if (task != NULL) {
        *task = (struct group_task){
            .fn = fn, .arg = arg, .is_optional = is_optional};
        put(group, task);
        is_due = ticket_is_due(group);
    }
    lock_drop(&group->lock);
    if (task == NULL)
        run_here(group, fn, arg, is_optional);
    if (is_due)
        ticket_send(group);
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
    struct group_task *task;
    size_t i = 0;
    int due = 0;

    if (group->pool != NULL && group->limit == 0) {
        lock_take(&group->lock);
        for (; i < n && (task = task_new(group)) != NULL; i++) {
            *task = (struct group_task){.fn = fn, .arg = args[i]};
            put(group, task);
        }
        while (ticket_is_due(group))
            due++;
        lock_drop(&group->lock);
        while (due-- > 0)
            ticket_send(group);
    }
    for (; i < n; i++)
        (void)go(group, fn, args[i], GO);
}

bool
rota_group_try_go(struct rota_group *group, rota_group_fn *fn, void *arg)
{
    return go(group, fn, arg, GO_AT_ONCE);
}

/* -- Waiting -----------------------------------------------------------------
 */

enum rota_error
rota_group_wait(struct rota_group *group)
{
    struct group_task *task;
    enum rota_error error;
    bool is_worker;

    if (group->pool == NULL)
        return ROTA_NOMEM;
    if (is_own_task(group)) {
        message_set("a task cannot wait for the group that it is in");
        return ROTA_INVALID;
    }
    is_worker = pool_is_worker(group->pool);
    lock_take(&group->lock);
    while (group->pending > 0) {
        task = is_worker ? take(group) : NULL;
        if (task == NULL) {
            sleep_on(group, is_worker);
            continue;
        }
        lock_drop(&group->lock);
        run(group, task);
        lock_take(&group->lock);
    }
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
        const struct group_task *task =
            OWNER_OF(l, struct group_task, on_group);

        if (all < n)
            ret_failures[all] = (struct rota_failure){
                task->error, task->is_optional, task->arg};
    }
    lock_drop(&group->lock);
    return all;
}

/* -- Life --------------------------------------------------------------------
 */

struct rota_group *
rota_group_open(struct ctx *ctx, struct rota_pool *pool, int limit)
{
    struct rota_group *group = malloc(sizeof(*group));
    struct ctx *own = group != NULL ? ctx_with_cancel(ctx) : NULL;

    if (group == NULL || own == &node_nomem.pub) {
        free(group);
        return &no_memory;
    }
    *group = (struct rota_group){
        .ctx = own, .pool = pool, .limit = limit > 0 ? limit : 0, .refs = 1};
    MUST(pthread_mutex_init(&group->lock, NULL));
    list_init(&group->queued);
    list_init(&group->failed);
    list_init(&group->spare);
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
    if (group->pool == NULL || (error == ROTA_INVALID && is_own_task(group)))
        return error;
    ctx_end(group->ctx);
    group_unref(group);
    return error;
}

/* -- Pools --------------------------------------------------------------------
 */

enum rota_error
rota_pool_open(int workers, struct rota_pool **ret_pool)
{
    if (workers == 0)
        workers = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (workers < 1) {
        message_set("a pool has at least one worker");
        return ROTA_INVALID;
    }
    return pool_open(workers, "rota-pool", ret_pool);
}

enum rota_error
rota_pool_close(struct rota_pool *pool)
{
    enum rota_error error = pool_close(pool);

    if (error == ROTA_INVALID)
        message_set("a pool cannot be closed by one of its own workers");
    return error;
}

struct pool_hook {
    struct ctx_hook hook;
    struct rota_pool *pool;
    ctx_hook_fn *fn;
    void *arg;
};
_Static_assert(sizeof(struct pool_hook) <= sizeof(struct rota_pool_hook),
               "a hook fits into what callers provide");

/* A ctx_hook_fn. */
static void
hook_queue(void *arg)
{
    const struct pool_hook *hook = arg;

    if (pool_submit(hook->pool, hook->fn, hook->arg) != ROTA_OK)
        hook->fn(hook->arg);
}

void
rota_pool_after(struct rota_pool *pool, struct ctx *ctx,
                struct rota_pool_hook *pool_hook, ctx_hook_fn *fn, void *arg)
{
    struct pool_hook *hook = (struct pool_hook *)(void *)pool_hook;

    hook->pool = pool;
    hook->fn = fn;
    hook->arg = arg;
    ctx_after(ctx, &hook->hook, hook_queue, hook);
}
