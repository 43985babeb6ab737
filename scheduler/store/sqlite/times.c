/*
 * A clock that is set back. All times in the file are the clock's, also where a
 * wait is meant, or an order: a retry stands at the time at which its pause is
 * over, and a job that is to run at once at the time at which it came. So the
 * file keeps the latest time that was seen, to the second; and when the clock
 * is behind it by more than that, what the clock would make wait is set right:
 *
 *   pauses   end as much sooner as the clock was set back
 *   jobs     that came, or were ready, at a time that has not come yet count as
 *            if they came now, in the order of their ids
 *   times    that an asker has named (run_at, deadline_at) stay: what had been
 *            taken for due waits for its time again
 *
 * All of it at once, however much there is: it is seldom, and in between the
 * order would be neither the one nor the other. A clock that is set forward
 * makes waits shorter, never longer.
 *
 * One thread at a time, inside a transaction; times_are_back() on any
 * connection.
 */
#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* What clocks differ by though nobody has set one; and how often it is noted
 * that time goes by. */
#define SECOND 1000

STATEMENT(LATEST_TIME) = {"SELECT value FROM _meta WHERE key = 'latest'"};
STATEMENT(NOTE_TIME) = {"UPDATE _meta SET value = ?1 WHERE key = 'latest'"};

static enum rota_error
latest_read(struct connection *connection, int64_t *ret_latest)
{
    struct stmt stmt = stmt_of(connection, &LATEST_TIME);

    *ret_latest = 0;
    return stmt_number(&stmt, ret_latest);
}

enum rota_error
times_are_back(struct connection *connection, int64_t now, bool *ret_back)
{
    int64_t latest = 0;
    enum rota_error error = latest_read(connection, &latest);

    *ret_back = now < latest - SECOND;
    return error;
}

/* What is done then: ?1 is the time, ?2 how far the clock was set back. Not
 * statements that are kept, for they walk over all that waits. A job that was
 * never run and is for later than it came is for the time that its asker named.
 */
#define IS_NAMED "(j.lease = 0 AND j.run_at > j.created_at)"
#define COME_NOW(table)                                          \
    "UPDATE " table " SET sort_key = sort_key + ?1"              \
    " - (SELECT j.run_at FROM _job j WHERE j.id = " table ".id)" \
    " WHERE id IN (SELECT j.id FROM " table " t JOIN _job j"     \
    "  ON j.id = t.id WHERE j.run_at > ?1)"
static const char *const mends[] = {
    "UPDATE _job SET run_at = run_at - ?2, sort_key = sort_key - ?2"
    " WHERE id IN (SELECT id FROM _scheduled WHERE is_pause)",
    "UPDATE _scheduled SET run_at = run_at - ?2 WHERE is_pause",
    "INSERT INTO _scheduled SELECT j.run_at, j.id, 0 FROM _ready r"
    " JOIN _job j ON j.id = r.id WHERE j.run_at > ?1 AND " IS_NAMED,
    "DELETE FROM _ready WHERE id IN (SELECT j.id FROM _ready r"
    " JOIN _job j ON j.id = r.id WHERE j.run_at > ?1 AND " IS_NAMED ")",
    COME_NOW("_ready"),
    COME_NOW("_held"),
    "UPDATE _job SET sort_key = sort_key + ?1 - run_at, run_at = ?1"
    " WHERE run_at > ?1 AND id IN (SELECT id FROM _ready"
    "  UNION ALL SELECT id FROM _held UNION ALL SELECT id FROM _running"
    "  UNION ALL SELECT b.id FROM _blocked b JOIN _job j ON j.id = b.id"
    "   WHERE NOT " IS_NAMED ")"};

static enum rota_error
mend(struct sqlite_store *store, const char *sql, int64_t shift)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s;

    if (sqlite3_prepare_v2(store->connection.db, sql, -1, &s, NULL) !=
        SQLITE_OK)
        return connection_error(&store->connection);
    (void)sqlite3_bind_int64(s, 1, store->now);
    (void)sqlite3_bind_int64(s, 2, shift); /* not all of them have it */
    if (sqlite3_step(s) != SQLITE_DONE)
        error = connection_error(&store->connection);
    (void)sqlite3_finalize(s);
    return error;
}

static enum rota_error
times_set_back(struct sqlite_store *store, int64_t shift)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < sizeof(mends) / sizeof(*mends);
         i++)
        error = mend(store, mends[i], shift);
    store->has_made_ready = true;
    if (error == ROTA_OK)
        store_say(&store->base,
                  "the clock was set back by %.1f s: what waits by it has been "
                  "set right",
                  (double)shift / 1000);
    return error;
}

enum rota_error
times_check(struct sqlite_store *store)
{
    int64_t latest = store->latest, now = store->now;
    enum rota_error error = ROTA_OK;

    if (latest == 0)
        error = latest_read(&store->connection, &latest);
    if (error == ROTA_OK && now < latest - SECOND)
        error = times_set_back(store, latest - now);
    else if (now <= latest + SECOND)
        now = latest; /* near enough */
    if (error == ROTA_OK && now != latest)
        error = RUN_ONE(store, NOTE_TIME, now);
    if (error == ROTA_OK)
        store->latest = now;
    return error;
}
