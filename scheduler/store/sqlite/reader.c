/*
 * A connection that only reads: for waiting, for looking outside, and for
 * rota_query(). One thread at a time; every statement is reset before a call
 * returns, so that no reader pins the log.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/connection.h"
#include "store/sqlite/lanes.h"
#include "store/store.h"

/* So many jobs in a row that were made too late: the rest were, too. */
#define YOUNG_MAX 1000

struct reader {
    struct connection connection;
    int64_t data_version;
};

enum question {
    DATA_VERSION,
    OUTCOME,
    CANCELS,
    PEERS,
    NEXT_LANE,
    NEXT_DUE,
    IS_UNSETTLED,
    NEXT_HELD,
    QUEUE_IS_OPEN,
    RETAINING,
    PRUNABLE,
    QUESTIONS
};

const char *const reader_questions[QUESTIONS + 1] = {
    [DATA_VERSION] = "PRAGMA data_version",
    [OUTCOME] =
        "SELECT (SELECT state FROM _done d WHERE d.id = j.id),"
        " (SELECT 3 FROM _running r WHERE r.id = j.id),"
        " (SELECT 1 FROM _scheduled s WHERE s.run_at = j.run_at"
        "  AND s.id = j.id), (SELECT code FROM _done d WHERE d.id = j.id),"
        " COALESCE((SELECT attempt FROM _done d WHERE d.id = j.id),"
        "  j.failures), (SELECT cursor FROM _progress p WHERE p.id = j.id),"
        " (SELECT cause FROM _done d WHERE d.id = j.id),"
        " (SELECT 0 FROM _blocked b WHERE b.id = j.id)"
        " FROM _job j WHERE j.id = ?1",
    [CANCELS] = "SELECT id, lease, cancel_reason FROM _running"
                " WHERE process = ?1 AND cancel_at IS NOT NULL",
    [PEERS] = "SELECT id, pid, start_ticks, boot FROM _process"
              " WHERE ended_at IS NULL",
    [NEXT_LANE] = LANE_NEXT,
    [NEXT_DUE] = DUE_NEXT,
    [IS_UNSETTLED] = "SELECT 1 FROM _settle LIMIT 1",
    /* of each key and lane the first, by seeks */
    [NEXT_HELD] = "SELECT * FROM (SELECT key, queue, kind FROM _held"
                  "  WHERE key = ?1 AND queue = ?2 AND kind > ?3"
                  "  ORDER BY kind LIMIT 1)"
                  " UNION ALL SELECT * FROM (SELECT key, queue, kind"
                  "  FROM _held WHERE key = ?1 AND queue > ?2"
                  "  ORDER BY queue, kind LIMIT 1)"
                  " UNION ALL SELECT * FROM (SELECT key, queue, kind"
                  "  FROM _held WHERE key > ?1"
                  "  ORDER BY key, queue, kind LIMIT 1) LIMIT 1",
    [QUEUE_IS_OPEN] = "SELECT 1 FROM _queue WHERE id = ?1"
                      " AND paused_at IS NULL"
                      " AND (owner IS NULL OR owner = ?2)",
    [RETAINING] = "SELECT id, retain_ms FROM _queue"
                  " WHERE retain_ms IS NOT NULL AND id > ?1"
                  " ORDER BY id LIMIT 1",
    [PRUNABLE] = "SELECT d.id, d.finished_at, j.queue, j.created_at"
                 " FROM _done d CROSS JOIN _job j ON j.id = d.id"
                 " WHERE d.id > ?1 ORDER BY d.id",
};

enum rota_error
reader_open(const struct store *store, struct reader **ret_reader)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    enum rota_error error;

    if (reader == NULL)
        return no_memory();
    error = connection_open(&reader->connection, store_path(store), false,
                            reader_questions);
    if (error != ROTA_OK) {
        free(reader);
        return error;
    }
    connection_expect(&reader->connection, store_connection(store));
    reader->data_version = -1;
    *ret_reader = reader;
    return ROTA_OK;
}

void
reader_close(struct reader *reader)
{
    if (reader == NULL)
        return;
    connection_close(&reader->connection);
    free(reader);
}

static sqlite3_stmt *
ask(struct reader *reader, enum question n, enum rota_error *error)
{
    sqlite3_stmt *statement = connection_statement(&reader->connection, (int)n);

    *error =
        statement == NULL ? connection_error(&reader->connection) : ROTA_OK;
    return statement;
}

bool
reader_has_moved(struct reader *reader)
{
    return connection_has_moved(&reader->connection);
}

bool
reader_changed(struct reader *reader)
{
    enum rota_error error;
    sqlite3_stmt *statement = ask(reader, DATA_VERSION, &error);
    int64_t version;
    bool changed;

    if (statement == NULL || sqlite3_step(statement) != SQLITE_ROW) {
        (void)sqlite3_reset(statement);
        return true;
    }
    version = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    changed = version != reader->data_version;
    reader->data_version = version;
    return changed;
}

enum rota_error
reader_outcome(struct reader *reader, int64_t id,
               struct rota_outcome *ret_outcome)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, OUTCOME, &error);
    const unsigned char *cause;
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&reader->connection, s, &row);
    if (error == ROTA_OK && !row) {
        message_set("there is no job %" PRId64, id);
        error = ROTA_NOTFOUND;
    }
    if (error != ROTA_OK)
        return error;
    ret_outcome->state =
        sqlite3_column_type(s, 0) != SQLITE_NULL
            ? (enum rota_state)sqlite3_column_int(s, 0)
        : sqlite3_column_type(s, 1) != SQLITE_NULL ? ROTA_RUNNING
        : sqlite3_column_type(s, 2) != SQLITE_NULL ? ROTA_SCHEDULED
        : sqlite3_column_type(s, 7) != SQLITE_NULL ? ROTA_BLOCKED
                                                   : ROTA_READY;
    ret_outcome->error = (enum rota_error)sqlite3_column_int(s, 3);
    ret_outcome->attempts = sqlite3_column_int64(s, 4);
    ret_outcome->cursor = sqlite3_column_int64(s, 5);
    cause = sqlite3_column_text(s, 6);
    if (cause == NULL && sqlite3_column_type(s, 6) != SQLITE_NULL)
        error = no_memory();
    if (ret_outcome->state == ROTA_SUCCEEDED)
        cause = NULL; /* it tells of a cancel that came too late */
    (void)snprintf(ret_outcome->message, sizeof(ret_outcome->message), "%s",
                   cause == NULL ? "" : (const char *)cause);
    (void)sqlite3_reset(s);
    return error;
}

enum rota_error
reader_cancels(struct reader *reader, int64_t process, reader_cancel_fn *fn,
               void *arg)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, CANCELS, &error);
    bool row;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, process);
    while ((error = connection_row(&reader->connection, s, &row)) == ROTA_OK &&
           row)
        fn(arg, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
           (const char *)sqlite3_column_text(s, 2));
    return error;
}

enum rota_error
reader_peers(struct reader *reader, reader_peer_fn *fn, void *arg)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, PEERS, &error);
    bool row;

    if (s == NULL)
        return error;
    while ((error = connection_row(&reader->connection, s, &row)) == ROTA_OK &&
           row) {
        const char *boot = (const char *)sqlite3_column_text(s, 3);
        struct peer peer = {.id = sqlite3_column_int64(s, 0),
                            .pid = sqlite3_column_int64(s, 1),
                            .start_ticks = sqlite3_column_int64(s, 2),
                            .boot = boot == NULL ? "" : boot};

        fn(arg, &peer);
    }
    return error;
}

/* The first column of a question's row, or otherwise. */
static enum rota_error
ask_number(struct reader *reader, enum question n, int64_t otherwise,
           int64_t *ret_number)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, n, &error);
    bool row = false;

    if (s == NULL)
        return error;
    *ret_number = otherwise;
    error = connection_row(&reader->connection, s, &row);
    if (row && sqlite3_column_type(s, 0) != SQLITE_NULL)
        *ret_number = sqlite3_column_int64(s, 0);
    (void)sqlite3_reset(s);
    return error;
}

static enum rota_error
look_at_lanes(struct reader *reader, const struct scope *scope,
              struct waiting *waiting)
{
    enum rota_error error;
    sqlite3_stmt *lane = ask(reader, NEXT_LANE, &error);
    int64_t queue = scope->queue != 0 ? scope->queue : INT64_MIN;
    int64_t kind = INT64_MIN;
    bool row = false, is_ours, is_full;

    if (lane == NULL)
        return error;
    do {
        (void)sqlite3_bind_int64(lane, 1, queue);
        (void)sqlite3_bind_int64(lane, 2, kind);
        error = connection_row(&reader->connection, lane, &row);
        if (error != ROTA_OK || !row)
            break;
        queue = sqlite3_column_int64(lane, 0);
        kind = sqlite3_column_int64(lane, 1);
        is_ours = (scope->queue == 0 || queue == scope->queue) &&
                  scope_has_lane(scope, lane);
        is_full = lane_is_full(lane);
        (void)sqlite3_reset(lane);
        waiting->ready |= is_ours && !is_full;
        waiting->limited |= is_ours && is_full;
    } while (!waiting->ready && (scope->queue == 0 || queue == scope->queue));
    return error;
}

/* Whether the scope's process may claim in the queue. */
static enum rota_error
queue_is_open(struct reader *reader, const struct scope *scope, int64_t queue,
              bool *ret_open)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, QUEUE_IS_OPEN, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, queue);
    (void)sqlite3_bind_int64(s, 2, scope->process);
    error = connection_row(&reader->connection, s, ret_open);
    (void)sqlite3_reset(s);
    return error;
}

/* Whether a job of the scope's is held. */
static enum rota_error
look_at_held(struct reader *reader, const struct scope *scope,
             struct waiting *waiting)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = ask(reader, NEXT_HELD, &error);
    int64_t queue = INT64_MIN, kind = INT64_MIN;
    char *key = strdup("");
    bool row = s != NULL && key != NULL;

    if (s != NULL && key == NULL)
        error = no_memory();
    while (row && !waiting->limited) {
        (void)sqlite3_bind_text(s, 1, key, -1, SQLITE_TRANSIENT);
        (void)sqlite3_bind_int64(s, 2, queue);
        (void)sqlite3_bind_int64(s, 3, kind);
        error = connection_row(&reader->connection, s, &row);
        if (error != ROTA_OK || !row)
            break;
        free(key);
        error = column_text(s, 0, &key);
        queue = sqlite3_column_int64(s, 1);
        kind = sqlite3_column_int64(s, 2);
        (void)sqlite3_reset(s);
        if (error != ROTA_OK)
            break;
        if ((scope->queue == 0 || queue == scope->queue) &&
            scope_has_kind(scope, kind))
            error = queue_is_open(reader, scope, queue, &waiting->limited);
        row = error == ROTA_OK;
    }
    free(key);
    return error;
}

enum rota_error
reader_waiting(struct reader *reader, const struct scope *scope,
               struct waiting *ret_waiting)
{
    struct waiting waiting = {0};
    int64_t unsettled = 0;
    enum rota_error error =
        ask_number(reader, NEXT_DUE, INT64_MAX, &waiting.next);

    if (error == ROTA_OK)
        error = ask_number(reader, IS_UNSETTLED, 0, &unsettled);
    waiting.unsettled = unsettled != 0;
    if (error == ROTA_OK)
        error = look_at_lanes(reader, scope, &waiting);
    if (error == ROTA_OK && !waiting.ready)
        error = look_at_held(reader, scope, &waiting);
    if (error == ROTA_OK)
        *ret_waiting = waiting;
    return error;
}

enum rota_error
reader_retaining(struct reader *reader, int64_t *queue, int64_t *ret_ms)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, RETAINING, &error);
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, *queue);
    error = connection_row(&reader->connection, s, &row);
    *queue = row ? sqlite3_column_int64(s, 0) : 0;
    *ret_ms = row ? sqlite3_column_int64(s, 1) : 0;
    (void)sqlite3_reset(s);
    return error;
}

enum rota_error
reader_prunable(struct reader *reader, int64_t queue, int64_t before,
                int64_t *last, int64_t *ids, size_t n, size_t *ret_n)
{
    enum rota_error error;
    sqlite3_stmt *s = ask(reader, PRUNABLE, &error);
    bool row = true;
    size_t found = 0, young = 0;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, *last);
    while (found < n && error == ROTA_OK && row) {
        error = connection_row(&reader->connection, s, &row);
        /* what was made later has not ended before; but clocks are set */
        young = row && sqlite3_column_int64(s, 3) >= before ? young + 1 : 0;
        row = row && young < YOUNG_MAX;
        if (!row)
            break;
        *last = sqlite3_column_int64(s, 0);
        if (sqlite3_column_int64(s, 1) < before &&
            sqlite3_column_int64(s, 2) == queue)
            ids[found++] = *last;
    }
    (void)sqlite3_reset(s);
    if (!row)
        *last = INT64_MAX;
    *ret_n = found;
    return error;
}

/* -- rota_query() --------------------------------------------------------- */

#define ONLY_READS                                                          \
    "this connection only reads; jobs are submitted and cancelled by rota " \
    "add, rota cancel, or INSERT from the sqlite3 shell"

static void
query_bind(sqlite3_stmt *statement, const struct rota_value *params, int n)
{
    for (int i = 0; i < n; i++) {
        const struct rota_value *value = &params[i];

        switch (value->type) {
        case ROTA_NULL:
            (void)sqlite3_bind_null(statement, i + 1);
            break;
        case ROTA_INTEGER:
            (void)sqlite3_bind_int64(statement, i + 1, value->integer);
            break;
        case ROTA_REAL:
            (void)sqlite3_bind_double(statement, i + 1, value->real);
            break;
        case ROTA_TEXT:
            (void)sqlite3_bind_text64(statement, i + 1, value->data,
                                      value->size, SQLITE_STATIC, SQLITE_UTF8);
            break;
        case ROTA_BLOB:
            (void)sqlite3_bind_blob64(statement, i + 1, value->data,
                                      value->size, SQLITE_STATIC);
            break;
        }
    }
}

static struct rota_value
query_value(sqlite3_stmt *statement, int column)
{
    struct rota_value value = {.type = ROTA_NULL};

    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        value.type = ROTA_INTEGER;
        value.integer = sqlite3_column_int64(statement, column);
        break;
    case SQLITE_FLOAT:
        value.type = ROTA_REAL;
        value.real = sqlite3_column_double(statement, column);
        break;
    case SQLITE_TEXT:
        value.type = ROTA_TEXT;
        value.data = (const char *)sqlite3_column_text(statement, column);
        value.size = (size_t)sqlite3_column_bytes(statement, column);
        break;
    case SQLITE_BLOB:
        value.type = ROTA_BLOB;
        value.data = sqlite3_column_blob(statement, column);
        value.size = (size_t)sqlite3_column_bytes(statement, column);
        break;
    default:
        break;
    }
    return value;
}

/* The connection cannot write anyway; what else a look has no business with.
 * A pragma with a value changes a setting, but for those that ask so. */
static int
query_allows(void *arg, int action, const char *a, const char *b,
             const char *database, const char *trigger)
{
    static const char *const asking[] = {
        "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo"};

    (void)arg;
    (void)database;
    (void)trigger;
    switch (action) {
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return SQLITE_DENY;
    case SQLITE_FUNCTION:
        return strcmp(b, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_PRAGMA:
        for (size_t i = 0; b != NULL && i < sizeof(asking) / sizeof(*asking);
             i++)
            if (strcmp(a, asking[i]) == 0)
                return SQLITE_OK;
        return b == NULL ? SQLITE_OK : SQLITE_DENY;
    default:
        return SQLITE_OK;
    }
}

/* A failure of the statement's own, such as a function that refuses, is the
 * asker's; the rest is the store's. */
static enum rota_error
query_error(struct reader *reader, int code)
{
    enum rota_error error = connection_error(&reader->connection);

    if ((code & 0xff) == SQLITE_INTERRUPT)
        return ROTA_CANCELED;
    if ((code & 0xff) == SQLITE_AUTH) {
        message_set(ONLY_READS);
        return ROTA_INVALID;
    }
    if ((code & 0xff) != SQLITE_ERROR && (code & 0xff) != SQLITE_MISMATCH &&
        (code & 0xff) != SQLITE_TOOBIG)
        return error;
    message_set("%s", sqlite3_errmsg(reader->connection.db));
    return ROTA_INVALID;
}

/* False if there is no memory for a name. */
static bool
query_names(sqlite3_stmt *statement, const char **names, int n)
{
    for (int i = 0; i < n; i++) {
        names[i] = sqlite3_column_name(statement, i);
        if (names[i] == NULL)
            return false;
    }
    return true;
}

static bool
query_values(sqlite3_stmt *statement, struct rota_value *values, int n)
{
    for (int i = 0; i < n; i++) {
        values[i] = query_value(statement, i);
        if (values[i].type == ROTA_TEXT && values[i].data == NULL)
            return false;
    }
    return true;
}

static enum rota_error
query_rows(struct reader *reader, sqlite3_stmt *statement, rota_row_fn *fn,
           void *arg)
{
    /* the first step may prepare the statement anew: names come after it */
    int code = sqlite3_step(statement), n = sqlite3_column_count(statement);
    size_t room = n > 0 ? (size_t)n : 1;
    const char **names = calloc(room, sizeof(*names));
    struct rota_value *values = calloc(room, sizeof(*values));
    bool has_memory =
        names != NULL && values != NULL && query_names(statement, names, n);
    bool more = has_memory && (code == SQLITE_ROW || code == SQLITE_DONE) &&
                fn(arg, n, names, NULL);

    while (more && code == SQLITE_ROW) {
        has_memory = query_values(statement, values, n);
        more = has_memory && fn(arg, n, names, values);
        if (more)
            code = sqlite3_step(statement);
    }
    free(names);
    free(values);
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        return query_error(reader, code);
    return has_memory ? ROTA_OK : no_memory();
}

enum rota_error
reader_query(struct reader *reader, const char *sql,
             const struct rota_value *params, int n, rota_row_fn *fn, void *arg)
{
    sqlite3 *db = reader->connection.db;
    sqlite3_stmt *statement = NULL;
    const char *tail = "";
    enum rota_error error;
    int code;

    (void)sqlite3_set_authorizer(db, query_allows, NULL);
    code = sqlite3_prepare_v2(db, sql, -1, &statement, &tail);
    if (code != SQLITE_OK) {
        error = query_error(reader, code);
    } else if (statement == NULL || tail[strspn(tail, " \t\r\n;")] != '\0') {
        message_set("one SQL statement is wanted");
        error = ROTA_INVALID;
    } else if (!sqlite3_stmt_readonly(statement)) {
        message_set(ONLY_READS);
        error = ROTA_INVALID;
    } else {
        query_bind(statement, params, n);
        error = query_rows(reader, statement, fn, arg);
    }
    (void)sqlite3_finalize(statement);
    (void)sqlite3_set_authorizer(db, NULL, NULL);
    return error;
}

struct sqlite3 *
reader_db(struct reader *reader)
{
    return reader->connection.db;
}
