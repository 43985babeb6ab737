/*
 * Binding a SQLite connection to a context (rota/interrupt.h). Programs call
 * it, and target.c; any thread may, but one at a time for each connection.
 *
 * Locking. A shard's lock guards the bindings of the connections that hash to
 * it: which is the innermost, and whether it is settled, so that its hook sends
 * no interrupt any more. It is a leaf, and held around sqlite3_interrupt(),
 * which is a single store.
 *
 * Three ways reach a statement, and together they miss none and hit no other:
 *
 *   not begun   the trace callback, which SQLite calls when a statement starts,
 *               just after it has thrown away older interrupts: if the context
 *               is done by now, the callback interrupts the statement itself
 *   running     a hook on the context calls sqlite3_interrupt(). The context
 *               was done before the hook ran: either the trace callback saw it,
 *               or the interrupt comes after the throwing away, and stays
 *   waiting     the busy handler sleeps on the context
 *
 * There is no progress handler: SQLite asks it once more after a statement has
 * committed, and would call a commit interrupted. The interrupt flag is looked
 * at only where nothing has been committed yet, COMMIT included, so that
 * SQLITE_INTERRUPT always means "not done" and SQLITE_DONE "done".
 */
#define _GNU_SOURCE
#include <rota/interrupt.h>

#include <sqlite3.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "base/sqlite_error.h"

struct binding {
    struct ctx_hook hook;
    struct ctx *ctx;
    struct sqlite3 *db;
    struct binding *outer; /* of the same connection; read-only */
    struct binding *next;  /* of another connection; under shard->lock */
    int busy_ms;           /* the timeout before the binding; read-only */
    bool is_settled;       /* the hook interrupts no more; under shard->lock */
};
_Static_assert(sizeof(struct binding) <= sizeof(struct rota_sqlite),
               "struct rota_sqlite is too small");

/* The innermost bindings of the connections that hash here. */
struct shard {
    pthread_mutex_t lock;
    struct binding *first;
};
#define SHARDS 64
static struct shard shards[SHARDS] = {
    [0 ... SHARDS - 1] = {PTHREAD_MUTEX_INITIALIZER, NULL}};

static struct shard *
shard_of(const struct sqlite3 *db)
{
    return &shards[((uintptr_t)db >> 6) * 2654435761u / SHARDS % SHARDS];
}

/* The link in which the innermost binding of db hangs, or the last one, which
 * is NULL. shard->lock held. */
static struct binding **
innermost_of(struct shard *shard, const struct sqlite3 *db)
{
    struct binding **link = &shard->first;

    while (*link != NULL && (*link)->db != db)
        link = &(*link)->next;
    return link;
}

static const struct binding *
binding_of(const struct rota_sqlite *bound)
{
    return (const struct binding *)(const void *)bound;
}

/* -- Stopping -------------------------------------------------------------- */

/* A ctx_hook_fn: the context has ended. Any thread. Only the innermost binding
 * may interrupt: what runs is run under that one's context. */
static void
on_end(void *arg)
{
    struct binding *b = arg;
    struct shard *shard = shard_of(b->db);

    lock_take(&shard->lock);
    if (!b->is_settled && *innermost_of(shard, b->db) == b) {
        b->is_settled = true;
        sqlite3_interrupt(b->db);
    }
    lock_drop(&shard->lock);
}

/* From here on no interrupt comes from another thread. No lock is held. */
static void
settle(struct binding *b)
{
    struct shard *shard = shard_of(b->db);

    lock_take(&shard->lock);
    b->is_settled = true;
    lock_drop(&shard->lock);
}

/* What on_start() does not interrupt. */
static bool
is_rollback(const char *sql)
{
    return strncasecmp(sql + strspn(sql, " \t\r\n;"), "ROLLBACK", 8) == 0;
}

/* SQLite's trace callback: a statement starts. A ROLLBACK is let through, for
 * that is how a transaction that was interrupted ends. */
static int
on_start(unsigned event, void *arg, void *statement, void *sql)
{
    struct binding *b = arg;

    (void)event, (void)statement;
    if (!ctx_done(b->ctx) || is_rollback(sql))
        return 0;
    settle(b);
    sqlite3_interrupt(b->db);
    return 0;
}

/* SQLite's busy handler: wait a little for a lock, longer each time, but not
 * past the end of the context. 0 gives up. */
static int
on_busy(void *arg, int times)
{
    struct binding *b = arg;
    int64_t pause = times < 10 ? ROTA_US(100) << times / 2 : ROTA_MS(5);

    return ctx_sleep(b->ctx, pause) == ROTA_OK;
}

/* -- Binding --------------------------------------------------------------- */

/* How long db waits for a lock, in milliseconds; -1: there is no memory to ask.
 */
static int
busy_timeout_of(struct sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;
    int ms = -1;

    if (sqlite3_prepare_v2(db, "PRAGMA busy_timeout", -1, &statement, NULL) ==
            SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        ms = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    return ms;
}

/* Make b the one whom SQLite asks. */
static void
handlers_install(struct binding *b)
{
    /* a timeout that is not known could not be put back, so it is left */
    if (b->busy_ms >= 0)
        (void)sqlite3_busy_handler(b->db, on_busy, b);
    (void)sqlite3_trace_v2(b->db, SQLITE_TRACE_STMT, on_start, b);
}

void
rota_sqlite_bind(struct rota_sqlite *bound, struct ctx *ctx, struct sqlite3 *db)
{
    struct binding *b = (struct binding *)(void *)bound, **link;
    struct shard *shard = shard_of(db);

    *b = (struct binding){.ctx = ctx, .db = db};
    lock_take(&shard->lock);
    link = innermost_of(shard, db);
    b->outer = *link;
    if (b->outer != NULL)
        *link = b->outer->next;
    b->next = shard->first;
    shard->first = b;
    lock_drop(&shard->lock);
    b->busy_ms = b->outer != NULL ? b->outer->busy_ms : busy_timeout_of(db);
    handlers_install(b);
    ctx_after(ctx, &b->hook, on_end, b);
}

void
rota_sqlite_unbind(struct rota_sqlite *bound)
{
    struct binding *b = (struct binding *)(void *)bound, **link;
    struct shard *shard = shard_of(b->db);
    sqlite3_stmt *nothing;

    ctx_hook_stop_wait(&b->hook);
    lock_take(&shard->lock);
    link = innermost_of(shard, b->db);
    MUST_BE(*link == b);
    *link = b->next;
    if (b->outer != NULL) {
        b->outer->next = shard->first;
        shard->first = b->outer;
    }
    lock_drop(&shard->lock);
    if (b->outer != NULL) {
        handlers_install(b->outer);
    } else {
        (void)sqlite3_trace_v2(b->db, 0, NULL, NULL);
        if (b->busy_ms >= 0)
            (void)sqlite3_busy_timeout(b->db, b->busy_ms);
    }
    /* an interrupt that found no statement to stop would stop the next one;
     * preparing one throws the interrupt away */
    if (b->is_settled)
        (void)sqlite3_prepare_v2(b->db, "", -1, &nothing, NULL);
}

/* -- Running under a binding ----------------------------------------------- */

int
rota_sqlite_step(struct rota_sqlite *bound, struct sqlite3_stmt *statement)
{
    struct binding *b = (struct binding *)(void *)bound;
    int code;

    if (ctx_done(b->ctx)) {
        if (!sqlite3_stmt_busy(statement))
            return SQLITE_INTERRUPT;
        /* the statement stands at a row: with the interrupt set it does not go
         * on, nor does it commit when it is reset */
        settle(b);
        sqlite3_interrupt(b->db);
    }
    code = sqlite3_step(statement);
    return (code & 0xff) == SQLITE_BUSY && ctx_done(b->ctx) ? SQLITE_INTERRUPT
                                                            : code;
}

enum rota_error
rota_sqlite_error(const struct rota_sqlite *bound, int code)
{
    const struct binding *b = binding_of(bound);
    enum rota_error error = error_of_sqlite(code);
    bool stopped =
        (code & 0xff) == SQLITE_INTERRUPT || (code & 0xff) == SQLITE_BUSY;
    const char *path;

    if (error == ROTA_OK)
        return ROTA_OK;
    if (stopped && ctx_done(b->ctx)) {
        message_set("%s", ctx_cause(b->ctx));
        return ctx_err(b->ctx);
    }
    path = sqlite3_db_filename(b->db, "main");
    message_set("%s: %s (SQLite %d)",
                path == NULL || path[0] == '\0' ? "database" : path,
                (sqlite3_errcode(b->db) & 0xff) == (code & 0xff)
                    ? sqlite3_errmsg(b->db)
                    : sqlite3_errstr(code),
                code);
    return error;
}

/* Make sure that nothing of a transaction is left. The end of the context does
 * not stop this. No lock is held. */
static void
roll_back(struct binding *b)
{
    sqlite3_stmt *statement = NULL;

    settle(b);
    /* SQLite throws an interrupt away only while no statement is running, and
     * one that stands at a row is running */
    while ((statement = sqlite3_next_stmt(b->db, statement)) != NULL)
        (void)sqlite3_reset(statement);
    if (!sqlite3_get_autocommit(b->db))
        (void)sqlite3_exec(b->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Run the statement at *sql, and move *sql behind it. A SQLite code. */
static int
run_one(struct rota_sqlite *bound, struct sqlite3 *db, const char **sql)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, *sql, -1, &statement, sql), reset;

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

    rota_sqlite_bind(&bound, ctx, db);
    error = run_all(&bound, db, sql);
    if (error != ROTA_OK && was_outside && !sqlite3_get_autocommit(db))
        roll_back((struct binding *)(void *)&bound);
    rota_sqlite_unbind(&bound);
    return error;
}

/* From BEGIN to COMMIT. On an error the transaction may still be open. */
static enum rota_error
transact(struct rota_sqlite *bound, struct sqlite3 *db, rota_sqlite_fn *fn,
         void *arg)
{
    const struct binding *b = binding_of(bound);
    enum rota_error error = run_all(bound, db, "BEGIN IMMEDIATE");

    if (error != ROTA_OK)
        return error;
    error = fn(db, arg);
    if (ctx_done(b->ctx))
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
    rota_sqlite_bind(&bound, ctx, db);
    error = transact(&bound, db, fn, arg);
    if (error != ROTA_OK)
        roll_back((struct binding *)(void *)&bound);
    rota_sqlite_unbind(&bound);
    return error;
}
