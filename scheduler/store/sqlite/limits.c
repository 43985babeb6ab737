/*
 * Jobs that are held because as many with their key run as may:
 *
 *   hold     ready -> held   when a claim meets one
 *   release  held -> ready   when a run with the key ends, or a ready job with
 *                            it leaves the line, and there is room
 *
 * so that each is stepped over once, however many there are, and a key at its
 * limit delays no other. How many run is counted from _running, never kept: a
 * number that is kept would have to be right after every crash.
 *
 * One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "store/sqlite/candidates.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* So many of a lane are brought back at a time. */
#define RELEASE_MAX 64

STATEMENT(KEY_ROOM) = {
    "SELECT " KEY_LIMIT("?1") ", (SELECT count(*)"
                              " FROM _running WHERE limit_key = ?1)"};
enum { KEY_MAX, KEY_RUNNING };
STATEMENT(KEY_OF_JOB) = {"SELECT limit_key FROM _job WHERE id = ?1"
                         " AND limit_key IS NOT NULL"};
STATEMENT(INSERT_HELD) = {"INSERT INTO _held VALUES(?1, ?2, ?3, ?4, ?5)"};
STATEMENT(DELETE_HELD) = {"DELETE FROM _held WHERE key = ?1 AND queue = ?2"
                          " AND kind = ?3 AND sort_key = ?4 AND id = ?5"};

/* The first lane behind queue ?2 and kind ?3 of which jobs with the key ?1 are
 * held: by two seeks, as lanes.c. */
STATEMENT(NEXT_HELD_LANE) = {
    "SELECT * FROM (SELECT queue, kind FROM _held WHERE key = ?1"
    "  AND queue = ?2 AND kind > ?3 ORDER BY kind LIMIT 1)"
    " UNION ALL SELECT * FROM (SELECT queue, kind FROM _held WHERE key = ?1"
    "  AND queue > ?2 ORDER BY queue, kind LIMIT 1) LIMIT 1"};
enum { HELD_LANE_QUEUE, HELD_LANE_KIND };

STATEMENT(HELD_JOBS) = {
    "SELECT h.sort_key, h.id, (SELECT crashes FROM _job j WHERE j.id = h.id)"
    " FROM _held h WHERE h.key = ?1 AND h.queue = ?2 AND h.kind = ?3"
    " ORDER BY h.sort_key, h.id LIMIT ?4"};
enum { HELD_SORT_KEY, HELD_ID, HELD_CRASHES };

STATEMENT(ONE_HELD) = {"SELECT h.key, h.queue, h.kind, h.sort_key FROM _job j"
                       " CROSS JOIN _held h ON h.key = j.limit_key"
                       " AND h.queue = j.queue AND h.kind = j.kind"
                       " AND h.sort_key = j.sort_key AND h.id = j.id"
                       " WHERE j.id = ?1"};
enum { ONE_KEY, ONE_QUEUE, ONE_KIND, ONE_SORT_KEY };

/* A row of _held, but for its key. */
struct held {
    int64_t queue, kind, sort_key, id;
    int64_t crashes;
};

enum rota_error
key_room(struct sqlite_store *store, const char *key, int64_t *ret_room)
{
    struct stmt stmt = stmt_of(&store->connection, &KEY_ROOM);

    bind_text(stmt.s, 1, key);
    if (stmt_next(&stmt))
        *ret_room =
            stmt_integer(&stmt, KEY_MAX) - stmt_integer(&stmt, KEY_RUNNING);
    return stmt_end(&stmt);
}

/* INSERT_HELD or DELETE_HELD. */
static enum rota_error
held_run(struct sqlite_store *store, const struct statement *statement,
         const char *key, const struct held *held)
{
    struct stmt stmt = stmt_of(&store->connection, statement);

    bind_text(stmt.s, 1, key);
    (void)sqlite3_bind_int64(stmt.s, 2, held->queue);
    (void)sqlite3_bind_int64(stmt.s, 3, held->kind);
    (void)sqlite3_bind_int64(stmt.s, 4, held->sort_key);
    (void)sqlite3_bind_int64(stmt.s, 5, held->id);
    return stmt_run_one(&stmt);
}

/* held -> ready */
static enum rota_error
held_release(struct sqlite_store *store, const char *key,
             const struct held *held)
{
    enum rota_error error = held_run(store, &DELETE_HELD, key, held);

    return error == ROTA_OK ? job_make_ready(store, held->id) : error;
}

/* Go on to the next lane of the key's held jobs; *ret_exists false behind the
 * last. */
static enum rota_error
held_lane_next(struct sqlite_store *store, const char *key, struct held *lane,
               bool *ret_exists)
{
    struct stmt stmt = stmt_of(&store->connection, &NEXT_HELD_LANE);

    bind_text(stmt.s, 1, key);
    (void)sqlite3_bind_int64(stmt.s, 2, lane->queue);
    (void)sqlite3_bind_int64(stmt.s, 3, lane->kind);
    *ret_exists = stmt_next(&stmt);
    if (*ret_exists) {
        lane->queue = stmt_integer(&stmt, HELD_LANE_QUEUE);
        lane->kind = stmt_integer(&stmt, HELD_LANE_KIND);
    }
    return stmt_end(&stmt);
}

/* The soonest jobs of one lane, most at the most. Their number. */
static enum rota_error
held_read(struct sqlite_store *store, const char *key, const struct held *lane,
          int64_t most, struct held held[RELEASE_MAX], int *ret_n)
{
    struct stmt stmt = stmt_of(&store->connection, &HELD_JOBS);

    *ret_n = 0;
    bind_text(stmt.s, 1, key);
    (void)sqlite3_bind_int64(stmt.s, 2, lane->queue);
    (void)sqlite3_bind_int64(stmt.s, 3, lane->kind);
    (void)sqlite3_bind_int64(stmt.s, 4, most);
    while (stmt_next(&stmt))
        held[(*ret_n)++] =
            (struct held){.queue = lane->queue,
                          .kind = lane->kind,
                          .sort_key = stmt_integer(&stmt, HELD_SORT_KEY),
                          .id = stmt_integer(&stmt, HELD_ID),
                          .crashes = stmt_integer_or(&stmt, HELD_CRASHES, 0)};
    return stmt_end(&stmt);
}

/* The soonest room jobs of one lane. A suspect is let out beside them, for it
 * may be passed over (store/suspicion.h), and then nobody would use its turn;
 * what is too much is held anew by the next claim. */
static enum rota_error
lane_release(struct sqlite_store *store, const char *key,
             const struct held *lane, int64_t room)
{
    int64_t left = room < RELEASE_MAX ? room : RELEASE_MAX;
    struct held held[RELEASE_MAX];
    enum rota_error error;
    int n;

    do {
        error = held_read(store, key, lane, left, held, &n);
        for (int i = 0; error == ROTA_OK && i < n; i++) {
            error = held_release(store, key, &held[i]);
            left -= held[i].crashes < CRASHES_SUSPECT;
        }
    } while (error == ROTA_OK && n > 0 && left > 0);
    return error;
}

enum rota_error
key_release(struct sqlite_store *store, const char *key)
{
    struct held lane = {.queue = INT64_MIN, .kind = INT64_MIN};
    enum rota_error error = ROTA_OK;
    int64_t room = 0;
    bool exists = true;

    if (key == NULL)
        return ROTA_OK;
    error = key_room(store, key, &room);
    while (error == ROTA_OK && room > 0 && exists) {
        error = held_lane_next(store, key, &lane, &exists);
        if (error == ROTA_OK && exists)
            error = lane_release(store, key, &lane, room);
    }
    return error;
}

enum rota_error
key_release_one(struct sqlite_store *store, int64_t id)
{
    struct stmt stmt = stmt_of(&store->connection, &ONE_HELD);
    struct held held = {.id = id};
    enum rota_error error;
    int64_t room = 0;
    char *key = NULL;

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    if (stmt_next(&stmt)) {
        key = stmt_key(&stmt, ONE_KEY);
        held.queue = stmt_integer(&stmt, ONE_QUEUE);
        held.kind = stmt_integer(&stmt, ONE_KIND);
        held.sort_key = stmt_integer(&stmt, ONE_SORT_KEY);
    }
    error = stmt_end(&stmt);
    if (error == ROTA_OK && key != NULL)
        error = key_room(store, key, &room);
    if (error == ROTA_OK && room > 0)
        error = held_release(store, key, &held);
    free(key);
    return error;
}

enum rota_error
key_release_after(struct sqlite_store *store, int64_t id)
{
    struct stmt stmt = stmt_of(&store->connection, &KEY_OF_JOB);
    enum rota_error error;
    char *key = NULL;

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    if (stmt_next(&stmt))
        key = stmt_key(&stmt, 0);
    error = stmt_end(&stmt);
    if (error == ROTA_OK)
        error = key_release(store, key);
    free(key);
    return error;
}

enum rota_error
key_hold(struct sqlite_store *store, const struct candidate *job)
{
    const struct held held = {.queue = job->queue,
                              .kind = job->claim.kind,
                              .sort_key = job->sort_key,
                              .id = job->claim.id};
    enum rota_error error =
        ready_delete(store, held.queue, held.kind, held.sort_key, held.id);

    return error == ROTA_OK
               ? held_run(store, &INSERT_HELD, job->limit_key, &held)
               : error;
}
