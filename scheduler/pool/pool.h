/*
 * A fixed number of worker threads, the tasks they run, and where these wait.
 *
 * group.c builds on it, and is called back: a worker leaves to it how a group's
 * task is run and counted.
 */
#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <rota/error.h>
#include <rota/group.h>

/* A task's body. Runs once, on a worker, with no lock of ours held. */
typedef void pool_fn(void *arg);

/* -- The pool -------------------------------------------------------------- */

/* Start workers threads named "<name>-0", "<name>-1", ... Errors:
 * ROTA_INVALID (workers < 1), ROTA_NOMEM, ROTA_SYSTEM (a thread could not be
 * started; those that were are joined). */
ROTA_MUST_USE enum rota_error pool_open(int workers, const char *name,
                                        struct rota_pool **ret_pool);

/* Refuse further tasks, run those that are queued, join the workers, free.
 * Tasks may submit until the last has run; other threads must be done with the
 * pool. ROTA_INVALID, and nothing done, from one of its own workers. NULL is a
 * no-op. */
enum rota_error pool_close(struct rota_pool *pool);

/* Make room for n queued tasks, so that submitting them cannot fail. */
ROTA_MUST_USE enum rota_error pool_reserve(struct rota_pool *pool, size_t n);

/* Queue fn(arg). Any thread, workers included. Errors: ROTA_NOMEM,
 * ROTA_CLOSED; fn will then not run. */
ROTA_MUST_USE enum rota_error pool_submit(struct rota_pool *pool, pool_fn *fn,
                                          void *arg);

/* Queue fn(args[0]) ... fn(args[n - 1]) under one lock: all or none. */
ROTA_MUST_USE enum rota_error pool_submit_many(struct rota_pool *pool,
                                               pool_fn *fn, void *const *args,
                                               size_t n);

/* True on a thread of pool. */
bool pool_is_worker(const struct rota_pool *pool);

int pool_workers(const struct rota_pool *pool);

/* -- For groups ------------------------------------------------------------ */

/* Whose a task is. A group has two of these. */
struct side {
    struct rota_group *group;
    bool is_optional;
};

/* What is to be called; a task is this and its argument. Two words, which go by
 * value. */
struct call {
    union {
        pool_fn *plain;    /* plain(arg) */
        rota_group_fn *fn; /* fn(ctx, arg) */
    };
    const struct side *side; /* whose fn is meant; NULL: plain is */
};

struct task {
    struct call call;
    void *arg;
};

/* Items that wait, the oldest first: any of one kind, of which pool.c knows the
 * size. */
struct ring {
    void *items;
    size_t capacity; /* 0 or a power of two */
    size_t first, count;
};

struct worker {
    struct rota_pool *pool;
    pthread_t thread;
    unsigned
        turn; /* tasks queued since it was the shared queue's; this thread's */
    /* group.c's, and this thread's: held of the pending of held_of stand for no
     * task any more, or for none yet */
    struct rota_group *held_of;
    int64_t held;
    pthread_mutex_t lock; /* guards own: others steal from it */
    struct ring own;      /* struct task */
    char apart_[64];      /* from the next worker's */
};

/* The worker of pool that this thread is; NULL if it is none. */
struct worker *pool_self(const struct rota_pool *pool);

/* Queue call with each of n args, on self's own queue; or where self is NULL on
 * the pool's, for all threads. All or none; false without memory or if the pool
 * is closing. */
bool pool_put(struct rota_pool *pool, struct worker *self, struct call call,
              void *const *args, size_t n);

/* Turn group's tasks round that are the newest of self's own queue: what came
 * first is then run first. */
void pool_turn(struct worker *self, const struct rota_group *group);

/* Take a task out that is group's, or of a group within it, wherever it is
 * queued. The second asks self's own newest only. */
bool pool_take(struct worker *self, struct rota_group *group,
               struct task *ret_task);
bool pool_take_own(struct worker *self, struct rota_group *group,
                   struct task *ret_task);

/* -- What group.c does for a worker ---------------------------------------- */

/* Run a group's task. */
void group_run(struct worker *self, const struct task *task);

/* Say what is held; what of it was the last ends its group. No lock is held. */
void group_settle(struct worker *self);

/* True if inner is outer, or was opened by one of its tasks, or by a task of
 * such a group, and so on. */
bool group_is_within(const struct rota_group *inner,
                     const struct rota_group *outer);

/* True if tasks of group may be in the pool's own queue. */
bool group_is_fed_from_outside(const struct rota_group *group);

#endif
