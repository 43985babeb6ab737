/*
 * The workers of a pool and the tasks they run: what pool.c, which decides
 * where a task waits and who sleeps, and group.c, which says how a group's task
 * is run and counted, do for each other.
 *
 * Nobody else includes this; the engine uses pool.h. Each call says which lock
 * it wants: those of pool.c are called with none held, and so are those of
 * group.c, but group_is_within() and group_is_fed_from_outside(), which take
 * none.
 */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/group.h>

#include "pool/pool.h"
#include "pool/ring.h"

/* -- Tasks and workers ----------------------------------------------------- */

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
