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

/* Whose a task is. A group has two of these, for the tasks whose failure fails
 * it and for those that are optional: so a task needs one word to say both. */
struct side {
    struct rota_group *group;
    bool is_optional;
};

/* What is to be called; a task is this and its argument. It is two words, so it
 * is passed by value. */
struct call {
    union {
        pool_fn *plain;    /* plain(arg) */
        rota_group_fn *fn; /* fn(ctx, arg) */
    };
    const struct side *side; /* of a group's task, which fn is; NULL: plain */
};

struct task {
    struct call call;
    void *arg;
};

/* What is said to be its thread's is read and written by that thread alone. */
struct worker {
    struct rota_pool *pool; /* read-only */
    pthread_t thread;       /* of pool.c's opening and closing */
    /* Its thread's: how many tasks it has queued on its own queue since it last
     * looked into the shared one first. */
    unsigned own_in_a_row;
    /* Its thread's, for group.c: of held_of's pending tasks this worker holds
     * back `held` counts, which stand for tasks that have ended, or are still
     * to be queued. It gives them back before it sleeps or runs anything else,
     * or whoever waits for that group would never see 0. NULL: none. */
    struct rota_group *held_of;
    int64_t held;
    pthread_mutex_t lock; /* guards own, from which others steal */
    struct ring own;      /* its own queue: struct task, the oldest first */
    char apart_[64];      /* keeps the next worker off this one's cache lines */
};

/* The worker of pool that this thread is; NULL if it is none. */
struct worker *pool_self(const struct rota_pool *pool);

/* Queue call with each of n args: on self's own queue, self being this thread's
 * worker, or in the shared queue if self is NULL. All or none; false without
 * memory, or if self is NULL and the pool is closing. */
bool pool_put(struct rota_pool *pool, struct worker *self, struct call call,
              void *const *args, size_t n);

/* Reverse the order of the newest tasks of self's own queue, as far back as
 * they are group's: what came first is then run first. */
void pool_turn_round(struct worker *self, const struct rota_group *group);

/* Take a task of group, or of a group within it, out of whichever queue it is
 * in. pool_take_own() looks at the newest of self's own queue only, which is
 * cheap. False if there is none. */
bool pool_take(struct worker *self, struct rota_group *group,
               struct task *ret_task);
bool pool_take_own(struct worker *self, struct rota_group *group,
                   struct task *ret_task);

/* -- What group.c does for a worker ---------------------------------------- */

/* Run a task that has a side, on self's thread, and count it as ended. No lock
 * is held. */
void group_run(struct worker *self, const struct task *task);

/* Give back what self holds of a group's count. If that is all there was,
 * whoever waits for the group learns that it has ended. No lock is held. */
void group_settle(struct worker *self);

/* True if inner is outer, or was opened by one of its tasks, or by a task of
 * such a group, and so on. Takes no lock: that never changes. */
bool group_is_within(const struct rota_group *inner,
                     const struct rota_group *outer);

/* True if tasks of group may be in the shared queue, because a thread that is
 * no worker has given some. Takes no lock. */
bool group_is_fed_from_outside(const struct rota_group *group);

#endif
