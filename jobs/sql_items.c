/*
 * The items of the kind sql (sql.h): each statement run once, alone or between
 * its BEGIN and COMMIT, in a step of its own as soon as something is written.
 * One thread; no lock.
 */
#define _GNU_SOURCE
#include <inttypes.h>

#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/sql.h"
#include "jobs/statement.h"

/* -- Failures ------------------------------------------------------------ */

/* What SQLite said about the current statement. */
static enum rota_error
fail_statement(struct sql *sql)
{
    int code = sqlite3_errcode(sql->db) & 0xff;
    bool may_pass = code == SQLITE_BUSY || code == SQLITE_LOCKED ||
                    code == SQLITE_FULL || code == SQLITE_IOERR ||
                    code == SQLITE_NOMEM;
    char words[400];

    if (ctx_done(sql->ctx))
        return ctx_err(sql->ctx);
    statement_says(sql->db, words, sizeof(words));
    return rota_job_fail(sql->job, may_pass ? ROTA_FAILED : ROTA_FATAL,
                         "%s, line %" PRId64 ": %s", sql->path,
                         sql->script.begins, words);
}

static enum rota_error
fail_here(struct sql *sql, const char *what)
{
    return rota_job_fail(sql->job, ROTA_FATAL, "%s, line %" PRId64 ": %s",
                         sql->path, sql->script.begins, what);
}

enum rota_error
sql_fail_out(struct sql *sql)
{
    if (sql->sink.problem != NULL)
        return rota_job_fail(sql->job, ROTA_FATAL, "%s, line %" PRId64 ": %s",
                             sql->path, sql->script.begins, sql->sink.problem);
    return files_fail(sql->job, ROTA_FAILED, "write", sql->out);
}

/* The job's answer to error of the library's: what a disk or another process is
 * to blame for may be better next time. */
static enum rota_error
fail_library(struct sql *sql, enum rota_error error)
{
    if (error != ROTA_STORE && error != ROTA_BUSY && error != ROTA_FULL)
        return error;
    return rota_job_fail(sql->job, ROTA_FAILED, "%s",
                         rota_errmsg(rota_job_rota(sql->job)));
}

enum rota_error
sql_next(struct sql *sql, bool *ret_is_end)
{
    *ret_is_end = false;
    if (ctx_done(sql->ctx))
        return ctx_err(sql->ctx);
    switch (script_next(&sql->script)) {
    case SCRIPT_STATEMENT:
        return ROTA_OK;
    case SCRIPT_END:
        *ret_is_end = true;
        return ROTA_OK;
    case SCRIPT_STOPPED:
        return ctx_err(sql->ctx);
    case SCRIPT_NO_MEMORY:
        return ROTA_NOMEM;
    case SCRIPT_IO:
        break;
    }
    return files_fail(sql->job, ROTA_FAILED, "read", sql->path);
}

/* The current statement has its turn. */
static void
note(struct sql *sql)
{
    sql->digest = digest_add(sql->digest, sql->script.text, sql->script.size);
}

/* -- One statement ------------------------------------------------------- */

static enum rota_error
rows(struct sql *sql, sqlite3_stmt *statement)
{
    bool is_first = true;
    int code;

    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (is_first && !sink_names(&sql->sink, statement))
            return sql_fail_out(sql);
        is_first = false;
        if (!sink_row(&sql->sink, statement))
            return sql_fail_out(sql);
    }
    return code == SQLITE_DONE ? ROTA_OK : fail_statement(sql);
}

/* The dump of a file that a job has written makes the tables in which jobs keep
 * what they have done. This job has made them already. */
static bool
is_made_already(struct sql *sql)
{
    char name[64];

    return script_makes_private(&sql->script, name, sizeof(name)) &&
           sqlite3_table_column_metadata(sql->db, "main", name, NULL, NULL,
                                         NULL, NULL, NULL, NULL) == SQLITE_OK;
}

/* *ret_statement is NULL if there is nothing to do. */
static enum rota_error
prepare(struct sql *sql, sqlite3_stmt **ret_statement)
{
    *ret_statement = NULL;
    if (is_made_already(sql))
        return ROTA_OK;
    return sqlite3_prepare_v2(sql->db, sql->script.text,
                              (int)sql->script.size + 1, ret_statement,
                              NULL) == SQLITE_OK
               ? ROTA_OK
               : fail_statement(sql);
}

static enum rota_error
run(struct sql *sql)
{
    sqlite3_stmt *statement = NULL;
    enum rota_error error = prepare(sql, &statement);

    if (error == ROTA_OK && statement != NULL)
        error = rows(sql, statement);
    (void)sqlite3_finalize(statement);
    return error;
}

static enum rota_error
find_whether_it_writes(struct sql *sql, bool *ret_writes)
{
    sqlite3_stmt *statement = NULL;
    enum rota_error error = prepare(sql, &statement);

    if (error == ROTA_OK)
        *ret_writes = statement != NULL && !sqlite3_stmt_readonly(statement);
    (void)sqlite3_finalize(statement);
    return error;
}

static enum rota_error
run_text(struct sql *sql, const char *text)
{
    return sqlite3_exec(sql->db, text, NULL, NULL, NULL) == SQLITE_OK
               ? ROTA_OK
               : fail_statement(sql);
}

/* -- One item ------------------------------------------------------------ */

/* The statements after BEGIN, up to COMMIT. */
static enum rota_error
run_block(struct sql *sql)
{
    enum rota_error error = run_text(sql, "SAVEPOINT _rota_sql");
    int64_t at = sql->cursor + 1;
    bool is_end;

    while (error == ROTA_OK) {
        error = sql_next(sql, &is_end);
        if (error == ROTA_OK && is_end)
            return fail_here(sql, "the script ends inside a transaction");
        if (error != ROTA_OK)
            return error;
        note(sql);
        /* for those who look at it; taken back if the item fails */
        rota_job_advance(sql->job, at++);
        switch (script_role(&sql->script)) {
        case SCRIPT_COMMIT:
            return run_text(sql, "RELEASE _rota_sql");
        case SCRIPT_ROLLBACK:
            return run_text(sql, "ROLLBACK TO _rota_sql; RELEASE _rota_sql");
        case SCRIPT_BEGIN:
            return fail_here(sql, "BEGIN inside a transaction");
        default:
            error = run(sql);
        }
    }
    return error;
}

/* How many statements there are from BEGIN, the current one, to its end. */
static enum rota_error
measure_block(struct sql *sql, int64_t *ret_n)
{
    int64_t line = sql->script.line;
    off_t at = ftello(sql->script.file);
    enum rota_error error = ROTA_OK;
    enum script_role role = SCRIPT_BEGIN;
    bool is_end = false;

    for (*ret_n = 1; error == ROTA_OK && !is_end && role != SCRIPT_COMMIT &&
                     role != SCRIPT_ROLLBACK;
         ++*ret_n) {
        error = sql_next(sql, &is_end);
        if (error == ROTA_OK && !is_end)
            role = script_role(&sql->script);
    }
    if (error == ROTA_OK && fseeko(sql->script.file, at, SEEK_SET) != 0)
        error = files_fail(sql->job, ROTA_FAILED, "read", sql->path);
    sql->script.line = line;
    return error;
}

/* In the item's transaction: how far the file of rows reaches with it. */
static enum rota_error
keep_size(struct sql *sql)
{
    sqlite3_stmt *statement = NULL;
    enum rota_error error;
    int64_t size;

    if (!sink_sync(&sql->sink, &size))
        return sql_fail_out(sql);
    error = run_text(sql, "CREATE TABLE IF NOT EXISTS _rota_sql(queue TEXT,"
                          " job INTEGER, size INTEGER, rows INTEGER,"
                          " PRIMARY KEY(queue, job)) WITHOUT ROWID");
    if (error != ROTA_OK)
        return error;
    if (statement_prepare(sql->job, sql->db,
                          "INSERT OR REPLACE INTO _rota_sql"
                          " VALUES(?1, ?2, ?3, ?4)",
                          &statement) != SQLITE_OK)
        return fail_statement(sql);
    (void)sqlite3_bind_int64(statement, 3, size);
    (void)sqlite3_bind_int64(statement, 4, sql->sink.n_rows);
    if (sqlite3_step(statement) != SQLITE_DONE)
        error = fail_statement(sql);
    (void)sqlite3_finalize(statement);
    if (error == ROTA_OK &&
        digest_keep(sql->job, sql->db, sql->digest) != SQLITE_OK)
        error = fail_statement(sql);
    return error;
}

/* A rota_sqlite_fn. */
static enum rota_error
item(sqlite3 *db, void *arg)
{
    struct sql *sql = arg;
    enum rota_error error = ROTA_OK; /* of what was done before its step */

    (void)db;
    if (sql->item == SCRIPT_BEGIN)
        error = run_block(sql);
    else if (sql->item == SCRIPT_PLAIN)
        error = run(sql);
    return error == ROTA_OK ? keep_size(sql) : error;
}

static enum rota_error
step(struct sql *sql, int64_t n)
{
    enum rota_error error;

    error = rota_job_step(sql->job, sql->db, sql->cursor + n, item, sql);
    if (error == ROTA_OK) {
        sql->cursor += n;
        return ROTA_OK;
    }
    rota_job_advance(sql->job, sql->cursor);
    return fail_library(sql, error);
}

/* -- All items ----------------------------------------------------------- */

enum rota_error
sql_begin_stepping(struct sql *sql)
{
    int64_t cursor;
    enum rota_error error = rota_job_resume(sql->job, sql->db, &cursor);

    if (error == ROTA_OK) {
        sql->is_stepping = true;
        if (cursor == 0) /* what came before only read */
            rota_job_advance(sql->job, sql->cursor);
        else
            sql->cursor = cursor;
        return ROTA_OK;
    }
    return fail_library(sql, error);
}

/* Run the item that begins with the current statement. */
static enum rota_error
run_item(struct sql *sql)
{
    enum script_role role = sql->item = script_role(&sql->script);
    enum rota_error error = ROTA_OK;
    int64_t n = 1;
    bool writes = role == SCRIPT_BEGIN;

    note(sql);
    if (role == SCRIPT_COMMIT || role == SCRIPT_ROLLBACK ||
        role == SCRIPT_SAVEPOINT)
        return fail_here(sql, "there is no transaction: BEGIN comes first");
    if (role == SCRIPT_PLAIN)
        error = find_whether_it_writes(sql, &writes);
    if (error == ROTA_OK && writes && !sql->is_stepping)
        error = sql_begin_stepping(sql);
    if (error == ROTA_OK && role == SCRIPT_BEGIN)
        error = measure_block(sql, &n);
    if (error == ROTA_OK && (role == SCRIPT_OUTSIDE ||
                             role == SCRIPT_CONNECTION || !sql->is_stepping))
        error = run(sql);
    if (error != ROTA_OK)
        return error;
    if (sql->is_stepping)
        return step(sql, n);
    rota_job_advance(sql->job, ++sql->cursor);
    return ROTA_OK;
}

/* Go past what an earlier run has done. */
static enum rota_error
skip(struct sql *sql)
{
    enum rota_error error = ROTA_OK;
    bool is_end = false;

    for (int64_t i = 0; error == ROTA_OK && i < sql->cursor; i++) {
        error = sql_next(sql, &is_end);
        if (error == ROTA_OK && is_end)
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "%s has %" PRId64 " statements, but %" PRId64
                                 " were run before: it was cut or replaced",
                                 sql->path, i, sql->cursor);
        if (error == ROTA_OK)
            note(sql);
        if (error == ROTA_OK && script_role(&sql->script) == SCRIPT_CONNECTION)
            error = run(sql);
    }
    if (error == ROTA_OK && digest_differs(sql->job, sql->db, sql->digest))
        error = rota_job_fail(sql->job, ROTA_FATAL,
                              "%s was changed since %" PRId64
                              " statements of it were run: what they were is "
                              "not what is there now",
                              sql->path, sql->cursor);
    return error;
}

enum rota_error
sql_run_all(struct sql *sql)
{
    enum rota_error error = skip(sql);
    bool is_end = false;

    while (error == ROTA_OK && !is_end) {
        error = sql_next(sql, &is_end);
        if (error == ROTA_OK && !is_end)
            error = run_item(sql);
    }
    return error;
}
