/*
 * Every statement that writes to the queue's file, but for the schema.
 *
 * A move out of _running is guarded by the lease: WHERE id = ? AND lease = ?,
 * and its count of changed rows is the truth. Values that a partial or ordered
 * key depends on are equalities on the whole key, so that nothing scans.
 */
#include "store/lane.h"
#include "store/private.h"

_Static_assert(STATEMENTS <= STATEMENTS_MAX, "a connection keeps them all");

const char *const store_statements[STATEMENTS] = {
    [RESERVE_IDS] = "UPDATE sqlite_sequence SET seq = seq + ?1"
                    " WHERE name = 'submit' RETURNING seq",
    [RETURN_IDS] = "UPDATE sqlite_sequence SET seq = seq - ?1"
                   " WHERE name = 'submit'",
    [INSERT_KIND] = "INSERT INTO _kind(name) VALUES(?1)",
    [FIND_KIND] = "SELECT id, 0, timeout_ms, max_attempts FROM _kind"
                  " WHERE name = ?1",
    [SET_KIND_DEFAULTS] = "UPDATE _kind SET max_attempts = ?2, timeout_ms = ?3"
                          " WHERE id = ?1",
    [INSERT_QUEUE] = "INSERT INTO _queue(name) VALUES(?1)",
    [FIND_QUEUE] = "SELECT id, ageing_ms, 0, 0 FROM _queue WHERE name = ?1",
    [INSERT_BATCH] = "INSERT INTO _batch(name, created_at) VALUES(?1, ?2)",
    [FIND_BATCH] = "SELECT id, 0, 0, 0 FROM _batch WHERE name = ?1",
    [INSERT_JOB] = "INSERT INTO _job VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
                   " ?10, ?11, 0, 0, 0, ?12)",
    [INSERT_READY] = "INSERT INTO _ready VALUES(?1, ?2, ?3, ?4)",
    [INSERT_SCHEDULED] = "INSERT INTO _scheduled VALUES(?1, ?2)",

    [NEXT_LANE] = LANE_NEXT,
    [LANE_JOBS] = "SELECT r.queue, r.sort_key, j.id, j.lease, j.kind, j.run_at,"
                  " j.created_at, j.deadline_at, j.timeout_ms, j.failures,"
                  " j.max_attempts, p.cursor, p.total, j.args, j.crashes"
                  " FROM _ready r CROSS JOIN _job j ON j.id = r.id"
                  " LEFT JOIN _progress p ON p.id = r.id"
                  " WHERE r.queue = ?1 AND r.kind = ?2"
                  " ORDER BY r.sort_key, r.id LIMIT ?3",
    [ONE_JOB] = "SELECT r.queue, r.sort_key, j.id, j.lease, j.kind, j.run_at,"
                " j.created_at, j.deadline_at, j.timeout_ms, j.failures,"
                " j.max_attempts, p.cursor, p.total, j.args, j.crashes"
                " FROM _job j CROSS JOIN _ready r ON r.queue = j.queue"
                " AND r.kind = j.kind AND r.sort_key = j.sort_key"
                " AND r.id = j.id LEFT JOIN _progress p ON p.id = j.id"
                " WHERE j.id = ?1",
    [DELETE_READY] = "DELETE FROM _ready WHERE queue = ?1 AND kind = ?2"
                     " AND sort_key = ?3 AND id = ?4",
    [INSERT_RUNNING] = "INSERT INTO _running(id, lease, process, claimed_at)"
                       " VALUES(?1, ?2, ?3, ?4)",
    [EXPIRE_READY] = "INSERT INTO _done(id, state, lease, attempt,"
                     " finished_at, code, cause) SELECT id, 5, lease, failures,"
                     " ?2, 2, 'its deadline passed before it ran' FROM _job"
                     " WHERE id = ?1",

    [FIND_RUNNING] = "SELECT r.cancel_at, r.cancel_reason, r.process,"
                     " j.failures, j.max_attempts, j.crashes, j.deadline_at,"
                     " r.started_at FROM _running r"
                     " JOIN _job j ON j.id = r.id"
                     " WHERE r.id = ?1 AND r.lease = ?2",
    [INSERT_DONE] = "INSERT INTO _done VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
                    " ?9, ?10, ?11, ?12)",
    [DELETE_RUNNING] = "DELETE FROM _running WHERE id = ?1 AND lease = ?2",
    [GIVE_BACK] = "UPDATE _job SET lease = ?2, failures = ?3, crashes = ?4,"
                  " run_at = COALESCE(?5, run_at),"
                  " sort_key = COALESCE(?5 + priority * (SELECT ageing_ms"
                  "  FROM _queue q WHERE q.id = queue), sort_key)"
                  " WHERE id = ?1",
    [READY_AGAIN] = "INSERT INTO _ready SELECT queue, kind, sort_key, id"
                    " FROM _job WHERE id = ?1",
    [SCHEDULED_AGAIN] = "INSERT INTO _scheduled SELECT run_at, id FROM _job"
                        " WHERE id = ?1",
    [RECORD_ATTEMPT] = "INSERT INTO _attempt VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                       " ?8)",
    [RECORD_PROGRESS] =
        "INSERT INTO _progress SELECT id, lease, ?3, ?4, ?5, ?6, ?7, ?3 > 0"
        " FROM _running WHERE id = ?1 AND lease = ?2"
        " ON CONFLICT(id) DO UPDATE SET"
        " advanced = (lease = excluded.lease AND advanced)"
        "  OR excluded.cursor > cursor,"
        " lease = excluded.lease, cursor = excluded.cursor,"
        " total = excluded.total, base = excluded.base,"
        " base_at = excluded.base_at, updated_at = excluded.updated_at",
    [RECORD_START] = "UPDATE _running SET started_at = ?3,"
                     " stuck_since = nullif(?4, 0) WHERE id = ?1 AND lease = ?2"
                     " AND (started_at IS NULL OR ?4 > 0)",

    [DUE_JOBS] = "SELECT run_at, id FROM _scheduled WHERE run_at <= ?1"
                 " ORDER BY run_at, id LIMIT 1000",
    [DELETE_SCHEDULED] = "DELETE FROM _scheduled WHERE run_at = ?1 AND id = ?2",
    [NEXT_DUE] = "SELECT min(run_at) FROM _scheduled",
    [COMMAND_CANCEL] = "INSERT INTO cancel(job, reason) VALUES(?1, ?2)",
    [COMMAND_RETRY] = "INSERT INTO retry(job) VALUES(?1)",
    [COMMAND_PAUSE] = "INSERT INTO pause(queue) VALUES(?1)",
    [COMMAND_RESUME] = "INSERT INTO resume(queue) VALUES(?1)",
    [QUEUE_EXISTS] = "SELECT 1 FROM _queue WHERE name = ?1",
    [JOB_STANDING] =
        "SELECT (SELECT 1 FROM _job WHERE id = ?1),"
        " (SELECT 1 + (cancel_at IS NOT NULL) FROM _running WHERE id = ?1),"
        " (SELECT 1 FROM _done WHERE id = ?1)",

    [INSERT_PROCESS] = "INSERT INTO _process(pid, host, boot, start_ticks,"
                       " threads, version, started_at)"
                       " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [END_PROCESS] = "UPDATE _process SET ended_at = ?2, end = ?3"
                    " WHERE id = ?1 AND ended_at IS NULL",
    [PROCESS_IS_OPEN] = "SELECT 1 FROM _process WHERE id = ?1"
                        " AND ended_at IS NULL",
    [OWN_QUEUE] = "UPDATE _queue SET owner = ?2 WHERE id = ?1",
    [HANDLE_KIND] = "INSERT INTO _handles VALUES(?1, ?2)",
    [FORGET_KINDS] = "DELETE FROM _handles WHERE process = ?1",
    [DISOWN_QUEUES] = "UPDATE _queue SET owner = NULL WHERE owner = ?1",
    [OWNER_OF_QUEUE] = "SELECT p.id, p.pid FROM _queue q"
                       " JOIN _process p ON p.id = q.owner WHERE q.id = ?1",
    [JOBS_OF_PROCESS] = "SELECT r.id, r.lease, r.started_at, r.cancel_at,"
                        " r.cancel_reason, j.failures, j.crashes,"
                        " j.deadline_at, p.advanced AND p.lease = r.lease"
                        " FROM _running r JOIN _job j ON j.id = r.id"
                        " LEFT JOIN _progress p ON p.id = r.id"
                        " WHERE r.process = ?1",
    [TOUCH] = "UPDATE _meta SET value = value + 1 WHERE key = 'synced'",
    [DATA_VERSION] = "PRAGMA data_version",
    [BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
};
