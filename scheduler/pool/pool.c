/*
 * The pool: one ring of tasks, and workers that take from it in batches.
 *
 * Locking: pool->lock guards the ring, the count of sleepers, closing, and
 * every move of a task into a worker's batch. It is a leaf; tasks run without
 * it.
 *
 * What makes a pool fast is how seldom it wakes anybody. A submitter signals
 * only when the ring was empty; a worker takes half of the ring under one
 * lock, and wakes the next sleeper if it leaves work behind, who does the
 * same.
 *
 * Why no task is hidden behind a long one. A batch is its worker's, but others
 * may steal from it. Its bounds are one 64-bit word {head, tail}: the owner
 * takes at head, a thief at tail, both by compare-and-swap. A batch is filled,
 * by refill or by theft, under pool->lock only, by its owner only, and only
 * when it is empty; a thief holds pool->lock too. So while a thief looks, head
 * only rises and tail only falls by his own hand: the word cannot return to a
 * value it had, the entries below tail do not change, and they need no atomics.
 *
 *   1. A worker goes to sleep only if, under the lock, it saw the ring and
 *      all batches empty.
 *   2. So whatever waits while it sleeps came later: into the ring, or from
 *      there into a batch.
 *   3. A submitter that finds the ring empty wakes a sleeper. Everybody who
 *      takes from the ring or from a batch looks, before dropping the lock,
 *      whether anything is still waiting anywhere, and if so wakes a sleeper.
 *
 * Hence a task that waits while somebody sleeps has a wake-up on its way. The
 * one task that is at hand is no exception: a worker that took a single task
 * looks at nothing else before running it.
 */
#define _GNU_SOURCE
#include "pool/pool.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

#define BATCH 256 /* more gains nothing, and hides more for a while */

struct task {
    pool_fn *fn;
    void *arg;
};

struct worker {
    struct rota_pool *pool;
    pthread_t thread;
    _Atomic uint64_t bounds;  /* of the batch: tail << 32 | head */
    struct task batch[BATCH]; /* written by the worker, under pool->lock */
};

struct rota_pool {
    pthread_mutex_t lock;  /* guards the next seven */
    pthread_cond_t filled; /* work has come, or closing was set */
    struct task *ring;
    size_t capacity; /* 0 or a power of two */
    size_t first, count;
    int asleep;
    bool is_closing;
    int workers; /* how many; read-only */
    struct worker worker[];
};

/* The worker that this thread is. */
static _Thread_local const struct worker *current;

/* -- The ring; pool->lock is held in all of this section ------------------- */

/* Room for n more. False without memory, and nothing has changed. */
static bool
ring_reserve(struct rota_pool *pool, size_t n)
{
    size_t capacity = pool->capacity ? pool->capacity : 64;
    struct task *ring;

    if (n <= pool->capacity - pool->count)
        return true;
    while (capacity - pool->count < n) {
        if (capacity > SIZE_MAX / sizeof(*ring) / 2)
            return false;
        capacity *= 2;
    }
    ring = malloc(capacity * sizeof(*ring));
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < pool->count; i++)
        ring[i] = pool->ring[(pool->first + i) & (pool->capacity - 1)];
    free(pool->ring);
    pool->ring = ring;
    pool->capacity = capacity;
    pool->first = 0;
    return true;
}

static void
ring_put(struct rota_pool *pool, struct task task)
{
    pool->ring[(pool->first + pool->count++) & (pool->capacity - 1)] = task;
}

static struct task
ring_take(struct rota_pool *pool)
{
    struct task task = pool->ring[pool->first];

    pool->first = (pool->first + 1) & (pool->capacity - 1);
    pool->count--;
    return task;
}

/* -- Batches --------------------------------------------------------------- */

static uint64_t
bounds_of(uint32_t head, uint32_t tail)
{
    return (uint64_t)tail << 32 | head;
}

static uint32_t
bounds_size(uint64_t bounds)
{
    return (uint32_t)(bounds >> 32) - (uint32_t)bounds;
}

/* The owner takes its next task. No lock is held. */
static bool
batch_take(struct worker *self, struct task *ret_task)
{
    uint64_t bounds = atomic_load_explicit(&self->bounds, memory_order_relaxed);

    while (bounds_size(bounds) > 0) {
        /* head is the low half: adding 1 does not reach tail. No order is
         * needed: what a task reads came with pool->lock */
        if (atomic_compare_exchange_weak_explicit(
                &self->bounds, &bounds, bounds + 1, memory_order_relaxed,
                memory_order_relaxed)) {
            *ret_task = self->batch[(uint32_t)bounds];
            return true;
        }
    }
    return false;
}

/* Fill self's empty batch with the later half of victim's. False if there was
 * nothing. pool->lock held. */
static bool
batch_steal(struct worker *self, struct worker *victim)
{
    uint64_t bounds =
        atomic_load_explicit(&victim->bounds, memory_order_relaxed);

    while (bounds_size(bounds) > 0) {
        uint32_t n = (bounds_size(bounds) + 1) / 2;
        uint32_t tail = (uint32_t)(bounds >> 32) - n;

        if (atomic_compare_exchange_weak_explicit(
                &victim->bounds, &bounds, bounds_of((uint32_t)bounds, tail),
                memory_order_relaxed, memory_order_relaxed)) {
            /* the owner refills under the lock only, so they stay there */
            memcpy(self->batch, victim->batch + tail,
                   n * sizeof(self->batch[0]));
            atomic_store_explicit(&self->bounds, bounds_of(0, n),
                                  memory_order_relaxed);
            return true;
        }
    }
    return false;
}

/* Fill self's empty batch from the ring. False if that is empty. pool->lock
 * held. */
static bool
batch_refill(struct rota_pool *pool, struct worker *self)
{
    size_t n = (pool->count + 1) / 2;

    if (n > BATCH)
        n = BATCH;
    for (size_t i = 0; i < n; i++)
        self->batch[i] = ring_take(pool);
    atomic_store_explicit(&self->bounds, bounds_of(0, (uint32_t)n),
                          memory_order_relaxed);
    return n > 0;
}

/* -- Workers --------------------------------------------------------------- */

/* Steal from the first worker after self that has something. pool->lock
 * held. */
static bool
pool_steal(struct rota_pool *pool, struct worker *self)
{
    int own = (int)(self - pool->worker);

    for (int i = 1; i < pool->workers; i++) {
        if (batch_steal(self, &pool->worker[(own + i) % pool->workers]))
            return true;
    }
    return false;
}

/* True if a task waits that self is not about to run. pool->lock held. */
static bool
pool_has_waiting(struct rota_pool *pool, const struct worker *self)
{
    if (pool->count > 0)
        return true;
    for (int i = 0; i < pool->workers; i++) {
        const struct worker *worker = &pool->worker[i];
        uint32_t at_hand = worker == self ? 1 : 0;

        if (bounds_size(atomic_load_explicit(&worker->bounds,
                                             memory_order_relaxed)) > at_hand)
            return true;
    }
    return false;
}

/* Fill self's empty batch; sleep until that is possible. False once the pool
 * is closing and there is nothing left. */
static bool
worker_fetch(struct rota_pool *pool, struct worker *self)
{
    bool has_work;

    lock_take(&pool->lock);
    /* the ring first: what is in a batch has its worker already */
    while (!(has_work = batch_refill(pool, self) || pool_steal(pool, self)) &&
           !pool->is_closing) {
        pool->asleep++;
        MUST(pthread_cond_wait(&pool->filled, &pool->lock));
        pool->asleep--;
    }
    if (has_work && pool->asleep > 0 && pool_has_waiting(pool, self))
        MUST(pthread_cond_signal(&pool->filled));
    lock_drop(&pool->lock);
    return has_work;
}

/* Ends when the pool is closing and nothing is left to take: what is then still
 * in a batch is run by its owner. */
static void *
worker_body(void *arg)
{
    struct worker *self = arg;
    struct task task;

    current = self;
    while (worker_fetch(self->pool, self)) {
        while (batch_take(self, &task))
            task.fn(task.arg); /* the only line that is not ours */
    }
    return NULL;
}

/* Start the i-th worker. An errno number, or 0. */
static int
worker_start(struct rota_pool *pool, int i, const char *prefix)
{
    struct worker *worker = &pool->worker[i];
    char number[12], name[16];
    int length = snprintf(number, sizeof(number), "-%d", i);

    /* of a long prefix the end goes, not the number */
    (void)snprintf(name, sizeof(name), "%.*s%s", 15 - length, prefix, number);
    worker->pool = pool;
    return thread_start(&worker->thread, name, worker_body, worker);
}

/* Have the first n workers finish what is queued, and free the pool. */
static void
pool_join(struct rota_pool *pool, int n)
{
    lock_take(&pool->lock);
    pool->is_closing = true;
    MUST(pthread_cond_broadcast(&pool->filled));
    lock_drop(&pool->lock);
    for (int i = 0; i < n; i++)
        MUST(pthread_join(pool->worker[i].thread, NULL));
    MUST(pthread_cond_destroy(&pool->filled));
    MUST(pthread_mutex_destroy(&pool->lock));
    free(pool->ring);
    free(pool);
}

/* -- The interface --------------------------------------------------------- */

enum rota_error
pool_open(int workers, const char *name, struct rota_pool **ret_pool)
{
    struct rota_pool *pool;

    if (workers < 1)
        return ROTA_INVALID;
    pool = calloc(1, sizeof(*pool) + (size_t)workers * sizeof(struct worker));
    if (pool == NULL)
        return ROTA_NOMEM;
    MUST(pthread_mutex_init(&pool->lock, NULL));
    MUST(pthread_cond_init(&pool->filled, NULL));
    pool->workers = workers;
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
    is_reserved = ring_reserve(pool, n);
    lock_drop(&pool->lock);
    return is_reserved ? ROTA_OK : ROTA_NOMEM;
}

enum rota_error
pool_submit(struct rota_pool *pool, pool_fn *fn, void *arg)
{
    return pool_submit_many(pool, fn, &arg, 1);
}

enum rota_error
pool_submit_many(struct rota_pool *pool, pool_fn *fn, void *const *args,
                 size_t n)
{
    enum rota_error error = ROTA_OK;
    bool wakes = false;

    lock_take(&pool->lock);
    if (pool->is_closing) {
        error = ROTA_CLOSED;
    } else if (!ring_reserve(pool, n)) {
        error = ROTA_NOMEM;
    } else {
        /* if it was not, whoever made it so has woken somebody */
        bool was_empty = pool->count == 0;

        for (size_t i = 0; i < n; i++)
            ring_put(pool, (struct task){.fn = fn, .arg = args[i]});
        wakes = was_empty && n > 0 && pool->asleep > 0;
    }
    lock_drop(&pool->lock);
    if (wakes) /* after the lock, so that who wakes does not run into it */
        MUST(pthread_cond_signal(&pool->filled));
    return error;
}

bool
pool_is_worker(const struct rota_pool *pool)
{
    return current != NULL && current->pool == pool;
}

int
pool_workers(const struct rota_pool *pool)
{
    return pool->workers;
}
