/*
 * `each`: a command for each item, as a batch of exec jobs in a queue of their
 * own.
 *
 *   feeder   takes items and submits them, as fast as they come
 *   workers  run the commands, and keep what they write (spool.h)
 *   main     prints what ended, shows how far it is, and sums up
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/database.h"
#include "cli/failures.h"
#include "cli/format.h"
#include "cli/item_set.h"
#include "cli/items.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/spool.h"
#include "cli/value.h"
#include "cli/work.h"
#include "jobs/grow.h"
#include "jobs/jobs.h"

enum {
    CHUNK = 500,      /* items that are submitted at once, at most */
    BACKLOG_MAX = 256 /* ends that may wait to be printed */
};

struct each {
    struct cli *cli;
    struct ctx *signals; /* ends with one */
    struct ctx *ctx;     /* the same, or when stdout is gone */
    struct rota *rota;
    struct progress progress;
    struct spool spool;
    struct items items;
    struct item_set done, waiting; /* what the batch had when we came; read-only
                                    * then */
    char *const *words;
    size_t n_words;
    char *folder;
    char batch[256], queue[264];
    atomic_int running;
    /* by the feeder, read by main: given last */
    _Atomic int64_t given;   /* jobs that must end; those found included */
    _Atomic int64_t skipped; /* items that the batch has done before */
    atomic_bool is_fed;      /* no more will be given */
    enum rota_error feed_error;
    char feed_message[512];
    /* main's */
    int64_t succeeded, cancelled, unprinted;
    struct failures failures;
    int64_t begun_at, begun_unix, shown_at, shown;
    int64_t looked_at, looked;
    double rate;
    bool has_printed;
};

static int64_t
ended(const struct each *each)
{
    return each->succeeded + each->failures.n + each->cancelled;
}

/* -- Workers --------------------------------------------------------------- */

static void
on_output(void *arg, int fd, const char *data, size_t size)
{
    written_add(arg, fd, data, size);
}

/* A rota_job_fn. */
static enum rota_error
run_command(struct ctx *ctx, struct rota_job *job)
{
    struct each *each = rota_job_arg(job);
    struct written *written;
    enum rota_error error;

    /* who reads what is printed sets the pace */
    while (spool_backlog(&each->spool) > BACKLOG_MAX)
        if (ctx_sleep(ctx, ROTA_MS(5)) != ROTA_OK)
            return ctx_err(ctx);
    written = written_new(rota_job_id(job));
    if (written == NULL)
        return ROTA_NOMEM;
    (void)atomic_fetch_add(&each->running, 1);
    error = job_exec_run(ctx, job, on_output, written);
    (void)atomic_fetch_sub(&each->running, 1);
    spool_keep(&each->spool, written);
    return error;
}

/* A rota_ended_fn. */
static void
on_ended(void *arg, int64_t job, enum rota_state state)
{
    struct each *each = arg;

    spool_settle(&each->spool, job, state);
}

/* A ctx_hook_fn. */
static void
wake_main(void *arg)
{
    struct each *each = arg;

    spool_poke(&each->spool);
}

/* -- The feeder ------------------------------------------------------------ */

/* The submission of an item. False: the batch has it already. */
static enum rota_error
make_submission(struct each *each, const char *item, int64_t number,
                struct rota_submission *submission, bool *ret_new)
{
    size_t n = 0, size = 0;
    char **argv = command_fill(each->words, each->n_words, item, number, &n);
    char *args = NULL;

    if (argv != NULL)
        args = command_encode(each->folder, argv, n, item, &size);
    free(argv);
    if (args == NULL)
        return ROTA_NOMEM;
    if (item_set_has(&each->done, args, size))
        (void)atomic_fetch_add(&each->skipped, 1);
    else
        *ret_new = !item_set_has(&each->waiting, args, size);
    if (!*ret_new) {
        free(args);
        return ROTA_OK;
    }
    *submission = (struct rota_submission)ROTA_SUBMISSION_INIT("exec");
    submission->args = args;
    submission->args_size = size;
    submission->queue = each->queue;
    submission->batch = each->batch;
    submission->timeout = each->cli->timeout;
    submission->max_attempts = (int)each->cli->retries + 1;
    return ROTA_OK;
}

/* Submit, for as long as somebody else has the file locked. */
static enum rota_error
submit_patiently(struct each *each, const struct rota_submission *submissions,
                 size_t n, int64_t *ids)
{
    enum rota_error error;

    do {
        error = rota_submit_many(each->rota, submissions, n, ids);
    } while (error == ROTA_BUSY &&
             ctx_sleep(each->ctx, ROTA_MS(200)) == ROTA_OK);
    return error;
}

static enum rota_error
feed_some(struct each *each, const char *const *items, size_t n, int64_t number)
{
    struct rota_submission submissions[CHUNK];
    int64_t ids[CHUNK];
    enum rota_error error = ROTA_OK;
    size_t used = 0;

    for (size_t i = 0; i < n && error == ROTA_OK; i++) {
        bool is_new = false;

        error = make_submission(each, items[i], number + (int64_t)i,
                                &submissions[used], &is_new);
        used += is_new;
    }
    if (error == ROTA_OK && used > 0)
        error = submit_patiently(each, submissions, used, ids);
    if (error == ROTA_OK) {
        spool_expect(&each->spool, ids, used);
        (void)atomic_fetch_add(&each->given, (int64_t)used);
    }
    for (size_t i = 0; i < used; i++)
        free((void *)(uintptr_t)submissions[i].args);
    return error;
}

static void *
feeder_thread(void *arg)
{
    struct each *each = arg;
    const char *items[CHUNK];
    enum rota_error error = ROTA_OK;
    size_t n;

    do {
        int64_t number = each->items.n + 1;

        n = items_take(&each->items, each->ctx, items, CHUNK);
        if (n > 0)
            error = feed_some(each, items, n, number);
    } while (n > 0 && error == ROTA_OK);
    if (error != ROTA_OK) /* the words are this thread's */
        (void)snprintf(each->feed_message, sizeof(each->feed_message), "%s",
                       rota_errmsg(each->rota));
    each->feed_error = error;
    atomic_store(&each->is_fed, true);
    spool_poke(&each->spool);
    return NULL;
}

/* -- What ended ------------------------------------------------------------ */

static void
print_as_json(struct each *each, int64_t job)
{
    struct rota_value id = {.type = ROTA_INTEGER, .integer = job};
    struct out out;

    out_init(&out, each->cli);
    if (rota_query(ctx_background(), each->rota,
                   "SELECT 1 AS schema, id, batch,"
                   " json_extract(args_text, '$.item') AS item, state, error,"
                   " cause, attempt, started_at_iso, finished_at_iso, result"
                   " FROM jobs WHERE id = ?1",
                   &id, 1, out_row, &out) != ROTA_OK)
        each->unprinted++;
    out_end(&out);
}

static void
count_end(struct each *each, const struct written *written)
{
    if (written->state == ROTA_SUCCEEDED)
        each->succeeded++;
    if (written->state == ROTA_CANCELLED)
        each->cancelled++;
    if (written->state != ROTA_JOB_FAILED)
        return;
    failures_add(&each->failures, written->job);
}

/* Count and print what has ended. */
static void
take_ends(struct each *each, bool is_last)
{
    struct written *written;
    bool is_clean = false;

    while ((written = spool_next(&each->spool, is_last)) != NULL) {
        bool is_quiet = written->out.all == 0 && written->err.all == 0;

        count_end(each, written);
        if (!is_clean && (!is_quiet || each->cli->is_json)) {
            progress_end(&each->progress); /* out of the way */
            is_clean = each->has_printed = true;
        }
        if (each->cli->is_json && written->state >= ROTA_SUCCEEDED)
            print_as_json(each, written->job);
        else if (!each->cli->is_json && written_print(written) != 0)
            each->unprinted++;
        written_free(written);
    }
    if (is_clean)
        (void)fflush(stdout);
}

/* -- How far it is --------------------------------------------------------- */

/* The rate of late, in a second: what is older than a few seconds fades. */
static void
measure(struct each *each, int64_t now)
{
    double time = (double)(now - each->shown_at) / 1e9;
    double weight = time / (time + 4);

    if (now - each->shown_at < ROTA_MS(200))
        return;
    if (each->rate < 0)
        weight = 1;
    each->rate = (1 - weight) * each->rate +
                 weight * (double)(ended(each) - each->shown) / time;
    each->shown_at = now;
    each->shown = ended(each);
}

static void
show(struct each *each)
{
    struct progress_state state = {
        .done = ended(each), .total = -1, .rate = -1, .eta = -1};
    int64_t now = ctx_now();
    size_t used = 0;

    measure(each, now);
    if (atomic_load(&each->is_fed))
        state.total = atomic_load(&each->given);
    if (ended(each) >= 3 || now - each->begun_at > ROTA_SEC(2)) {
        state.rate = each->rate;
        if (state.rate > 0 && state.total >= 0)
            state.eta = (double)(state.total - state.done) / state.rate;
    }
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

/* Whether no job of the batch will end any more. Jobs that were cancelled
 * before they ran, or that ran elsewhere, are not told of: when nothing moves
 * here, the file is asked. */
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
    if (ended(each) >= atomic_load(&each->given))
        return true;
    if (ended(each) != each->looked || atomic_load(&each->running) > 0) {
        each->looked = ended(each);
        each->looked_at = now;
    }
    if (now - each->looked_at < ROTA_SEC(1))
        return false;
    each->looked_at = now;
    return rota_query(each->ctx, each->rota,
                      "SELECT count(*) FROM jobs WHERE batch = ?1"
                      " AND state IN ('ready', 'scheduled', 'running')",
                      &batch, 1, keep_number, &left) == ROTA_OK &&
           left == 0;
}

static void
see_it_through(struct each *each)
{
    const int64_t pause = each->progress.is_live ? ROTA_MS(100) : ROTA_SEC(1);

    each->begun_at = each->shown_at = each->looked_at = ctx_now();
    each->rate = -1;
    while (!is_over(each)) {
        spool_wait(&each->spool, ctx_now() + pause);
        take_ends(each, false);
        show(each);
        if (ferror(stdout)) /* nobody reads it any more, or the disk is full */
            (void)ctx_cancel(each->ctx);
    }
}

/* -- What ended elsewhere -------------------------------------------------- */

struct strangers {
    struct rota_value *all; /* id, state; id, state; ... */
    size_t n, room;
};

static bool
keep_stranger(void *arg, int n, const char *const *names,
              const struct rota_value *values)
{
    struct strangers *strangers = arg;

    (void)n, (void)names;
    if (values == NULL)
        return true;
    if (!GROW(strangers->all, strangers->room, strangers->n + 2))
        return false;
    strangers->all[strangers->n++] = values[0];
    strangers->all[strangers->n++] = values[1];
    return true;
}

/* Jobs that ended without a run of ours, since we began: cancelled while they
 * waited, given up after three crashes, run by somebody else. What they wrote
 * is not printed here. */
static void
take_strangers(struct each *each)
{
    struct strangers strangers = {0};
    struct rota_value params[] = {
        {.type = ROTA_TEXT, .data = each->batch, .size = strlen(each->batch)},
        {.type = ROTA_INTEGER, .integer = each->begun_unix},
        {.type = ROTA_INTEGER, .integer = getpid()}};

    if (rota_query(ctx_background(), each->rota,
                   "SELECT id, (state = 'succeeded') + 2 * (state = 'failed')"
                   " + 3 * (state = 'cancelled') FROM jobs WHERE batch = ?1"
                   " AND finished_at >= ?2 AND worker IS NOT"
                   " (SELECT max(id) FROM workers WHERE pid = ?3) ORDER BY id",
                   params, 3, keep_stranger, &strangers) != ROTA_OK)
        (void)say_error(each->rota, ROTA_STORE);
    for (size_t i = 0; i < strangers.n; i += 2) {
        int64_t id = strangers.all[i].integer;

        each->succeeded += strangers.all[i + 1].integer == 1;
        each->cancelled += strangers.all[i + 1].integer == 3;
        if (strangers.all[i + 1].integer == 2)
            failures_add(&each->failures, id);
        if (each->cli->is_json)
            print_as_json(each, id);
    }
    free(strangers.all);
}

/* -- Summing up ------------------------------------------------------------ */

static void
put_counts(const struct each *each, char *text, size_t size)
{
    const struct format_count counts[] = {
        {each->succeeded, "succeeded"},
        {each->failures.n, "failed"},
        {each->cancelled, "cancelled"},
        {atomic_load(&each->skipped), "done before"},
        {atomic_load(&each->given) - ended(each),
         ctx_done(each->ctx) ? "left" : "unknown"}};

    format_counts(text, size, counts, sizeof(counts) / sizeof(counts[0]));
}

/* What is wrong with the input, or with the queue that it goes to. */
static int
say_feed(const struct each *each)
{
    const struct items *items = &each->items;

    if (each->feed_error != ROTA_OK && !ctx_done(each->ctx)) {
        say("%s; the items after the first %" PRId64 " are not in the "
            "queue",
            each->feed_message[0] != '\0' ? each->feed_message
                                          : rota_strerror(each->feed_error),
            atomic_load(&each->given));
        return CLI_BROKEN;
    }
    if (items->error != 0) {
        say("cannot read the items: %s", strerror(items->error));
        return CLI_BROKEN;
    }
    if (items->has_nul)
        return say_usage("item %" PRId64 " has a NUL in it: is -0 meant? It "
                         "and those after it are not in the queue",
                         items->n + 1);
    return CLI_OK;
}

static int
sum_up(struct each *each)
{
    char counts[256], time[40];
    int code = say_feed(each);

    if (ended(each) < atomic_load(&each->given))
        take_strangers(each);
    failures_say(&each->failures, each->rota, each->batch);
    put_counts(each, counts, sizeof(counts));
    format_duration(time, sizeof(time),
                    (double)(ctx_now() - each->begun_at) / 1e9);
    if (each->unprinted > 0) {
        say("what %" PRId64 " commands wrote could not be printed whole",
            each->unprinted);
        code = CLI_BROKEN;
    }
    if (ctx_done(each->ctx)) {
        say("stopped after %s: %s", time,
            counts[0] != '\0' ? counts : "nothing was begun");
        if (atomic_load(&each->given) > ended(each))
            work_say_resume(each->cli);
        if (!items_at_end(&each->items))
            say("the items were not read to their end: give them all again "
                "with --batch %s, and what is done is not done again",
                each->batch);
        else if (each->has_printed)
            say("or give the command again with --batch %s, to see what "
                "the rest prints",
                each->batch);
        return ctx_done(each->signals) ? signals_code(each->signals)
                                       : CLI_OK; /* main() sees to stdout */
    }
    say("%s in %s", counts[0] != '\0' ? counts : "no items", time);
    if (code != CLI_OK)
        return code;
    return each->failures.n > 0  ? CLI_FAILED
           : each->cancelled > 0 ? CLI_CANCELLED
                                 : CLI_OK;
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

    options.workers = (int)each->cli->workers;
    options.log = progress_on_log;
    options.log_arg = &each->progress;
    options.ended = on_ended;
    options.ended_arg = each;
    progress_init(&each->progress);
    code = database_open(each->cli, &options, false, &each->rota);
    if (code != CLI_OK)
        return code;
    each->signals = signals_context();
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
    failed = pthread_create(&feeder, NULL, feeder_thread, each);
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
    take_ends(each, true);
    progress_end(&each->progress);
    return sum_up(each);
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
