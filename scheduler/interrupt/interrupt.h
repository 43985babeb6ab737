/*
 * How a context reaches a job's database: waits for locks that end with it,
 * and the step, a transaction that holds the items' rows and the cursor.
 *
 * One thread at a time per connection: the job's.
 */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

#include <rota/job.h>

struct sqlite3;

/* Who steps: what stands in the target's _rota_cursor. */
struct target {
    const char *queue; /* the queue's instance */
    int64_t job, lease;
};

/* Open path so that its waits for locks end when ctx does. ctx must outlive
 * the connection. Errors: ROTA_STORE, ROTA_NOMEM. */
ROTA_MUST_USE enum rota_error target_open(struct ctx *ctx, const char *path,
                                          struct sqlite3 **ret_db);

/* Finalize what the job left behind, and close. */
void target_close(struct sqlite3 *db);

/* Whether db is the file at path, under whatever name. */
bool target_is_file(struct sqlite3 *db, const char *path);

/* rota_job_resume() and rota_job_step(). */
ROTA_MUST_USE enum rota_error target_resume(struct ctx *ctx,
                                            struct sqlite3 *db,
                                            const struct target *target,
                                            int64_t *ret_cursor);
ROTA_MUST_USE enum rota_error target_step(struct ctx *ctx, struct sqlite3 *db,
                                          const struct target *target,
                                          int64_t cursor, rota_step_fn *fn,
                                          void *arg);

#endif
