/*
 * A claimed job, from the writer's hands to a worker's and back.
 *
 * A job is CLAIMED in the pool's queue, RUNNING in its function, and ENDED on
 * rota.ended, a stack that workers push to and the writer's role empties.
 * place, ctx and what a cancel leaves behind are under rota.lock; callbacks of
 * the job's context run with no lock held.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/job.h"
#include "engine/state.h"
#include "interrupt/target.h"

/* -- Its context ----------------------------------------------------------- */

/* The job's context: ends with the workers', and at the job's own deadline or
 * when this run's time is up. */
static struct ctx *
job_context(struct rota_job *job)
{
    const struct claim *claim = &job->claim;
    /* the wall clock first: what passes between the two makes it later */
    int64_t unix_now = rota_now(job->rota), now = ctx_now();
    int64_t left;

    if (job->timeout > 0)
        job->deadline = saturating_add(now, job->timeout);
    if (claim->deadline_at > 0) {
        left = saturating_ms(claim->deadline_at - unix_now);
        if (saturating_add(now, left) < job->deadline)
            job->deadline = saturating_add(now, left);
    }
    if (job->deadline == ROTA_FOREVER)
        return ctx_with_cancel(job->rota->run_ctx);
    return ctx_with_deadline(job->rota->run_ctx, job->deadline);
}

/* -- Its end -------------------------------------------------------------- */

void
job_fill_ending(struct rota_job *job)
{
    struct ending *ending = &job->ending;

    ending->id = job->claim.id;
    ending->lease = job->claim.lease;
    ending->process =
        atomic_load_explicit(&job->rota->process, memory_order_relaxed);
    ending->started_at =
        atomic_load_explicit(&job->started_at, memory_order_relaxed);
    ending->delivered_at = job->delivered_at;
    ending->failures = job->claim.failures;
    ending->max_attempts = job->max_attempts;
    ending->snooze_ms = job->snooze_ms;
    ending->progress = job_progress(job);
    ending->reason = job->cancel_reason;
    ending->message = job->message;
    ending->result = job->result;
    ending->result_size = job->result_size;
}

/* Push it onto the stack of what has ended. Only the first that finds the stack
 * empty signals: those behind it find that the signal was given, and the writer
 * has yet to take them all. */
static void
job_end(struct rota_job *job)
{
    struct rota *rota = job->rota;
    struct ending *ending = &job->ending;
    struct ending *top =
        atomic_load_explicit(&rota->ended, memory_order_relaxed);

    job_fill_ending(job);
    do {
        ending->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&rota->ended, &top, ending,
                                                    memory_order_release,
                                                    memory_order_relaxed));
    if (top == NULL)
        writer_tell(rota);
}

/* -- Run ------------------------------------------------------------------ */

/* A job that just returns what a call of ours gave it: keep that call's words.
 * Those of ROTA_FAILED and the like are the job's to give. */
static void
keep_words(struct rota_job *job)
{
    enum rota_error error = job->ending.error;

    if (job->message == NULL && error > ROTA_NOMEM && error < ROTA_FAILED &&
        message_get()[0] != '\0')
        job->message = strdup(message_get()); /* without memory: the code's */
}

/* Call its function; but not without its arguments. They were alone in what
 * they asked for, and there is not so much: trying again would not help. */
static enum rota_error
job_do(struct rota_job *job)
{
    if (job->claim.args != NULL)
        return job->kind->fn(job->ctx, job);
    if (asprintf(&job->message,
                 "its arguments, %zu bytes, do not fit into memory; put them "
                 "into a file and submit its name",
                 job->claim.args_size) < 0)
        job->message = NULL; /* the code's own words, then */
    return ROTA_FATAL;
}

static void
job_call(struct rota_job *job)
{
    message_set("%s", "");
    job->ending.error = job_do(job);
    keep_words(job);
    while (job->targets != NULL) {
        struct target *target = job->targets;

        job->targets = target->next;
        if (!target_close(target))
            rota_say(job->rota, job->claim.id,
                     "a backup, or a statement on a virtual table, was not "
                     "finished: its file stays open as long as the process "
                     "runs");
    }
    job->ending.stop = job_stop_reason(job);
    lock_take(&job->rota->lock);
    job->place = JOB_ENDED; /* a cancel from here on comes too late */
    job->ctx = NULL;
    job->rota->stuck -= job->stuck_since != 0;
    lock_drop(&job->rota->lock);
}

/* Under rota.lock: whether the job that a worker has come to is not to be run
 * after all. */
static bool
must_give_back(const struct rota_job *job, const struct ctx *ctx)
{
    const struct rota *rota = job->rota;

    return rota->is_stopping || ctx_done(rota->run_ctx) ||
           atomic_load_explicit(&job->is_cancelled, memory_order_relaxed) ||
           ctx_err(ctx) == ROTA_NOMEM ||
           /* the file could not be read: no fault of the job's */
           (job->claim.args == NULL && job->claim.args_error != ROTA_NOMEM);
}

/* Under rota.lock. */
static void
job_start(struct rota_job *job, struct ctx *ctx)
{
    int64_t now = rota_now(job->rota);

    job->place = JOB_RUNNING;
    job->ctx = ctx;
    atomic_store_explicit(&job->started_at, now, memory_order_relaxed);
    atomic_store_explicit(&job->base_at, now, memory_order_relaxed);
    job->rota->starts++;
}

enum fate {
    FATE_RUN,
    FATE_GIVE_BACK, /* as if it had never been claimed */
    FATE_FREE,      /* it was released, and that is recorded */
    FATE_FORGET     /* it was released, and the writer frees it */
};

/* Under rota.lock: what becomes of a job that a worker has come to. */
static enum fate
job_fate(struct rota_job *job, struct ctx *ctx)
{
    struct rota *rota = job->rota;

    job->is_in_pool = false;
    if (job->place == JOB_RELEASED)
        return job->is_recorded ? FATE_FREE : FATE_FORGET;
    rota->unstarted--;
    if (rota->linger_until != 0 && !engine_is_ahead(rota))
        MUST(pthread_cond_signal(&rota->work)); /* no time to linger any more */
    if (must_give_back(job, ctx)) {
        rota->was_short = ctx_err(ctx) == ROTA_NOMEM;
        job->place = JOB_ENDED;
        job->ending.never_started = true;
        return FATE_GIVE_BACK;
    }
    job_start(job, ctx);
    return FATE_RUN;
}

void
job_run(void *arg)
{
    struct rota_job *job = arg;
    struct ctx *ctx = job_context(job);
    enum fate fate;

    lock_take(&job->rota->lock);
    fate = job_fate(job, ctx);
    lock_drop(&job->rota->lock);
    switch (fate) {
    case FATE_RUN:
        job_call(job);
        break;
    case FATE_GIVE_BACK:
        job->ending.error = ROTA_CANCELED;
        job->ending.stop =
            atomic_load_explicit(&job->is_cancelled, memory_order_relaxed)
                ? ROTA_STOP_CANCEL
                : ROTA_STOP_SHUTDOWN;
        break;
    case FATE_FREE:
        job_free(job);
        break;
    case FATE_FORGET:
        break;
    }
    ctx_end(ctx);
    if (fate == FATE_RUN || fate == FATE_GIVE_BACK)
        job_end(job);
}
