/*
 * Stopping the statements of a SQLite connection when a context ends. sqlite.c
 * calls it; any thread may, but one at a time for each connection.
 *
 * Locking. A shard's lock guards the bindings of the connections that hash to
 * it: which is the innermost, and whether its hook may send an interrupt. It is
 * a leaf, and held around sqlite3_interrupt(), which is a single store. What
 * only the connection's thread writes, it reads without the lock.
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
 * The interrupt flag is looked at only where nothing has been committed yet,
 * COMMIT included, so that SQLITE_INTERRUPT always means "not done" and
 * SQLITE_DONE "done".
 *
 * Among others. The flag is the connection's, and stays until no statement of
 * it stands at a row: raised for a call in the middle of somebody's SELECT, it
 * would end that one too. So where a statement stands when the binding begins,
 * nothing is interrupted, but a progress handler stops the statement whose turn
 * it is. SQLite asks it once more after a statement has committed; it answers
 * only while the statement has not come to its end.
 *
 * ROLLBACK. The hook is quiet from the start of one to the next start of
 * another statement. But an interrupt can also come before SQLite says that a
 * ROLLBACK starts. rota_sqlite_step() and rota_sqlite_exec() know better, and
 * quiet the hook before. For those that sqlite3_exec() runs, the hook is quiet
 * in a transaction as long as no statement runs, of which SQLite then tells the
 * end, too.
 */
#define _GNU_SOURCE
#include "interrupt/binding.h"

#include <ctype.h>
#include <sqlite3.h>
#include <string.h>
#include <strings.h>

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

/* -- What SQLite says of statements ---------------------------------------- */

/* Whether a statement of db other than this one has begun and not ended. */
static bool
is_busy_but_for(struct sqlite3 *db, const sqlite3_stmt *one)
{
    sqlite3_stmt *statement = NULL;

    while ((statement = sqlite3_next_stmt(db, statement)) != NULL)
        if (statement != one && sqlite3_stmt_busy(statement))
            return true;
    return false;
}

/* What sql begins with, behind white space and comments. Every statement that
 * starts comes by: most begin at once with a letter. */
static const char *
first_word(const char *sql)
{
    const char *end;

    for (;;) {
        if (sql[0] == ' ' || sql[0] == ';' ||
            (sql[0] >= '\t' && sql[0] <= '\r')) {
            sql++;
        } else if (sql[0] == '-' && sql[1] == '-') {
            sql += strcspn(sql, "\n");
        } else if (sql[0] == '/' && sql[1] == '*') {
            end = strstr(sql + 2, "*/");
            sql = end != NULL ? end + 2 : "";
        } else if (strncmp(sql, "\xef\xbb\xbf", 3) == 0) {
            sql += 3;
        } else {
            return sql;
        }
    }
}

/* expected is upper case. */
static bool
is_word(const char *word, const char *expected)
{
    size_t n = strlen(expected);

    return (word[0] & ~0x20) == expected[0] &&
           strncasecmp(word, expected, n) == 0 &&
           !isalnum((unsigned char)word[n]) && word[n] != '_';
}

bool
is_rollback(const char *sql)
{
    return is_word(first_word(sql), "ROLLBACK");
}

bool
is_rollback_of_all(const char *sql)
{
    const char *word = first_word(sql);

    if (!is_word(word, "ROLLBACK"))
        return false;
    word = first_word(word + strlen("ROLLBACK"));
    if (is_word(word, "TRANSACTION"))
        word = first_word(word + strlen("TRANSACTION"));
    return word[0] == '\0';
}

/* -- Stopping -------------------------------------------------------------- */

void
binding_interrupt(struct binding *b)
{
    struct shard *shard = shard_of(b->db);

    lock_take(&shard->lock);
    b->has_stopped = true;
    sqlite3_interrupt(b->db);
    lock_drop(&shard->lock);
}

/* A ctx_hook_fn: the context has ended. Any thread. Only the innermost binding
 * may interrupt: what runs is run under that one's context. */
static void
on_end(void *arg)
{
    struct binding *b = arg;
    struct shard *shard = shard_of(b->db);

    lock_take(&shard->lock);
    if (b->is_open && *innermost_of(shard, b->db) == b) {
        b->has_stopped = true;
        sqlite3_interrupt(b->db);
    }
    lock_drop(&shard->lock);
}

/* Whether the hook may interrupt from here on. No lock is held. */
static void
let_hook(struct binding *b, bool is_open)
{
    struct shard *shard = shard_of(b->db);

    if (b->is_open == is_open)
        return;
    lock_take(&shard->lock);
    b->is_open = is_open;
    lock_drop(&shard->lock);
}

void
binding_quiet(struct binding *b)
{
    let_hook(b, false);
    b->its = NULL;
}

void
binding_go_on(struct binding *b, struct sqlite3_stmt *statement)
{
    b->its = statement;
    if (!b->is_among && !b->is_open && sqlite3_stmt_busy(statement))
        let_hook(b, true);
}

/* Note that something was stopped by other means than an interrupt. */
static void
note_stop(struct binding *b)
{
    struct shard *shard = shard_of(b->db);

    lock_take(&shard->lock);
    b->has_stopped = true;
    lock_drop(&shard->lock);
}

bool
binding_has_stopped(const struct binding *b)
{
    struct shard *shard = shard_of(b->db);
    bool has_stopped;

    lock_take(&shard->lock);
    has_stopped = b->has_stopped;
    lock_drop(&shard->lock);
    return has_stopped;
}

static int on_trace(unsigned event, void *arg, void *statement, void *sql);

/* Have the ends of statements told, too, as long as a transaction is open. It
 * has its price, so not otherwise. */
static void
hear_ends(struct binding *b, bool hears_ends)
{
    if (b->hears_ends == hears_ends)
        return;
    b->hears_ends = hears_ends;
    (void)sqlite3_trace_v2(b->db,
                           hears_ends ? SQLITE_TRACE_STMT | SQLITE_TRACE_PROFILE
                                      : SQLITE_TRACE_STMT,
                           on_trace, b);
}

/* A statement starts. A ROLLBACK is let through, for that is how a transaction
 * that was interrupted ends. */
static void
on_start(struct binding *b, sqlite3_stmt *statement, const char *sql)
{
    const char *word = first_word(sql);
    bool rolls_back = is_word(word, "ROLLBACK");
    bool begins = is_word(word, "BEGIN") || is_word(word, "SAVEPOINT");

    if (b->is_among) {
        b->its = rolls_back ? NULL : statement;
        return;
    }
    if (b->is_callers)
        hear_ends(b, begins || !sqlite3_get_autocommit(b->db));
    let_hook(b, !(begins || rolls_back) || is_busy_but_for(b->db, statement));
    if (ctx_done(b->ctx) && !rolls_back)
        binding_interrupt(b);
}

/* A statement has ended, or is being reset. One whose schema had changed has
 * not: SQLite runs it again, and does not say so. */
static void
on_finish(struct binding *b, sqlite3_stmt *statement)
{
    if (!sqlite3_get_autocommit(b->db) && !sqlite3_expired(statement) &&
        !is_busy_but_for(b->db, statement))
        let_hook(b, false);
}

/* SQLite's trace callback. Of the statements, those count that are run by
 * nobody but the caller: others, a virtual table's or a trigger's, come with a
 * text that is not their own. */
static int
on_trace(unsigned event, void *arg, void *statement, void *text)
{
    struct binding *b = arg;

    if (event == SQLITE_TRACE_PROFILE)
        on_finish(b, statement);
    else if (text == sqlite3_sql(statement))
        on_start(b, statement, text);
    return 0;
}

/* SQLite's progress handler: not 0 stops what runs. Whose turn it was may have
 * been finalized since, so that it is looked for before it is looked at. */
static int
on_progress(void *arg)
{
    struct binding *b = arg;
    sqlite3_stmt *statement = NULL;

    if (!ctx_done(b->ctx) || b->its == NULL)
        return 0;
    while ((statement = sqlite3_next_stmt(b->db, statement)) != NULL)
        if (statement == b->its && sqlite3_stmt_busy(statement)) {
            note_stop(b);
            return 1;
        }
    return 0;
}

/* SQLite's busy handler: wait a little for a lock, longer each time, but not
 * past the end of the context. 0 gives up. */
static int
on_busy(void *arg, int times)
{
    struct binding *b = arg;
    int64_t pause = times < 10 ? ROTA_US(100) << times / 2 : ROTA_MS(5);

    if (ctx_sleep(b->ctx, pause) == ROTA_OK)
        return 1;
    note_stop(b);
    return 0;
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
    (void)sqlite3_trace_v2(b->db, SQLITE_TRACE_STMT, on_trace, b);
    b->hears_ends = false;
    if (b->is_among)
        sqlite3_progress_handler(b->db, 1, on_progress, b);
}

/* Give back to the outer binding, or to the caller, what the binding had. */
static void
handlers_remove(struct binding *b)
{
    if (b->is_among)
        sqlite3_progress_handler(b->db, 0, NULL, NULL);
    if (b->outer != NULL) {
        handlers_install(b->outer);
    } else {
        (void)sqlite3_trace_v2(b->db, 0, NULL, NULL);
        if (b->busy_ms >= 0)
            (void)sqlite3_busy_timeout(b->db, b->busy_ms);
    }
}

void
binding_init(struct binding *b, struct ctx *ctx, struct sqlite3 *db,
             bool is_callers)
{
    struct shard *shard = shard_of(db);
    struct binding **link;

    *b = (struct binding){.ctx = ctx,
                          .db = db,
                          .is_among = is_busy_but_for(db, NULL),
                          .is_callers = is_callers};
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
binding_fini(struct binding *b)
{
    struct shard *shard = shard_of(b->db);
    struct binding **link;
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
    handlers_remove(b);
    /* an interrupt that found no statement to stop would stop the next one;
     * preparing one throws the interrupt away */
    if (b->has_stopped)
        (void)sqlite3_prepare_v2(b->db, "", -1, &nothing, NULL);
    /* the outer one's hook may have come in vain */
    if (b->outer != NULL && ctx_done(b->outer->ctx))
        on_end(b->outer);
}
