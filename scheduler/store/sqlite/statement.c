#define _GNU_SOURCE
#include "store/sqlite/statement.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/text.h"

/* -- Reading -------------------------------------------------------------- */

static sqlite3_stmt *
prepare(struct connection *connection, const struct statement *statement)
{
    sqlite3_stmt **prepared =
        &connection->statements[statement - __start_rota_sql];

    if (*prepared == NULL && sqlite3_prepare_v3(connection->db, statement->sql,
                                                -1, SQLITE_PREPARE_PERSISTENT,
                                                prepared, NULL) != SQLITE_OK)
        return NULL;
    return *prepared;
}

struct stmt
stmt_of(struct connection *connection, const struct statement *statement)
{
    struct stmt stmt = {.connection = connection,
                        .s = prepare(connection, statement)};

    if (stmt.s == NULL)
        stmt.error = connection_error(connection);
    return stmt;
}

/* Once only: a statement that has been reset would begin anew. */
static void
stmt_reset(struct stmt *stmt)
{
    if (stmt->s != NULL && !stmt->has_ended)
        (void)sqlite3_reset(stmt->s);
    stmt->has_ended = true;
}

bool
stmt_next(struct stmt *stmt)
{
    int code;

    if (stmt->error != ROTA_OK || stmt->has_ended)
        return false;
    code = sqlite3_step(stmt->s);
    if (code == SQLITE_ROW)
        return true;
    if (code != SQLITE_DONE)
        stmt->error = connection_error(stmt->connection);
    stmt_reset(stmt);
    return false;
}

bool
stmt_check(struct stmt *stmt, enum rota_error error)
{
    if (stmt->error == ROTA_OK)
        stmt->error = error;
    return stmt->error == ROTA_OK;
}

enum rota_error
stmt_end(struct stmt *stmt)
{
    stmt_reset(stmt);
    return stmt->error;
}

enum rota_error
stmt_exists(struct stmt *stmt, bool *ret_exist)
{
    *ret_exist = stmt_next(stmt);
    return stmt_end(stmt);
}

enum rota_error
stmt_number(struct stmt *stmt, int64_t *ret_number)
{
    if (stmt_next(stmt) && sqlite3_column_type(stmt->s, 0) != SQLITE_NULL)
        *ret_number = sqlite3_column_int64(stmt->s, 0);
    return stmt_end(stmt);
}

enum rota_error
column_text(sqlite3_stmt *statement, int column, char **ret_text)
{
    const unsigned char *text;

    *ret_text = NULL;
    if (sqlite3_column_type(statement, column) == SQLITE_NULL)
        return ROTA_OK;
    text = sqlite3_column_text(statement, column);
    if (text != NULL)
        *ret_text = strdup((const char *)text);
    return *ret_text == NULL ? no_memory() : ROTA_OK;
}

/* -- Writing -------------------------------------------------------------- */

enum rota_error
stmt_run(struct stmt *stmt, int64_t *ret_changed)
{
    if (stmt->error != ROTA_OK)
        return stmt->error;
    if (stmt_next(stmt))
        stmt->error = ROTA_STORE; /* it was to return none */
    else if (stmt->error == ROTA_OK && ret_changed != NULL)
        *ret_changed = sqlite3_changes(stmt->connection->db);
    return stmt_end(stmt);
}

enum rota_error
statement_run(struct connection *connection, const struct statement *statement,
              int64_t *ret_changed, int n, const int64_t *values)
{
    struct stmt stmt = stmt_of(connection, statement);

    for (int i = 0; i < n; i++)
        (void)sqlite3_bind_int64(stmt.s, i + 1, values[i]);
    return stmt_run(&stmt, ret_changed);
}

void
bind_positive(sqlite3_stmt *statement, int at, int64_t value)
{
    if (value > 0)
        (void)sqlite3_bind_int64(statement, at, value);
    else
        (void)sqlite3_bind_null(statement, at);
}

void
bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

void
bind_data(sqlite3_stmt *statement, int at, const void *data, size_t size,
          bool is_blob)
{
    if (data == NULL)
        (void)sqlite3_bind_null(statement, at);
    else if (!is_blob && text_is_utf8(data, size))
        (void)sqlite3_bind_text64(statement, at, data, size, SQLITE_STATIC,
                                  SQLITE_UTF8);
    else
        (void)sqlite3_bind_blob64(statement, at, data, size, SQLITE_STATIC);
}
