/*
 * A job's own databases: connections that end with the job's context, and the
 * step, a transaction that holds the items' rows and the cursor.
 *
 * The engine and the public calls of jobs use it. One thread at a time: the one
 * that runs the job. No lock is wanted, and none of ours is to be held.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/interrupt.h>

/* A connection that is bound to a job's context until it is closed. */
struct target {
    struct target *next; /* another one of the same job; for the caller */
    struct sqlite3 *db;
    struct rota_sqlite bound;
};

/* Whose step it is: the row of the target's table _rota_cursor, and the lease
 * of the run. */
struct stepper {
    const char *queue; /* the queue's instance */
    int64_t job, lease;
    int64_t restart; /* a cursor left by a lease up to this is 0 again */
};

/* Open path, making it if it is not there. ctx must outlive the target.
 * Errors: ROTA_STORE, ROTA_NOMEM. */
ROTA_MUST_USE enum rota_error target_open(struct ctx *ctx, const char *path,
                                          struct target **ret_target);

/* Roll back and close, and finalize what the job has left. False: the job has
 * left a statement on a virtual table, or a backup; no lock is left, but the
 * file stays open as long as the process runs. */
bool target_close(struct target *target);

/* The file that db is; NULL or "" if it is in memory. */
const char *target_path(struct sqlite3 *db);

/* rota_job_resume() and rota_job_step(), on any connection. */
ROTA_MUST_USE enum rota_error target_resume(struct ctx *ctx, struct sqlite3 *db,
                                            const struct stepper *stepper,
                                            int64_t *ret_cursor);
ROTA_MUST_USE enum rota_error target_step(struct ctx *ctx, struct sqlite3 *db,
                                          const struct stepper *stepper,
                                          int64_t cursor, rota_sqlite_fn *fn,
                                          void *arg);

#endif
