/*
 * `each` (each.h): reading its words, finding its batch, running it. The main
 * thread's, but for the functions of the workers, which are called on threads
 * of the library's with no lock held.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/database.h"
#include "cli/each.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/value.h"
#include "cli/work.h"
#include "jobs/jobs.h"

/* Ends that may wait to be printed. */
enum { BACKLOG_MAX = 256 };

/* -- Workers --------------------------------------------------------------- */

static void
on_output(void *arg, int fd, const char *data, size_t size)
{
    written_add(arg, fd, data, size);
}

/* A place that nobody has; PLACES if there is none, and then it is not counted.
 */
static size_t
place_take(struct each *each, int64_t now)
{
    for (size_t i = 0; i < PLACES; i++) {
        int64_t none = 0;

        if (atomic_compare_exchange_strong(&each->begun[i], &none, now))
            return i;
    }
    return PLACES;
}

static void
place_leave(struct each *each, size_t place, int64_t begun)
{
    if (place < PLACES)
        atomic_store(&each->begun[place], 0);
    (void)atomic_fetch_add(&each->spent, ctx_now() - begun);
    (void)atomic_fetch_add(&each->runs, 1);
}

/* A rota_job_fn. */
static enum rota_error
run_command(struct ctx *ctx, struct rota_job *job)
{
    struct each *each = rota_job_arg(job);
    struct written *written;
    enum rota_error error;
    int64_t begun;
    size_t place;

    /* Whoever reads what is printed sets the pace: without this, the commands
     * would fill the disk while he looks at the first page. */
    while (spool_backlog(&each->spool) > BACKLOG_MAX)
        if (ctx_sleep(ctx, ROTA_MS(5)) != ROTA_OK)
            return ctx_err(ctx);
    written = written_new(rota_job_id(job));
    if (written == NULL)
        return ROTA_NOMEM;
    (void)atomic_fetch_add(&each->running, 1);
    begun = ctx_now();
    place = place_take(each, begun);
    error = job_exec_run(ctx, job, on_output, written);
    place_leave(each, place, begun);
    (void)atomic_fetch_sub(&each->running, 1);
    spool_keep(&each->spool, written);
    return error;
}

/* A rota_ended_fn. */
static void
on_ended(void *arg, int64_t job, enum rota_state state)
{
    struct each *each = arg;

    (void)atomic_fetch_add(&each->ended, state >= ROTA_SUCCEEDED);
    spool_settle(&each->spool, job, state);
}

/* A ctx_hook_fn. */
static void
wake_main(void *arg)
{
    struct each *each = arg;

    spool_poke(&each->spool);
}

/* -- How far it is --------------------------------------------------------- */

/* How long each command has run that does; the number of them. */
static size_t
ages_of(struct each *each, int64_t now, int64_t *ages)
{
    size_t n = 0;

    for (size_t i = 0; i < PLACES; i++) {
        int64_t begun = atomic_load(&each->begun[i]);

        if (begun != 0 && begun < now)
            ages[n++] = now - begun;
    }
    return n;
}

static void
measure(struct each *each, struct progress_state *state)
{
    int64_t ages[PLACES];
    struct rate_look look = {.at = ctx_now(),
                             .done = atomic_load(&each->ended),
                             .runs = atomic_load(&each->runs),
                             .spent = atomic_load(&each->spent),
                             .ages = ages};

    look.n = ages_of(each, look.at, ages);
    rate_note(&each->rate, &look);
    state->done = look.done;
    if (atomic_load(&each->is_fed))
        state->total = atomic_load(&each->given);
    if (look.at - each->begun_at < ROTA_SEC(1))
        return;
    state->rate = rate_of(&each->rate);
    if (state->total > look.done)
        state->eta =
            rate_left(&each->rate, state->total - look.done - (int64_t)look.n,
                      (size_t)each->cli->workers, ages, look.n);
}

static void
show(struct each *each)
{
    struct progress_state state = {.total = -1, .rate = -1, .eta = -1};
    size_t used = 0;

    measure(each, &state);
    if (each->failures.n > 0)
        used = (size_t)snprintf(state.note, sizeof(state.note),
                                "%" PRId64 " failed, ", each->failures.n);
    (void)snprintf(state.note + used, sizeof(state.note) - used, "%d running",
                   atomic_load(&each->running));
    progress_show(&each->progress, &state);
}

static bool
keep_number(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    int64_t *number = arg;

    (void)n, (void)names;
    if (values != NULL)
        *number = values[0].integer;
    return true;
}

/* Whether no job of the batch will end any more. The count of ends says so as a
 * rule. It stays behind for ever when a job was cancelled before it ran, or
 * when another process ran it, for on_ended() is not called for these: so when
 * nothing has moved here for a second, the file is asked. */
static bool
is_over(struct each *each)
{
    struct rota_value batch = {
        .type = ROTA_TEXT, .data = each->batch, .size = strlen(each->batch)};
    int64_t left = 1, now = ctx_now();

    if (ctx_done(each->ctx))
        return true;
    if (!atomic_load(&each->is_fed))
        return false;
    if (each_ended(each) >= atomic_load(&each->given))
        return true;
    if (each_ended(each) != each->moved || atomic_load(&each->running) > 0) {
        each->moved = each_ended(each);
        each->moved_at = now;
    }
    if (now - each->moved_at < ROTA_SEC(1))
        return false;
    each->moved_at = now;
    return rota_query(each->ctx, each->rota,
                      "SELECT count(*) FROM jobs WHERE batch = ?1"
                      " AND queue = 'each:' || ?1"
                      " AND state IN ('ready', 'scheduled', 'running')",
                      &batch, 1, keep_number, &left) == ROTA_OK &&
           left == 0;
}

/* Stop if the file is not the one that was opened any more: no end can be
 * recorded, and so none would ever come. Asked once a second. */
static void
look_at_file(struct each *each)
{
    enum rota_error error;

    if (ctx_now() - each->looked_at < ROTA_SEC(1))
        return;
    each->looked_at = ctx_now();
    error = work_look(each->rota);
    if (error == ROTA_OK)
        return;
    progress_end(&each->progress);
    each->broken = say_error(each->rota, error);
    (void)ctx_cancel(each->ctx);
}

static void
see_it_through(struct each *each)
{
    const int64_t pause = each->progress.is_live ? ROTA_MS(100) : ROTA_SEC(1);

    each->begun_at = each->moved_at = each->looked_at = ctx_now();
    rate_begin(&each->rate, each->begun_at, 0);
    while (!is_over(each)) {
        spool_wait(&each->spool, ctx_now() + pause);
        each_take_ends(each, false);
        show(each);
        look_at_file(each);
        if (ferror(stdout)) /* nobody reads it, or the disk is full */
            (void)ctx_cancel(each->ctx);
    }
}

/* -- Beginning ------------------------------------------------------------- */

/* A batch that was begun before: what it has, and what is left of it. */
static bool
keep_job(void *arg, int n, const char *const *names,
         const struct rota_value *values)
{
    struct each *each = arg;
    bool waits;

    (void)n, (void)names;
    if (values == NULL)
        return true;
    waits = values[2].integer != 0;
    if (waits) {
        spool_expect(&each->spool, &values[0].integer, 1);
        (void)atomic_fetch_add(&each->given, 1);
    }
    if (item_set_add(waits ? &each->waiting : &each->done, values[1].data,
                     values[1].size))
        return true;
    each->feed_error = ROTA_NOMEM;
    return false;
}

static int
find_batch(struct each *each)
{
    struct rota_value batch = {
        .type = ROTA_TEXT, .data = each->batch, .size = strlen(each->batch)};
    enum rota_error error =
        rota_query(each->signals, each->rota,
                   "SELECT id, args, state IN ('ready', 'scheduled', 'running')"
                   " FROM jobs WHERE batch = ?1 AND kind = 'exec'"
                   " AND queue = 'each:' || ?1"
                   " AND state NOT IN ('failed', 'cancelled') ORDER BY id",
                   &batch, 1, keep_job, each);

    if (error == ROTA_OK)
        error = each->feed_error;
    return error == ROTA_OK ? CLI_OK : say_error(each->rota, error);
}

static int
name_batch(struct each *each)
{
    time_t now = time(NULL);
    struct tm utc;
    char date[32];

    (void)gmtime_r(&now, &utc);
    (void)strftime(date, sizeof(date), "%Y%m%d-%H%M%S", &utc);
    if (each->cli->batch != NULL &&
        (each->cli->batch[0] == '\0' || strlen(each->cli->batch) > 250))
        return say_usage("--batch: a name of 1 to 250 bytes is needed");
    if (each->cli->batch != NULL)
        (void)snprintf(each->batch, sizeof(each->batch), "%s",
                       each->cli->batch);
    else
        (void)snprintf(each->batch, sizeof(each->batch), "each-%s-%d", date,
                       (int)getpid());
    (void)snprintf(each->queue, sizeof(each->queue), "each:%s", each->batch);
    return CLI_OK;
}

static bool
is_readable(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

/* COMMAND ARGUMENT... [::: ITEM...] */
static int
read_words(struct each *each)
{
    const struct cli *cli = each->cli;
    const char *program;
    int n = 0;

    while (n < cli->n_words && strcmp(cli->words[n], ":::") != 0)
        n++;
    if (n == 0)
        return say_usage("each: which command? rota each -- COMMAND {} ::: "
                         "ITEM...");
    if (cli->words[0][0] == '\0')
        return say_usage("each: the command has no name");
    each->words = cli->words;
    each->n_words = (size_t)n;
    if (!command_has_place(cli->words[0]) && !command_exists(cli->words[0])) {
        say("each: there is no command %s", cli->words[0]);
        return CLI_NOTFOUND;
    }
    if (command_is_splice(each->words, each->n_words, &program))
        return say_usage("each: the shell would run the item in '%s' as a "
                         "program; pass it: sh -c 'echo \"$1\"' sh {}",
                         program);
    for (int i = n + 1; i < cli->n_words; i++)
        if (strcmp(cli->words[i], ":::") == 0)
            return say_usage("each: one list of items, please: there is a "
                             "second :::");
    if (n < cli->n_words) {
        items_of_words(&each->items, cli->words + n + 1,
                       (size_t)(cli->n_words - n - 1));
        return cli->is_null ? say_usage("each: -0 is for items on standard "
                                        "input")
                            : CLI_OK;
    }
    if (!is_readable(STDIN_FILENO)) {
        say("each: standard input, which the items are to come from, is "
            "closed: give them after :::");
        return CLI_BROKEN;
    }
    if (isatty(STDIN_FILENO))
        say("reading items, one a line, until Ctrl-D");
    items_of_fd(&each->items, STDIN_FILENO, cli->is_null ? '\0' : '\n');
    return CLI_OK;
}

static int
open_each(struct each *each)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int code;

    if (each->cli->workers == 0)
        each->cli->workers = sysconf(_SC_NPROCESSORS_ONLN);
    options.workers = (int)each->cli->workers;
    options.log = progress_on_log;
    options.log_arg = &each->progress;
    options.ended = on_ended;
    options.ended_arg = each;
    progress_init(&each->progress);
    code = database_open(each->cli, &options, false, &each->rota);
    if (code != CLI_OK)
        return code;
    code = signals_open(&each->signals);
    if (code != CLI_OK)
        return code;
    each->ctx = ctx_with_cancel(each->signals);
    each->folder = getcwd(NULL, 0);
    if (each->folder == NULL) {
        say("cannot tell which folder this is: %s", strerror(errno));
        return CLI_BROKEN;
    }
    return CLI_OK;
}

/* Feed, run and print, until all is done or somebody stops it. */
static int
run_each(struct each *each)
{
    struct ctx_hook hook;
    pthread_t feeder;
    enum rota_error error;
    int failed;

    error =
        rota_handle(each->rota, "exec", run_command, each, &job_exec.defaults);
    if (error == ROTA_OK)
        error = rota_start_queue(each->ctx, each->rota, each->queue);
    if (error != ROTA_OK)
        return say_error(each->rota, error);
    failed = pthread_create(&feeder, NULL, each_feed, each);
    if (failed != 0) {
        say("cannot start a thread: %s", strerror(failed));
        return CLI_BROKEN;
    }
    ctx_after(each->ctx, &hook, wake_main, each);
    see_it_through(each);
    progress_end(&each->progress);
    if (ctx_done(each->signals))
        say("stopping; again to quit at once");
    (void)pthread_join(feeder, NULL);
    error = rota_stop(each->rota, 0);
    if (error != ROTA_OK)
        (void)say_error(each->rota, error);
    ctx_hook_stop_wait(&hook);
    each_take_ends(each, true);
    progress_end(&each->progress);
    return each_sum_up(each);
}

int
cli_each(struct cli *cli)
{
    struct each each = {.cli = cli, .begun_unix = value_now()};
    int code;

    spool_init(&each.spool, cli->is_in_order);
    code = read_words(&each);
    if (code == CLI_OK)
        code = name_batch(&each);
    if (code == CLI_OK)
        code = open_each(&each);
    if (code == CLI_OK && cli->batch != NULL)
        code = find_batch(&each);
    if (code == CLI_OK)
        code = run_each(&each);
    code = database_close(each.rota, code);
    ctx_end(each.ctx);
    ctx_end(each.signals);
    spool_fini(&each.spool);
    item_set_fini(&each.done);
    item_set_fini(&each.waiting);
    items_close(&each.items);
    free(each.folder);
    return code;
}
