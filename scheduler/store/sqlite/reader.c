#define _GNU_SOURCE
#include "store/sqlite/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/text.h"
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"

/* -- Life ----------------------------------------------------------------- */

enum rota_error
connection_to(const struct sqlite_store *store, struct connection *connection)
{
    enum rota_error error =
        connection_open(connection, store->connection.path, false);

    if (error == ROTA_OK)
        connection_expect(connection, &store->connection);
    return error;
}

enum rota_error
sqlite_reader_open(struct store *store, struct reader **ret_reader)
{
    struct sqlite_reader *reader = calloc(1, sizeof(*reader));
    enum rota_error error;

    if (reader == NULL)
        return no_memory();
    reader->base.ops = &sqlite_ops;
    reader->store = sqlite_store_of(store);
    error = connection_to(reader->store, &reader->connection);
    if (error != ROTA_OK) {
        free(reader);
        return error;
    }
    *ret_reader = &reader->base;
    return ROTA_OK;
}

void
sqlite_reader_close(struct reader *base)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);

    connection_close(&reader->connection);
    free(reader);
}

enum rota_error
reader_check(struct sqlite_reader *reader)
{
    if (store_damage(&reader->store->base) != NULL)
        return ROTA_CORRUPT;
    return connection_has_moved(&reader->connection) ? ROTA_STORE : ROTA_OK;
}

/* A statement of the store's own has come to that: if it has met damage, that
 * is known from now on. What a caller's own query meets is his. */
static enum rota_error
reader_end(struct sqlite_reader *reader, enum rota_error error)
{
    if (error == ROTA_CORRUPT && !connection_has_moved(&reader->connection))
        store_damage_note(&reader->store->base);
    return error;
}

/* -- One job -------------------------------------------------------------- */

STATEMENT(OUTCOME) = {
    "SELECT (SELECT state FROM _done d WHERE d.id = j.id),"
    " (SELECT 1 FROM _running r WHERE r.id = j.id),"
    " (SELECT 1 FROM _scheduled s WHERE s.run_at = j.run_at AND s.id = j.id),"
    " (SELECT 1 FROM _blocked b WHERE b.id = j.id),"
    " (SELECT code FROM _done d WHERE d.id = j.id),"
    " COALESCE((SELECT attempt FROM _done d WHERE d.id = j.id), j.failures),"
    " (SELECT cursor FROM _progress p WHERE p.id = j.id),"
    " (SELECT cause FROM _done d WHERE d.id = j.id)"
    " FROM _job j WHERE j.id = ?1"};
enum {
    OUTCOME_END,
    OUTCOME_RUNNING,
    OUTCOME_SCHEDULED,
    OUTCOME_BLOCKED,
    OUTCOME_CODE,
    OUTCOME_ATTEMPT,
    OUTCOME_CURSOR,
    OUTCOME_CAUSE
};

static enum rota_state
state_of(struct stmt *stmt)
{
    sqlite3_stmt *s = stmt->s;

    int64_t end = stmt_integer_or(stmt, OUTCOME_END, ROTA_SUCCEEDED);

    if (end < ROTA_SUCCEEDED || end > ROTA_CANCELLED)
        (void)stmt_check(
            stmt,
            connection_damage(stmt->connection, "a job has ended in no state"));
    else if (sqlite3_column_type(s, OUTCOME_END) != SQLITE_NULL)
        return (enum rota_state)end;
    if (sqlite3_column_type(s, OUTCOME_RUNNING) != SQLITE_NULL)
        return ROTA_RUNNING;
    if (sqlite3_column_type(s, OUTCOME_SCHEDULED) != SQLITE_NULL)
        return ROTA_SCHEDULED;
    return sqlite3_column_type(s, OUTCOME_BLOCKED) != SQLITE_NULL ? ROTA_BLOCKED
                                                                  : ROTA_READY;
}

static void
outcome_of_row(struct stmt *stmt, struct rota_outcome *ret_outcome)
{
    char *cause = stmt_words(stmt, OUTCOME_CAUSE);

    ret_outcome->state = state_of(stmt);
    ret_outcome->error =
        (enum rota_error)stmt_integer_or(stmt, OUTCOME_CODE, 0);
    ret_outcome->attempts = stmt_integer(stmt, OUTCOME_ATTEMPT);
    ret_outcome->cursor = stmt_integer_or(stmt, OUTCOME_CURSOR, 0);
    /* of a success it tells of a cancel that came too late */
    text_print(ret_outcome->message, sizeof(ret_outcome->message), "%s",
               cause == NULL || ret_outcome->state == ROTA_SUCCEEDED ? ""
                                                                     : cause);
    free(cause);
}

enum rota_error
sqlite_reader_outcome(struct reader *base, int64_t id,
                      struct rota_outcome *ret_outcome)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    enum rota_error error = reader_check(reader);
    struct stmt stmt;
    bool exists;

    if (error != ROTA_OK)
        return error;
    stmt = stmt_of(&reader->connection, &OUTCOME);
    (void)sqlite3_bind_int64(stmt.s, 1, id);
    exists = stmt_next(&stmt);
    if (exists)
        outcome_of_row(&stmt, ret_outcome);
    error = reader_end(reader, stmt_end(&stmt));
    if (error != ROTA_OK || exists)
        return error;
    message_set("there is no job %" PRId64, id);
    return ROTA_NOTFOUND;
}

/* -- What waits ----------------------------------------------------------- */

STATEMENT(IS_UNSETTLED) = {"SELECT 1 FROM _settle LIMIT 1"};

/* Of each key and lane the first held job behind key ?1, queue ?2 and kind ?3,
 * by seeks. */
STATEMENT(NEXT_HELD) = {
    "SELECT * FROM (SELECT key, queue, kind FROM _held"
    "  WHERE key = ?1 AND queue = ?2 AND kind > ?3 ORDER BY kind LIMIT 1)"
    " UNION ALL SELECT * FROM (SELECT key, queue, kind FROM _held"
    "  WHERE key = ?1 AND queue > ?2 ORDER BY queue, kind LIMIT 1)"
    " UNION ALL SELECT * FROM (SELECT key, queue, kind FROM _held"
    "  WHERE key > ?1 ORDER BY key, queue, kind LIMIT 1) LIMIT 1"};
enum { HELD_KEY, HELD_QUEUE, HELD_KIND };

/* Whether process ?2 may claim in queue ?1. */
STATEMENT(QUEUE_IS_OURS) = {"SELECT 1 FROM _queue WHERE id = ?1"
                            " AND paused_at IS NULL"
                            " AND (owner IS NULL OR owner = ?2)"};

static enum rota_error
look_at_lanes(struct connection *connection, const struct scope *scope,
              struct waiting *waiting)
{
    struct lane lane = lane_first(scope);
    enum rota_error error = ROTA_OK;
    bool exists = true;

    while (error == ROTA_OK && exists && !waiting->is_ready) {
        error = lane_next(connection, scope, &lane, &exists);
        if (error != ROTA_OK || !exists || !lane.is_ours)
            continue;
        waiting->is_ready |= !lane_is_full(&lane);
        waiting->is_limited |= lane_is_full(&lane);
    }
    return error;
}

/* Where a walk over the held jobs has got to. */
struct held_lane {
    char *key; /* malloc'd */
    int64_t queue, kind;
};

static enum rota_error
held_next(struct connection *connection, struct held_lane *lane,
          bool *ret_exists)
{
    struct stmt stmt = stmt_of(connection, &NEXT_HELD);
    char *key = NULL;

    (void)sqlite3_bind_text(stmt.s, 1, lane->key, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(stmt.s, 2, lane->queue);
    (void)sqlite3_bind_int64(stmt.s, 3, lane->kind);
    *ret_exists = stmt_next(&stmt);
    if (*ret_exists) {
        key = stmt_key(&stmt, HELD_KEY);
        lane->queue = stmt_integer(&stmt, HELD_QUEUE);
        lane->kind = stmt_integer(&stmt, HELD_KIND);
    }
    if (stmt.s != NULL)
        (void)sqlite3_clear_bindings(stmt.s); /* the key goes */
    if (key != NULL) {
        free(lane->key);
        lane->key = key;
    }
    return stmt_end(&stmt);
}

static enum rota_error
queue_is_ours(struct connection *connection, const struct scope *scope,
              int64_t queue, bool *ret_ours)
{
    struct stmt stmt = stmt_of(connection, &QUEUE_IS_OURS);

    (void)sqlite3_bind_int64(stmt.s, 1, queue);
    (void)sqlite3_bind_int64(stmt.s, 2, scope->process);
    return stmt_exists(&stmt, ret_ours);
}

/* Whether a job of the scope's is held. */
static enum rota_error
look_at_held(struct connection *connection, const struct scope *scope,
             struct waiting *waiting)
{
    struct held_lane lane = {
        .key = strdup(""), .queue = INT64_MIN, .kind = INT64_MIN};
    enum rota_error error = lane.key == NULL ? no_memory() : ROTA_OK;
    bool exists = true;

    while (error == ROTA_OK && exists && !waiting->is_limited) {
        error = held_next(connection, &lane, &exists);
        if (error == ROTA_OK && exists &&
            (scope->queue == 0 || lane.queue == scope->queue) &&
            scope_has_kind(scope, lane.kind))
            error = queue_is_ours(connection, scope, lane.queue,
                                  &waiting->is_limited);
    }
    free(lane.key);
    return error;
}

enum rota_error
waiting_read(struct connection *connection, int64_t now,
             const struct scope *scope, struct waiting *ret_waiting)
{
    struct waiting waiting = {0};
    enum rota_error error = due_next(connection, &waiting.next);
    struct stmt stmt;
    bool is_back = false;

    if (error == ROTA_OK) {
        stmt = stmt_of(connection, &IS_UNSETTLED);
        error = stmt_exists(&stmt, &waiting.is_unsettled);
    }
    if (error == ROTA_OK)
        error = look_at_lanes(connection, scope, &waiting);
    if (error == ROTA_OK && !waiting.is_ready)
        error = look_at_held(connection, scope, &waiting);
    if (error == ROTA_OK)
        error = times_are_back(connection, now, &is_back);
    if (is_back)
        waiting.next = 0; /* all by the clock that was is to be set right */
    if (error == ROTA_OK)
        *ret_waiting = waiting;
    return error;
}

enum rota_error
sqlite_reader_waiting(struct reader *base, const struct scope *scope,
                      struct waiting *ret_waiting)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    enum rota_error error = reader_check(reader);

    return error == ROTA_OK
               ? reader_end(reader,
                            waiting_read(&reader->connection,
                                         store_now(&reader->store->base), scope,
                                         ret_waiting))
               : error;
}

/* -- Who has died --------------------------------------------------------- */

STATEMENT(OPEN_PROCESSES) = {"SELECT id, pid, start_ticks, boot FROM _process"
                             " WHERE ended_at IS NULL"};
enum { PROCESS_ID, PROCESS_PID, PROCESS_START_TICKS, PROCESS_BOOT };

enum rota_error
open_processes_read(struct connection *connection, open_process_fn *fn,
                    void *arg)
{
    struct stmt stmt = stmt_of(connection, &OPEN_PROCESSES);

    while (stmt_next(&stmt)) {
        const char *boot =
            (const char *)sqlite3_column_text(stmt.s, PROCESS_BOOT);
        struct open_process process = {
            .id = stmt_integer(&stmt, PROCESS_ID),
            .pid = stmt_integer(&stmt, PROCESS_PID),
            .start_ticks = stmt_integer_or(&stmt, PROCESS_START_TICKS, 0),
            .boot = boot == NULL ? "" : boot};

        fn(arg, &process);
    }
    return stmt_end(&stmt);
}

/* Whom to tell of the dead. */
struct death_watch {
    const struct sqlite_store *store;
    reader_dead_fn *fn;
    void *arg;
};

static void
dead_tell(void *arg, const struct open_process *process)
{
    struct death_watch *to = arg;

    if (!lockfile_lives(to->store->lockfile, process->id))
        to->fn(to->arg, process->id);
}

enum rota_error
sqlite_reader_dead(struct reader *base, reader_dead_fn *fn, void *arg)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    struct death_watch to = {reader->store, fn, arg};
    enum rota_error error = reader_check(reader);

    return error == ROTA_OK
               ? reader_end(reader, open_processes_read(&reader->connection,
                                                        dead_tell, &to))
               : error;
}

/* -- What is to be forgotten ---------------------------------------------- */

/* So many jobs in a row that were made too late: the rest were, too. */
#define YOUNG_MAX 1000

STATEMENT(RETAINING) = {"SELECT id, retain_ms FROM _queue"
                        " WHERE retain_ms IS NOT NULL AND id > ?1"
                        " ORDER BY id LIMIT 1"};
enum { RETAINING_QUEUE, RETAINING_MS };
STATEMENT(PRUNABLE) = {"SELECT d.id, d.finished_at, j.queue, j.created_at"
                       " FROM _done d CROSS JOIN _job j ON j.id = d.id"
                       " WHERE d.id > ?1 ORDER BY d.id"};
enum { PRUNABLE_ID, PRUNABLE_FINISHED, PRUNABLE_QUEUE, PRUNABLE_CREATED };

enum rota_error
sqlite_reader_retaining(struct reader *base, int64_t *queue, int64_t *ret_ms)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    struct stmt stmt = stmt_of(&reader->connection, &RETAINING);
    bool exists;

    (void)sqlite3_bind_int64(stmt.s, 1, *queue);
    exists = stmt_next(&stmt);
    *queue = exists ? stmt_integer(&stmt, RETAINING_QUEUE) : 0;
    *ret_ms = exists ? stmt_integer(&stmt, RETAINING_MS) : 0;
    return reader_end(reader, stmt_end(&stmt));
}

enum rota_error
sqlite_reader_prunable(struct reader *base, int64_t queue, int64_t before,
                       int64_t *last, int64_t *ids, size_t n, size_t *ret_n)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    struct stmt stmt = stmt_of(&reader->connection, &PRUNABLE);
    size_t found = 0, young = 0;
    bool has_more = true;

    (void)sqlite3_bind_int64(stmt.s, 1, *last);
    while (found < n && has_more) {
        has_more = stmt_next(&stmt);
        if (!has_more)
            break;
        /* what was made later has not ended before; but clocks are set */
        young = stmt_integer(&stmt, PRUNABLE_CREATED) >= before ? young + 1 : 0;
        has_more = young < YOUNG_MAX;
        if (!has_more)
            break;
        *last = stmt_integer(&stmt, PRUNABLE_ID);
        if (stmt_integer(&stmt, PRUNABLE_FINISHED) < before &&
            stmt_integer(&stmt, PRUNABLE_QUEUE) == queue)
            ids[found++] = *last;
    }
    if (!has_more)
        *last = INT64_MAX;
    *ret_n = found;
    return reader_end(reader, stmt_end(&stmt));
}
