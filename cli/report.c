/* See report.h. No call of the library's is made under report->lock, which is a
 * leaf, but for ctx_cond_wait(), that lets go of it. */
#include "cli/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/format.h"
#include "cli/say.h"
#include "jobs/grow.h"

void
report_init(struct report *report)
{
    memset(report, 0, sizeof(*report));
    (void)pthread_mutex_init(&report->lock, NULL);
    ctx_cond_init(&report->added);
}

void
report_fini(struct report *report)
{
    free(report->jobs);
    (void)pthread_mutex_destroy(&report->lock);
}

void
report_add(struct report *report, int64_t job)
{
    (void)pthread_mutex_lock(&report->lock);
    if (GROW(report->jobs, report->room, report->n + 1))
        report->jobs[report->n++] = job;
    if (report->n == 1) /* those behind the first find main awake */
        ctx_cond_signal(&report->added);
    (void)pthread_mutex_unlock(&report->lock);
}

enum rota_error
report_wait(struct report *report, struct ctx *ctx, int64_t deadline)
{
    enum rota_error error = ROTA_OK;

    (void)pthread_mutex_lock(&report->lock);
    while (report->n == 0 && error == ROTA_OK)
        error = ctx_cond_wait(ctx, &report->added, &report->lock, deadline);
    (void)pthread_mutex_unlock(&report->lock);
    return error;
}

/* Take all of them; to be freed. */
static int64_t *
take(struct report *report, size_t *ret_n)
{
    int64_t *jobs;

    (void)pthread_mutex_lock(&report->lock);
    jobs = report->jobs;
    *ret_n = report->n;
    report->jobs = NULL;
    report->n = report->room = 0;
    (void)pthread_mutex_unlock(&report->lock);
    return jobs;
}

/* The columns of the query below. */
enum { ENDED_AT, JOB, KIND, WORDS, RUN_AT, ATTEMPT, ATTEMPTS };

static bool
say_row(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    char line[2048], when[40], again[120] = "not tried again";

    (void)n, (void)names;
    if (values == NULL)
        return true;
    if (values[RUN_AT].type == ROTA_INTEGER) {
        format_time(when, sizeof(when), values[RUN_AT].integer);
        (void)snprintf(again, sizeof(again),
                       "attempt %" PRId64 " of %" PRId64 ", tried again at %s",
                       values[ATTEMPT].integer, values[ATTEMPTS].integer, when);
    }
    format_time(when, sizeof(when), values[ENDED_AT].integer);
    (void)snprintf(
        line, sizeof(line), "rota: %s job %" PRId64 " (%s) failed: %s; %s",
        when, values[JOB].integer, values[KIND].data,
        values[WORDS].type == ROTA_TEXT ? values[WORDS].data : "?", again);
    progress_log(arg, line);
    return false;
}

/* One that has put itself off has not failed. */
static void
say_run(struct rota *rota, int64_t job, struct progress *progress)
{
    struct rota_value id = {.type = ROTA_INTEGER, .integer = job};

    enum rota_error error =
        rota_query(ctx_background(), rota,
                   "SELECT a.ended_at, a.job, j.kind,"
                   " coalesce(a.message, a.error),"
                   " iif(j.state = 'scheduled', j.run_at, NULL), j.attempt,"
                   " j.max_attempts"
                   " FROM (SELECT * FROM attempts WHERE job = ?1"
                   "  AND outcome <> 'running' ORDER BY lease DESC LIMIT 1) a"
                   " JOIN jobs j ON j.id = a.job WHERE a.outcome = 'failed'"
                   " AND j.id = ?1",
                   &id, 1, say_row, progress);

    if (error != ROTA_OK)
        (void)say_error(rota, error);
}

void
report_say(struct report *report, struct rota *rota, struct progress *progress)
{
    size_t n;
    int64_t *jobs = take(report, &n);

    for (size_t i = 0; i < n; i++)
        say_run(rota, jobs[i], progress);
    free(jobs);
}
