/*
 * The work of one cycle, from gathering it to telling of it. By the holder of
 * the writer's role alone; rota.lock is held where a function says so.
 */
#ifndef BATCH_H
#define BATCH_H

#include "engine/engine.h"

/* To be told of: a job that ignores that its context has ended. */
struct stuck_report {
    int64_t id, time; /* for how long, in nanoseconds */
    const char *kind;
    struct ctx *ctx; /* a reference */
};

struct batch {
    struct work work; /* its wishes are those of requests */
    int64_t n_endings;
    struct stuck_report *reports;
    size_t n_reports, reports_room;
    bool is_newly_stuck; /* one of them is told of for the first time */
};

/* -- gather.c -------------------------------------------------------------- */

/* What there is to do. Takes rota.lock. */
void batch_gather(struct rota *rota, struct batch *batch);
bool batch_is_empty(const struct batch *batch);

/* -- publish.c ------------------------------------------------------------- */

/* All of it is in the store: callers are answered, claimed jobs may run. */
void batch_publish(struct rota *rota, struct batch *batch);

/* What ended can never be recorded, and who stops does not wait for it. */
void endings_drop(struct rota *rota, struct ending *endings);

/* Answer every request of the batch, with error unless it is ROTA_OK. */
void batch_answer(struct batch *batch, enum rota_error error);

/* Wake the two callers that a request's caller is to wake. */
void wake_both(struct request *const behind[2]);

/* Say which jobs ignore their context, and wake who waits for them to end. */
void batch_report(struct rota *rota, struct batch *batch);

static inline struct request *
request_of(struct link *on_wishes)
{
    return OWNER_OF(on_wishes, struct request, wish.on_wishes);
}

#endif
