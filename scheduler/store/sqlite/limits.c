/*
 * Jobs that are held because as many with their key run as may:
 *
 *   hold     ready -> held   when a claim meets one
 *   release  held -> ready   when a run with the key ends, or a ready job with
 *                            it leaves the line, and there is room
 *
 * so that each is stepped over once, however many there are, and a key at its
 * limit delays no other. How many run is counted from _running, never kept.
 * One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"

/* Where in its lane a job stands. */
struct place {
    int64_t sort_key, id;
};

enum rota_error
key_room(struct store *store, const char *key, int64_t *ret_room)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, KEY_ROOM, &error);
    bool row = false;

    if (s == NULL)
        return error;
    bind_text(s, 1, key);
    error = connection_row(&store->connection, s, &row);
    if (row)
        *ret_room = sqlite3_column_int64(s, 0);
    (void)sqlite3_reset(s);
    return error;
}

/* Bind a held job's key to ?1 ... ?5. */
static sqlite3_stmt *
held_statement(struct store *store, enum statement n, const char *key,
               int64_t queue, int64_t kind, const struct place *job,
               enum rota_error *error)
{
    sqlite3_stmt *s = store_statement(store, n, error);

    if (s == NULL)
        return NULL;
    bind_text(s, 1, key);
    (void)sqlite3_bind_int64(s, 2, queue);
    (void)sqlite3_bind_int64(s, 3, kind);
    if (job != NULL) {
        (void)sqlite3_bind_int64(s, 4, job->sort_key);
        (void)sqlite3_bind_int64(s, 5, job->id);
    }
    return s;
}

/* held -> ready */
static enum rota_error
bring_back(struct store *store, const char *key, int64_t queue, int64_t kind,
           const struct place *job)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s =
        held_statement(store, DELETE_HELD, key, queue, kind, job, &error);

    if (s == NULL)
        return error;
    error = connection_run(&store->connection, s, NULL);
    return error == ROTA_OK ? job_make_ready(store, job->id) : error;
}

/* The soonest room jobs of one lane. */
static enum rota_error
lane_release(struct store *store, const char *key, int64_t queue, int64_t kind,
             int64_t room)
{
    struct place held[64];
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s =
        held_statement(store, HELD_JOBS, key, queue, kind, NULL, &error);
    int n = 0;
    bool row;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 4, room < 64 ? room : 64);
    while ((error = connection_row(&store->connection, s, &row)) == ROTA_OK &&
           row)
        held[n++] = (struct place){sqlite3_column_int64(s, 0),
                                   sqlite3_column_int64(s, 1)};
    for (int i = 0; error == ROTA_OK && i < n; i++)
        error = bring_back(store, key, queue, kind, &held[i]);
    return error;
}

enum rota_error
key_release(struct store *store, const char *key)
{
    int64_t room = 0, queue = INT64_MIN, kind = INT64_MIN;
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s;
    bool row;

    if (key == NULL)
        return ROTA_OK;
    error = key_room(store, key, &room);
    while (error == ROTA_OK && room > 0) {
        s = held_statement(store, NEXT_HELD_LANE, key, queue, kind, NULL,
                           &error);
        if (s == NULL)
            return error;
        error = connection_row(&store->connection, s, &row);
        if (error != ROTA_OK || !row)
            return error;
        queue = sqlite3_column_int64(s, 0);
        kind = sqlite3_column_int64(s, 1);
        (void)sqlite3_reset(s);
        error = lane_release(store, key, queue, kind, room);
    }
    return error;
}

enum rota_error
key_release_one(struct store *store, int64_t id)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, HELD_PLACE, &error);
    struct place place = {.id = id};
    int64_t queue = 0, kind = 0, room = 0;
    char *key = NULL;
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, &row);
    if (row) {
        error = column_text(s, 0, &key);
        queue = sqlite3_column_int64(s, 1);
        kind = sqlite3_column_int64(s, 2);
        place.sort_key = sqlite3_column_int64(s, 3);
    }
    (void)sqlite3_reset(s);
    if (error == ROTA_OK && key != NULL)
        error = key_room(store, key, &room);
    if (error == ROTA_OK && room > 0)
        error = bring_back(store, key, queue, kind, &place);
    free(key);
    return error;
}

enum rota_error
key_release_after(struct store *store, int64_t id)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, KEY_OF_JOB, &error);
    char *key = NULL;
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    error = connection_row(&store->connection, s, &row);
    if (row)
        error = column_text(s, 0, &key);
    (void)sqlite3_reset(s);
    if (error == ROTA_OK)
        error = key_release(store, key);
    free(key);
    return error;
}

enum rota_error
key_hold(struct store *store, const char *key, int64_t queue, int64_t kind,
         int64_t sort_key, int64_t id)
{
    struct place place = {sort_key, id};
    enum rota_error error =
        RUN(store, DELETE_READY, NULL, queue, kind, sort_key, id);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    s = held_statement(store, INSERT_HELD, key, queue, kind, &place, &error);
    return s == NULL ? error : connection_run(&store->connection, s, NULL);
}
