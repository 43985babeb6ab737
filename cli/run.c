/*
 * `run`: submit, run here, show how far it is, say what became of it. The main
 * thread's; the job runs on a thread of the library's. No lock.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/database.h"
#include "cli/format.h"
#include "cli/kinds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/rate.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/submit.h"
#include "cli/work.h"
#include "jobs/excerpt.h"

struct run {
    const struct cli *cli;
    struct ctx *ctx; /* ends with a signal */
    struct rota *rota;
    struct progress progress;
    int64_t id;
    struct rate rate;
    int changes;            /* of what it had counted, in this run, */
    int64_t done, moved_at; /* which is that, since then, as of ctx_now() */
};

/* What is known of the job. */
struct view {
    bool is_ended;
    bool is_running;
    double seconds; /* of its last run */
    struct progress_state state;
};

static int64_t
integer_or(const struct rota_value *value, int64_t fallback)
{
    return value->type == ROTA_INTEGER ? value->integer : fallback;
}

static double
real_or(const struct rota_value *value, double fallback)
{
    return value->type == ROTA_REAL      ? value->real
           : value->type == ROTA_INTEGER ? (double)value->integer
                                         : fallback;
}

static bool
view_row(void *arg, int n, const char *const *names,
         const struct rota_value *values)
{
    struct view *view = arg;

    (void)n;
    (void)names;
    if (values == NULL)
        return true;
    view->state.done = integer_or(&values[0], 0);
    view->state.total = integer_or(&values[1], -1);
    view->state.rate = real_or(&values[2], -1);
    view->state.eta = real_or(&values[3], -1);
    if (values[4].type == ROTA_TEXT)
        excerpt_print(view->state.note, sizeof(view->state.note), "%s",
                      values[4].data);
    view->is_ended = integer_or(&values[5], 0) != 0;
    view->is_running = integer_or(&values[6], 0) != 0;
    view->seconds = real_or(&values[7], -1);
    return false;
}

static bool
look(struct run *run, struct view *view)
{
    struct rota_value id = {.type = ROTA_INTEGER, .integer = run->id};

    memset(view, 0, sizeof(*view));
    view->state.total = -1;
    return rota_query(ctx_background(), run->rota,
                      "SELECT done, total, rate, eta,"
                      " CASE WHEN status NOT IN ('running', 'claimed')"
                      "  THEN coalesce(why, status) END,"
                      " state IN ('succeeded', 'failed', 'cancelled'),"
                      " state = 'running',"
                      " (finished_at - started_at) / 1000.0"
                      " FROM jobs WHERE id = ?1",
                      &id, 1, view_row, view) == ROTA_OK;
}

/* -- Telling ------------------------------------------------------------- */

/* "1,200 of 10,000 items" */
static void
put_items(char *text, size_t size, const struct view *view)
{
    char done[40], total[40];

    format_number(done, sizeof(done), view->state.done);
    format_number(total, sizeof(total), view->state.total);
    if (view->state.total < 0)
        (void)snprintf(text, size, "%s items", done);
    else if (view->state.total == view->state.done)
        (void)snprintf(text, size, "%s items", total);
    else
        (void)snprintf(text, size, "%s of %s items", done, total);
}

static bool
print_result(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    (void)arg;
    (void)n;
    (void)names;
    if (values == NULL || values[0].size == 0 ||
        (values[0].type != ROTA_TEXT && values[0].type != ROTA_BLOB))
        return true;
    if (isatty(STDOUT_FILENO))
        format_text(stdout, values[0].data, values[0].size, FORMAT_SCREEN);
    else
        (void)fwrite(values[0].data, 1, values[0].size, stdout);
    if (values[0].type == ROTA_TEXT)
        (void)fputc('\n', stdout);
    return true;
}

/* The job as JSON, or its result if it has one. */
static int
print_job(struct run *run)
{
    struct rota_value id = {.type = ROTA_INTEGER, .integer = run->id};
    enum rota_error error;
    struct out out;

    out_init(&out, run->cli);
    error = rota_query(
        ctx_background(), run->rota,
        run->cli->is_json
            ? "SELECT 1 AS schema, id, kind, queue, batch, state, error,"
              " cause, attempt, done, total, created_at_iso, started_at_iso,"
              " finished_at_iso, result FROM jobs WHERE id = ?1"
            : "SELECT result FROM jobs WHERE id = ?1",
        &id, 1, run->cli->is_json ? out_row : print_result, &out);
    out_end(&out);
    return error == ROTA_OK ? CLI_OK : say_error(run->rota, error);
}

static int
tell_outcome(struct run *run, const struct rota_outcome *outcome)
{
    struct view view;
    char items[96], time[40] = "";
    int code = print_job(run);

    if (code != CLI_OK)
        return code;
    if (outcome->state == ROTA_CANCELLED) {
        say("job %" PRId64 " was cancelled: %s", run->id, outcome->message);
        return CLI_CANCELLED;
    }
    if (outcome->state != ROTA_SUCCEEDED) {
        say("job %" PRId64 " failed: %s", run->id,
            outcome->message[0] != '\0' ? outcome->message
                                        : rota_strerror(outcome->error));
        return outcome->error == ROTA_DEADLINE || outcome->error == ROTA_TIMEOUT
                   ? CLI_DEADLINE
                   : CLI_FAILED;
    }
    if (!look(run, &view))
        return CLI_OK;
    put_items(items, sizeof(items), &view);
    format_duration(time, sizeof(time), view.seconds);
    say("job %" PRId64 " succeeded: %s in %s", run->id, items, time);
    return CLI_OK;
}

/* A signal came and the job was given back: say where it stands. */
static int
tell_stop(struct run *run)
{
    struct view view;
    char items[96];

    if (!look(run, &view))
        return signals_code(run->ctx);
    put_items(items, sizeof(items), &view);
    if (view.is_running)
        say("job %" PRId64 " goes on in another process: %s done", run->id,
            items);
    else
        say("job %" PRId64 " stopped: %s are done and kept", run->id, items);
    if (!view.is_running)
        work_say_resume(run->cli);
    return signals_code(run->ctx);
}

/* -- Running ------------------------------------------------------------- */

/* How fast it is, as seen from here, where the view has the mean of the whole
 * run. What is in the file may be a second old: so it is looked at when it
 * changes, and the time since then is gone from what is left. */
static void
measure(struct run *run, struct progress_state *state, bool is_running)
{
    struct rate_look look = {.at = ctx_now(), .done = state->done};
    double rate;

    if (!is_running)
        run->changes = 0;
    else if (run->changes == 0 || state->done < run->done)
        rate_begin(&run->rate, look.at, state->done);
    else if (state->done > run->done)
        rate_note(&run->rate, &look);
    if (is_running && state->done != run->done) {
        run->changes++;
        run->moved_at = look.at;
    }
    run->done = state->done;
    rate = run->changes > 1 ? rate_of(&run->rate) : -1;
    if (rate <= 0 || state->total <= state->done)
        return;
    state->rate = rate;
    state->eta = (double)(state->total - state->done) / rate -
                 (double)(look.at - run->moved_at) / 1e9;
}

/* Wait for the outcome, looking up now and then. ROTA_OK: there is one. */
static enum rota_error
wait_for_outcome(struct run *run, struct rota_outcome *outcome)
{
    const int64_t pause = run->progress.is_live ? ROTA_MS(100) : ROTA_SEC(1);
    enum rota_error error;
    struct view view;

    do {
        CTX_AUTO struct ctx *ctx = ctx_with_timeout(run->ctx, pause);

        error = rota_wait(ctx, run->rota, run->id, outcome);
        if (error != ROTA_DEADLINE || !look(run, &view) || view.is_ended)
            continue;
        measure(run, &view.state, view.is_running);
        progress_show(&run->progress, &view.state);
    } while (error == ROTA_DEADLINE);
    return error;
}

static int
run_job(struct run *run)
{
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    enum rota_error error;
    struct view view;

    error = wait_for_outcome(run, &outcome);
    progress_end(&run->progress);
    if (error == ROTA_OK)
        return tell_outcome(run, &outcome);
    if (!ctx_done(run->ctx))
        return say_error(run->rota, error);
    say("stopping; again to quit at once");
    error = rota_stop(run->rota, 0);
    if (error != ROTA_OK) {
        (void)say_error(run->rota, error);
        return signals_code(run->ctx);
    }
    /* it may have ended all the same */
    if (look(run, &view) && view.is_ended &&
        rota_wait(ctx_background(), run->rota, run->id, &outcome) == ROTA_OK)
        return tell_outcome(run, &outcome);
    return tell_stop(run);
}

int
cli_run(struct cli *cli)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct run run = {.cli = cli};
    enum rota_error error;
    int code = submit_check(cli);

    if (code != CLI_OK)
        return code;
    progress_init(&run.progress);
    options.workers = 1;
    options.log = progress_on_log;
    options.log_arg = &run.progress;
    code = database_open(cli, &options, false, &run.rota);
    if (code != CLI_OK)
        return code;
    code = signals_open(&run.ctx);
    if (code == CLI_OK)
        code = kinds_handle(cli, run.rota);
    if (code == CLI_OK &&
        (error = rota_start_job(run.ctx, run.rota, 0)) != ROTA_OK)
        code = say_error(run.rota, error);
    if (code == CLI_OK)
        code = submit(cli, run.rota, &run.id);
    if (code == CLI_OK)
        code = run_job(&run);
    code = database_close(run.rota, code);
    ctx_end(run.ctx);
    return code;
}
