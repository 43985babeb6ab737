/*
 * Where jobs wait to be run: in _ready, where claims look; in _scheduled until
 * they are due; in _blocked until others have succeeded; in _held while their
 * key is at its limit (limits.c). In and out of there.
 *
 * One thread at a time, inside a transaction.
 */
#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* -- In ------------------------------------------------------------------- */

STATEMENT(INSERT_READY) = {"INSERT INTO _ready VALUES(?1, ?2, ?3, ?4)"};
STATEMENT(READY_AGAIN) = {"INSERT INTO _ready SELECT queue, kind, sort_key, id"
                          " FROM _job WHERE id = ?1"};
STATEMENT(SCHEDULED_AGAIN) = {"INSERT INTO _scheduled SELECT run_at, id, ?3"
                              " FROM _job WHERE id = ?1 AND run_at > ?2"};

enum rota_error
ready_insert(struct sqlite_store *store, int64_t queue, int64_t kind,
             int64_t sort_key, int64_t id)
{
    return RUN(store, INSERT_READY, NULL, queue, kind, sort_key, id);
}

enum rota_error
job_make_ready(struct sqlite_store *store, int64_t id)
{
    store->has_made_ready = true;
    return RUN_ONE(store, READY_AGAIN, id);
}

enum rota_error
job_line_up(struct sqlite_store *store, int64_t id, bool is_pause)
{
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, SCHEDULED_AGAIN, &changed, id, store->now, is_pause);

    return error == ROTA_OK && changed == 0 ? job_make_ready(store, id) : error;
}

/* -- Out ------------------------------------------------------------------ */

STATEMENT(DELETE_READY) = {"DELETE FROM _ready WHERE queue = ?1 AND kind = ?2"
                           " AND sort_key = ?3 AND id = ?4"};
STATEMENT(LEAVE_READY) = {"DELETE FROM _ready WHERE (queue, kind, sort_key, id)"
                          " = (SELECT queue, kind, sort_key, id FROM _job"
                          "  WHERE id = ?1)"};
STATEMENT(LEAVE_HELD) = {
    "DELETE FROM _held WHERE (key, queue, kind, sort_key, id)"
    " = (SELECT limit_key, queue, kind, sort_key, id FROM _job"
    "  WHERE id = ?1)"};
STATEMENT(LEAVE_SCHEDULED) = {"DELETE FROM _scheduled WHERE (run_at, id)"
                              " = (SELECT run_at, id FROM _job WHERE id = ?1)"};
STATEMENT(LEAVE_BLOCKED) = {"DELETE FROM _blocked WHERE id = ?1"};

enum rota_error
ready_delete(struct sqlite_store *store, int64_t queue, int64_t kind,
             int64_t sort_key, int64_t id)
{
    return RUN_ONE(store, DELETE_READY, queue, kind, sort_key, id);
}

enum rota_error
job_leave_line(struct sqlite_store *store, int64_t id, bool *ret_waited)
{
    static const struct statement *const leaves[] = {
        &LEAVE_READY, &LEAVE_HELD, &LEAVE_SCHEDULED, &LEAVE_BLOCKED};
    enum rota_error error = ROTA_OK;
    int64_t changed = 0;

    *ret_waited = false;
    for (size_t i = 0; error == ROTA_OK && i < 4 && !*ret_waited; i++) {
        error = RUN(store, *leaves[i], &changed, id);
        *ret_waited = changed > 0;
    }
    return error;
}

enum rota_error
job_leave_blocked(struct sqlite_store *store, int64_t id, bool *ret_waited)
{
    int64_t changed = 0;
    enum rota_error error = RUN(store, LEAVE_BLOCKED, &changed, id);

    *ret_waited = changed > 0;
    return error;
}
