/*
 * The move to running:
 *
 *   claim    ready -> running   the lease rises
 *            new -> running     likewise, of those that arrive.c has kept
 *            ready -> failed    its deadline has passed
 *            ready -> held      its key is at its limit (hold.c)
 *
 * Jobs are claimed lane by lane (lane.h).
 * One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"

/* -- Claim ---------------------------------------------------------------- */

/* No claim puts aside more than about so many: others wait for the lock. */
#define ASIDE_MAX 1000

/* No claim reads many more bytes of arguments than so many, but for the first
 * job of each lane. */
#define ARGS_MAX (64 << 20)

/* How many more jobs a queue with a limit may run. */
struct queue_room {
    int64_t queue, left;
};

/* One claim. */
struct claiming {
    const struct scope *scope;
    claim_fn *fn; /* whom jobs are offered to */
    void *arg;
    size_t limit; /* how many more he takes */
    struct candidates candidates;
    struct queue_room *queues; /* those with a limit */
    size_t n_queues;
    bool limited;  /* some were left out for a limit */
    int64_t aside; /* how many were held for theirs, or failed */
    size_t bytes;  /* of arguments, read in this round */
    bool is_cut;   /* more than enough: there are jobs behind this one */
    struct candidate cut;
};

static enum rota_error
candidate_read(struct candidates *candidates, sqlite3_stmt *row)
{
    struct candidate candidate = {
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
    const void *args = sqlite3_column_blob(row, 13);
    enum rota_error error = candidate_add(
        candidates, &candidate, args, (size_t)sqlite3_column_bytes(row, 13));

    return error == ROTA_OK
               ? column_text(row, 15,
                             &candidates->all[candidates->n - 1].limit_key)
               : error;
}

static int
candidate_order(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->sort_key != y->sort_key)
        return x->sort_key < y->sort_key ? -1 : 1;
    return x->claim.id < y->claim.id ? -1 : x->claim.id > y->claim.id;
}

/* Read no more of its lane; behind the first such job nothing is claimed. */
static void
cut(struct claiming *claiming, const struct candidate *last)
{
    if (!claiming->is_cut || candidate_order(last, &claiming->cut) < 0)
        claiming->cut = *last;
    claiming->is_cut = true;
}

static enum rota_error
candidates_read(struct store *store, struct claiming *claiming,
                sqlite3_stmt *statement)
{
    struct candidates *candidates = &claiming->candidates;
    enum rota_error error;
    bool row;

    while ((error = connection_row(&store->connection, statement, &row)) ==
               ROTA_OK &&
           row) {
        error = candidate_read(candidates, statement);
        if (error != ROTA_OK)
            break;
        claiming->bytes += candidates->all[candidates->n - 1].claim.args_size;
        if (claiming->bytes > ARGS_MAX) {
            cut(claiming, &candidates->all[candidates->n - 1]);
            break;
        }
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
room_note(struct claiming *claiming, sqlite3_stmt *lane, int64_t *ret_room)
{
    int64_t queue = sqlite3_column_int64(lane, 0);
    int64_t left = sqlite3_column_int64(lane, 3);
    struct queue_room *grown;

    *ret_room = (int64_t)claiming->limit;
    if (sqlite3_column_type(lane, 3) == SQLITE_NULL)
        return ROTA_OK;
    if (left < *ret_room)
        *ret_room = left;
    for (size_t i = 0; i < claiming->n_queues; i++)
        if (claiming->queues[i].queue == queue)
            return ROTA_OK;
    grown =
        realloc(claiming->queues, (claiming->n_queues + 1) * sizeof(*grown));
    if (grown == NULL)
        return no_memory();
    claiming->queues = grown;
    grown[claiming->n_queues++] = (struct queue_room){queue, left};
    return ROTA_OK;
}

/* The soonest limit jobs of each lane that is for us. */
static enum rota_error
lanes_read(struct store *store, struct claiming *claiming)
{
    const struct scope *scope = claiming->scope;
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
        claiming->limited |= is_ours && lane_is_full(lane);
        is_ours = is_ours && !lane_is_full(lane);
        if (is_ours)
            error = room_note(claiming, lane, &room);
        (void)sqlite3_reset(lane);
        if (error != ROTA_OK || (scope->queue != 0 && queue != scope->queue))
            return error;
        if (!is_ours)
            continue;
        (void)sqlite3_bind_int64(jobs, 1, queue);
        (void)sqlite3_bind_int64(jobs, 2, kind);
        (void)sqlite3_bind_int64(jobs, 3, room);
        error = candidates_read(store, claiming, jobs);
        if (error != ROTA_OK)
            return error;
    }
}

/* Whether its queue and its key let it run. What its key does not is held. */
static enum rota_error
candidate_may_run(struct store *store, struct claiming *claiming,
                  const struct candidate *candidate, bool *ret_may)
{
    enum rota_error error = ROTA_OK;
    int64_t room = 1;

    *ret_may = false;
    for (size_t i = 0; i < claiming->n_queues; i++)
        if (claiming->queues[i].queue == candidate->queue &&
            claiming->queues[i].left <= 0) {
            claiming->limited = true;
            return ROTA_OK;
        }
    if (candidate->limit_key != NULL)
        error = key_room(store, candidate->limit_key, &room);
    if (error == ROTA_OK && room <= 0) {
        claiming->limited = true;
        claiming->aside++;
        return key_hold(store, candidate->limit_key, candidate->queue,
                        candidate->claim.kind, candidate->sort_key,
                        candidate->claim.id);
    }
    *ret_may = true;
    return error;
}

static enum rota_error
running_insert(struct store *store, struct claiming *claiming,
               const struct candidate *candidate)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, INSERT_RUNNING, &error);

    if (s == NULL)
        return error;
    for (size_t i = 0; i < claiming->n_queues; i++)
        claiming->queues[i].left -=
            claiming->queues[i].queue == candidate->queue;
    (void)sqlite3_bind_int64(s, 1, candidate->claim.id);
    (void)sqlite3_bind_int64(s, 2, candidate->claim.lease);
    (void)sqlite3_bind_int64(s, 3, claiming->scope->process);
    (void)sqlite3_bind_int64(s, 4, store->now);
    (void)sqlite3_bind_int64(s, 5, candidate->queue);
    bind_text(s, 6, candidate->limit_key);
    return connection_run(&store->connection, s, NULL);
}

/* ready -> running, failed if its deadline has passed, or held. The limit falls
 * to 0 when no more are taken. */
static enum rota_error
candidate_claim(struct store *store, struct claiming *claiming,
                struct candidate *candidate)
{
    struct claim *claim = &candidate->claim;
    bool expired = claim->deadline_at != 0 && claim->deadline_at <= store->now;
    bool may = true;
    enum rota_error error = ROTA_OK;

    if (!expired)
        error = candidate_may_run(store, claiming, candidate, &may);
    if (error != ROTA_OK || !may)
        return error;
    if (!expired && !claiming->fn(claiming->arg, claim)) {
        claiming->limit = 0;
        return ROTA_OK;
    }
    if (!candidate->is_arrival)
        error = RUN(store, DELETE_READY, NULL, candidate->queue, claim->kind,
                    candidate->sort_key, claim->id);
    candidate->is_arrival = false;
    claiming->aside += expired;
    if (expired)
        return error == ROTA_OK ? job_expire(store, claim->id) : error;
    claim->args = NULL; /* the taker's now */
    claiming->limit--;
    return error == ROTA_OK ? running_insert(store, claiming, candidate)
                            : error;
}

/* Whether the lane of the one job that the scope is about lets it run. */
static enum rota_error
one_may_run(struct store *store, struct claiming *claiming, bool *ret_may)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *lane = store_statement(store, ONE_LANE, &error);
    bool row = false, is_ours;

    *ret_may = false;
    if (lane == NULL)
        return error;
    (void)sqlite3_bind_int64(lane, 1, claiming->scope->job);
    error = connection_row(&store->connection, lane, &row);
    if (row) {
        is_ours = scope_has_lane(claiming->scope, lane);
        *ret_may = is_ours && !lane_is_full(lane);
        claiming->limited |= is_ours && lane_is_full(lane);
    }
    (void)sqlite3_reset(lane);
    return error;
}

/* That one job, if it is ready. */
static enum rota_error
one_read(struct store *store, struct claiming *claiming)
{
    enum rota_error error = key_release_one(store, claiming->scope->job);
    sqlite3_stmt *one;
    bool may = false;

    if (error == ROTA_OK)
        error = one_may_run(store, claiming, &may);
    if (error != ROTA_OK || !may)
        return error;
    one = store_statement(store, ONE_JOB, &error);
    if (one == NULL)
        return error;
    (void)sqlite3_bind_int64(one, 1, claiming->scope->job);
    return candidates_read(store, claiming, one);
}

/* Offer the soonest, once around. *ret_again: some were put aside, so that
 * there may be others behind them. */
static enum rota_error
claim_round(struct store *store, struct claiming *claiming, bool *ret_again)
{
    struct candidates *candidates = &claiming->candidates;
    int64_t aside = claiming->aside;
    enum rota_error error;

    claiming->n_queues = claiming->bytes = 0;
    claiming->is_cut = false;
    error = claiming->scope->job != 0 ? one_read(store, claiming)
                                      : lanes_read(store, claiming);
    if (error == ROTA_OK)
        error = arrivals_join(store, candidates);
    if (candidates->n > 1)
        qsort(candidates->all, candidates->n, sizeof(*candidates->all),
              candidate_order);
    for (size_t i = 0;
         error == ROTA_OK && claiming->limit > 0 && i < candidates->n; i++) {
        struct candidate *candidate = &candidates->all[i];

        /* there may be others that go before this one: behind what was put
         * aside, or was the last that was read of its lane */
        if ((candidate->is_arrival && claiming->aside > aside) ||
            (claiming->is_cut &&
             candidate_order(candidate, &claiming->cut) > 0))
            break;
        error = candidate_claim(store, claiming, candidate);
    }
    if (error == ROTA_OK)
        error = candidates_line_up(store, candidates);
    candidates_clear(candidates);
    *ret_again = claiming->aside > aside && claiming->limit > 0;
    return error;
}

enum rota_error
store_claim(struct store *store, const struct scope *scope, size_t limit,
            claim_fn *fn, void *arg, enum claim_rest *ret_rest)
{
    struct claiming claiming = {
        .scope = scope, .fn = fn, .arg = arg, .limit = limit};
    enum rota_error error;
    bool again = true;

    do {
        error = claim_round(store, &claiming, &again);
    } while (error == ROTA_OK && again && claiming.aside < ASIDE_MAX);
    again |= claiming.is_cut && claiming.limit > 0;
    *ret_rest = again              ? CLAIM_MORE
                : claiming.limited ? CLAIM_LIMITED
                                   : CLAIM_NOTHING;
    free(claiming.candidates.all);
    free(claiming.queues);
    return error;
}
