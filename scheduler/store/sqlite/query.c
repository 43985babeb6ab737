/*
 * rota_query(): a statement of the caller's on a connection of ours, which only
 * looks, and ends with the caller's context. For the thread that has the
 * reader.
 */
#include <stdlib.h>
#include <string.h>

#include <rota/interrupt.h>

#include "base/base.h"
#include "store/sqlite/reader.h"

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
query_error(struct sqlite_reader *reader, const struct rota_sqlite *bound,
            int code)
{
    enum rota_error error = rota_sqlite_error(bound, code);

    if (error == ROTA_CANCELED || error == ROTA_DEADLINE)
        return error;
    error = connection_error(&reader->connection);
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
query_rows(struct sqlite_reader *reader, const struct rota_sqlite *bound,
           sqlite3_stmt *statement, rota_row_fn *fn, void *arg)
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
        return query_error(reader, bound, code);
    return has_memory ? ROTA_OK : no_memory();
}

static enum rota_error
query_run(struct sqlite_reader *reader, const struct rota_sqlite *bound,
          const char *sql, const struct rota_value *params, int n,
          rota_row_fn *fn, void *arg)
{
    sqlite3 *db = reader->connection.db;
    sqlite3_stmt *statement = NULL;
    const char *tail = "";
    enum rota_error error;
    int code;

    (void)sqlite3_set_authorizer(db, query_allows, NULL);
    code = sqlite3_prepare_v2(db, sql, -1, &statement, &tail);
    if (code != SQLITE_OK) {
        error = query_error(reader, bound, code);
    } else if (statement == NULL || tail[strspn(tail, " \t\r\n;")] != '\0') {
        message_set("one SQL statement is wanted");
        error = ROTA_INVALID;
    } else if (!sqlite3_stmt_readonly(statement)) {
        message_set(ONLY_READS);
        error = ROTA_INVALID;
    } else {
        query_bind(statement, params, n);
        error = query_rows(reader, bound, statement, fn, arg);
    }
    (void)sqlite3_finalize(statement);
    (void)sqlite3_set_authorizer(db, NULL, NULL);
    return error;
}

enum rota_error
sqlite_reader_query(struct ctx *ctx, struct reader *base, const char *sql,
                    const struct rota_value *params, int n, rota_row_fn *fn,
                    void *arg)
{
    struct sqlite_reader *reader = sqlite_reader_of(base);
    enum rota_error error = reader_check(reader);
    struct rota_sqlite bound;

    if (error != ROTA_OK)
        return error;
    rota_sqlite_bind(&bound, ctx, reader->connection.db);
    error = query_run(reader, &bound, sql, params, n, fn, arg);
    rota_sqlite_unbind(&bound);
    return error;
}
