/*
 * A cycle: the work that the engine hands over, in one transaction. What ended
 * first, so that it makes room; then what callers wish, in their order; then
 * progress, what all that concerns of other jobs, and the claims last, which so
 * see everything. By the holder of the writer's role.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/text.h"
#include "store/sqlite/arguments.h"
#include "store/sqlite/sqlite.h"

/* How many jobs are told of others' ends in one cycle. */
#define SETTLE_MAX 1000

/* -- Wishes --------------------------------------------------------------- */

static enum rota_error
submit_grant(struct sqlite_store *store, struct work *work, struct wish *wish)
{
    enum rota_error error;

    if (store->log.is_full) {
        log_refuse(store, wish);
        return ROTA_OK;
    }
    error = jobs_submit(store, wish->submit.submissions, wish->submit.n,
                        wish->submit.ids);
    if (error == ROTA_OK && work->scope.job == SCOPE_NEXT)
        work->scope.job = wish->submit.ids[0];
    return error;
}

static enum rota_error
cancel_many(struct sqlite_store *store, struct wish *wish)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < wish->cancel_many.n; i++) {
        wish->cancel_many.answers[i] = ROTA_CANCEL_TOO_LATE;
        error = command_cancel(store, wish->cancel_many.jobs[i],
                               wish->cancel_many.reason,
                               &wish->cancel_many.answers[i]);
        if (error == ROTA_NOTFOUND) /* forgotten meanwhile */
            error = ROTA_OK;
    }
    return error;
}

/* Those that are the SQL commands. */
static enum rota_error
command_grant(struct sqlite_store *store, struct wish *wish)
{
    switch (wish->kind) {
    case WISH_CANCEL:
        return command_cancel(store, wish->cancel.job, wish->cancel.reason,
                              &wish->cancel.answer);
    case WISH_CANCEL_MANY:
        return cancel_many(store, wish);
    case WISH_RETRY:
        return command_retry(store, wish->retry.job, wish->retry.restarts);
    case WISH_RESCHEDULE:
        return command_reschedule(store, wish->reschedule.job,
                                  wish->reschedule.priority,
                                  wish->reschedule.run_at);
    case WISH_PAUSE:
        return command_pause(store, wish->pause.queue, wish->pause.pauses);
    case WISH_LIMIT:
        return command_limit(store, wish->limit.queue, wish->limit.key,
                             wish->limit.max_running);
    case WISH_RETAIN:
        return command_retain(store, wish->retain.queue, wish->retain.time_ms);
    default:
        bug("a wish that nobody grants", __FILE__, __LINE__);
    }
}

static enum rota_error
wish_grant(struct sqlite_store *store, struct work *work, struct wish *wish)
{
    enum rota_error error = ROTA_OK;

    if (wish->kind != WISH_SUBMIT) /* it may concern jobs that wait */
        error = arrivals_line_up(store);
    if (error != ROTA_OK)
        return error;
    switch (wish->kind) {
    case WISH_SUBMIT:
        return submit_grant(store, work, wish);
    case WISH_PRUNE:
        return jobs_prune(store, wish->prune.jobs, wish->prune.n,
                          wish->prune.before, &wish->prune.count);
    case WISH_COMMIT:
        return progress_record(store, &wish->commit);
    case WISH_SYNC:
        return transaction_touch(store);
    case WISH_CHORES:
        return due_promote(store, &wish->chores.next);
    case WISH_RESCUE:
        return worker_rescue(store, wish->rescue.process, &wish->rescue.jobs);
    case WISH_JOIN:
        return worker_join(store, wish);
    case WISH_LEAVE:
        return worker_end(store, wish->leave.process, "left");
    default:
        return command_grant(store, wish);
    }
}

/* Answers that leave the transaction whole go to the wish; what is returned
 * breaks it. */
static enum rota_error
wish_apply(struct sqlite_store *store, struct work *work, struct wish *wish)
{
    enum rota_error error;

    wish->error = ROTA_OK;
    error = wish_grant(store, work, wish);
    /* answers to this one, for which nothing was changed: the others go on */
    if (error != ROTA_NOTFOUND && error != ROTA_LOST && error != ROTA_INVALID &&
        error != ROTA_EXISTS)
        return error;
    wish->error = error;
    text_print(wish->message, sizeof(wish->message), "%s", message_get());
    return ROTA_OK;
}

/* -- The rest of the work -------------------------------------------------- */

static enum rota_error
progress_apply(struct sqlite_store *store, struct work *work)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < work->n_progress; i++) {
        error = progress_record(store, &work->progress[i]);
        work->progress[i].is_lost = error == ROTA_LOST;
        if (error == ROTA_LOST)
            error = ROTA_OK;
    }
    return error;
}

static enum rota_error
claims_apply(struct sqlite_store *store, struct work *work, size_t limit)
{
    if (limit == 0 || (!work->may_be_ready && !store->has_made_ready))
        return ROTA_OK;
    work->has_looked = true;
    return jobs_claim(store, work, limit);
}

static enum rota_error
work_apply(struct sqlite_store *store, struct work *work, size_t limit)
{
    enum rota_error error = ROTA_OK;

    arrivals_expect(store, &work->scope, limit);
    for (struct ending *ending = work->endings;
         error == ROTA_OK && ending != NULL; ending = ending->next)
        error = end_run(store, ending);
    for (struct link *l = work->wishes.next;
         error == ROTA_OK && l != &work->wishes; l = l->next)
        error = wish_apply(store, work, OWNER_OF(l, struct wish, on_wishes));
    if (error == ROTA_OK)
        error = progress_apply(store, work);
    if (error == ROTA_OK)
        error = dependents_settle(store, SETTLE_MAX, &work->is_unsettled);
    return error == ROTA_OK ? claims_apply(store, work, limit) : error;
}

/* -- The cycle ------------------------------------------------------------ */

/* Whether there is nothing to write unless something is claimed. */
static bool
is_only_a_claim(const struct work *work)
{
    return work->endings == NULL && list_is_empty(&work->wishes) &&
           work->n_progress == 0 && !work->is_unsettled;
}

/* What was claimed is not: the transaction has failed. */
static void
claims_drop(struct work *work)
{
    for (size_t i = 0; i < work->n_claims; i++)
        free(work->claims[i].args);
    work->n_claims = 0;
}

static enum rota_error
transact(struct sqlite_store *store, struct work *work, size_t limit)
{
    enum rota_error error = transaction_begin(store, work->is_durable);

    work->has_begun = error == ROTA_OK;
    work->is_gone = store->has_moved;
    if (error != ROTA_OK)
        return error;
    error = work_apply(store, work, limit);
    if (error == ROTA_OK)
        error = transaction_commit(store);
    else
        transaction_rollback(store);
    if (error == ROTA_OK)
        arguments_read_large(&store->connection, work);
    else
        claims_drop(work);
    return error;
}

/* If the store is damaged that is known from now on. But a file that was put in
 * the place of ours meanwhile is no damage. */
static void
damage_check(struct sqlite_store *store, struct work *work,
             enum rota_error error)
{
    if (error == ROTA_CORRUPT && !work->is_gone &&
        !connection_has_moved(&store->connection))
        store_damage_note(&store->base);
    work->is_gone |= store_damage(&store->base) != NULL;
}

enum rota_error
sqlite_cycle(struct store *base, struct work *work)
{
    struct sqlite_store *store = sqlite_store_of(base);
    bool was_full = store->log.is_full;
    enum rota_error error = ROTA_OK;
    size_t limit;

    work->has_begun = work->is_gone = work->has_looked = false;
    work->rest = CLAIM_NOTHING;
    work->n_claims = 0;
    damage_check(store, work, error);
    if (work->is_gone)
        return ROTA_CORRUPT;
    log_try(store);
    limit = store->log.is_full ? 0 : work->claim_limit;
    if (limit > 0 || !is_only_a_claim(work))
        error = transact(store, work, limit);
    damage_check(store, work, error);
    if (error == ROTA_OK)
        log_watch(store);
    if (was_full && !store->log.is_full && !work->has_looked)
        work->rest = CLAIM_MORE; /* what was not claimed while it was full */
    return error;
}
