/*
 * A job, seen from inside: a function that loops over items and polls its
 * context.
 *
 *   static enum rota_error
 *   thumbnails(struct ctx *ctx, struct rota_job *job)
 *   {
 *       int64_t n = count_images(rota_job_args(job, NULL));
 *
 *       rota_job_total(job, n);
 *       for (int64_t i = rota_job_cursor(job); i < n; i++) {
 *           if (ctx_done(ctx))
 *               return ctx_err(ctx);
 *           if (!make_thumbnail(i))
 *               return rota_job_fail(job, ROTA_FAILED, "image %d", (int)i);
 *           rota_job_advance(job, i + 1);
 *       }
 *       return ROTA_OK;
 *   }
 *
 * What a job returns decides what becomes of it:
 *   ROTA_OK                      succeeded, even if a cancel came too late
 *   anything else, cancel asked  cancelled, never retried
 *   ctx_err(ctx), shutting down  ready again with its cursor, nothing charged
 *   ctx_err(ctx), its deadline   failed for good
 *   ctx_err(ctx), its timeout    scheduled again while attempts are left
 *   ROTA_FAILED or another error the same
 *   ROTA_FATAL                   failed for good
 *   ROTA_SNOOZE                  scheduled again later, not charged
 * An error that comes from a context of the job's own making is an ordinary
 * failure. Why it failed is what rota_job_fail() was told; if that was not
 * called, and the error is one of the library's, the words of rota_errmsg().
 *
 * Every call here is for the thread that runs the job, while it runs. Pointers
 * that a call returns are valid until the job returns.
 */
#ifndef ROTA_JOB_H
#define ROTA_JOB_H

#include <stddef.h>
#include <stdint.h>

#include <rota/ctx.h>
#include <rota/error.h>
#include <rota/interrupt.h>
#include <rota/process.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rota;
struct rota_job;

/* A job's body. Runs on a worker thread, many at a time. ctx is lent: it ends
 * when the job is cancelled, its deadline passes, or the worker shuts down.
 * Returns soon after ctx is done. May submit, cancel and derive contexts; must
 * not close the scheduler that it runs on. */
typedef enum rota_error rota_job_fn(struct ctx *ctx, struct rota_job *job);

/* -- Asking -------------------------------------------------------------- */

ROTA_API int64_t rota_job_id(const struct rota_job *job);
ROTA_API const char *rota_job_kind(const struct rota_job *job);

/* The arguments as submitted, with a NUL added after them; *ret_size, unless
 * NULL, is their size without it. "" and 0 if there were none. */
ROTA_API const void *rota_job_args(const struct rota_job *job,
                                   size_t *ret_size);

/* What was given to rota_handle() with this kind. */
ROTA_API void *rota_job_arg(const struct rota_job *job);

/* The number of this run, 1 for the first. Rises with every run of this job,
 * whoever runs it: a fencing token for the outside world. A store that refuses
 * a smaller lease than it has seen cannot be written by a worker that lost the
 * job. */
ROTA_API int64_t rota_job_lease(const struct rota_job *job);

/* The instance of the queue that the job was submitted to: rota_instance(),
 * unless its file is a copy, made since, of another queue. With the job's id it
 * names the job, and with its lease the run, everywhere; a copy's leases begin
 * far above those of the original. */
ROTA_API const char *rota_job_instance(const struct rota_job *job);

/* How far the job has got: 0 at first, then what the last run advanced to. */
ROTA_API int64_t rota_job_cursor(const struct rota_job *job);

/* Why ctx is done. */
enum rota_stop_reason {
    ROTA_STOP_NONE,     /* it is not */
    ROTA_STOP_CANCEL,   /* somebody cancelled this job */
    ROTA_STOP_DEADLINE, /* the job's deadline, or this run's timeout, passed */
    ROTA_STOP_SHUTDOWN, /* the worker stops; the job will be resumed */
    ROTA_STOP_LOST      /* the job is another worker's by now: write nothing */
};
ROTA_API enum rota_stop_reason rota_job_stop_reason(const struct rota_job *job);

/* The scheduler, to submit further jobs or cancel some. */
ROTA_API struct rota *rota_job_rota(const struct rota_job *job);

/* -- Saying -------------------------------------------------------------- */

/* Say how many items there are, for percent and time left. The rate is measured
 * from here on, unless the job has advanced before: what it takes to count them
 * is no item's. */
ROTA_API void rota_job_total(struct rota_job *job, int64_t total);

/* Say that every item below cursor is done. A store in memory: it costs
 * nanoseconds, reaches the file within a second, and is what the next run
 * starts from if this one is shut down or dies. */
ROTA_API void rota_job_advance(struct rota_job *job, int64_t cursor);

/* Advance, and return when the cursor is durable in the file. Errors:
 * ROTA_LOST, ROTA_STORE, ROTA_FULL; the item's work stands in any case. */
ROTA_API ROTA_MUST_USE enum rota_error rota_job_commit(struct rota_job *job,
                                                       int64_t cursor);

/* Keep size bytes as the job's result, copied. Text (UTF-8) is stored as TEXT,
 * anything else as a BLOB, when the job has ended for good, whatever became of
 * it. The last call of its last run counts. Errors: ROTA_NOMEM; ROTA_INVALID,
 * it is larger than a queue keeps: a billion bytes, about, if SQLite is built
 * as usual. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_job_result(struct rota_job *job, const void *data, size_t size);

/* Say why, and return code, for `return rota_job_fail(...)`. More than 4096
 * bytes are cut in the middle: names first, the reason last. */
ROTA_API enum rota_error rota_job_fail(struct rota_job *job,
                                       enum rota_error code,
                                       const char *format, ...)
    ROTA_PRINTF(3, 4);

/* Ask to be run again in delay nanoseconds, without being charged an attempt.
 * Returns ROTA_SNOOZE, for `return rota_job_snooze(...)`. */
ROTA_API enum rota_error rota_job_snooze(struct rota_job *job, int64_t delay);

/* Send a line to the log function of the scheduler's options. */
ROTA_API void rota_job_log(struct rota_job *job, const char *format, ...)
    ROTA_PRINTF(2, 3);

/* -- Child processes ------------------------------------------------------ */

/* rota_process_run() under the job's context. While there are not enough
 * descriptors, processes or memory to start it, it waits, until another child
 * has ended or the context has. Should this process die, the job
 * is ready again only when the child and what descends from it have ended. The
 * tag is the run's. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_job_process(struct rota_job *job, const struct rota_process *process,
                 struct rota_process_result *ret_result);

/* -- Exactly once per item ------------------------------------------------ */

/*
 * Open a SQLite file for this job, making it if it is not there. The connection
 * is bound to the job's context (rota/interrupt.h) and closed when the job
 * returns; do not close it. Finalize your statements: what is left of them then
 * is ended, but one on a virtual table keeps the file open until the process
 * ends. No value in it is longer than 64 MiB, until sqlite3_limit() says
 * otherwise. Any file but the queue's own and those that belong to it
 * (rota_sqlite_owns()). To use it takes <sqlite3.h> and -lsqlite3; a librota
 * that has SQLite inside exports it, and its sqlite3.h is the one to use.
 * Errors: ROTA_INVALID, ROTA_STORE, ROTA_NOMEM.
 */
ROTA_API ROTA_MUST_USE enum rota_error
rota_job_db(struct rota_job *job, const char *path, struct sqlite3 **ret_db);

/*
 * Take this job up where the target database says it stands: raises the job's
 * lease in the target's table _rota_cursor(queue, job, lease, cursor), which
 * shuts out every earlier run, and gives the cursor kept there, 0 at first.
 * Once for each run and database, before rota_job_step(). *ret_cursor becomes
 * the job's cursor too. Outside a transaction.
 * Errors: ROTA_LOST (a later run has been here), ctx_err(), ROTA_INVALID
 * (the queue's own file), ROTA_STORE.
 */
ROTA_API ROTA_MUST_USE enum rota_error
rota_job_resume(struct rota_job *job, struct sqlite3 *db, int64_t *ret_cursor);

/*
 * Run fn(db, arg) and move the cursor to cursor in one transaction of the
 * target database (rota_sqlite_tx()), so that an item's rows and the record
 * that it is done are there together or not at all, whatever dies. On ROTA_OK
 * both are committed. On any error neither is. ROTA_LOST: a later run of this
 * job has taken over; the job should return it.
 */
ROTA_API ROTA_MUST_USE enum rota_error
rota_job_step(struct rota_job *job, struct sqlite3 *db, int64_t cursor,
              rota_sqlite_fn *fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
