/*
 * Jobs that are claimed in the transaction in which they come, and so never
 * stand in line:
 *
 *   arrive   new -> running   instead of new -> ready -> running
 *
 * store_expect() says that a claim will follow. What store_submit() is given
 * meanwhile, and what that claim may take as it is, is kept in memory instead
 * of _ready; the claim looks at it together with those in line, so that the
 * order is the same, and what it leaves is lined up. One thread at a time,
 * inside a transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* -- Candidates ----------------------------------------------------------- */

enum rota_error
candidate_add(struct candidates *candidates, const struct candidate *candidate,
              const void *args, size_t size)
{
    struct candidate *all = candidates->all;
    size_t room = candidates->room * 2 + 16;
    char *copy = malloc(size + 1);

    if (copy != NULL && candidates->n == candidates->room) {
        all = realloc(all, room * sizeof(*all));
        if (all != NULL) {
            candidates->all = all;
            candidates->room = room;
        }
    }
    if (copy == NULL || all == NULL) {
        free(copy);
        return no_memory();
    }
    if (size > 0)
        memcpy(copy, args, size);
    copy[size] = '\0';
    all[candidates->n] = *candidate;
    all[candidates->n].claim.args = copy;
    all[candidates->n].claim.args_size = size;
    candidates->n++;
    return ROTA_OK;
}

void
candidates_clear(struct candidates *candidates)
{
    for (size_t i = 0; i < candidates->n; i++) {
        free(candidates->all[i].claim.args);
        free(candidates->all[i].limit_key);
    }
    candidates->n = 0;
}

/* -- Arrivals ------------------------------------------------------------- */

void
store_expect(struct store *store, const struct scope *scope, size_t limit)
{
    store->arrivals.scope = scope;
    store->arrivals.limit = limit;
    store->arrivals.queue = 0;
}

void
arrivals_forget(struct store *store)
{
    candidates_clear(&store->arrivals.jobs);
    store_expect(store, NULL, 0);
}

/* Whether the scope may claim in the queue, and as many as it likes. */
static enum rota_error
queue_is_open(struct store *store, int64_t queue, bool *ret_open)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, QUEUE_IS_OPEN, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, queue);
    (void)sqlite3_bind_int64(s, 2, store->arrivals.scope->process);
    error = connection_row(&store->connection, s, ret_open);
    (void)sqlite3_reset(s);
    return error;
}

/* Whether nothing but its order and the claim's limit decides if the job is
 * claimed. */
static enum rota_error
is_for_claim(struct store *store, const struct rota_submission *submission,
             const struct candidate *job, bool *ret_is)
{
    struct arrivals *arrivals = &store->arrivals;
    const struct scope *scope = arrivals->scope;
    enum rota_error error = ROTA_OK;

    *ret_is = false;
    if (arrivals->jobs.n >= arrivals->limit || scope->job != 0 ||
        (scope->queue != 0 && scope->queue != job->queue) ||
        !scope_has_kind(scope, job->claim.kind) ||
        submission->limit_key != NULL ||
        /* these may be moved before the claim (settle.c) */
        submission->n_after > 0 || submission->parent != 0)
        return ROTA_OK;
    if (arrivals->queue != job->queue) {
        error = queue_is_open(store, job->queue, &arrivals->is_open);
        arrivals->queue = job->queue;
    }
    *ret_is = arrivals->is_open;
    return error;
}

enum rota_error
arrival_keep(struct store *store, const struct rota_submission *submission,
             const struct candidate *job, bool *ret_kept)
{
    enum rota_error error = is_for_claim(store, submission, job, ret_kept);

    return error == ROTA_OK && *ret_kept
               ? candidate_add(&store->arrivals.jobs, job, submission->args,
                               submission->args_size)
               : error;
}

enum rota_error
arrivals_join(struct store *store, struct candidates *candidates)
{
    struct candidates *jobs = &store->arrivals.jobs;
    struct candidates own = *candidates;
    size_t n = own.n + jobs->n;

    if (jobs->n == 0)
        return ROTA_OK;
    if (n > own.room) {
        own.all = realloc(own.all, n * sizeof(*own.all));
        if (own.all == NULL)
            return no_memory();
        candidates->all = own.all;
        candidates->room = n;
    }
    memcpy(&own.all[own.n], jobs->all, jobs->n * sizeof(*jobs->all));
    candidates->n = n;
    jobs->n = 0;
    return ROTA_OK;
}

enum rota_error
candidates_line_up(struct store *store, const struct candidates *candidates)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < candidates->n; i++) {
        const struct candidate *job = &candidates->all[i];

        if (job->is_arrival)
            error = RUN(store, INSERT_READY, NULL, job->queue, job->claim.kind,
                        job->sort_key, job->claim.id);
    }
    return error;
}

enum rota_error
store_line_up(struct store *store)
{
    struct arrivals *arrivals = &store->arrivals;
    enum rota_error error = candidates_line_up(store, &arrivals->jobs);

    candidates_clear(&arrivals->jobs);
    arrivals->queue = 0; /* what comes next may change it */
    return error;
}
