/*
 * The moves towards running:
 *
 *   promote  scheduled -> ready     when it is due
 *   claim    ready     -> running   the lease rises
 *            ready     -> failed    its deadline passed
 *
 * Jobs are claimed lane by lane (lane.h).
 * One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "store/lane.h"
#include "store/private.h"

/* -- Promote -------------------------------------------------------------- */

static enum rota_error
next_due(struct store *store, int64_t *ret_next)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, NEXT_DUE, &error);
    bool row = false;

    if (statement == NULL)
        return error;
    *ret_next = INT64_MAX;
    error = connection_row(&store->connection, statement, &row);
    if (row && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *ret_next = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    return error;
}

enum rota_error
store_promote(struct store *store, int64_t *ret_moved, int64_t *ret_next)
{
    struct {
        int64_t run_at, id;
    } due[1000];
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, DUE_JOBS, &error);
    int64_t changed = 0;
    int n = 0;
    bool row;

    if (statement == NULL)
        return error;
    (void)sqlite3_bind_int64(statement, 1, store->now);
    while ((error = connection_row(&store->connection, statement, &row)) ==
               ROTA_OK &&
           row) {
        due[n].run_at = sqlite3_column_int64(statement, 0);
        due[n++].id = sqlite3_column_int64(statement, 1);
    }
    *ret_moved = 0;
    for (int i = 0; error == ROTA_OK && i < n; i++) {
        error =
            RUN(store, DELETE_SCHEDULED, &changed, due[i].run_at, due[i].id);
        if (error == ROTA_OK && changed == 1)
            error = RUN(store, READY_AGAIN, NULL, due[i].id);
        if (error == ROTA_OK)
            (*ret_moved)++;
    }
    return error == ROTA_OK ? next_due(store, ret_next) : error;
}

/* -- Claim ---------------------------------------------------------------- */

/* A job that may be claimed, and its key in _ready. */
struct candidate {
    struct claim claim;
    int64_t queue, sort_key;
};

struct candidates {
    struct candidate *all;
    size_t n, room;
};

static enum rota_error
candidate_read(struct candidates *candidates, sqlite3_stmt *row)
{
    struct candidate *all = candidates->all, *candidate;
    size_t room = candidates->room * 2 + 16, size;
    const void *args;

    if (candidates->n == candidates->room) {
        all = realloc(all, room * sizeof(*all));
        if (all == NULL)
            return ROTA_NOMEM;
        candidates->all = all;
        candidates->room = room;
    }
    candidate = &candidates->all[candidates->n];
    *candidate = (struct candidate){
        .queue = sqlite3_column_int64(row, 0),
        .sort_key = sqlite3_column_int64(row, 1),
        .claim = {.id = sqlite3_column_int64(row, 2),
                  .lease = sqlite3_column_int64(row, 3) + 1,
                  .kind = sqlite3_column_int64(row, 4),
                  .run_at = sqlite3_column_int64(row, 5),
                  .created_at = sqlite3_column_int64(row, 6),
                  .deadline_at = sqlite3_column_int64(row, 7),
                  .timeout_ms = sqlite3_column_int64(row, 8),
                  .failures = sqlite3_column_int64(row, 9),
                  .crashes = sqlite3_column_int64(row, 14),
                  .max_attempts = sqlite3_column_int(row, 10),
                  .cursor = sqlite3_column_int64(row, 11),
                  .total = sqlite3_column_type(row, 12) == SQLITE_NULL
                               ? -1
                               : sqlite3_column_int64(row, 12)}};
    args = sqlite3_column_blob(row, 13);
    size = (size_t)sqlite3_column_bytes(row, 13);
    candidate->claim.args = malloc(size + 1);
    if (candidate->claim.args == NULL)
        return ROTA_NOMEM;
    if (size > 0)
        memcpy(candidate->claim.args, args, size);
    ((char *)candidate->claim.args)[size] = '\0';
    candidate->claim.args_size = size;
    candidates->n++;
    return ROTA_OK;
}

static enum rota_error
candidates_read(struct store *store, struct candidates *candidates,
                sqlite3_stmt *statement)
{
    enum rota_error error;
    bool row;

    while ((error = connection_row(&store->connection, statement, &row)) ==
               ROTA_OK &&
           row) {
        error = candidate_read(candidates, statement);
        if (error != ROTA_OK)
            break;
    }
    (void)sqlite3_reset(statement);
    return error;
}

bool
scope_has_kind(const struct scope *scope, int64_t kind)
{
    for (size_t i = 0; i < scope->n_kinds; i++)
        if (scope->kinds[i] == kind)
            return true;
    return false;
}

bool
scope_has_lane(const struct scope *scope, sqlite3_stmt *lane)
{
    bool is_anybodys = sqlite3_column_type(lane, 2) == SQLITE_NULL;

    return (is_anybodys || sqlite3_column_int64(lane, 2) == scope->process) &&
           scope_has_kind(scope, sqlite3_column_int64(lane, 1));
}

/* The soonest limit jobs of each lane that is for us. */
static enum rota_error
lanes_read(struct store *store, struct candidates *candidates,
           const struct scope *scope, size_t limit)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *lane = store_statement(store, NEXT_LANE, &error);
    sqlite3_stmt *jobs = store_statement(store, LANE_JOBS, &error);
    int64_t queue = scope->queue != 0 ? scope->queue : INT64_MIN;
    int64_t kind = INT64_MIN;
    bool row, is_ours;

    if (lane == NULL || jobs == NULL)
        return error;
    for (;;) {
        (void)sqlite3_bind_int64(lane, 1, queue);
        (void)sqlite3_bind_int64(lane, 2, kind);
        error = connection_row(&store->connection, lane, &row);
        if (error != ROTA_OK || !row)
            return error;
        queue = sqlite3_column_int64(lane, 0);
        kind = sqlite3_column_int64(lane, 1);
        is_ours = scope_has_lane(scope, lane);
        (void)sqlite3_reset(lane);
        if (scope->queue != 0 && queue != scope->queue)
            return ROTA_OK;
        if (!is_ours)
            continue;
        (void)sqlite3_bind_int64(jobs, 1, queue);
        (void)sqlite3_bind_int64(jobs, 2, kind);
        (void)sqlite3_bind_int64(jobs, 3, (int64_t)limit);
        error = candidates_read(store, candidates, jobs);
        if (error != ROTA_OK)
            return error;
    }
}

static int
candidate_order(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->sort_key != y->sort_key)
        return x->sort_key < y->sort_key ? -1 : 1;
    return x->claim.id < y->claim.id ? -1 : x->claim.id > y->claim.id;
}

/* ready -> running, or failed if its deadline has passed. *ret_more: those
 * behind it may be offered too. */
static enum rota_error
candidate_claim(struct store *store, const struct scope *scope,
                struct candidate *candidate, claim_fn *fn, void *arg,
                bool *ret_more)
{
    struct claim *claim = &candidate->claim;
    bool expired = claim->deadline_at != 0 && claim->deadline_at <= store->now;
    enum rota_error error;

    *ret_more = expired || fn(arg, claim);
    if (!*ret_more)
        return ROTA_OK;
    if (!expired)
        claim->args = NULL; /* the taker's now */
    error = RUN(store, DELETE_READY, NULL, candidate->queue, claim->kind,
                candidate->sort_key, claim->id);
    if (error != ROTA_OK)
        return error;
    if (expired)
        return RUN(store, EXPIRE_READY, NULL, claim->id, store->now);
    return RUN(store, INSERT_RUNNING, NULL, claim->id, claim->lease,
               scope->process, store->now);
}

enum rota_error
store_claim(struct store *store, const struct scope *scope, size_t limit,
            claim_fn *fn, void *arg)
{
    struct candidates candidates = {0};
    enum rota_error error = ROTA_OK;
    bool more = true;
    sqlite3_stmt *one;

    if (scope->job != 0) {
        one = store_statement(store, ONE_JOB, &error);
        if (one == NULL)
            return error;
        (void)sqlite3_bind_int64(one, 1, scope->job);
        error = candidates_read(store, &candidates, one);
        if (error == ROTA_OK && candidates.n == 1 &&
            !scope_has_kind(scope, candidates.all[0].claim.kind))
            limit = 0;
    } else {
        error = lanes_read(store, &candidates, scope, limit);
    }
    if (candidates.n > 1)
        qsort(candidates.all, candidates.n, sizeof(*candidates.all),
              candidate_order);
    for (size_t i = 0;
         error == ROTA_OK && more && i < candidates.n && i < limit; i++)
        error =
            candidate_claim(store, scope, &candidates.all[i], fn, arg, &more);
    for (size_t i = 0; i < candidates.n; i++)
        free(candidates.all[i].claim.args);
    free(candidates.all);
    return error;
}
