/*
 * A claimed job: made from a claim, found by its id, cancelled, freed; and its
 * run on a worker (run.c).
 */
#ifndef JOB_H
#define JOB_H

#include "engine/engine.h"

/* -- Memory; the role's --------------------------------------------------- */

/* Have memory for so many claims, and for the jobs that they become, so that
 * what is claimed can be run. False if there is not enough. */
bool jobs_reserve(struct rota *rota, size_t n);

/* A claimed job, out of what was reserved. Takes the claim's arguments. */
struct rota_job *job_new(struct rota *rota, const struct claim *claim);

/* Keep its memory for another one, or free it. */
void job_recycle(struct rota *rota, struct rota_job *job);

/* At the end, by the thread that closes. */
void jobs_release(struct rota *rota);

/* Free it. Any thread: the last that needs it. */
void job_free(struct rota_job *job);

/* -- Finding and cancelling ------------------------------------------------ */

/* Under rota.lock. NULL: it is not claimed here. */
struct rota_job *job_find(struct rota *rota, int64_t id);

/* Tell a claimed job of this process to stop. lease 0: whatever run. True if it
 * is here. No lock held: the callbacks of the job's context run on this
 * thread. */
bool job_cancel(struct rota *rota, int64_t id, int64_t lease,
                const char *reason);

/* The job is another worker's by now: end its context. No lock held. */
void job_lose(struct rota *rota, int64_t id);

/* Why its context has ended. By the job's own thread. */
enum rota_stop_reason job_stop_reason(const struct rota_job *job);

/* How far it has got, but for how long it is stuck. Any thread. */
struct progress job_progress(const struct rota_job *job);

/* How long it may ignore that its context has ended. Any thread. */
int64_t kind_grace(const struct kind *kind);

/* -- Running -------------------------------------------------------------- */

/* On a worker; a pool_fn. */
void job_run(void *job);

/* Have job->ending say what the run came to; its answers are not given yet. By
 * whoever ends the job. */
void job_fill_ending(struct rota_job *job);

static inline struct rota_job *
job_of_ending(struct ending *ending)
{
    return OWNER_OF(ending, struct rota_job, ending);
}

#endif
