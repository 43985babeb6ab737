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

/* A row that breaks a constraint is one that is there already, or lacks what it
 * must have: none of ours does in a file that is whole. What a command refuses
 * is another matter. */
static enum rota_error
step_error(struct connection *connection)
{
    int code = sqlite3_extended_errcode(connection->db);

    if ((code & 0xff) == SQLITE_CONSTRAINT && code != SQLITE_CONSTRAINT_TRIGGER)
        return connection_damage(connection, "%s (SQLite %d)",
                                 sqlite3_errmsg(connection->db), code);
    return connection_error(connection);
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
        stmt->error = step_error(stmt->connection);
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

/* What the column is called, for a message. */
static const char *
column_name(const struct stmt *stmt, int column)
{
    const char *name = sqlite3_column_name(stmt->s, column);

    return name == NULL ? "a column" : name;
}

int64_t
stmt_integer(struct stmt *stmt, int column)
{
    if (sqlite3_column_type(stmt->s, column) == SQLITE_INTEGER)
        return sqlite3_column_int64(stmt->s, column);
    (void)stmt_check(stmt, connection_damage(stmt->connection,
                                             "%.60s of a row is no integer",
                                             column_name(stmt, column)));
    return 0;
}

int64_t
stmt_integer_or(struct stmt *stmt, int column, int64_t otherwise)
{
    return sqlite3_column_type(stmt->s, column) == SQLITE_NULL
               ? otherwise
               : stmt_integer(stmt, column);
}

enum rota_error
stmt_number(struct stmt *stmt, int64_t *ret_number)
{
    if (stmt_next(stmt))
        *ret_number = stmt_integer_or(stmt, 0, *ret_number);
    return stmt_end(stmt);
}

char *
stmt_words(struct stmt *stmt, int column)
{
    const unsigned char *text;
    char *copy;

    if (sqlite3_column_type(stmt->s, column) == SQLITE_NULL)
        return NULL;
    text = sqlite3_column_text(stmt->s, column);
    /* a blob of no bytes is no text either */
    copy = text != NULL || sqlite3_column_bytes(stmt->s, column) > 0
               ? text == NULL ? NULL : strdup((const char *)text)
               : strdup("");
    if (copy == NULL)
        (void)stmt_check(stmt, no_memory());
    return copy;
}

char *
stmt_key(struct stmt *stmt, int column)
{
    int type = sqlite3_column_type(stmt->s, column);
    char *key = stmt_words(stmt, column);

    if (key == NULL ||
        (type == SQLITE_TEXT &&
         strlen(key) == (size_t)sqlite3_column_bytes(stmt->s, column)))
        return key;
    free(key);
    (void)stmt_check(stmt, connection_damage(stmt->connection,
                                             "%.60s of a row is no key",
                                             column_name(stmt, column)));
    return NULL;
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
stmt_run_one(struct stmt *stmt)
{
    int64_t changed = 0;
    enum rota_error error = stmt_run(stmt, &changed);

    if (error != ROTA_OK || changed == 1)
        return error;
    return connection_damage(stmt->connection,
                             "a row of it is not found where it was seen");
}

static struct stmt
stmt_with(struct connection *connection, const struct statement *statement,
          int n, const int64_t *values)
{
    struct stmt stmt = stmt_of(connection, statement);

    for (int i = 0; i < n; i++)
        (void)sqlite3_bind_int64(stmt.s, i + 1, values[i]);
    return stmt;
}

enum rota_error
statement_run(struct connection *connection, const struct statement *statement,
              int64_t *ret_changed, int n, const int64_t *values)
{
    struct stmt stmt = stmt_with(connection, statement, n, values);

    return stmt_run(&stmt, ret_changed);
}

enum rota_error
statement_run_one(struct connection *connection,
                  const struct statement *statement, int n,
                  const int64_t *values)
{
    struct stmt stmt = stmt_with(connection, statement, n, values);

    return stmt_run_one(&stmt);
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
