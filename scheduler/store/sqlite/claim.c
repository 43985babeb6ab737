/*
 * The move to running:
 *
 *   claim    ready -> running   the lease rises
 *            new -> running     likewise, of those that arrivals.c has kept
 *            ready -> failed    its deadline has passed
 *            ready -> held      its key is at its limit (limits.c)
 *
 * A job that may not run beside what runs here (suspicion.h) is not moved: it is
 * passed over, and tried again when one of those has ended.
 *
 * A claim goes round: it reads the soonest jobs of each lane that is ours
 * (lanes.h), as many of each as it may claim, sorts them and takes them one by
 * one. When it had to leave some out, there may be sooner ones behind those in
 * their lane than what other lanes have left, and so it goes round again,
 * without them.
 *
 * One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "base/grow.h"
#include "store/outcome.h"
#include "store/sqlite/arguments.h"
#include "store/sqlite/candidates.h"
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"

/* A claim ends its rounds after it put so many aside: others wait for the
 * lock, and it is asked to come again (CLAIM_MORE). */
#define ASIDE_MAX 1000

/* It takes no more, once it has so many bytes of arguments. */
#define ARGS_MAX (64 << 20)

/* How many more jobs a queue with a limit may run. */
struct queue_room {
    int64_t queue, left;
};

/* A claim, as it goes. */
struct claiming {
    struct sqlite_store *store;
    struct work *work;
    size_t limit; /* how many more it takes */
    struct candidates candidates;
    struct queue_room *queues; /* those with a limit */
    size_t n_queues, queues_room;
    struct aboard aboard; /* what runs here, and what it has claimed */
    int64_t crashes; /* none is read that was there at so many deaths: such a
                      * job would be passed over */
    int64_t passed;  /* how many were */
    bool is_limited; /* some were left out for a limit, or passed over */
    int64_t aside;   /* how many were held for theirs, or failed */
    struct arguments arguments;
    size_t bytes; /* of the arguments of those that were taken */
};

/* -- Reading -------------------------------------------------------------- */

#define CANDIDATE                                                             \
    "SELECT r.queue, r.sort_key, j.id, j.lease, j.kind, j.run_at,"            \
    " j.created_at, j.deadline_at, j.timeout_ms, j.failures, j.max_attempts," \
    " p.cursor, p.total, CASE typeof(j.args) WHEN 'null' THEN 0"              \
    " WHEN 'text' THEN 1 WHEN 'blob' THEN 1 END AS args, j.crashes,"          \
    " j.limit_key, j.restart"
enum {
    JOB_QUEUE,
    JOB_SORT_KEY,
    JOB_ID,
    JOB_LEASE,
    JOB_KIND,
    JOB_RUN_AT,
    JOB_CREATED_AT,
    JOB_DEADLINE_AT,
    JOB_TIMEOUT,
    JOB_FAILURES,
    JOB_MAX_ATTEMPTS,
    JOB_CURSOR,
    JOB_TOTAL,
    JOB_ARGS,
    JOB_CRASHES,
    JOB_LIMIT_KEY,
    JOB_RESTART
};
/* Those that were there at ?4 deaths or more are left out; not so what is late,
 * and what is damaged, which is to be noticed. */
STATEMENT(LANE_JOBS) = {CANDIDATE
                        " FROM _ready r LEFT JOIN _job j ON j.id = r.id"
                        " LEFT JOIN _progress p ON p.id = r.id"
                        " WHERE r.queue = ?1 AND r.kind = ?2"
                        " AND (j.crashes BETWEEN ?4 AND 9223372036854775807"
                        "  AND coalesce(j.deadline_at > ?5, 1)) IS NOT 1"
                        " ORDER BY r.sort_key, r.id LIMIT ?3"};
STATEMENT(ONE_JOB) = {CANDIDATE
                      " FROM _job j CROSS JOIN _ready r ON r.queue = j.queue"
                      " AND r.kind = j.kind AND r.sort_key = j.sort_key"
                      " AND r.id = j.id LEFT JOIN _progress p ON p.id = j.id"
                      " WHERE j.id = ?1"};

static struct candidate
candidate_read(struct stmt *row)
{
    return (struct candidate){
        .queue = stmt_integer(row, JOB_QUEUE),
        .sort_key = stmt_integer(row, JOB_SORT_KEY),
        .claim = {.id = stmt_integer(row, JOB_ID),
                  .lease = stmt_integer(row, JOB_LEASE) + 1,
                  .kind = stmt_integer(row, JOB_KIND),
                  .run_at = stmt_integer(row, JOB_RUN_AT),
                  .created_at = stmt_integer(row, JOB_CREATED_AT),
                  .deadline_at = stmt_integer_or(row, JOB_DEADLINE_AT, 0),
                  .timeout_ms = stmt_integer_or(row, JOB_TIMEOUT, 0),
                  .failures = stmt_integer(row, JOB_FAILURES),
                  .crashes = stmt_integer(row, JOB_CRASHES),
                  .max_attempts =
                      (int)stmt_integer_or(row, JOB_MAX_ATTEMPTS, 0),
                  .cursor = stmt_integer_or(row, JOB_CURSOR, 0),
                  .total = stmt_integer_or(row, JOB_TOTAL, -1),
                  .restart = stmt_integer_or(row, JOB_RESTART, 0),
                  .has_args = stmt_integer(row, JOB_ARGS) != 0},
        .limit_key = stmt_key(row, JOB_LIMIT_KEY)};
}

static enum rota_error
candidate_keep(struct candidates *candidates, struct stmt *row)
{
    struct candidate candidate = candidate_read(row);
    enum rota_error error = row->error;

    if (error == ROTA_OK)
        error = candidates_add(candidates, &candidate);
    if (error != ROTA_OK)
        free(candidate.limit_key);
    return error;
}

static enum rota_error
candidates_read(struct claiming *claiming, struct stmt *stmt)
{
    while (stmt_next(stmt) &&
           stmt_check(stmt, candidate_keep(&claiming->candidates, stmt)))
        continue;
    return stmt_end(stmt);
}

/* Note how many more may run of the lane's queue, once for each queue. */
static enum rota_error
room_note(struct claiming *claiming, const struct lane *lane)
{
    if (!lane->is_limited)
        return ROTA_OK;
    for (size_t i = 0; i < claiming->n_queues; i++)
        if (claiming->queues[i].queue == lane->queue)
            return ROTA_OK;
    if (!grow(claiming->queues, claiming->n_queues, claiming->queues_room))
        return no_memory();
    claiming->queues[claiming->n_queues++] =
        (struct queue_room){lane->queue, lane->room};
    return ROTA_OK;
}

static enum suspicion
suspicion_in(const struct claiming *claiming, int64_t kind, int64_t crashes)
{
    return suspicion_of(crashes, scope_isolates(&claiming->work->scope, kind));
}

/* Whether one runs here beside which no job of that kind may. */
static bool
kind_is_shut_out(const struct claiming *claiming, int64_t kind)
{
    return !aboard_admits(&claiming->aboard, suspicion_in(claiming, kind, 0));
}

static bool
lane_is_shut(const struct claiming *claiming, const struct lane *lane)
{
    return lane_is_full(lane) || kind_is_shut_out(claiming, lane->kind);
}

/* The soonest jobs of a lane that is ours: none if it is shut. */
static enum rota_error
lane_read(struct claiming *claiming, const struct lane *lane)
{
    bool is_isolated = scope_isolates(&claiming->work->scope, lane->kind);
    int64_t most = (int64_t)claiming->limit;
    enum rota_error error;
    struct stmt stmt;

    if (lane_is_shut(claiming, lane)) {
        claiming->is_limited = true;
        return ROTA_OK;
    }
    error = room_note(claiming, lane);
    if (error != ROTA_OK)
        return error;
    if (lane->is_limited && lane->room < most)
        most = lane->room;
    stmt = stmt_of(&claiming->store->connection, &LANE_JOBS);
    (void)sqlite3_bind_int64(stmt.s, 1, lane->queue);
    (void)sqlite3_bind_int64(stmt.s, 2, lane->kind);
    (void)sqlite3_bind_int64(stmt.s, 3, most);
    (void)sqlite3_bind_int64(stmt.s, 4,
                             is_isolated ? INT64_MAX : claiming->crashes);
    (void)sqlite3_bind_int64(stmt.s, 5, claiming->store->now);
    return candidates_read(claiming, &stmt);
}

static enum rota_error
lanes_read(struct claiming *claiming)
{
    const struct scope *scope = &claiming->work->scope;
    struct lane lane = lane_first(scope);
    enum rota_error error = ROTA_OK;
    bool exists = true;

    while (error == ROTA_OK && exists) {
        error = lane_next(&claiming->store->connection, scope, &lane, &exists);
        if (error == ROTA_OK && exists && lane.is_ours)
            error = lane_read(claiming, &lane);
    }
    return error;
}

/* The one job that the scope is about, if it is ready and its lane lets it
 * run. */
static enum rota_error
one_read(struct claiming *claiming)
{
    const struct scope *scope = &claiming->work->scope;
    struct connection *connection = &claiming->store->connection;
    enum rota_error error = key_release_one(claiming->store, scope->job);
    struct lane lane;
    struct stmt stmt;
    bool exists = false;

    if (error == ROTA_OK)
        error = lane_of_job(connection, scope, scope->job, &lane, &exists);
    if (error != ROTA_OK || !exists || !lane.is_ours)
        return error;
    if (lane_is_shut(claiming, &lane)) {
        claiming->is_limited = true;
        return ROTA_OK;
    }
    stmt = stmt_of(connection, &ONE_JOB);
    (void)sqlite3_bind_int64(stmt.s, 1, scope->job);
    return candidates_read(claiming, &stmt);
}

/* -- Taking --------------------------------------------------------------- */

STATEMENT(INSERT_RUNNING) = {"INSERT INTO _running(id, lease, process,"
                             " claimed_at, queue, limit_key)"
                             " VALUES(?1, ?2, ?3, ?4, ?5, ?6)"};

/* Whether its queue and its key let it run. What its key does not is held. */
static enum rota_error
candidate_may_run(struct claiming *claiming, const struct candidate *candidate,
                  bool *ret_may)
{
    enum rota_error error = ROTA_OK;
    int64_t room = 1;

    *ret_may = false;
    for (size_t i = 0; i < claiming->n_queues; i++)
        if (claiming->queues[i].queue == candidate->queue &&
            claiming->queues[i].left <= 0) {
            claiming->is_limited = true;
            return ROTA_OK;
        }
    if (candidate->limit_key != NULL)
        error = key_room(claiming->store, candidate->limit_key, &room);
    if (error == ROTA_OK && room <= 0) {
        claiming->is_limited = true;
        claiming->aside++;
        return key_hold(claiming->store, candidate);
    }
    *ret_may = true;
    return error;
}

/* Leave out a suspect that may not run beside what runs here. Others of its
 * lane may not have been read for it: the next round reads them, and none that
 * would be passed over as well. */
static void
candidate_pass(struct claiming *claiming)
{
    claiming->is_limited = true;
    if (claiming->work->scope.job != 0)
        return; /* there are no others */
    claiming->passed++;
    claiming->crashes =
        claiming->aboard.suspects > 0 ? CRASHES_SUSPECT : CRASHES_MAX;
}

static enum rota_error
running_insert(struct claiming *claiming, const struct candidate *candidate)
{
    struct stmt stmt = stmt_of(&claiming->store->connection, &INSERT_RUNNING);

    for (size_t i = 0; i < claiming->n_queues; i++)
        claiming->queues[i].left -=
            claiming->queues[i].queue == candidate->queue;
    (void)sqlite3_bind_int64(stmt.s, 1, candidate->claim.id);
    (void)sqlite3_bind_int64(stmt.s, 2, candidate->claim.lease);
    (void)sqlite3_bind_int64(stmt.s, 3, claiming->work->scope.process);
    (void)sqlite3_bind_int64(stmt.s, 4, claiming->store->now);
    (void)sqlite3_bind_int64(stmt.s, 5, candidate->queue);
    bind_text(stmt.s, 6, candidate->limit_key);
    return stmt_run(&stmt, NULL);
}

/* Take it out of _ready, if it is there. */
static enum rota_error
candidate_leave(struct claiming *claiming, struct candidate *candidate)
{
    bool was_ready = !candidate->is_arrival;

    candidate->is_arrival = false; /* it is not to be lined up any more */
    return was_ready ? ready_delete(claiming->store, candidate->queue,
                                    candidate->claim.kind, candidate->sort_key,
                                    candidate->claim.id)
                     : ROTA_OK;
}

/* ready -> running, failed if its deadline has passed, or held; or it is passed
 * over. */
static enum rota_error
candidate_claim(struct claiming *claiming, struct candidate *candidate)
{
    struct work *work = claiming->work;
    struct claim *claim = &candidate->claim;
    bool is_late =
        claim->deadline_at != 0 && claim->deadline_at <= claiming->store->now;
    bool may_run = true;
    enum rota_error error = ROTA_OK;

    if (kind_is_shut_out(claiming, claim->kind)) { /* since it was read */
        claiming->is_limited = true;
        return ROTA_OK;
    }
    claim->suspicion = suspicion_in(claiming, claim->kind, claim->crashes);
    /* its company is asked before its key: who is passed over takes no turn */
    if (!is_late && !aboard_admits(&claiming->aboard, claim->suspicion)) {
        candidate_pass(claiming);
        return ROTA_OK;
    }
    if (!is_late)
        error = candidate_may_run(claiming, candidate, &may_run);
    if (error != ROTA_OK || !may_run)
        return error;
    claim->lease = origin_lease(claiming->store, claim->id, claim->lease);
    error = candidate_leave(claiming, candidate);
    if (error == ROTA_OK && is_late) {
        claiming->aside++;
        return due_expire(claiming->store, claim->id);
    }
    if (error == ROTA_OK)
        error = running_insert(claiming, candidate);
    if (error == ROTA_OK && claim->args == NULL)
        error = arguments_read(&claiming->arguments,
                               &claiming->store->connection, claim);
    if (error != ROTA_OK)
        return error;
    aboard_add(&claiming->aboard, claim->suspicion, 1);
    work->claims[work->n_claims++] = *claim;
    claim->args = NULL; /* the asker's now */
    claiming->limit--;
    claiming->bytes += claim->args_size;
    return ROTA_OK;
}

/* -- A round -------------------------------------------------------------- */

/* How many were left out, so that there may be others behind them. */
static int64_t
left_out(const struct claiming *claiming)
{
    return claiming->aside + claiming->passed;
}

/* Whether there may be others that go before this one and have not been read:
 * behind what was left out in this round. */
static bool
may_be_passed(const struct claiming *claiming, int64_t left_before,
              const struct candidate *candidate)
{
    return candidate->is_arrival && left_out(claiming) > left_before;
}

/* Whether no more are to be taken, for there is much to read by now. */
static bool
is_laden(const struct claiming *claiming)
{
    return claiming->bytes > ARGS_MAX;
}

/* Once around. *ret_again: some were left out, and there may be others behind
 * them. */
static enum rota_error
claim_round(struct claiming *claiming, bool *ret_again)
{
    struct candidates *candidates = &claiming->candidates;
    int64_t left_before = left_out(claiming);
    enum rota_error error;

    claiming->n_queues = 0;
    error = claiming->work->scope.job != 0 ? one_read(claiming)
                                           : lanes_read(claiming);
    if (error == ROTA_OK)
        error = candidates_join(candidates, &claiming->store->arrivals.jobs);
    candidates_sort(candidates);
    for (size_t i = 0;
         error == ROTA_OK && claiming->limit > 0 && !is_laden(claiming) &&
         i < candidates->n &&
         !may_be_passed(claiming, left_before, &candidates->all[i]);
         i++)
        error = candidate_claim(claiming, &candidates->all[i]);
    if (error == ROTA_OK)
        error = arrivals_return(claiming->store, candidates);
    candidates_clear(candidates);
    *ret_again = left_out(claiming) > left_before && claiming->limit > 0 &&
                 !is_laden(claiming);
    return error;
}

enum rota_error
jobs_claim(struct sqlite_store *store, struct work *work, size_t limit)
{
    bool has_suspect = work->aboard.suspects > 0;
    struct claiming claiming = {.store = store,
                                .work = work,
                                .limit = limit,
                                .aboard = work->aboard,
                                .crashes =
                                    has_suspect ? CRASHES_SUSPECT : INT64_MAX,
                                .is_limited = has_suspect};
    enum rota_error error;
    bool again = true;

    do {
        error = claim_round(&claiming, &again);
    } while (error == ROTA_OK && again && claiming.aside < ASIDE_MAX);
    again |= is_laden(&claiming) && claiming.limit > 0;
    arguments_end(&claiming.arguments);
    work->rest = again                 ? CLAIM_MORE
                 : claiming.is_limited ? CLAIM_LIMITED
                                       : CLAIM_NOTHING;
    free(claiming.candidates.all);
    free(claiming.queues);
    return error;
}
