/*
 * The pool: a queue for all, a queue for each worker, and who sleeps when. The
 * engine calls it through pool.h, groups through worker.h.
 *
 * Locking: pool->lock guards the shared queue, who sleeps, and closing. A
 * worker's own queue is touched by others with pool->lock and worker->lock both
 * held, in that order; so for the worker itself either is enough. Tasks, and
 * what group.c does for a worker, run without any.
 *
 *   other threads ──> pool->shared ──> a worker's own queue ──> run
 *                      a worker's tasks ──>┘   └──> a thief's own queue
 *
 * A worker runs the newest task of its own queue: what a task has just queued
 * is warm, and a tree of tasks is walked depth first. Tasks come from the
 * shared queue in batches that are turned round, so that these are run in the
 * order they came. A worker with nothing steals the older half of another's
 * queue, which in a tree are the largest parts. Every so often a worker looks
 * into the shared queue first, lest tasks that go on queueing tasks keep it
 * waiting for ever.
 *
 * What makes a pool fast is how seldom it wakes anybody. pool->idle says how
 * many sleep for whom no wake-up is on its way yet: while it is 0 nobody is
 * woken, and it is read without a lock. Why no task is left behind all the
 * same:
 *
 *   1. A worker that is about to sleep first counts itself in idle, and then
 *      looks once more into every queue, under that queue's lock.
 *   2. A thread that queues a task does so under that queue's lock, and looks
 * at idle afterwards. If it had that lock before the worker of 1, the worker
 *      finds the task; if after it, the thread sees the worker in idle, and
 *      wakes one. The queue's lock orders the two, so idle is read relaxed.
 *   3. A worker that was woken looks everywhere; and one that takes a task and
 *      sees others left wakes the next. So whoever puts a task into the shared
 *      queue need only wake somebody if it was empty: otherwise a worker that
 *      looks into it is awake, or on its way.
 */
#define _GNU_SOURCE
#include "pool/pool.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "pool/shared.h"
#include "pool/worker.h"

/* So many at most go from the shared queue to a worker at once: more gains
 * nothing. It is the room that each worker's own queue has from the start. */
#define BATCH 256

/* When a worker's tasks have queued so many tasks on its own queue, it takes
 * one from the shared queue first. */
#define OWN_IN_A_ROW 64

struct rota_pool {
    int workers; /* how many; read-only */
    /* Workers asleep, or about to sleep, for whom no wake-up is on its way.
     * Changed under lock. Read without it and relaxed by pool_put(), after the
     * lock of the queue that it put a task into: see 2 above. */
    atomic_int idle;
    char apart_[64]; /* keeps what is only read off the lock's cache line */
    pthread_mutex_t lock;   /* guards the rest */
    pthread_cond_t woken;   /* wakeups has risen, or is_closing was set */
    struct shared shared;   /* tasks that no worker has taken yet */
    int wakeups;            /* given, and not taken by a sleeper yet */
    bool is_closing;        /* no tasks are taken in from outside any more */
    struct worker worker[]; /* those of the pool, by number; see worker.h */
};

/* The worker that this thread is. */
static _Thread_local struct worker *current;

/* The i-th oldest task of a worker's own queue. The queue's lock held. */
static inline struct task *
task_at(const struct ring *ring, size_t i)
{
    return (struct task *)ring->items + ring_index(ring, i);
}

/* True if what is called is a task of group itself. */
static bool
is_of(struct call call, const struct rota_group *group)
{
    return call.side != NULL && call.side->group == group;
}

/* -- Waking; pool->lock is held -------------------------------------------- */

/* Send a wake-up on its way if anybody sleeps for whom there is none. True: the
 * caller is to signal pool->woken, best after it has dropped the lock, so that
 * the worker that wakes does not run into it. pool->lock held. */
static bool
wakeup_give(struct rota_pool *pool)
{
    if (atomic_load_explicit(&pool->idle, memory_order_relaxed) == 0)
        return false;
    atomic_fetch_sub_explicit(&pool->idle, 1, memory_order_relaxed);
    pool->wakeups++;
    return true;
}

/* Sleep until there is a wake-up, and take it. The caller has counted itself in
 * idle. It may be woken without one, which does no harm: it looks into the
 * queues, and counts itself again. pool->lock held; let go while asleep. */
static void
wakeup_await(struct rota_pool *pool)
{
    if (pool->wakeups == 0 && !pool->is_closing)
        MUST(pthread_cond_wait(&pool->woken, &pool->lock));
    if (pool->wakeups > 0)
        pool->wakeups--;
    else
        atomic_fetch_sub_explicit(&pool->idle, 1, memory_order_relaxed);
}

/* -- Workers --------------------------------------------------------------- */

/* Take the newest task of self's own queue. False if it is empty. No lock is
 * held. */
static bool
worker_pop(struct worker *self, struct task *ret_task)
{
    bool is_there;

    lock_take(&self->lock);
    is_there = self->own.count > 0;
    if (is_there)
        *ret_task = *task_at(&self->own, --self->own.count);
    lock_drop(&self->lock);
    return is_there;
}

/* Into self's own queue, which is empty, goes half of what is shared, but no
 * more than a batch. The oldest goes to the newest's place, as that is the end
 * from which self takes. False if there was nothing. pool->lock held. */
static bool
worker_refill(struct rota_pool *pool, struct worker *self)
{
    size_t n = (pool->shared.args.count + 1) / 2;

    if (n == 0)
        return false;
    if (n > BATCH)
        n = BATCH;
    self->own.first = 0;
    self->own.count = n;
    while (n-- > 0)
        shared_take(&pool->shared, task_at(&self->own, n));
    return true;
}

/* Into self's own queue, which is empty, goes the older half of victim's, but
 * no more than a batch, in the same order. False if there was nothing.
 * pool->lock held. */
static bool
worker_steal(struct worker *self, struct worker *victim)
{
    size_t n;

    lock_take(&victim->lock);
    n = (victim->own.count + 1) / 2;
    if (n > BATCH)
        n = BATCH;
    self->own.first = 0;
    self->own.count = n;
    for (size_t i = 0; i < n; i++) {
        *task_at(&self->own, i) = *task_at(&victim->own, 0);
        ring_drop_oldest(&victim->own);
    }
    lock_drop(&victim->lock);
    return n > 0;
}

/* Fill self's empty queue from the shared one, or else from another worker's.
 * False if there is no task anywhere. pool->lock held. */
static bool
worker_fill(struct rota_pool *pool, struct worker *self)
{
    int number = (int)(self - pool->worker);

    /* the shared queue first: nobody else is going to run what is in it, while
     * a worker's own queue has its worker */
    if (worker_refill(pool, self))
        return true;
    for (int i = 1; i < pool->workers; i++) {
        if (worker_steal(self, &pool->worker[(number + i) % pool->workers]))
            return true;
    }
    return false;
}

/* True if there are tasks besides the one self is about to run. pool->lock
 * held. */
static bool
has_more(struct rota_pool *pool, struct worker *self)
{
    bool has = pool->shared.args.count > 0;

    for (int i = 0; i < pool->workers && !has; i++) {
        struct worker *worker = &pool->worker[i];

        lock_take(&worker->lock);
        has = worker->own.count > (worker == self ? 1 : 0);
        lock_drop(&worker->lock);
    }
    return has;
}

/* Fill self's empty queue; sleep until that is possible. False once the pool is
 * closing and there is nothing left. No lock is held. */
static bool
worker_fetch(struct rota_pool *pool, struct worker *self)
{
    bool is_filled, is_to_signal;

    /* self has nothing to run, so it gives back what it holds of a group, for
     * whoever waits for that group would otherwise not see the count at 0 */
    group_settle(self);
    lock_take(&pool->lock);
    is_filled = worker_fill(pool, self);
    while (!is_filled && !pool->is_closing) {
        atomic_fetch_add_explicit(&pool->idle, 1, memory_order_relaxed);
        is_filled = worker_fill(pool, self);
        if (is_filled) {
            atomic_fetch_sub_explicit(&pool->idle, 1, memory_order_relaxed);
            break;
        }
        wakeup_await(pool);
        is_filled = worker_fill(pool, self);
    }
    is_to_signal =
        is_filled &&
        atomic_load_explicit(&pool->idle, memory_order_relaxed) > 0 &&
        has_more(pool, self);
    if (is_to_signal)
        is_to_signal = wakeup_give(pool);
    lock_drop(&pool->lock);
    if (is_to_signal)
        MUST(pthread_cond_signal(&pool->woken));
    return is_filled;
}

/* Take one of the shared tasks if self's own have been first for long enough.
 * No lock is held. */
static bool
worker_take_shared(struct rota_pool *pool, struct worker *self,
                   struct task *ret_task)
{
    bool is_there;

    if (self->own_in_a_row < OWN_IN_A_ROW)
        return false;
    self->own_in_a_row = 0;
    lock_take(&pool->lock);
    is_there = pool->shared.args.count > 0;
    if (is_there)
        shared_take(&pool->shared, ret_task);
    lock_drop(&pool->lock);
    return is_there;
}

/* What a worker does. It ends when the pool is closing and no task is left to
 * take: what is still in another's own queue then, that one will run. No lock
 * is held where a task runs. */
static void *
worker_body(void *arg)
{
    struct worker *self = arg;
    struct task task;

    current = self;
    for (;;) {
        if (!worker_take_shared(self->pool, self, &task) &&
            !worker_pop(self, &task)) {
            if (!worker_fetch(self->pool, self))
                return NULL;
            continue;
        }
        if (task.call.side != NULL) {
            group_run(self, &task);
            continue;
        }
        if (self->held_of != NULL)
            group_settle(self);
        /* here and in group_run() only is code run that is not the pool's */
        task.call.plain(task.arg);
    }
}

/* Start the i-th worker. An errno number, or 0. No lock is held. */
static int
worker_start(struct rota_pool *pool, int i, const char *prefix)
{
    struct worker *worker = &pool->worker[i];
    char number[12], name[16];
    int length = snprintf(number, sizeof(number), "-%d", i);

    /* a thread's name has 15 bytes: a long prefix loses its end */
    (void)snprintf(name, sizeof(name), "%.*s%s", 15 - length, prefix, number);
    return thread_start(&worker->thread, name, worker_body, worker);
}

/* No worker runs any more, and nobody else uses the pool. */
static void
pool_free(struct rota_pool *pool)
{
    for (int i = 0; i < pool->workers; i++) {
        MUST(pthread_mutex_destroy(&pool->worker[i].lock));
        free(pool->worker[i].own.items);
    }
    MUST(pthread_cond_destroy(&pool->woken));
    MUST(pthread_mutex_destroy(&pool->lock));
    free(pool->shared.args.items);
    free(pool->shared.streaks.items);
    free(pool);
}

/* Have the first n workers, which are those that were started, finish what is
 * queued, and free the pool. No lock is held. */
static void
pool_join(struct rota_pool *pool, int n)
{
    lock_take(&pool->lock);
    pool->is_closing = true;
    MUST(pthread_cond_broadcast(&pool->woken));
    lock_drop(&pool->lock);
    for (int i = 0; i < n; i++)
        MUST(pthread_join(pool->worker[i].thread, NULL));
    pool_free(pool);
}

/* -- The interface --------------------------------------------------------- */

enum rota_error
pool_open(int workers, const char *name, struct rota_pool **ret_pool)
{
    struct rota_pool *pool;
    bool has_memory = true;

    if (workers < 1)
        return ROTA_INVALID;
    pool = calloc(1, sizeof(*pool) + (size_t)workers * sizeof(struct worker));
    if (pool == NULL)
        return no_memory();
    lock_init(&pool->lock);
    MUST(pthread_cond_init(&pool->woken, NULL));
    pool->workers = workers;
    for (int i = 0; i < workers; i++) {
        pool->worker[i].pool = pool;
        lock_init(&pool->worker[i].lock);
        has_memory &=
            ring_reserve(&pool->worker[i].own, BATCH, sizeof(struct task));
    }
    if (!has_memory) {
        pool_free(pool);
        return no_memory();
    }
    for (int i = 0; i < workers; i++) {
        if (worker_start(pool, i, name) != 0) {
            pool_join(pool, i);
            return ROTA_SYSTEM;
        }
    }
    *ret_pool = pool;
    return ROTA_OK;
}

enum rota_error
pool_close(struct rota_pool *pool)
{
    if (pool == NULL)
        return ROTA_OK;
    if (pool_is_worker(pool))
        return ROTA_INVALID;
    pool_join(pool, pool->workers);
    return ROTA_OK;
}

enum rota_error
pool_reserve(struct rota_pool *pool, size_t n)
{
    bool is_reserved;

    lock_take(&pool->lock);
    is_reserved = shared_reserve(&pool->shared, n, n);
    lock_drop(&pool->lock);
    return is_reserved ? ROTA_OK : no_memory();
}

/* Queue call with each of n args for all workers. No lock is held. */
static inline enum rota_error
put_shared(struct rota_pool *pool, struct call call, void *const *args,
           size_t n)
{
    enum rota_error error = ROTA_OK;
    bool is_to_signal = false;

    lock_take(&pool->lock);
    if (pool->is_closing) {
        error = ROTA_CLOSED;
    } else if (!shared_reserve(&pool->shared, n, 1)) {
        error = no_memory();
    } else {
        /* see 3 above: if the queue is not empty, the task that made it so has
         * had somebody woken, unless nobody slept */
        is_to_signal =
            pool->shared.args.count == 0 && n > 0 && wakeup_give(pool);
        shared_put(&pool->shared, call, args, n);
    }
    lock_drop(&pool->lock);
    if (is_to_signal)
        MUST(pthread_cond_signal(&pool->woken));
    return error;
}

enum rota_error
pool_submit(struct rota_pool *pool, pool_fn *fn, void *arg)
{
    const struct call call = {{.plain = fn}, NULL};

    return put_shared(pool, call, &arg, 1);
}

enum rota_error
pool_submit_many(struct rota_pool *pool, pool_fn *fn, void *const *args,
                 size_t n)
{
    const struct call call = {{.plain = fn}, NULL};

    return put_shared(pool, call, args, n);
}

bool
pool_is_worker(const struct rota_pool *pool)
{
    return pool_self(pool) != NULL;
}

int
pool_workers(const struct rota_pool *pool)
{
    return pool->workers;
}

/* -- For groups ------------------------------------------------------------ */

struct worker *
pool_self(const struct rota_pool *pool)
{
    return current != NULL && current->pool == pool ? current : NULL;
}

bool
pool_put(struct rota_pool *pool, struct worker *self, struct call call,
         void *const *args, size_t n)
{
    bool has_room, is_to_signal;

    if (self == NULL)
        return put_shared(pool, call, args, n) == ROTA_OK;
    self->own_in_a_row++;
    lock_take(&self->lock);
    has_room = ring_reserve(&self->own, n, sizeof(struct task));
    for (size_t i = 0; has_room && i < n; i++)
        *task_at(&self->own, self->own.count++) = (struct task){call, args[i]};
    lock_drop(&self->lock);
    if (has_room &&
        atomic_load_explicit(&pool->idle, memory_order_relaxed) > 0) {
        lock_take(&pool->lock);
        is_to_signal = wakeup_give(pool);
        lock_drop(&pool->lock);
        if (is_to_signal)
            MUST(pthread_cond_signal(&pool->woken));
    }
    return has_room;
}

void
pool_turn_round(struct worker *self, const struct rota_group *group)
{
    size_t i, j;

    lock_take(&self->lock);
    i = j = self->own.count;
    while (i > 0 && is_of(task_at(&self->own, i - 1)->call, group))
        i--;
    for (; i + 1 < j; i++) {
        struct task task = *task_at(&self->own, i);

        *task_at(&self->own, i) = *task_at(&self->own, --j);
        *task_at(&self->own, j) = task;
    }
    lock_drop(&self->lock);
}

bool
pool_take_own(struct worker *self, struct rota_group *group,
              struct task *ret_task)
{
    const struct ring *own = &self->own;
    bool is_found;

    lock_take(&self->lock);
    is_found =
        own->count > 0 && is_within(task_at(own, own->count - 1)->call, group);
    if (is_found)
        *ret_task = *task_at(own, --self->own.count);
    lock_drop(&self->lock);
    return is_found;
}

/* Take the oldest task of group, or of a group within it, out of worker's own
 * queue. False if there is none. The lock of worker's pool held. */
static bool
worker_take_within(struct worker *worker, const struct rota_group *group,
                   struct task *ret_task)
{
    struct ring *own = &worker->own;
    size_t i = 0;
    bool is_found;

    lock_take(&worker->lock);
    while (i < own->count && !is_within(task_at(own, i)->call, group))
        i++;
    is_found = i < own->count;
    if (is_found) {
        *ret_task = *task_at(own, i);
        RING_CLOSE(own, i, task_at);
    }
    lock_drop(&worker->lock);
    return is_found;
}

bool
pool_take(struct worker *self, struct rota_group *group, struct task *ret_task)
{
    struct rota_pool *pool = self->pool;
    int number = (int)(self - pool->worker);
    bool is_found = false;

    lock_take(&pool->lock);
    for (int i = 0; i < pool->workers && !is_found; i++)
        is_found = worker_take_within(
            &pool->worker[(number + i) % pool->workers], group, ret_task);
    if (!is_found && group_is_fed_from_outside(group))
        is_found = shared_take_within(&pool->shared, group, ret_task);
    lock_drop(&pool->lock);
    return is_found;
}
