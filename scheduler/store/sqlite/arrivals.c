#include "store/sqlite/arrivals.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/arguments.h"
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"

/* Whether process may claim in the queue, and as many as it likes. */
STATEMENT(QUEUE_IS_OPEN) = {"SELECT 1 FROM _queue WHERE id = ?1"
                            " AND paused_at IS NULL AND max_running IS NULL"
                            " AND (owner IS NULL OR owner = ?2)"};

void
arrivals_expect(struct sqlite_store *store, const struct scope *scope,
                size_t limit)
{
    store->arrivals.scope = scope;
    store->arrivals.limit = limit;
    store->arrivals.queue = 0;
}

void
arrivals_forget(struct sqlite_store *store)
{
    candidates_clear(&store->arrivals.jobs);
    arrivals_expect(store, NULL, 0);
}

static enum rota_error
queue_is_open(struct sqlite_store *store, int64_t queue, bool *ret_open)
{
    struct stmt stmt = stmt_of(&store->connection, &QUEUE_IS_OPEN);

    (void)sqlite3_bind_int64(stmt.s, 1, queue);
    (void)sqlite3_bind_int64(stmt.s, 2, store->arrivals.scope->process);
    return stmt_exists(&stmt, ret_open);
}

/* Whether nothing but its order and the claim's limit decides if the job is
 * claimed. */
static enum rota_error
is_for_claim(struct sqlite_store *store,
             const struct rota_submission *submission,
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
        /* these may be moved before the claim (dependents.c) */
        submission->n_after > 0 || submission->parent != 0)
        return ROTA_OK;
    if (arrivals->queue != job->queue) {
        error = queue_is_open(store, job->queue, &arrivals->is_open);
        arrivals->queue = job->queue;
    }
    *ret_is = arrivals->is_open;
    return error;
}

/* Those that are small are there already, and need not be read. */
static enum rota_error
args_copy(const struct rota_submission *submission, struct claim *claim)
{
    size_t size = submission->args_size;
    char *copy;

    claim->has_args = submission->args != NULL;
    if (size >= ARGUMENTS_LARGE)
        return ROTA_OK;
    copy = malloc(size + 1);
    if (copy == NULL)
        return no_memory();
    if (size > 0)
        memcpy(copy, submission->args, size);
    copy[size] = '\0';
    claim->args = copy;
    claim->args_size = size;
    return ROTA_OK;
}

enum rota_error
arrivals_keep(struct sqlite_store *store,
              const struct rota_submission *submission,
              const struct candidate *job, bool *ret_kept)
{
    struct candidate kept = *job;
    enum rota_error error = is_for_claim(store, submission, job, ret_kept);

    if (error != ROTA_OK || !*ret_kept)
        return error;
    error = args_copy(submission, &kept.claim);
    if (error == ROTA_OK)
        error = candidates_add(&store->arrivals.jobs, &kept);
    if (error != ROTA_OK)
        free(kept.claim.args);
    return error;
}

enum rota_error
arrivals_return(struct sqlite_store *store, const struct candidates *candidates)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < candidates->n; i++) {
        const struct candidate *job = &candidates->all[i];

        if (job->is_arrival)
            error = ready_insert(store, job->queue, job->claim.kind,
                                 job->sort_key, job->claim.id);
    }
    return error;
}

enum rota_error
arrivals_line_up(struct sqlite_store *store)
{
    struct arrivals *arrivals = &store->arrivals;
    enum rota_error error = arrivals_return(store, &arrivals->jobs);

    candidates_clear(&arrivals->jobs);
    arrivals->queue = 0; /* what comes next may change it */
    return error;
}
