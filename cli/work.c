/* `work` and `resume`: run jobs that were submitted before, or elsewhere. */
#define _GNU_SOURCE
#include "cli/work.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/kinds.h"
#include "cli/text.h"

struct work {
    const struct cli *cli;
    struct ctx *ctx; /* ends with a signal */
    struct rota *rota;
    struct progress progress;
    int64_t worker; /* our id in the view workers; 0: not known */
    int64_t ended;  /* jobs that ended here */
    int64_t failed; /* of them */
    int64_t cancelled;
};

void
work_say_resume(const struct cli *cli)
{
    bool is_plain = strspn(cli->db, "abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789_./-+") == strlen(cli->db);

    cli_say("go on with: rota resume --db %s%s%s", is_plain ? "" : "'", cli->db,
            is_plain ? "" : "'");
}

/* -- Starting ------------------------------------------------------------ */

static bool
keep_id(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct work *work = arg;

    (void)n;
    (void)names;
    if (values != NULL && values[0].type == ROTA_INTEGER)
        work->worker = values[0].integer;
    return true;
}

static int
start(struct work *work, struct ctx *ctx)
{
    struct rota_value pid = {.type = ROTA_INTEGER, .integer = getpid()};
    enum rota_error error = rota_start(ctx, work->rota);

    if (error == ROTA_OK)
        error = rota_query(ctx_background(), work->rota,
                           "SELECT max(id) FROM workers"
                           " WHERE pid = ?1 AND ended_at IS NULL",
                           &pid, 1, keep_id, work);
    return error == ROTA_OK ? CLI_OK : cli_fail(work->rota, error);
}

static int
open_to_work(struct work *work, struct cli *cli, bool must_exist)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int code;

    work->cli = cli;
    if (cli->workers == 0)
        cli->workers = sysconf(_SC_NPROCESSORS_ONLN);
    options.workers = (int)cli->workers;
    options.log = progress_on_log;
    options.log_arg = &work->progress;
    progress_init(&work->progress);
    code = cli_open(cli, &options, must_exist, &work->rota);
    if (code != CLI_OK)
        return code;
    work->ctx = cli_signals();
    return kinds_handle(cli, work->rota);
}

static int
close_work(struct work *work, int code)
{
    code = cli_close(work->rota, code);
    ctx_end(work->ctx);
    return code;
}

/* -- Telling ------------------------------------------------------------- */

struct summary {
    struct work *work;
    char text[256];
    size_t used;
};

static bool
add_outcome(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    struct summary *summary = arg;
    int used;

    (void)n;
    (void)names;
    if (values == NULL || values[0].type != ROTA_TEXT)
        return true;
    used = snprintf(summary->text + summary->used,
                    sizeof(summary->text) - summary->used, "%s%" PRId64 " %s",
                    summary->used > 0 ? ", " : "", values[1].integer,
                    values[0].data);
    if (used > 0 && summary->used + (size_t)used < sizeof(summary->text))
        summary->used += (size_t)used;
    if (strcmp(values[0].data, "succeeded") == 0 ||
        strcmp(values[0].data, "failed") == 0 ||
        strcmp(values[0].data, "cancelled") == 0)
        summary->work->ended += values[1].integer;
    if (strcmp(values[0].data, "failed") == 0)
        summary->work->failed += values[1].integer;
    if (strcmp(values[0].data, "cancelled") == 0)
        summary->work->cancelled += values[1].integer;
    return true;
}

/* "12 succeeded, 1 failed, 2 stopped", of this process; "" if it ran none. */
static void
summarise(struct work *work, struct summary *summary)
{
    struct rota_value worker = {.type = ROTA_INTEGER, .integer = work->worker};

    memset(summary, 0, sizeof(*summary));
    summary->work = work;
    if (rota_query(ctx_background(), work->rota,
                   "SELECT outcome, count(*) FROM attempts WHERE worker = ?1"
                   " GROUP BY outcome ORDER BY outcome = 'succeeded' DESC,"
                   " outcome",
                   &worker, 1, add_outcome, summary) != ROTA_OK)
        (void)cli_fail(work->rota, ROTA_STORE);
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

/* What runs and what waits, all jobs together. */
static void
show_progress(struct work *work)
{
    struct progress_state state = {.total = -1, .rate = -1, .eta = -1};

    if (rota_query(ctx_background(), work->rota,
                   "SELECT sum(done),"
                   " CASE WHEN count(total) = count(*) THEN sum(total) END,"
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

static int
work_until_told(struct work *work)
{
    struct summary summary;
    char time[40];
    /* not work->ctx: running jobs get the grace first */
    int code = start(work, ctx_background());

    if (code != CLI_OK)
        return code;
    cli_say("working on %s, %" PRId64 " at once; Ctrl-C stops", work->cli->db,
            work->cli->workers);
    while (ctx_wait(work->ctx, ctx_now() + ROTA_SEC(1)) == ROTA_TIMEOUT)
        if (work->progress.is_live)
            show_progress(work);
    progress_end(&work->progress);
    text_duration(time, sizeof(time), (double)work->cli->grace / 1e9);
    cli_say("%s: stopping, within %s; again to quit at once",
            ctx_cause(work->ctx), time);
    if (rota_stop(work->rota, work->cli->grace) != ROTA_OK)
        code = cli_fail(work->rota, ROTA_BUSY);
    summarise(work, &summary);
    cli_say("stopped: %s", summary.used > 0 ? summary.text : "no job came");
    return code;
}

int
cli_work(struct cli *cli)
{
    struct work work = {.cli = cli};
    int code = open_to_work(&work, cli, false);

    if (code == CLI_OK)
        code = work_until_told(&work);
    return close_work(&work, code);
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

static int
resume(struct work *work)
{
    struct summary summary;
    enum rota_error error;
    int code = start(work, work->ctx);

    if (code != CLI_OK)
        return code;
    error = drain(work);
    progress_end(&work->progress);
    if (error != ROTA_OK && !ctx_done(work->ctx))
        return cli_fail(work->rota, error);
    if (ctx_done(work->ctx))
        cli_say("stopping; again to quit at once");
    error = rota_stop(work->rota, 0);
    if (error != ROTA_OK)
        code = cli_fail(work->rota, error);
    summarise(work, &summary);
    if (ctx_done(work->ctx)) {
        cli_say("stopped: %s", summary.used > 0 ? summary.text : "no job ran");
        return cli_signal_code(work->ctx);
    }
    if (summary.used == 0)
        cli_say("nothing to do in %s", work->cli->db);
    else
        cli_say("done: %s", summary.text);
    if (code != CLI_OK)
        return code;
    return work->failed > 0      ? CLI_FAILED
           : work->cancelled > 0 ? CLI_CANCELLED
                                 : CLI_OK;
}

int
cli_resume(struct cli *cli)
{
    struct work work = {.cli = cli};
    int code = open_to_work(&work, cli, true);

    if (code == CLI_OK)
        code = resume(&work);
    return close_work(&work, code);
}
