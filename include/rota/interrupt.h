/*
 * How a context reaches a SQLite statement: one that computes, one that waits
 * for a lock, one that has not begun.
 *
 *   struct rota_sqlite bound;
 *
 *   rota_sqlite_bind(&bound, ctx, db);
 *   while ((code = rota_sqlite_step(&bound, statement)) == SQLITE_ROW)
 *       use(statement);
 *   (void)sqlite3_reset(statement);
 *   rota_sqlite_unbind(&bound);
 *
 * sqlite3_interrupt() alone loses a cancel that comes between two statements,
 * does not wake one that waits for a lock, and if it comes late stops whatever
 * uses the connection next; a progress handler alone reports an INSERT as
 * interrupted that has been committed. A binding does none of this:
 *
 *   - What is reported as stopped has left nothing behind. What was finished
 *     when the context ended is a success, whoever asked for what.
 *   - Once the context is done no statement starts, and one that runs ends
 *     within milliseconds; one that waits for a lock, at once. Only a single
 *     step inside SQLite (a function that builds a huge string, a sync of the
 *     disk) is not cut short: sqlite3_limit() bounds the former.
 *   - ROLLBACK, also TO a savepoint, is neither refused nor stopped. COMMIT is
 *     refused once the context is done. (Where a statement was stopped at a row
 *     and not reset, SQLite keeps the interrupt: then it takes a ROLLBACK of
 *     all, by rota_sqlite_step() or rota_sqlite_exec(), to get through.)
 *   - What is called off is what runs under the context, and nothing else. A
 *     SELECT that stands at a row meanwhile, under an outer binding or none,
 *     goes on to its last row afterwards; if a transaction that has changed the
 *     schema is rolled back, it ends with SQLITE_ABORT. It never begins anew.
 *     (A write that stands at a row is undone with a write that is stopped, as
 *     SQLite's rule is.)
 *   - After rota_sqlite_unbind() the context can no longer touch db.
 *
 * While bound, db's busy handler and trace callback are the binding's: its
 * statements wait for locks until the context ends, with no limit of their
 * own. The busy timeout that was set is there again afterwards; a busy handler
 * or a trace callback of the caller's own is not. Bindings of one connection
 * nest; the innermost alone counts: below a ctx_without_cancel() one can clean
 * up on a connection whose job was cancelled.
 *
 * An interrupt of SQLite's is the whole connection's. So a binding that begins
 * while a statement stands at a row sends none, and stops what runs under it by
 * db's progress handler, which is the binding's, too, and none afterwards. That
 * is asked between SQLite's operations: to count all rows of a table is then a
 * single step as well.
 *
 * One thread at a time for each connection, as SQLite's rule is for handles of
 * SQLITE_OPEN_NOMUTEX, whatever they were opened with.
 */
#ifndef ROTA_INTERRUPT_H
#define ROTA_INTERRUPT_H

#include <stdbool.h>

#include <rota/ctx.h>
#include <rota/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;
struct sqlite3_stmt;

/* Storage for one binding, the caller's. Needs no initialisation. */
struct rota_sqlite {
    void *opaque_[16];
};

/* Bind db to ctx until rota_sqlite_unbind(). bound must stay in place, and ctx
 * and db must live, until then. Statements that sqlite3_step() or
 * sqlite3_exec() runs are reached too, but a short one may still start. */
ROTA_API void rota_sqlite_bind(struct rota_sqlite *bound, struct ctx *ctx,
                               struct sqlite3 *db);

/* End the binding: the innermost of its connection. Waits for a cancel that is
 * just being delivered. Statements should have been reset: those that have not
 * been stay interrupted if ctx is done. Call it before sqlite3_close(). */
ROTA_API void rota_sqlite_unbind(struct rota_sqlite *bound);

/* sqlite3_step() as long as the context is live. SQLITE_ROW, SQLITE_DONE or
 * SQLite's error; SQLITE_INTERRUPT: the context is done, and the statement has
 * done nothing. An INSERT, UPDATE or DELETE that is interrupted inside a
 * transaction takes the transaction with it, as SQLite's rule is: look at
 * sqlite3_get_autocommit(). */
ROTA_API ROTA_MUST_USE int rota_sqlite_step(struct rota_sqlite *bound,
                                            struct sqlite3_stmt *statement);

/* What a SQLite error code that was met under the binding means here, with its
 * words in rota_errmsg(NULL): once ctx is done, ctx_err() for SQLITE_INTERRUPT
 * and SQLITE_BUSY, and for what SQLite makes of an interrupt if there was one:
 * ALTER TABLE and virtual tables answer SQLITE_ERROR. Otherwise ROTA_OK,
 * ROTA_BUSY, ROTA_FULL, ROTA_NOMEM, ROTA_CORRUPT, ROTA_STORE: a constraint that
 * does not hold, or a syntax error, stays one. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_sqlite_error(const struct rota_sqlite *bound, int code);

/* Run all the statements in sql under ctx. Rows are thrown away. A transaction
 * that sql began and did not end is rolled back if there was an error. Errors:
 * those of rota_sqlite_error(). */
ROTA_API ROTA_MUST_USE enum rota_error
rota_sqlite_exec(struct ctx *ctx, struct sqlite3 *db, const char *sql);

/* Work on db inside a transaction. Must neither commit nor roll back. */
typedef enum rota_error rota_sqlite_fn(struct sqlite3 *db, void *arg);

/* Run fn(db, arg) under ctx in a transaction of its own (BEGIN IMMEDIATE). On
 * ROTA_OK it is committed. On any error it is rolled back: what fn returned,
 * or one of rota_sqlite_error(), or ROTA_INVALID (db is in a transaction). If
 * ctx ends before the commit begins, the error is ctx_err(ctx), whatever fn
 * returned. */
ROTA_API ROTA_MUST_USE enum rota_error
rota_sqlite_tx(struct ctx *ctx, struct sqlite3 *db, rota_sqlite_fn *fn,
               void *arg);

/* Whether path is, under whatever name, the SQLite file database or one of
 * those that belong to it: -wal, -shm, -journal, or the -lock of a queue. What
 * is not there is told by where it would be made. Whoever is given names of
 * files asks this before he opens one that he does not open with SQLite: what
 * is written there damages the database, and to close it, even if it was only
 * read, drops the locks that SQLite has on it in this process. Any thread. */
ROTA_API bool rota_sqlite_owns(const char *database, const char *path);

#ifdef __cplusplus
}
#endif
#endif
