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

#include "base.h"
#include "store/connection.h"
#include "store/lane.h"
#include "store/store.h"

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
    QUESTIONS
};

static const char *const questions[QUESTIONS] = {
    [DATA_VERSION] = "PRAGMA data_version",
    [OUTCOME] =
        "SELECT (SELECT state FROM _done d WHERE d.id = j.id),"
        " (SELECT 3 FROM _running r WHERE r.id = j.id),"
        " (SELECT 1 FROM _scheduled s WHERE s.run_at = j.run_at"
        "  AND s.id = j.id), (SELECT code FROM _done d WHERE d.id = j.id),"
        " COALESCE((SELECT attempt FROM _done d WHERE d.id = j.id),"
        "  j.failures), (SELECT cursor FROM _progress p WHERE p.id = j.id),"
        " (SELECT cause FROM _done d WHERE d.id = j.id)"
        " FROM _job j WHERE j.id = ?1",
    [CANCELS] = "SELECT id, lease, cancel_reason FROM _running"
                " WHERE process = ?1 AND cancel_at IS NOT NULL",
    [PEERS] = "SELECT id, pid, start_ticks, boot FROM _process"
              " WHERE ended_at IS NULL",
    [NEXT_LANE] = LANE_NEXT,
    [NEXT_DUE] = "SELECT min(run_at) FROM _scheduled",
};

enum rota_error
reader_open(const char *path, struct reader **ret_reader)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    enum rota_error error;

    if (reader == NULL)
        return ROTA_NOMEM;
    error = connection_open(&reader->connection, path, false, questions);
    if (error != ROTA_OK) {
        free(reader);
        return error;
    }
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
                                                   : ROTA_READY;
    ret_outcome->error = (enum rota_error)sqlite3_column_int(s, 3);
    ret_outcome->attempts = sqlite3_column_int64(s, 4);
    ret_outcome->cursor = sqlite3_column_int64(s, 5);
    cause = sqlite3_column_text(s, 6);
    if (ret_outcome->state == ROTA_SUCCEEDED)
        cause = NULL; /* it tells of a cancel that came too late */
    (void)snprintf(ret_outcome->message, sizeof(ret_outcome->message), "%s",
                   cause == NULL ? "" : (const char *)cause);
    (void)sqlite3_reset(s);
    return ROTA_OK;
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

enum rota_error
reader_waiting(struct reader *reader, const struct scope *scope,
               bool *ret_ready, int64_t *ret_next)
{
    enum rota_error error;
    sqlite3_stmt *due = ask(reader, NEXT_DUE, &error), *lane;
    int64_t queue = scope->queue != 0 ? scope->queue : INT64_MIN;
    int64_t kind = INT64_MIN;
    bool row = false;

    if (due == NULL)
        return error;
    *ret_next = INT64_MAX;
    *ret_ready = false;
    error = connection_row(&reader->connection, due, &row);
    if (row && sqlite3_column_type(due, 0) != SQLITE_NULL)
        *ret_next = sqlite3_column_int64(due, 0);
    (void)sqlite3_reset(due);
    lane = error == ROTA_OK ? ask(reader, NEXT_LANE, &error) : NULL;
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
        if (scope->queue != 0 && queue != scope->queue)
            break;
        *ret_ready = scope_has_lane(scope, lane);
        (void)sqlite3_reset(lane);
    } while (!*ret_ready);
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

    if ((code & 0xff) != SQLITE_ERROR && (code & 0xff) != SQLITE_MISMATCH &&
        (code & 0xff) != SQLITE_TOOBIG)
        return error;
    message_set("%s", sqlite3_errmsg(reader->connection.db));
    return ROTA_INVALID;
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
    enum rota_error error = ROTA_NOMEM;
    bool more = code == SQLITE_ROW || code == SQLITE_DONE;

    if (names == NULL || values == NULL)
        goto out;
    for (int i = 0; i < n; i++)
        names[i] = sqlite3_column_name(statement, i);
    more = more && fn(arg, n, names, NULL);
    while (more && code == SQLITE_ROW) {
        for (int i = 0; i < n; i++)
            values[i] = query_value(statement, i);
        more = fn(arg, n, names, values);
        if (more)
            code = sqlite3_step(statement);
    }
    error = ROTA_OK;
    if (code == SQLITE_INTERRUPT)
        error = ROTA_CANCELED;
    else if (code != SQLITE_DONE && code != SQLITE_ROW)
        error = query_error(reader, code);
out:
    free(names);
    free(values);
    return error;
}

enum rota_error
reader_query(struct reader *reader, const char *sql,
             const struct rota_value *params, int n, rota_row_fn *fn, void *arg)
{
    sqlite3 *db = reader->connection.db;
    sqlite3_stmt *statement = NULL;
    const char *tail = "";
    enum rota_error error;

    (void)sqlite3_set_authorizer(db, query_allows, NULL);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, &tail) != SQLITE_OK) {
        if (sqlite3_errcode(db) == SQLITE_AUTH)
            message_set(ONLY_READS);
        else
            message_set("%s", sqlite3_errmsg(db));
        error = ROTA_INVALID;
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
