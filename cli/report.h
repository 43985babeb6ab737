/*
 * The failures of a worker, each said as it happens. The thread that records
 * the end of a run only notes it; what there is to say is looked up by main,
 * which the note wakes.
 *
 *   writer   report_add(), as the run's end is recorded
 *   main     report_wait(), report_say()
 */
#ifndef REPORT_H
#define REPORT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <rota.h>

#include "cli/progress.h"

struct report {
    pthread_mutex_t lock; /* guards all below */
    struct ctx_cond added;
    int64_t *jobs; /* of which a run has failed, oldest first */
    size_t n, room;
};

void report_init(struct report *report);
void report_fini(struct report *report);

/* A run of job has ended, and may have failed. Without memory it is left to the
 * counts at the end. */
void report_add(struct report *report, int64_t job);

/* Wait until there is something to say: ROTA_OK; ctx_err(ctx), or ROTA_TIMEOUT.
 */
enum rota_error report_wait(struct report *report, struct ctx *ctx,
                            int64_t deadline);

/* A line for each, above what progress shows: when, which job, what it came to,
 * and whether it is tried again. */
void report_say(struct report *report, struct rota *rota,
                struct progress *progress);

#endif
