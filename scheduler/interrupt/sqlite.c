/*
 * Running statements under a context (rota/interrupt.h): binding.c has what
 * stops them. Programs call it, and target.c; any thread may, but one at a time
 * for each connection. No lock.
 */
#define _GNU_SOURCE
#include "interrupt/binding.h"

#include <sqlite3.h>

#include "base/sqlite_error.h"

void
rota_sqlite_bind(struct rota_sqlite *bound, struct ctx *ctx, struct sqlite3 *db)
{
    binding_init(binding_of(bound), ctx, db, true);
}

void
rota_sqlite_unbind(struct rota_sqlite *bound)
{
    binding_fini(binding_of(bound));
}

/* -- Rolling back ---------------------------------------------------------- */

/* Roll back all of the transaction. An interrupt that came while a statement
 * stood at a row, be it a virtual table's own, stays as long as that stands,
 * and stops ROLLBACK like everything else. But SQLite rolls back by itself when
 * it interrupts a write, and here is one that is interrupted before it does
 * anything. It has no white space, at which SQLite looks for interrupts when it
 * prepares a statement, and needs no schema. A SQLite code. */
static int
roll_back_all(struct sqlite3 *db)
{
    sqlite3_stmt *write = NULL;
    int code = sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);

    if ((code & 0xff) != SQLITE_INTERRUPT || sqlite3_get_autocommit(db))
        return code;
    if (sqlite3_prepare_v2(db, "PRAGMA\"user_version\"=0;", -1, &write, NULL) ==
        SQLITE_OK)
        (void)sqlite3_step(write);
    (void)sqlite3_finalize(write);
    if (sqlite3_get_autocommit(db))
        return SQLITE_OK;
    /* it was somebody else's interrupt, and that has gone by now */
    return sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
}

/* Step a ROLLBACK. */
static int
step_rollback(struct binding *b, sqlite3_stmt *statement)
{
    int code;

    binding_quiet(b);
    code = sqlite3_step(statement);
    if ((code & 0xff) != SQLITE_INTERRUPT ||
        !is_rollback_of_all(sqlite3_sql(statement)))
        return code;
    (void)sqlite3_reset(statement);
    return roll_back_all(b->db) == SQLITE_OK ? SQLITE_DONE : code;
}

/* -- One statement --------------------------------------------------------- */

/* The context is done, and statement stands at a row: it neither goes on nor
 * commits. Among others its next operation is its last. */
static int
end_at_row(struct binding *b, sqlite3_stmt *statement)
{
    int code;

    if (!b->is_among)
        binding_interrupt(b);
    code = sqlite3_step(statement);
    return code == SQLITE_ROW ? SQLITE_INTERRUPT : code;
}

int
rota_sqlite_step(struct rota_sqlite *bound, struct sqlite3_stmt *statement)
{
    struct binding *b = binding_of(bound);
    const char *sql =
        sqlite3_column_count(statement) == 0 ? sqlite3_sql(statement) : NULL;
    int code;

    if (sql != NULL && is_rollback(sql))
        return step_rollback(b, statement);
    binding_go_on(b, statement);
    if (ctx_done(b->ctx))
        return sqlite3_stmt_busy(statement) ? end_at_row(b, statement)
                                            : SQLITE_INTERRUPT;
    code = sqlite3_step(statement);
    return (code & 0xff) == SQLITE_BUSY && ctx_done(b->ctx) ? SQLITE_INTERRUPT
                                                            : code;
}

/* Whether code says, openly or in disguise, that the context has ended. ALTER
 * TABLE makes an SQLITE_ERROR of an interrupt within, virtual tables do when
 * they are made or opened, and FTS4 finds itself damaged; a statement that was
 * rolled back with another one is aborted. Other codes are never made of it:
 * what broke a constraint has broken it. */
static bool
is_stop(const struct binding *b, int code)
{
    if (!ctx_done(b->ctx))
        return false;
    switch (code & 0xff) {
    case SQLITE_INTERRUPT:
    case SQLITE_BUSY:
        return true;
    case SQLITE_ERROR:
    case SQLITE_ABORT:
        return binding_has_stopped(b);
    case SQLITE_CORRUPT:
        return binding_has_stopped(b) &&
               sqlite3_extended_errcode(b->db) == SQLITE_CORRUPT_VTAB;
    default:
        return false;
    }
}

enum rota_error
rota_sqlite_error(const struct rota_sqlite *bound, int code)
{
    const struct binding *b = (const struct binding *)(const void *)bound;
    enum rota_error error = error_of_sqlite(code);
    const char *path;
    char words[400];

    if (error == ROTA_OK)
        return ROTA_OK;
    if (is_stop(b, code)) {
        message_set("%s", ctx_cause(b->ctx));
        return ctx_err(b->ctx);
    }
    path = sqlite3_db_filename(b->db, "main");
    if ((sqlite3_errcode(b->db) & 0xff) == (code & 0xff))
        error = error_of_connection(b->db, code, words, sizeof(words));
    else
        (void)snprintf(words, sizeof(words), "%s (SQLite %d)",
                       sqlite3_errstr(code), code);
    message_set("%s: %s", path == NULL || path[0] == '\0' ? "database" : path,
                words);
    return error;
}

/* -- Scripts and transactions ---------------------------------------------- */

/* Make sure that nothing of the transaction is left. The end of the context
 * does not stop this, nor do statements that stand at a row: they go on, unless
 * the transaction has changed the schema; SQLite then tells them. */
static void
roll_back(struct binding *b)
{
    binding_quiet(b);
    if (!sqlite3_get_autocommit(b->db))
        (void)roll_back_all(b->db);
}

/* Run the statement at *sql, and move *sql behind it. A SQLite code. */
static int
run_one(struct rota_sqlite *bound, struct sqlite3 *db, const char **sql)
{
    const char *text = *sql;
    sqlite3_stmt *statement = NULL;
    int code, reset;

    if (is_rollback(text)) /* even its preparation can be interrupted */
        binding_quiet(binding_of(bound));
    code = sqlite3_prepare_v2(db, text, -1, &statement, sql);
    if ((code & 0xff) == SQLITE_INTERRUPT && is_rollback_of_all(text)) {
        *sql = "";
        return roll_back_all(db);
    }
    if (code != SQLITE_OK || statement == NULL)
        return code;
    do {
        code = rota_sqlite_step(bound, statement);
    } while (code == SQLITE_ROW);
    reset = sqlite3_finalize(statement);
    return code == SQLITE_DONE ? reset : code;
}

/* Run all statements of sql, until one fails. */
static enum rota_error
run_all(struct rota_sqlite *bound, struct sqlite3 *db, const char *sql)
{
    int code = SQLITE_OK;

    while (code == SQLITE_OK && *sql != '\0')
        code = run_one(bound, db, &sql);
    return rota_sqlite_error(bound, code);
}

enum rota_error
rota_sqlite_exec(struct ctx *ctx, struct sqlite3 *db, const char *sql)
{
    bool was_outside = sqlite3_get_autocommit(db) != 0;
    struct rota_sqlite bound;
    enum rota_error error;

    binding_init(binding_of(&bound), ctx, db, false);
    error = run_all(&bound, db, sql);
    if (error != ROTA_OK && was_outside && !sqlite3_get_autocommit(db))
        roll_back(binding_of(&bound));
    binding_fini(binding_of(&bound));
    return error;
}

/* From behind BEGIN to COMMIT. On an error the transaction may still be open.
 */
static enum rota_error
transact(struct rota_sqlite *bound, struct sqlite3 *db, rota_sqlite_fn *fn,
         void *arg)
{
    enum rota_error error = fn(db, arg);

    if (ctx_done(binding_of(bound)->ctx))
        return rota_sqlite_error(bound, SQLITE_INTERRUPT);
    if (error == ROTA_OK && sqlite3_get_autocommit(db)) {
        message_set("the transaction was ended before its time");
        error = ROTA_STORE;
    }
    return error != ROTA_OK ? error : run_all(bound, db, "COMMIT");
}

enum rota_error
rota_sqlite_tx(struct ctx *ctx, struct sqlite3 *db, rota_sqlite_fn *fn,
               void *arg)
{
    struct rota_sqlite bound;
    enum rota_error error;

    if (!sqlite3_get_autocommit(db)) {
        message_set("the database is in a transaction already");
        return ROTA_INVALID;
    }
    binding_init(binding_of(&bound), ctx, db, false);
    error = run_all(&bound, db, "BEGIN IMMEDIATE");
    if (error == ROTA_OK)
        error = transact(&bound, db, fn, arg);
    if (error != ROTA_OK)
        roll_back(binding_of(&bound));
    binding_fini(binding_of(&bound));
    return error;
}
