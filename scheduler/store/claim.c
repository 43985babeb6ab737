/*
 * The move to running:
 *
 *   claim    ready -> running   the lease rises
 *            ready -> failed    its deadline has passed
 *            ready -> held      its key is at its limit (hold.c)
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

/* -- Claim ---------------------------------------------------------------- */

/* No claim puts aside more than about so many: others wait for the lock. */
#define ASIDE_MAX 1000

/* A job that may be claimed, and its key in _ready. */
struct candidate {
    struct claim claim;
    int64_t queue, sort_key;
    char *limit_key; /* malloc'd; NULL: none */
};

/* How many more jobs a queue with a limit may run. */
struct queue_room {
    int64_t queue, left;
};

struct candidates {
    struct candidate *all;
    size_t n, room;
    struct queue_room *queues; /* those with a limit */
    size_t n_queues;
    bool limited;  /* some were left out for a limit */
    int64_t aside; /* how many were held for theirs, or failed */
};

static void
candidates_clear(struct candidates *candidates)
{
    for (size_t i = 0; i < candidates->n; i++) {
        free(candidates->all[i].claim.args);
        free(candidates->all[i].limit_key);
    }
    candidates->n = 0;
    candidates->n_queues = 0;
}

static enum rota_error
candidate_read(struct candidates *candidates, sqlite3_stmt *row)
{
    struct candidate *all = candidates->all, *candidate;
    size_t room = candidates->room * 2 + 16, size;
    const void *args;

    if (candidates->n == candidates->room) {
        all = realloc(all, room * sizeof(*all));
        if (all == NULL)
            return no_memory();
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
                               : sqlite3_column_int64(row, 12),
                  .restart = sqlite3_column_int64(row, 16)}};
    args = sqlite3_column_blob(row, 13);
    size = (size_t)sqlite3_column_bytes(row, 13);
    candidate->claim.args = malloc(size + 1);
    if (candidate->claim.args == NULL)
        return no_memory();
    if (size > 0)
        memcpy(candidate->claim.args, args, size);
    ((char *)candidate->claim.args)[size] = '\0';
    candidate->claim.args_size = size;
    candidates->n++;
    return column_text(row, 15, &candidate->limit_key);
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

bool
lane_is_full(sqlite3_stmt *lane)
{
    return sqlite3_column_type(lane, 3) != SQLITE_NULL &&
           sqlite3_column_int64(lane, 3) <= 0;
}

/* Note how many more may run of the lane's queue. *ret_room: of this lane. */
static enum rota_error
room_note(struct candidates *candidates, sqlite3_stmt *lane, size_t limit,
          int64_t *ret_room)
{
    int64_t queue = sqlite3_column_int64(lane, 0);
    int64_t left = sqlite3_column_int64(lane, 3);
    struct queue_room *grown;

    *ret_room = (int64_t)limit;
    if (sqlite3_column_type(lane, 3) == SQLITE_NULL)
        return ROTA_OK;
    if (left < *ret_room)
        *ret_room = left;
    for (size_t i = 0; i < candidates->n_queues; i++)
        if (candidates->queues[i].queue == queue)
            return ROTA_OK;
    grown = realloc(candidates->queues,
                    (candidates->n_queues + 1) * sizeof(*grown));
    if (grown == NULL)
        return no_memory();
    candidates->queues = grown;
    grown[candidates->n_queues++] = (struct queue_room){queue, left};
    return ROTA_OK;
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
    int64_t kind = INT64_MIN, room = 0;
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
        candidates->limited |= is_ours && lane_is_full(lane);
        is_ours = is_ours && !lane_is_full(lane);
        if (is_ours)
            error = room_note(candidates, lane, limit, &room);
        (void)sqlite3_reset(lane);
        if (error != ROTA_OK || (scope->queue != 0 && queue != scope->queue))
            return error;
        if (!is_ours)
            continue;
        (void)sqlite3_bind_int64(jobs, 1, queue);
        (void)sqlite3_bind_int64(jobs, 2, kind);
        (void)sqlite3_bind_int64(jobs, 3, room);
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

/* Whether its queue and its key let it run. What its key does not is held. */
static enum rota_error
candidate_may_run(struct store *store, struct candidates *candidates,
                  const struct candidate *candidate, bool *ret_may)
{
    enum rota_error error = ROTA_OK;
    int64_t room = 1;

    *ret_may = false;
    for (size_t i = 0; i < candidates->n_queues; i++)
        if (candidates->queues[i].queue == candidate->queue &&
            candidates->queues[i].left <= 0) {
            candidates->limited = true;
            return ROTA_OK;
        }
    if (candidate->limit_key != NULL)
        error = key_room(store, candidate->limit_key, &room);
    if (error == ROTA_OK && room <= 0) {
        candidates->limited = true;
        candidates->aside++;
        return key_hold(store, candidate->limit_key, candidate->queue,
                        candidate->claim.kind, candidate->sort_key,
                        candidate->claim.id);
    }
    *ret_may = true;
    return error;
}

static enum rota_error
running_insert(struct store *store, struct candidates *candidates,
               const struct scope *scope, const struct candidate *candidate)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, INSERT_RUNNING, &error);

    if (s == NULL)
        return error;
    for (size_t i = 0; i < candidates->n_queues; i++)
        candidates->queues[i].left -=
            candidates->queues[i].queue == candidate->queue;
    (void)sqlite3_bind_int64(s, 1, candidate->claim.id);
    (void)sqlite3_bind_int64(s, 2, candidate->claim.lease);
    (void)sqlite3_bind_int64(s, 3, scope->process);
    (void)sqlite3_bind_int64(s, 4, store->now);
    (void)sqlite3_bind_int64(s, 5, candidate->queue);
    bind_text(s, 6, candidate->limit_key);
    return connection_run(&store->connection, s, NULL);
}

/* Whom claims are offered to. */
struct taker {
    const struct scope *scope;
    claim_fn *fn;
    void *arg;
    size_t limit; /* how many more it wants */
};

/* ready -> running, failed if its deadline has passed, or held. The taker's
 * limit falls to 0 when it takes no more. */
static enum rota_error
candidate_claim(struct store *store, struct candidates *candidates,
                struct candidate *candidate, struct taker *taker)
{
    struct claim *claim = &candidate->claim;
    bool expired = claim->deadline_at != 0 && claim->deadline_at <= store->now;
    bool may = true;
    enum rota_error error = ROTA_OK;

    if (!expired)
        error = candidate_may_run(store, candidates, candidate, &may);
    if (error != ROTA_OK || !may)
        return error;
    if (!expired && !taker->fn(taker->arg, claim)) {
        taker->limit = 0;
        return ROTA_OK;
    }
    error = RUN(store, DELETE_READY, NULL, candidate->queue, claim->kind,
                candidate->sort_key, claim->id);
    candidates->aside += expired;
    if (expired)
        return error == ROTA_OK ? job_expire(store, claim->id) : error;
    claim->args = NULL; /* the taker's now */
    taker->limit--;
    return error == ROTA_OK
               ? running_insert(store, candidates, taker->scope, candidate)
               : error;
}

/* The one job that the scope is about, if it is ready. */
static enum rota_error
one_read(struct store *store, struct candidates *candidates,
         const struct scope *scope)
{
    enum rota_error error = key_release_one(store, scope->job);
    sqlite3_stmt *one;

    if (error != ROTA_OK)
        return error;
    one = store_statement(store, ONE_JOB, &error);
    if (one == NULL)
        return error;
    (void)sqlite3_bind_int64(one, 1, scope->job);
    error = candidates_read(store, candidates, one);
    if (error == ROTA_OK && candidates->n == 1 &&
        !scope_has_kind(scope, candidates->all[0].claim.kind))
        candidates_clear(candidates);
    return error;
}

/* Offer the soonest, once around. *ret_again: some were put aside, so that
 * there may be others behind them. */
static enum rota_error
claim_round(struct store *store, struct candidates *candidates,
            struct taker *taker, bool *ret_again)
{
    int64_t aside = candidates->aside;
    enum rota_error error =
        taker->scope->job != 0
            ? one_read(store, candidates, taker->scope)
            : lanes_read(store, candidates, taker->scope, taker->limit);

    if (candidates->n > 1)
        qsort(candidates->all, candidates->n, sizeof(*candidates->all),
              candidate_order);
    for (size_t i = 0;
         error == ROTA_OK && taker->limit > 0 && i < candidates->n; i++)
        error = candidate_claim(store, candidates, &candidates->all[i], taker);
    candidates_clear(candidates);
    *ret_again = candidates->aside > aside && taker->limit > 0;
    return error;
}

enum rota_error
store_claim(struct store *store, const struct scope *scope, size_t limit,
            claim_fn *fn, void *arg, enum claim_rest *ret_rest)
{
    struct candidates candidates = {0};
    struct taker taker = {scope, fn, arg, limit};
    enum rota_error error;
    bool again = true;

    do {
        error = claim_round(store, &candidates, &taker, &again);
    } while (error == ROTA_OK && again && candidates.aside < ASIDE_MAX);
    *ret_rest = again                ? CLAIM_MORE
                : candidates.limited ? CLAIM_LIMITED
                                     : CLAIM_NOTHING;
    free(candidates.all);
    free(candidates.queues);
    return error;
}
