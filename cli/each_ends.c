/*
 * What has ended of an `each`: counted and printed as it comes, and summed up
 * when all is over. Called by the main thread, whose fields of struct each
 * these are; no lock.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/each.h"
#include "cli/format.h"
#include "cli/out.h"
#include "cli/pairs.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/work.h"

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

void
each_take_ends(struct each *each, bool is_last)
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

/* -- What ended elsewhere -------------------------------------------------- */

/* Count the jobs that ended since we began and that nobody told us of: those
 * cancelled while they waited, given up after three crashes, or run by another
 * process. What they wrote is not here to be printed. */
static void
take_strangers(struct each *each)
{
    struct pairs strangers = {0}; /* a job, and how it ended: 1, 2 or 3 */
    struct rota_value params[] = {
        {.type = ROTA_TEXT, .data = each->batch, .size = strlen(each->batch)},
        {.type = ROTA_INTEGER, .integer = each->begun_unix},
        {.type = ROTA_INTEGER, .integer = getpid()}};

    if (rota_query(ctx_background(), each->rota,
                   "SELECT id, (state = 'succeeded') + 2 * (state = 'failed')"
                   " + 3 * (state = 'cancelled') FROM jobs WHERE batch = ?1"
                   " AND queue = 'each:' || ?1"
                   " AND finished_at >= ?2 AND worker IS NOT"
                   " (SELECT max(id) FROM workers WHERE pid = ?3) ORDER BY id",
                   params, 3, pairs_keep, &strangers) != ROTA_OK)
        (void)say_error(each->rota, ROTA_STORE);
    for (size_t i = 0; i < strangers.n; i++) {
        int64_t id = strangers.all[i].first, how = strangers.all[i].second;

        each->succeeded += how == 1;
        each->cancelled += how == 3;
        if (how == 2)
            failures_add(&each->failures, id);
        if (each->cli->is_json)
            print_as_json(each, id);
    }
    pairs_fini(&strangers);
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
        {atomic_load(&each->given) - each_ended(each),
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

/* The file is gone: it can be asked for nothing, and there is nothing to go on
 * with. */
static int
each_break(const struct each *each)
{
    char counts[256];

    put_counts(each, counts, sizeof(counts));
    say("stopped by that%s%s", counts[0] != '\0' ? ": " : "", counts);
    return each->broken;
}

int
each_sum_up(struct each *each)
{
    char counts[256], time[40];
    int code = say_feed(each);

    if (each->broken != CLI_OK)
        return each_break(each);
    if (each_ended(each) < atomic_load(&each->given))
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
        if (atomic_load(&each->given) > each_ended(each))
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
