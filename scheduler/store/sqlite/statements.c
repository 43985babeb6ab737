/*
 * Every statement that writes to the queue's file, but for the schema.
 *
 * A move out of _running is guarded by the lease: WHERE id = ? AND lease = ?,
 * and its count of changed rows is the truth. Values that a partial or ordered
 * key depends on are equalities on the whole key, so that nothing scans.
 */
#include "store/sqlite/lanes.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/schema.h"

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
                   " ?10, ?11, 0, 0, 0, NULL, ?12, ?13, ?14, ?15, ?16)",
    [INSERT_READY] = "INSERT INTO _ready VALUES(?1, ?2, ?3, ?4)",
    [INSERT_SCHEDULED] = "INSERT INTO _scheduled VALUES(?1, ?2)",
    [INSERT_BLOCKED] = "INSERT INTO _blocked VALUES(?1)",
    [INSERT_HELD] = "INSERT INTO _held VALUES(?1, ?2, ?3, ?4, ?5)",
    [SAVEPOINT] = "SAVEPOINT several",
    [ROLLBACK_TO] = "ROLLBACK TO several",
    [RELEASE] = "RELEASE several",

    [UNIQUE_JOB] = "SELECT job FROM _unique WHERE key = ?1",
    [INSERT_UNIQUE] = "INSERT INTO _unique VALUES(?1, ?2)",
    [INSERT_DEADLINE] = "INSERT INTO _deadline VALUES(?1, ?2)",
    [JOB_EXISTS] = "SELECT 1 FROM _job WHERE id = ?1",
    [INSERT_DEP] = "INSERT INTO _dep SELECT ?1, ?2, EXISTS (SELECT 1"
                   " FROM _done WHERE id = ?1 AND state = 4)"
                   " WHERE NOT EXISTS (SELECT 1 FROM _dep"
                   "  WHERE parent = ?1 AND child = ?2)",
    [TIE_JOB] = "UPDATE _job SET ties = ties | ?2"
                " WHERE id = ?1 AND ties & ?2 = 0",
    [SETTLE_LATECOMER] = "INSERT INTO _settle SELECT ?1, 1, 0"
                         " WHERE EXISTS (SELECT 1 FROM _done"
                         "  WHERE id = ?1 AND state <> 4)"
                         " AND NOT EXISTS (SELECT 1 FROM _settle"
                         "  WHERE job = ?1 AND what = 1)",
    [SETTLE_LATE_CHILD] =
        "INSERT INTO _settle SELECT ?1, 2, 0"
        " WHERE (EXISTS (SELECT 1 FROM _done WHERE id = ?1 AND state = 6)"
        "  OR EXISTS (SELECT 1 FROM _running"
        "   WHERE id = ?1 AND cancel_at IS NOT NULL))"
        " AND NOT EXISTS (SELECT 1 FROM _settle WHERE job = ?1 AND what = 2)",
    [HAS_UNMET] = "SELECT 1 FROM _dep WHERE child = ?1 AND met = 0",

    [QUEUE_IS_OPEN] = "SELECT 1 FROM _queue WHERE id = ?1"
                      " AND paused_at IS NULL AND max_running IS NULL"
                      " AND (owner IS NULL OR owner = ?2)",
    [NEXT_LANE] = LANE_NEXT,
    [LANE_JOBS] = "SELECT r.queue, r.sort_key, j.id, j.lease, j.kind, j.run_at,"
                  " j.created_at, j.deadline_at, j.timeout_ms, j.failures,"
                  " j.max_attempts, p.cursor, p.total, j.args, j.crashes,"
                  " j.limit_key, j.restart"
                  " FROM _ready r CROSS JOIN _job j ON j.id = r.id"
                  " LEFT JOIN _progress p ON p.id = r.id"
                  " WHERE r.queue = ?1 AND r.kind = ?2"
                  " ORDER BY r.sort_key, r.id LIMIT ?3",
    [ONE_LANE] = LANE " FROM _job l WHERE l.id = ?1",
    [ONE_JOB] = "SELECT r.queue, r.sort_key, j.id, j.lease, j.kind, j.run_at,"
                " j.created_at, j.deadline_at, j.timeout_ms, j.failures,"
                " j.max_attempts, p.cursor, p.total, j.args, j.crashes,"
                " j.limit_key, j.restart"
                " FROM _job j CROSS JOIN _ready r ON r.queue = j.queue"
                " AND r.kind = j.kind AND r.sort_key = j.sort_key"
                " AND r.id = j.id LEFT JOIN _progress p ON p.id = j.id"
                " WHERE j.id = ?1",
    [DELETE_READY] = "DELETE FROM _ready WHERE queue = ?1 AND kind = ?2"
                     " AND sort_key = ?3 AND id = ?4",
    [INSERT_RUNNING] = "INSERT INTO _running(id, lease, process, claimed_at,"
                       " queue, limit_key) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [KEY_ROOM] = "SELECT " KEY_LIMIT("?1") " - (SELECT count(*) FROM _running"
                                           " WHERE limit_key = ?1)",
    [HELD_PLACE] = "SELECT h.key, h.queue, h.kind, h.sort_key FROM _job j"
                   " CROSS JOIN _held h ON h.key = j.limit_key"
                   " AND h.queue = j.queue AND h.kind = j.kind"
                   " AND h.sort_key = j.sort_key AND h.id = j.id"
                   " WHERE j.id = ?1",
    [KEY_OF_JOB] = "SELECT limit_key FROM _job WHERE id = ?1"
                   " AND limit_key IS NOT NULL",
    [NEXT_HELD_LANE] = HELD_LANE_NEXT,
    [HELD_JOBS] = "SELECT sort_key, id FROM _held WHERE key = ?1"
                  " AND queue = ?2 AND kind = ?3 ORDER BY sort_key, id"
                  " LIMIT ?4",
    [DELETE_HELD] = "DELETE FROM _held WHERE key = ?1 AND queue = ?2"
                    " AND kind = ?3 AND sort_key = ?4 AND id = ?5",
    [EXPIRE_READY] = "INSERT INTO _done(id, state, lease, attempt,"
                     " finished_at, code, cause) SELECT id, 5, lease, failures,"
                     " ?2, 2, 'its deadline passed before it ran' FROM _job"
                     " WHERE id = ?1",

    [FIND_RUNNING] = "SELECT r.cancel_at, r.cancel_reason, r.process,"
                     " j.failures, j.max_attempts, j.crashes, j.deadline_at,"
                     " r.started_at, r.limit_key, j.ties,"
                     " p.advanced AND p.lease = r.lease FROM _running r"
                     " JOIN _job j ON j.id = r.id"
                     " LEFT JOIN _progress p ON p.id = r.id"
                     " WHERE r.id = ?1 AND r.lease = ?2",
    [INSERT_DONE] = "INSERT INTO _done VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
                    " ?9, ?10, ?11, NULL, ?12)",
    [TELL_OF_END] = "INSERT INTO _ended SELECT id, ?2 FROM _job"
                    " WHERE id = ?1 AND ties > 0",
    [DELETE_RUNNING] = "DELETE FROM _running WHERE id = ?1 AND lease = ?2",
    [DELETE_PLAIN_RUNNING] =
        "DELETE FROM _running WHERE id = ?1 AND lease = ?2"
        " AND cancel_at IS NULL AND limit_key IS NULL"
        " AND (SELECT ties FROM _job WHERE id = ?1) = 0",
    [GIVE_BACK] = "UPDATE _job SET lease = ?2, failures = ?3, crashes = ?4,"
                  " run_at = COALESCE(?5, run_at),"
                  " sort_key = COALESCE(?5 + priority * (SELECT ageing_ms"
                  "  FROM _queue q WHERE q.id = queue), sort_key)"
                  " WHERE id = ?1",
    [READY_AGAIN] = "INSERT INTO _ready SELECT queue, kind, sort_key, id"
                    " FROM _job WHERE id = ?1",
    [SCHEDULED_AGAIN] = "INSERT INTO _scheduled SELECT run_at, id FROM _job"
                        " WHERE id = ?1 AND run_at > ?2",
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
    [DUE_DEADLINES] = "SELECT at, id FROM _deadline WHERE at <= ?1"
                      " ORDER BY at, id LIMIT 1000",
    [DELETE_DEADLINE] = "DELETE FROM _deadline WHERE at = ?1 AND id = ?2",
    [LEAVE_READY] = "DELETE FROM _ready WHERE (queue, kind, sort_key, id)"
                    " = (SELECT queue, kind, sort_key, id FROM _job"
                    "  WHERE id = ?1)",
    [LEAVE_HELD] = "DELETE FROM _held WHERE (key, queue, kind, sort_key, id)"
                   " = (SELECT limit_key, queue, kind, sort_key, id FROM _job"
                   "  WHERE id = ?1)",
    [LEAVE_SCHEDULED] = "DELETE FROM _scheduled WHERE (run_at, id)"
                        " = (SELECT run_at, id FROM _job WHERE id = ?1)",
    [LEAVE_BLOCKED] = "DELETE FROM _blocked WHERE id = ?1",
    [NEXT_DUE] = DUE_NEXT,

    [NEXT_SETTLE] = "SELECT s.job, s.what, s.last,"
                    " (SELECT state FROM _done d WHERE d.id = s.job),"
                    " (SELECT cancel_at FROM _running r WHERE r.id = s.job)"
                    " FROM _settle s LIMIT 1",
    [SETTLE_FURTHER] = "UPDATE _settle SET last = ?3"
                       " WHERE job = ?1 AND what = ?2",
    [SETTLE_OVER] = "DELETE FROM _settle WHERE job = ?1 AND what = ?2",
    [AWAITING_JOBS] = "SELECT child FROM _dep WHERE parent = ?1 AND child > ?2"
                      " ORDER BY child LIMIT ?3",
    [CHILDREN_JOBS] = "SELECT id FROM _job WHERE parent = ?1 AND id > ?2"
                      " ORDER BY id LIMIT ?3",
    [MEET_DEP] = "UPDATE _dep SET met = 1 WHERE parent = ?1 AND child = ?2",
    [UNBLOCK] = "DELETE FROM _blocked WHERE id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM _dep WHERE child = ?1 AND met = 0)",
    [SKIP_JOB] = "INSERT INTO _done(id, state, lease, attempt, finished_at,"
                 " code, cause, skipped_by) SELECT j.id, 6, j.lease,"
                 " j.failures, ?3, 1, 'job ' || ?2 || ', which it waits for, '"
                 "  || CASE d.state WHEN 5 THEN 'failed' ELSE 'was cancelled'"
                 "   END, ?2 FROM _job j, _done d"
                 " WHERE j.id = ?1 AND d.id = ?2",
    [WAS_SKIPPED] = "SELECT j.run_at, j.sort_key FROM _done d"
                    " JOIN _job j ON j.id = d.id WHERE d.id = ?1"
                    " AND d.skipped_by = ?2 AND NOT EXISTS (SELECT 1"
                    "  FROM _unique u WHERE u.key = j.unique_key)",
    [KEEP_TIME] = "UPDATE _job SET run_at = ?2, sort_key = ?3 WHERE id = ?1"
                  " AND EXISTS (SELECT 1 FROM _blocked WHERE id = ?1)",

    [PRUNE_DONE] = "DELETE FROM _done WHERE id = ?1 AND finished_at < ?2"
                   " AND NOT EXISTS (SELECT 1 FROM _dep d JOIN _blocked b"
                   "  ON b.id = d.child WHERE d.parent = ?1)"
                   " AND NOT EXISTS (SELECT 1 FROM _settle"
                   "  WHERE job = ?1 AND what = 2)",
    [PRUNE_PROGRESS] = "DELETE FROM _progress WHERE id = ?1",
    [PRUNE_ATTEMPTS] = "DELETE FROM _attempt WHERE job = ?1",
    [PRUNE_PARENTS] = "DELETE FROM _dep WHERE child = ?1",
    [PRUNE_CHILDREN] = "DELETE FROM _dep WHERE parent = ?1",
    [PRUNE_SETTLE] = "DELETE FROM _settle WHERE job = ?1",
    [PRUNE_BATCH] = "DELETE FROM _batch WHERE id = (SELECT batch FROM _job"
                    "  WHERE id = ?1) AND NOT EXISTS (SELECT 1 FROM _job"
                    "  WHERE batch = _batch.id AND id <> ?1)",
    [PRUNE_JOB] = "DELETE FROM _job WHERE id = ?1",
    [COMMAND_CANCEL] = "INSERT INTO cancel(job, reason) VALUES(?1, ?2)",
    [COMMAND_RETRY] = "INSERT INTO retry(job, restart) VALUES(?1, ?2)",
    [COMMAND_RESCHEDULE] = "INSERT INTO reschedule VALUES(?1, ?2, ?3)",
    [COMMAND_SET_LIMIT] = "INSERT INTO set_limit VALUES(?1, ?2, ?3)",
    [COMMAND_RETAIN] = "INSERT INTO retain VALUES(?1, ?2)",
    [COMMAND_PAUSE] = "INSERT INTO pause(queue) VALUES(?1)",
    [COMMAND_RESUME] = "INSERT INTO resume(queue) VALUES(?1)",
    [QUEUE_EXISTS] = "SELECT 1 FROM _queue WHERE name = ?1",
    [JOB_STANDING] =
        "SELECT (SELECT 1 FROM _job WHERE id = ?1),"
        " (SELECT 1 + (cancel_at IS NOT NULL) FROM _running WHERE id = ?1),"
        " (SELECT state FROM _done WHERE id = ?1),"
        " (SELECT u.job FROM _job j JOIN _unique u ON u.key = j.unique_key"
        "  WHERE j.id = ?1)",

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
                        " j.deadline_at, p.advanced AND p.lease = r.lease,"
                        " r.limit_key, j.ties"
                        " FROM _running r JOIN _job j ON j.id = r.id"
                        " LEFT JOIN _progress p ON p.id = r.id"
                        " WHERE r.process = ?1",
    [TOUCH] = "UPDATE _meta SET value = value + 1 WHERE key = 'synced'",
    [DATA_VERSION] = "PRAGMA data_version",
    [USER_VERSION] = "PRAGMA user_version",
    [BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};
