/*
 * What a batch that is in the store means to others: callers get their answers,
 * who waits for a job is woken, ended jobs are forgotten and claimed ones go to
 * the workers. By the holder of the writer's role. rota.lock is taken for what
 * is shared; it is not held while the caller's functions run or contexts end.
 *
 * The order matters. What ended is told before it counts as gone, so that who
 * waits for quiet has heard of every end; claims count as active before the
 * workers may start them, so that there is no moment at which nothing is
 * claimed and nothing runs; requests are answered when all of that is done,
 * since a caller with an answer looks at once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "engine/batch.h"
#include "engine/job.h"
#include "engine/sleepers.h"
#include "engine/state.h"

void
batch_report(struct rota *rota, struct batch *batch)
{
    for (size_t i = 0; i < batch->n_reports; i++) {
        struct stuck_report *report = &batch->reports[i];

        rota_say(rota, report->id,
                 "%s has ignored for %.1f s that it should stop: %s",
                 report->kind, (double)report->time / 1e9,
                 ctx_cause(report->ctx));
        ctx_unref(report->ctx);
    }
    free(batch->reports);
    batch->reports = NULL;
    if (!batch->is_newly_stuck)
        return;
    lock_take(&rota->lock);
    sleepers_wake(rota, 0, false);
    lock_drop(&rota->lock);
}

/* -- Answers -------------------------------------------------------------- */

void
wake_both(struct request *const behind[2])
{
    for (int i = 0; i < 2; i++)
        if (behind[i] != NULL)
            wake_up(&behind[i]->wake, WAKE_SET);
}

/* Callers are woken as a binary tree: we wake the first two, and each caller,
 * once it is awake, at most two others (request.behind). So the writer begins
 * its next commit after two wake-ups, however many callers there are. The
 * caller with the role is awake already, and has no place in the tree. */
void
batch_answer(struct batch *batch, enum rota_error error)
{
    struct link *wishes = &batch->work.wishes;
    struct request *first[2] = {NULL, NULL}, **behind = first, *request;
    struct link *parent = wishes; /* to whom behind belongs */
    int n = 0;

    for (struct link *l = parent->next; l != wishes; l = l->next) {
        request = request_of(l);
        if (error != ROTA_OK) {
            request->wish.error = error;
            text_print(request->wish.message, sizeof(request->wish.message),
                       "%s", message_get());
        }
        request->is_answered = true;
        if (request->has_role)
            continue;
        if (n == 2) {
            parent = parent->next;
            if (request_of(parent)->has_role)
                parent = parent->next;
            behind = request_of(parent)->behind;
            n = 0;
        }
        behind[n++] = request;
    }
    list_init(wishes);
    wake_both(first);
}

/* -- Ends ----------------------------------------------------------------- */

/* Tell who wants to know (rota_options.ended) where the runs have led. */
static void
endings_tell(struct rota *rota, const struct ending *ending)
{
    for (; ending != NULL; ending = ending->next) {
        if (ending->is_lost)
            rota_say(rota, ending->id,
                     "run %" PRId64
                     " was overtaken: its outcome is not recorded",
                     ending->lease);
        else if (rota->options.ended != NULL && !ending->never_started)
            rota->options.ended(rota->options.ended_arg, ending->id,
                                ending->state);
    }
}

/* Under rota.lock: the job is not ours any more. True if it is to be freed
 * here, and not by the worker that has yet to come to it. */
static bool
job_forget(struct rota *rota, struct rota_job *job, bool is_durable)
{
    list_remove(&job->on_bucket);
    rota->active--;
    aboard_add(&rota->aboard, job->claim.suspicion, -1);
    rota->args_bytes -= job->claim.args_size;
    job->is_recorded = true;
    if (!job->ending.is_lost && job->ending.state == ROTA_READY)
        rota->maybe_ready = true; /* it is to be claimed anew */
    sleepers_wake(rota, job->claim.id, is_durable);
    return !job->is_in_pool;
}

/* The ended jobs are in the store: forget them. */
static void
endings_publish(struct rota *rota, struct ending *endings, bool is_durable)
{
    struct ending *ending, *next, *done = NULL;

    if (endings == NULL)
        return;
    endings_tell(rota, endings);
    lock_take(&rota->lock);
    for (ending = endings; ending != NULL; ending = next) {
        next = ending->next;
        if (job_forget(rota, job_of_ending(ending), is_durable)) {
            ending->next = done;
            done = ending;
        }
    }
    lock_drop(&rota->lock);
    for (ending = done; ending != NULL; ending = next) {
        next = ending->next;
        job_recycle(rota, job_of_ending(ending));
    }
}

void
endings_drop(struct rota *rota, struct ending *endings)
{
    for (struct ending *e = endings; e != NULL; e = e->next) {
        rota_say(rota, e->id, "its end is not recorded: %s", message_get());
        e->is_lost = false;
        e->never_started = true; /* nobody hears of it */
        e->state = ROTA_RUNNING; /* as the store has it */
    }
    endings_publish(rota, endings, false);
}

/* -- Progress ------------------------------------------------------------- */

/* Under rota.lock: what the store has of it by now. */
static void
progress_note(struct rota *rota, struct rota_job *job,
              const struct progress *progress)
{
    job->flushed_cursor = progress->cursor;
    job->flushed_total = progress->total;
    job->flushed_stuck = progress->stuck_since;
    job->flushed_start = true;
    if (job->claim.suspicion > SUSPICION_NONE &&
        progress->cursor > job->claim.cursor) {
        /* it gets further: it is not to blame, and who waited may come */
        aboard_add(&rota->aboard, job->claim.suspicion, -1);
        job->claim.suspicion = SUSPICION_NONE;
        aboard_add(&rota->aboard, job->claim.suspicion, 1);
        rota->maybe_ready = true;
    }
}

static void
progress_publish(struct rota *rota, const struct work *work)
{
    for (size_t i = 0; i < work->n_progress; i++) {
        const struct progress *progress = &work->progress[i];
        struct rota_job *job;

        if (progress->is_lost) {
            job_lose(rota, progress->id);
            continue;
        }
        lock_take(&rota->lock);
        job = job_find(rota, progress->id);
        if (job != NULL && job->claim.lease == progress->lease)
            progress_note(rota, job, progress);
        lock_drop(&rota->lock);
    }
}

/* -- Claims --------------------------------------------------------------- */

/* Under rota.lock: what the claim has left. */
static void
rest_note(struct rota *rota, const struct work *work)
{
    bool is_full = work->n_claims == work->claim_limit &&
                   (work->n_claims > 0 || work->may_be_ready);

    if (is_full || work->rest == CLAIM_MORE)
        rota->maybe_ready = true; /* there may be more than there was room */
    if (work->has_looked)
        rota->is_limited = work->rest != CLAIM_NOTHING;
    rota->is_unsettled = work->is_unsettled;
    if (engine_awaits_job(rota))
        rota->scope.job = work->scope.job; /* it may have come */
}

/* Under rota.lock: the jobs count, and can be found and cancelled. */
static void
claims_note(struct rota *rota, struct rota_job **jobs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        jobs[i]->is_in_pool = true;
        list_append(&rota->jobs[jobs[i]->claim.id % JOB_BUCKETS],
                    &jobs[i]->on_bucket);
        rota->args_bytes += jobs[i]->claim.args_size;
        aboard_add(&rota->aboard, jobs[i]->claim.suspicion, 1);
    }
    rota->active += (int64_t)n;
    rota->unstarted += (int64_t)n;
}

/* The claims are committed: now the jobs may run. */
static void
claims_publish(struct rota *rota, const struct work *work)
{
    struct rota_job **jobs = rota->claimed;
    size_t n = work->n_claims;

    for (size_t i = 0; i < n; i++)
        jobs[i] = job_new(rota, &work->claims[i]);
    lock_take(&rota->lock);
    rest_note(rota, work);
    claims_note(rota, jobs, n);
    rota->is_claiming = false;
    if (n > 0 && rota->is_stepping)
        rota->stepped = jobs[0];
    lock_drop(&rota->lock);
    /* room was reserved by rota_start(), and the pool closes after the last
     * job */
    if (n > 0 && rota->pool != NULL)
        MUST(pool_submit_many(rota->pool, job_run, (void **)jobs, n));
}

/* -- The batch ------------------------------------------------------------ */

void
batch_publish(struct rota *rota, struct batch *batch)
{
    struct work *work = &batch->work;

    progress_publish(rota, work);
    endings_publish(rota, work->endings, work->is_durable);
    work->endings = NULL;
    claims_publish(rota, work);
    batch_answer(batch, ROTA_OK);
    lock_take(&rota->lock);
    sleepers_wake(rota, 0, false);
    lock_drop(&rota->lock);
}
