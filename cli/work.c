/*
 * `work` and `resume`: run jobs that were submitted before, or elsewhere. The
 * main thread's, but for on_ended(): that is called by one thread at a time,
 * and what it counts is read once rota_stop() has returned. No lock but the
 * report's own.
 */
#define _GNU_SOURCE
#include "cli/work.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/database.h"
#include "cli/failures.h"
#include "cli/format.h"
#include "cli/kinds.h"
#include "cli/pairs.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/say.h"
#include "cli/signals.h"

struct work {
    const struct cli *cli;
    struct ctx *ctx; /* ends with a signal */
    struct rota *rota;
    struct progress progress;
    struct report report; /* of `work`: what fails */
    /* on_ended()'s, until rota_stop() has returned */
    int64_t ended[ROTA_CANCELLED + 1]; /* runs, by the state they led to */
    struct failures failures;
    /* main's */
    struct failures given_up; /* by rota_start(), without a run here */
};

void
work_say_resume(const struct cli *cli)
{
    bool is_plain = strspn(cli->db, "abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789_./-+") == strlen(cli->db);

    say("go on with: rota resume --db %s%s%s", is_plain ? "" : "'", cli->db,
        is_plain ? "" : "'");
}

/* -- Telling ------------------------------------------------------------- */

/* A rota_ended_fn. */
static void
on_ended(void *arg, int64_t job, enum rota_state state)
{
    struct work *work = arg;

    work->ended[state]++;
    if (state == ROTA_JOB_FAILED || state == ROTA_SCHEDULED)
        report_add(&work->report, job);
    if (state == ROTA_JOB_FAILED)
        failures_add(&work->failures, job);
}

/* What ended in this process; "" if nothing did. Once it has stopped. */
static void
put_counts(const struct work *work, char *text, size_t size)
{
    const struct format_count counts[] = {
        {work->ended[ROTA_SUCCEEDED], "succeeded"},
        {work->ended[ROTA_JOB_FAILED], "failed"},
        {work->ended[ROTA_CANCELLED], "cancelled"},
        {work->ended[ROTA_SCHEDULED], "put off meanwhile"},
        {work->ended[ROTA_READY], "stopped"}};

    format_counts(text, size, counts, sizeof(counts) / sizeof(counts[0]));
}

/* -- Opening ------------------------------------------------------------- */

static int
open_to_work(struct work *work, struct cli *cli, bool must_exist)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int code;

    if (cli->workers == 0)
        cli->workers = sysconf(_SC_NPROCESSORS_ONLN);
    options.workers = (int)cli->workers;
    options.log = progress_on_log;
    options.log_arg = &work->progress;
    options.ended = on_ended;
    options.ended_arg = work;
    progress_init(&work->progress);
    code = database_open(cli, &options, must_exist, &work->rota);
    if (code != CLI_OK)
        return code;
    code = signals_open(&work->ctx);
    return code == CLI_OK ? kinds_handle(cli, work->rota) : code;
}

/* Open the queue, call fn, and close it whatever came of that. */
static int
with_work(struct cli *cli, bool must_exist, int (*fn)(struct work *work))
{
    struct work work = {.cli = cli};
    int code;

    report_init(&work.report);
    code = open_to_work(&work, cli, must_exist);
    if (code == CLI_OK)
        code = fn(&work);
    code = database_close(work.rota, code);
    ctx_end(work.ctx);
    report_fini(&work.report);
    return code;
}

/* -- Progress ------------------------------------------------------------ */

static bool
keep_state(void *arg, int n, const char *const *names,
           const struct rota_value *values)
{
    struct progress_state *state = arg;

    (void)n;
    (void)names;
    if (values == NULL)
        return true;
    state->done = values[0].type == ROTA_INTEGER ? values[0].integer : 0;
    state->total = values[1].type == ROTA_INTEGER ? values[1].integer : -1;
    state->rate = values[2].type == ROTA_REAL ? values[2].real : -1;
    state->eta = state->total > state->done && state->rate > 0
                     ? (double)(state->total - state->done) / state->rate
                     : -1;
    if (values[3].integer > 0)
        (void)snprintf(state->note, sizeof(state->note),
                       "%" PRId64 " running, %" PRId64 " waiting",
                       values[3].integer, values[4].integer);
    return true;
}

/* More than a job may count for, so that no sum overflows. */
#define MOST "1000000000000000"

/* What runs and what waits, all jobs together. */
static void
show_progress(struct work *work)
{
    struct progress_state state = {.total = -1, .rate = -1, .eta = -1};

    if (rota_query(ctx_background(), work->rota,
                   "SELECT sum(max(0, min(done, " MOST "))),"
                   " CASE WHEN count(total) = count(*)"
                   "  THEN sum(min(total, " MOST ")) END,"
                   " sum(rate), count(*),"
                   " (SELECT count(*) FROM jobs WHERE state = 'ready')"
                   " FROM jobs WHERE state = 'running'",
                   NULL, 0, keep_state, &state) != ROTA_OK)
        return;
    if (state.note[0] != '\0')
        progress_show(&work->progress, &state);
    else
        progress_end(&work->progress);
}

/* -- work ---------------------------------------------------------------- */

static bool
take_no_more(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    (void)arg, (void)n, (void)names, (void)values;
    return true;
}

enum rota_error
work_look(struct rota *rota)
{
    enum rota_error error = rota_query(ctx_background(), rota, "SELECT 1", NULL,
                                       0, take_no_more, NULL);

    return error == ROTA_BUSY || error == ROTA_NOMEM ? ROTA_OK : error;
}

/* Wait until somebody says stop, or the file is gone. Meanwhile tell of what
 * fails, as it does. */
static enum rota_error
wait_for_end(struct work *work)
{
    int64_t next = ctx_now() + ROTA_SEC(1);
    enum rota_error error = ROTA_OK;

    while (error == ROTA_OK && !ctx_done(work->ctx)) {
        if (report_wait(&work->report, work->ctx, next) == ROTA_OK)
            report_say(&work->report, work->rota, &work->progress);
        if (ctx_now() < next)
            continue;
        if (work->progress.is_live)
            show_progress(work);
        error = work_look(work->rota);
        next = ctx_now() + ROTA_SEC(1);
    }
    progress_end(&work->progress);
    return error;
}

static int
work_until_told(struct work *work)
{
    char counts[256], time[40];
    /* not work->ctx: running jobs get the grace first */
    enum rota_error error = rota_start(ctx_background(), work->rota);
    int code = CLI_OK;

    if (error != ROTA_OK)
        return say_error(work->rota, error);
    say("working on %s, %" PRId64 " at once; Ctrl-C stops", work->cli->db,
        work->cli->workers);
    error = wait_for_end(work);
    if (error != ROTA_OK) {
        code = say_error(work->rota, error);
        (void)rota_stop(work->rota, 0); /* no end could be recorded */
    } else {
        format_duration(time, sizeof(time), (double)work->cli->grace / 1e9);
        say("%s: stopping, once running jobs have ended or %s have passed; "
            "again to quit at once",
            ctx_cause(work->ctx), time);
        error = rota_stop(work->rota, work->cli->grace);
        if (error != ROTA_OK)
            code = say_error(work->rota, error);
    }
    report_say(&work->report, work->rota, &work->progress);
    progress_end(&work->progress);
    put_counts(work, counts, sizeof(counts));
    if (error != ROTA_OK)
        say("stopped by that%s%s", counts[0] != '\0' ? ": " : "", counts);
    else
        say("stopped: %s", counts[0] != '\0' ? counts : "no job came");
    return code;
}

int
cli_work(struct cli *cli)
{
    return with_work(cli, false, work_until_told);
}

/* -- resume -------------------------------------------------------------- */

static enum rota_error
drain(struct work *work)
{
    const int64_t pause = work->progress.is_live ? ROTA_MS(250) : ROTA_SEC(1);
    enum rota_error error;

    do {
        CTX_AUTO struct ctx *ctx = ctx_with_timeout(work->ctx, pause);

        error = rota_drain(ctx, work->rota);
        if (error == ROTA_DEADLINE)
            show_progress(work);
    } while (error == ROTA_DEADLINE);
    return error;
}

static bool
keep_failure(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    (void)n, (void)names;
    if (values != NULL)
        failures_add(arg, values[0].integer);
    return true;
}

/* Start, which takes back what dead processes ran. A job whose process has died
 * with it too often is given up then, and as it does not run, on_ended() is not
 * called for it. So who is said to run what is noted before, and afterwards it
 * is looked up which of these jobs have failed in the same hands. */
static enum rota_error
start_over(struct work *work)
{
    struct pairs claims = {0}; /* a job, and the process said to run it */
    enum rota_error error;

    error = rota_query(ctx_background(), work->rota,
                       "SELECT id, worker FROM jobs WHERE state = 'running'",
                       NULL, 0, pairs_keep, &claims);
    if (error == ROTA_OK)
        error = rota_start(work->ctx, work->rota);
    for (size_t i = 0; error == ROTA_OK && i < claims.n; i++) {
        struct rota_value params[] = {
            {.type = ROTA_INTEGER, .integer = claims.all[i].first},
            {.type = ROTA_INTEGER, .integer = claims.all[i].second}};

        error = rota_query(ctx_background(), work->rota,
                           "SELECT id FROM jobs WHERE id = ?1 AND worker = ?2"
                           " AND state = 'failed'",
                           params, 2, keep_failure, &work->given_up);
    }
    pairs_fini(&claims);
    return error;
}

static bool
keep_left(void *arg, int n, const char *const *names,
          const struct rota_value *values)
{
    (void)arg, (void)n, (void)names;
    if (values == NULL)
        return true;
    if (strcmp(values[0].data, "scheduled") == 0)
        say("left for later: %" PRId64 " %s, the first at %s",
            values[2].integer, values[1].data, values[3].data);
    else if (strcmp(values[4].data, "paused") == 0)
        say("left: %" PRId64 " %s: the queue %s is paused", values[2].integer,
            values[1].data, values[5].data);
    else
        say("left: %" PRId64 " %s: in another process's queue, or of a "
            "kind that is not known here (--load)",
            values[2].integer, values[1].data);
    return true;
}

/* What waits, and was not run. */
static void
say_left(struct work *work)
{
    if (rota_query(ctx_background(), work->rota,
                   "SELECT state, kind, count(*), min(run_at_iso), status,"
                   " queue FROM jobs WHERE state IN ('ready', 'scheduled')"
                   " GROUP BY 1, 2, status = 'paused',"
                   " iif(status = 'paused', queue, NULL)",
                   NULL, 0, keep_left, NULL) != ROTA_OK)
        (void)say_error(work->rota, ROTA_STORE);
}

static int
resume(struct work *work)
{
    char counts[256];
    struct failures failed; /* all of them */
    enum rota_error error = start_over(work);
    int code = CLI_OK;

    if (error != ROTA_OK)
        return say_error(work->rota, error);
    error = drain(work);
    progress_end(&work->progress);
    if (error != ROTA_OK && !ctx_done(work->ctx))
        return say_error(work->rota, error);
    if (ctx_done(work->ctx))
        say("stopping; again to quit at once");
    error = rota_stop(work->rota, 0);
    if (error != ROTA_OK)
        code = say_error(work->rota, error);
    failed = work->given_up;
    failures_append(&failed, &work->failures);
    failures_say(&failed, work->rota, NULL);
    put_counts(work, counts, sizeof(counts));
    if (ctx_done(work->ctx)) {
        say("stopped: %s", counts[0] != '\0' ? counts : "no job ran");
        return signals_code(work->ctx);
    }
    if (counts[0] == '\0' && failed.n == 0)
        say("nothing to do in %s", work->cli->db);
    else if (counts[0] != '\0')
        say("done: %s", counts);
    say_left(work);
    if (code != CLI_OK)
        return code;
    return failed.n > 0                      ? CLI_FAILED
           : work->ended[ROTA_CANCELLED] > 0 ? CLI_CANCELLED
                                             : CLI_OK;
}

int
cli_resume(struct cli *cli)
{
    return with_work(cli, true, resume);
}
