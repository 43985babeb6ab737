/*
 * The work of one cycle, gathered (gather.c), written in one transaction
 * (write.c) and told of (publish.c) by the holder of the writer's role
 * (cycle.c). One thread at a time; rota.lock is held where a function says so.
 */
#ifndef BATCH_H
#define BATCH_H

#include "engine/engine.h"

/* A job that ignores that its context has ended. */
struct deaf {
    int64_t id, time;
    const char *kind;
    struct ctx *ctx; /* a reference */
};

/* The work of one cycle. */
struct batch {
    struct link requests;
    struct rota_job *ended; /* oldest first, by next_ended */
    struct progress *dirty; /* progress that the file lacks */
    size_t n_dirty;
    struct deaf *deaf; /* to be told of */
    size_t n_deaf;
    bool newly_stuck;
    struct rota_job **claimed;
    size_t n_claimed, claim_limit, claimed_bytes;
    size_t n_ended;
    bool durable;
    bool looks; /* something may be ready */
    enum claim_rest rest;
    bool unsettled;  /* there is more for store_settle() */
    bool idle;       /* nothing is claimed here but what has ended */
    bool no_memory;  /* for a claim */
    bool may_return; /* a job that ended is ready again */
};

/* -- gather.c -------------------------------------------------------------- */

/* What there is to do. Takes rota.lock. */
void batch_gather(struct rota *rota, struct batch *batch);
bool batch_is_empty(const struct batch *batch);

/* Under rota.lock. */
bool engine_is_claiming(const struct rota *rota);
int64_t engine_room(const struct rota *rota); /* for claims */

/* -- write.c --------------------------------------------------------------- */

/* The whole batch in one transaction. *ret_began: it got past the lock. */
ROTA_MUST_USE enum rota_error batch_write(struct rota *rota,
                                          struct batch *batch, bool *ret_began);

/* Undo in memory what a transaction that failed had claimed. */
void batch_unclaim(struct rota *rota, struct batch *batch);

/* Whether a claimed job is to have no neighbour. */
bool must_be_alone(const struct claim *claim);

/* -- publish.c ------------------------------------------------------------- */

/* All of it is in the file: callers are answered, claimed jobs may run. */
void batch_publish(struct rota *rota, struct batch *batch);

/* The ended jobs are in the file: forget them. */
void ended_publish(struct rota *rota, struct batch *batch);

/* What ended can never be recorded, and who stops does not wait for it. */
void ended_drop(struct rota *rota, struct rota_job *ended);

/* Answer every request of the batch, with error unless it is ROTA_OK. */
void batch_answer(struct batch *batch, enum rota_error error);

/* Wake the two callers that a request's caller is to wake. */
void wake_both(struct request *const behind[2]);

/* Under rota.lock: tell those who wait for this job, or for any news. */
void waiters_tell(struct rota *rota, int64_t id, bool durable);

/* Say which jobs ignore their context, and wake who waits for them to end. */
void deaf_tell(struct rota *rota, struct batch *batch);

#endif
