/*
 * One job at a time on the caller's thread: workers for tests of jobs. The
 * cycle is the same; what it claims is run here instead of in a pool.
 */
#define _GNU_SOURCE
#include "api/start.h"
#include "engine/job.h"
#include "engine/state.h"
#include "engine/writer.h"

static enum rota_error
step_begin(struct ctx *ctx, struct rota *rota)
{
    static const struct start start = {.is_stepping = true};
    bool has_begun;

    lock_take(&rota->lock);
    has_begun = rota->is_stepping;
    lock_drop(&rota->lock);
    return has_begun ? ROTA_OK : engine_start(ctx, rota, &start);
}

/* A cycle that claims so many jobs; those of others claim none. */
static enum rota_error
step_cycle(struct rota *rota, int64_t claims)
{
    struct request request = {.wish = {.kind = WISH_CHORES},
                              .claims = claims > 0};
    enum rota_error error;

    lock_take(&rota->lock);
    rota->steps = claims;
    lock_drop(&rota->lock);
    error = wish_run(rota, &request);
    lock_take(&rota->lock);
    rota->steps = 0;
    lock_drop(&rota->lock);
    return error;
}

/* Run the job under ctx, as a worker does. */
static void
step_run(struct ctx *ctx, struct rota *rota, struct rota_job *job)
{
    struct ctx *run_ctx = rota->run_ctx;

    lock_take(&rota->lock);
    rota->run_ctx = ctx;
    lock_drop(&rota->lock);
    job_run(job);
    lock_take(&rota->lock);
    rota->run_ctx = run_ctx;
    lock_drop(&rota->lock);
}

/* Have the end recorded: a cycle can do well without it. */
static enum rota_error
step_end(struct rota *rota)
{
    enum rota_error error = step_cycle(rota, 0);

    lock_take(&rota->lock);
    if (error == ROTA_OK && rota->active > 0) {
        error = rota->kept_error;
        message_set("%s", rota->kept_words);
    }
    lock_drop(&rota->lock);
    return error;
}

/* The job that a cycle has claimed to be run here, ours or another caller's,
 * whatever has become of our own wish: nobody else will run it. */
static struct rota_job *
step_take(struct rota *rota)
{
    struct rota_job *job;

    lock_take(&rota->lock);
    job = rota->stepped;
    rota->stepped = NULL;
    rota->was_short = false;
    lock_drop(&rota->lock);
    return job;
}

/* Whether the job was given back because there was no memory to run it. The job
 * itself may be gone by now: its end is recorded by whoever comes first. */
static bool
step_was_short(struct rota *rota)
{
    bool was_short;

    lock_take(&rota->lock);
    was_short = rota->was_short;
    lock_drop(&rota->lock);
    return was_short;
}

static enum rota_error
step(struct ctx *ctx, struct rota *rota, int64_t *ret_id)
{
    enum rota_error error = step_cycle(rota, 1);
    struct rota_job *job = step_take(rota);
    bool was_short;
    int64_t id;

    if (job == NULL && error == ROTA_OK) {
        message_set("no job is ready");
        error = ROTA_NOTFOUND;
    }
    if (job == NULL)
        return error;
    id = job->claim.id;
    step_run(ctx, rota, job);
    was_short = step_was_short(rota);
    error = step_end(rota);
    if (error == ROTA_OK && was_short)
        error = no_memory();
    if (ret_id != NULL && !was_short)
        *ret_id = id;
    return error;
}

/* Whether this thread is in a step. */
static void
step_mark(struct rota *rota, bool in_step)
{
    lock_take(&rota->lock);
    rota->stepper = pthread_self();
    rota->in_step = in_step;
    lock_drop(&rota->lock);
}

enum rota_error
rota_step(struct ctx *ctx, struct rota *rota, int64_t *ret_id)
{
    enum rota_error error;

    if (ctx == NULL)
        ctx = ctx_background();
    if (engine_is_own_job(rota, "step"))
        return ROTA_INVALID;
    error = step_begin(ctx_background(), rota);
    if (error != ROTA_OK)
        return error;
    step_mark(rota, true);
    error = step(ctx, rota, ret_id);
    step_mark(rota, false);
    return error;
}
