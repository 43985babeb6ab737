/*
 * See table.h. Rows are inserted one by one, for SQLite then undoes the one
 * that it refuses and no other. The refused row goes to _rota_import_bad in the
 * same transaction, so that both are there or neither, whenever the job is
 * stopped.
 */
#define _GNU_SOURCE /* strdup */
#include "jobs/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "jobs/excerpt.h"
#include "jobs/statement.h"
#include "jobs/utf8.h"

void
table_fini(struct table *table)
{
    for (size_t i = 0; i < table->n; i++) {
        free(table->columns[i].name);
        free(table->columns[i].type);
    }
    free(table->columns);
    free(table->sorted);
}

enum rota_error
table_fail(struct table *table, enum rota_error code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    excerpt_vprint(table->message, sizeof(table->message), format, args);
    va_end(args);
    return code;
}

/* What SQLite's last answer means for the job: its context may have
 * interrupted the statement. */
enum rota_error
table_db_fail(struct table *table, sqlite3 *db)
{
    char words[400];

    statement_says(db, words, sizeof(words));
    (void)table_fail(table, ROTA_STORE, "%s: %s",
                     sqlite3_db_filename(db, "main"), words);
    return ctx_done(table->ctx) ? ctx_err(table->ctx) : ROTA_STORE;
}

static enum rota_error
run(struct table *table, sqlite3 *db, const char *sql)
{
    if (sql == NULL)
        return table_fail(table, ROTA_NOMEM, "out of memory");
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return table_db_fail(table, db);
    return ROTA_OK;
}

/* -- Who we are ---------------------------------------------------------- */

/* The number that text gives for this job. */
static enum rota_error
take_up(struct table *table, sqlite3 *db, const char *text, int64_t *ret_n)
{
    sqlite3_stmt *statement;
    enum rota_error error = ROTA_OK;
    int rc;

    if (statement_prepare(table->job, db, text, &statement) != SQLITE_OK)
        return table_db_fail(table, db);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        *ret_n = sqlite3_column_int64(statement, 0);
    else if (rc != SQLITE_DONE)
        error = table_db_fail(table, db);
    (void)sqlite3_finalize(statement);
    return error;
}

enum rota_error
table_take_up(struct table *table, sqlite3 *db)
{
    enum rota_error error = take_up(table, db,
                                    "SELECT count(*) FROM main._rota_import_bad"
                                    " WHERE queue = ?1 AND job = ?2",
                                    &table->bad);

    if (error == ROTA_OK &&
        sqlite3_table_column_metadata(db, "main", "_rota_import", NULL, NULL,
                                      NULL, NULL, NULL, NULL) == SQLITE_OK)
        error = take_up(table, db,
                        "SELECT ignored FROM main._rota_import"
                        " WHERE queue = ?1 AND job = ?2",
                        &table->ignored);
    return error;
}

void
table_first_bad(struct table *table, sqlite3 *db, char *text, size_t size)
{
    sqlite3_stmt *statement;

    text[0] = '\0';
    if (statement_prepare(table->job, db,
                          "SELECT line, reason FROM main._rota_import_bad"
                          " WHERE queue = ?1 AND job = ?2"
                          " ORDER BY line LIMIT 1",
                          &statement) != SQLITE_OK)
        return;
    if (sqlite3_step(statement) == SQLITE_ROW)
        (void)snprintf(text, size, "line %lld: %s",
                       sqlite3_column_int64(statement, 0),
                       (const char *)sqlite3_column_text(statement, 1));
    (void)sqlite3_finalize(statement);
}

/* -- Making -------------------------------------------------------------- */

static enum rota_error
create(struct table *table, sqlite3 *db)
{
    sqlite3_str *sql = sqlite3_str_new(db);
    enum rota_error error;
    char *text;

    sqlite3_str_appendf(sql, "CREATE TABLE main.\"%w\"(", table->name);
    for (size_t i = 0; i < table->n; i++)
        sqlite3_str_appendf(
            sql, "%s\"%w\" %s", i > 0 ? ", " : "", table->columns[i].name,
            table->columns[i].type[0] != '\0' ? table->columns[i].type
                                              : "TEXT");
    sqlite3_str_appendall(sql, ")");
    text = sqlite3_str_finish(sql);
    error = run(table, db, text);
    sqlite3_free(text);
    return error;
}

/* The table's columns that can be written: how many there are, how many of
 * them are ours, and their names in a row. */
static enum rota_error
look(struct table *table, sqlite3 *db, size_t *ret_n, size_t *ret_ours,
     char names[256])
{
    sqlite3_stmt *statement;
    size_t used = 0;
    int rc;

    *ret_n = *ret_ours = 0;
    names[0] = '\0';
    if (sqlite3_prepare_v2(db,
                           "SELECT name, EXISTS (SELECT 1 FROM"
                           " main.sqlite_schema WHERE type = 'view'"
                           " AND tbl_name = ?1 COLLATE NOCASE)"
                           " FROM pragma_table_xinfo(?1, 'main')"
                           " WHERE hidden = 0",
                           -1, &statement, NULL) != SQLITE_OK)
        return table_db_fail(table, db);
    (void)sqlite3_bind_text(statement, 1, table->name, -1, SQLITE_STATIC);
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        int n;

        if (name == NULL)
            continue;
        n = snprintf(names + used, 256 - used, "%s%s", *ret_n > 0 ? ", " : "",
                     name);
        used = n > 0 && used + (size_t)n < 256 ? used + (size_t)n : 255;
        *ret_ours += table_has_column(table, name);
        table->is_view = sqlite3_column_int(statement, 1) != 0;
        ++*ret_n;
    }
    (void)sqlite3_finalize(statement);
    return rc == SQLITE_DONE ? ROTA_OK : table_db_fail(table, db);
}

/* Name one of our columns that the table does not have. */
static const char *
unknown_column(const struct table *table, sqlite3 *db)
{
    for (size_t i = 0; i < table->n; i++)
        if (sqlite3_table_column_metadata(db, "main", table->name,
                                          table->columns[i].name, NULL, NULL,
                                          NULL, NULL, NULL) != SQLITE_OK)
            return table->columns[i].name;
    return "(generated)";
}

enum rota_error
table_make(sqlite3 *db, void *arg)
{
    struct table *table = arg;
    enum rota_error error;
    size_t n, ours;
    char names[256];

    error = look(table, db, &n, &ours, names);
    if (error == ROTA_OK && n == 0)
        error = create(table, db);
    else if (error == ROTA_OK && ours < table->n)
        error = table_fail(table, ROTA_FATAL,
                           "table %s has no column %s: it has %s", table->name,
                           unknown_column(table, db), names);
    if (error != ROTA_OK)
        return error;
    return run(table, db,
               "CREATE TABLE IF NOT EXISTS main._rota_import_bad("
               "queue TEXT NOT NULL, job INTEGER NOT NULL,"
               " line INTEGER NOT NULL, reason TEXT NOT NULL, row)");
}

/* -- Inserting ----------------------------------------------------------- */

static sqlite3_stmt *
prepare_insert(struct table *table, sqlite3 *db)
{
    sqlite3_str *sql = sqlite3_str_new(db);
    sqlite3_stmt *statement = NULL;
    char *text;

    sqlite3_str_appendf(sql, "INSERT INTO main.\"%w\"(", table->name);
    for (size_t i = 0; i < table->n; i++)
        sqlite3_str_appendf(sql, "%s\"%w\"", i > 0 ? "," : "",
                            table->columns[i].name);
    sqlite3_str_appendall(sql, ") VALUES(");
    for (size_t i = 0; i < table->n; i++)
        sqlite3_str_appendf(sql, "%s?%d", i > 0 ? "," : "", (int)i + 1);
    sqlite3_str_appendall(sql, ")");
    text = sqlite3_str_finish(sql);
    if (text != NULL)
        (void)sqlite3_prepare_v2(db, text, -1, &statement, NULL);
    sqlite3_free(text);
    return statement;
}

static int
bind(sqlite3_stmt *statement, int i, const char *data, size_t size,
     bool is_text)
{
    if (is_text)
        return sqlite3_bind_text(statement, i, data, (int)size, SQLITE_STATIC);
    return sqlite3_bind_blob(statement, i, data, (int)size, SQLITE_STATIC);
}

static int
bind_field(sqlite3_stmt *statement, int i, const char *text,
           const struct row_field *field)
{
    if (field->is_null)
        return sqlite3_bind_null(statement, i);
    return bind(statement, i, text + field->at, field->size, field->is_text);
}

static enum rota_error
insert_bad(struct table *table, sqlite3 *db, const struct row *row,
           const char *reason)
{
    const char *raw = table->group->text + row->raw;
    sqlite3_stmt *statement;
    int rc;

    if (statement_prepare(table->job, db,
                          "INSERT INTO main._rota_import_bad"
                          " VALUES(?1, ?2, ?3, ?4, ?5)",
                          &statement) != SQLITE_OK)
        return table_db_fail(table, db);
    (void)sqlite3_bind_int64(statement, 3, row->line);
    (void)sqlite3_bind_text(statement, 4, reason, -1, SQLITE_TRANSIENT);
    (void)bind(statement, 5, raw, row->raw_size,
               utf8_is_text(raw, row->raw_size));
    rc = sqlite3_step(statement);
    (void)sqlite3_finalize(statement);
    if (rc != SQLITE_DONE)
        return table_db_fail(table, db);
    table->step_bad++;
    return ROTA_OK;
}

/* SQLite undoes a refused row and nothing else, unless the table's own rule
 * (ON CONFLICT ROLLBACK) takes the whole transaction with it. */
static enum rota_error
refused(struct table *table, sqlite3 *db, const struct row *row)
{
    char reason[512];

    excerpt_print(reason, sizeof(reason), "%s", sqlite3_errmsg(db));
    if (sqlite3_get_autocommit(db))
        return table_fail(table, ROTA_FATAL,
                          "line %" PRId64 ": a rule of table %s rolled the "
                          "transaction back: %s",
                          row->line, table->name, reason);
    return insert_bad(table, db, row, reason);
}

static enum rota_error
insert_row(struct table *table, sqlite3 *db, sqlite3_stmt *statement,
           const struct row *row)
{
    const struct rowset *group = table->group;
    char reason[80];
    int rc;

    if (row->bad != NULL)
        return insert_bad(table, db, row, row->bad);
    if (row->n != table->n) {
        (void)snprintf(reason, sizeof(reason), "%zu field%s instead of %zu",
                       row->n, row->n == 1 ? "" : "s", table->n);
        return insert_bad(table, db, row, reason);
    }
    for (size_t i = 0; i < row->n; i++) {
        if (bind_field(statement, (int)i + 1, group->text,
                       &group->fields[row->first + i]) != SQLITE_OK)
            return table_db_fail(table, db);
    }
    rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE) {
        (void)sqlite3_reset(statement);
        /* what the triggers of a view insert is not counted */
        table->step_ignored += !table->is_view && sqlite3_changes(db) == 0;
        return ROTA_OK;
    }
    (void)sqlite3_reset(statement); /* it answers rc again */
    rc &= 0xff;
    if (rc == SQLITE_CONSTRAINT || rc == SQLITE_MISMATCH)
        return refused(table, db, row);
    return table_db_fail(table, db);
}

/* ON CONFLICT IGNORE and RAISE(IGNORE) let a row fall without a word. */
static enum rota_error
keep_ignored(struct table *table, sqlite3 *db)
{
    sqlite3_stmt *statement;
    enum rota_error error;
    int rc;

    error = run(table, db,
                "CREATE TABLE IF NOT EXISTS main._rota_import(queue TEXT,"
                " job INTEGER, ignored INTEGER,"
                " PRIMARY KEY(queue, job)) WITHOUT ROWID");
    if (error != ROTA_OK)
        return error;
    if (statement_prepare(table->job, db,
                          "INSERT OR REPLACE INTO main._rota_import"
                          " VALUES(?1, ?2, ?3)",
                          &statement) != SQLITE_OK)
        return table_db_fail(table, db);
    (void)sqlite3_bind_int64(statement, 3,
                             table->ignored + table->step_ignored);
    rc = sqlite3_step(statement);
    (void)sqlite3_finalize(statement);
    return rc == SQLITE_DONE ? ROTA_OK : table_db_fail(table, db);
}

enum rota_error
table_insert(sqlite3 *db, void *arg)
{
    struct table *table = arg;
    sqlite3_stmt *statement = prepare_insert(table, db);
    enum rota_error error = ROTA_OK;

    table->step_bad = table->step_ignored = 0;
    if (statement == NULL)
        return table_db_fail(table, db);
    for (size_t i = 0; i < table->group->n && error == ROTA_OK; i++)
        error = insert_row(table, db, statement, &table->group->rows[i]);
    (void)sqlite3_finalize(statement);
    if (error == ROTA_OK && table->step_ignored > 0)
        error = keep_ignored(table, db);
    return error;
}
