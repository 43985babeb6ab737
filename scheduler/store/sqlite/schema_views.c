/*
 * The views of the public interface: columns are added to them, at the end,
 * never changed or removed. Pure SQL of SQLite 3.37.
 *
 * A look that wants the newest few, ORDER BY id DESC LIMIT n, must not read the
 * others. SQLite merges the arms of a UNION ALL as each gives its rows in order,
 * and stops, if it can put them in the place of the view; that asks for
 *
 *   an index  in each arm, from which its rows come by id, so that the arm begins
 *             with the table that says where the job stands;
 *   one type  of a column in all arms, which is why NULLs and expressions are
 *             cast to what the column is in the others;
 *   id        among the columns that are asked for.
 */
#include "store/sqlite/schema.h"

#include <stddef.h>

#include "store/suspicion.h"

/* clang-format off */

/* The names of enum rota_error, as the views show them. */
#define CODE_NAME(column)                                                      \
    "CASE " column " WHEN 0 THEN NULL WHEN 1 THEN 'CANCELED'"                  \
    " WHEN 2 THEN 'DEADLINE' WHEN 3 THEN 'TIMEOUT' WHEN 4 THEN 'NOMEM'"        \
    " WHEN 5 THEN 'INVALID' WHEN 6 THEN 'NOTFOUND' WHEN 7 THEN 'EXISTS'"       \
    " WHEN 8 THEN 'FULL' WHEN 9 THEN 'CLOSED' WHEN 10 THEN 'BUSY'"             \
    " WHEN 11 THEN 'STORE' WHEN 12 THEN 'CORRUPT' WHEN 13 THEN 'VERSION'"      \
    " WHEN 14 THEN 'SYSTEM' WHEN 20 THEN 'FAILED' WHEN 21 THEN 'FATAL'"        \
    " WHEN 22 THEN 'SNOOZE' WHEN 23 THEN 'LOST'"                               \
    " ELSE CAST(" column " AS TEXT) END"
#define END_NAME(column)                                                       \
    "CASE " column " WHEN " STATE_SUCCEEDED " THEN 'succeeded' WHEN "          \
    STATE_FAILED " THEN 'failed' ELSE 'cancelled' END"

/* A column of an arm that is none there, or is made: of the same type as in the
 * others. */
#define NO_INTEGER "CAST(NULL AS INTEGER)"
#define NO_TEXT "CAST(NULL AS TEXT)"
#define NO_DATA "CAST(NULL AS BLOB)"
#define TEXT(expression) "CAST(" expression " AS TEXT)"
#define INTEGER(expression) "CAST(" expression " AS INTEGER)"

/* What a job says of itself wherever it stands. */
#define NAMES " b.name AS batch, k.name AS kind, q.name AS queue,"
#define JOB_COMMON                                                             \
    " COALESCE(j.max_attempts, k.max_attempts) AS max_attempts,"               \
    " COALESCE(p.cursor, 0) AS done,"                                          \
    " p.total AS total,"                                                       \
    " CASE WHEN p.updated_at > p.base_at AND p.cursor > p.base"                \
    "  THEN round((p.cursor - p.base) * 1000.0"                                \
    "   / (p.updated_at - p.base_at), 1) END AS rate,"                         \
    " j.run_at AS run_at, j.created_at AS created_at,"                         \
    " j.deadline_at AS deadline_at,"                                           \
    " COALESCE(j.timeout_ms, k.timeout_ms) AS timeout_ms,"                     \
    " j.failures AS failures, j.crashes AS crashes, j.args AS args,"           \
    " j.unique_key AS unique_key, j.limit_key AS limit_key,"                   \
    " j.parent AS parent"
#define FROM_JOB                                                               \
    " JOIN _kind k ON k.id = j.kind JOIN _queue q ON q.id = j.queue"           \
    " LEFT JOIN _batch b ON b.id = j.batch"                                    \
    " LEFT JOIN _progress p ON p.id = j.id"
#define NOTHING_RAN                                                            \
    " " NO_INTEGER " AS started_at, " NO_INTEGER " AS finished_at,"            \
    " " NO_INTEGER " AS code, " NO_TEXT " AS cause,"                           \
    " " NO_INTEGER " AS cancel_requested_at, " NO_TEXT " AS cancel_reason,"    \
    " " NO_INTEGER " AS worker, j.lease AS lease, " NO_DATA " AS result,"

#define KEY_IS_FULL                                                            \
    "(SELECT count(*) FROM _running WHERE limit_key = j.limit_key)"            \
    "  >= " KEY_LIMIT("j.limit_key")
#define KEY_WORDS                                                              \
    "'of the key ' || j.limit_key || ' ' || " KEY_LIMIT("j.limit_key")         \
    " || ' runs at a time'"

/* What runs inside its process, and at how many deaths it was without getting
 * further since. */
#define INSIDE                                                                 \
    "CREATE VIEW _inside AS"                                                   \
    " SELECT r.process, r.id,"                                                 \
    "  iif(p.advanced AND p.lease = r.lease, 0, j.crashes) AS crashes"         \
    " FROM _running r JOIN _job j ON j.id = r.id"                              \
    " JOIN _kind k ON k.id = j.kind AND NOT k.is_isolated"                     \
    " LEFT JOIN _progress p ON p.id = r.id;"
#define SUSPECT TEXT_OF(CRASHES_SUSPECT)
#define LONER TEXT_OF(CRASHES_MAX)
#define PROCESSES                                                              \
    "_process w JOIN _handles h ON h.process = w.id"                           \
    " WHERE w.ended_at IS NULL AND h.kind = j.kind"
/* Whether the job i, which runs, lets the job j run beside it: the rules of
 * store/suspicion.h. */
#define IS_IN_THE_WAY                                                          \
    "(i.crashes >= " LONER " OR j.crashes >= " LONER                           \
    "  OR (i.crashes >= " SUSPECT " AND j.crashes >= " SUSPECT "))"
/* One such, for people, if there is one in every process that j could run in.
 * What is asked first is asked once, and not for every job. */
#define IN_THE_WAY                                                             \
    "CASE WHEN k.is_isolated = 0 AND (j.crashes >= " SUSPECT                   \
    "  OR EXISTS (SELECT 1 FROM _inside WHERE crashes >= " LONER "))"          \
    " AND NOT EXISTS (SELECT 1 FROM " PROCESSES                                \
    "  AND NOT EXISTS (SELECT 1 FROM _inside i"                                \
    "   WHERE i.process = w.id AND " IS_IN_THE_WAY "))"                        \
    " THEN (SELECT min(i.id) FROM _inside i WHERE i.process IN"                \
    "  (SELECT w.id FROM " PROCESSES ") AND " IS_IN_THE_WAY ") END"
/* One that has ended so. Nearly all have succeeded: of the others there is an
 * index, of which its own condition reminds SQLite. */
#define ENDED(state, name, where)                                              \
    " SELECT d.id, " NAMES " '" name "', " TEXT("'" name "'") ","              \
    "  d.cause, j.priority, d.attempt, d.started_at, d.finished_at, d.code,"   \
    "  d.cause, d.cancel_at, " TEXT("CASE WHEN d.cancel_at IS NOT NULL"        \
    "   THEN d.cause END") ", d.process, d.lease, d.result," JOB_COMMON        \
    " FROM _done d JOIN _job j ON j.id = d.id" FROM_JOB                        \
    " WHERE d.state = " state where

static const char jobs[] =
    INSIDE
    /* one arm for each place: WHERE state = '...' reads its arm only, and
     * WHERE id = ... probes each */
    "CREATE VIEW _jobs AS"
    " SELECT r.id AS id," NAMES " 'ready' AS state,"
    "  " TEXT("CASE WHEN q.paused_at IS NOT NULL THEN 'paused'"
    "   WHEN j.lease > 0 THEN 'resumable' ELSE 'ready' END") " AS status,"
    "  " TEXT("CASE WHEN q.paused_at IS NOT NULL THEN 'its queue is paused'"
    "   WHEN q.owner IS NOT NULL"
    "   THEN 'waits for worker ' || q.owner || ', whose queue it is'"
    "   WHEN NOT EXISTS (SELECT 1 FROM _process w WHERE w.ended_at IS NULL)"
    "   THEN 'no worker runs'"
    "   WHEN NOT EXISTS (SELECT 1 FROM _process w JOIN _handles h"
    "    ON h.process = w.id WHERE w.ended_at IS NULL AND h.kind = j.kind)"
    "   THEN 'no worker that runs knows this kind'"
    "   WHEN " IN_THE_WAY " IS NOT NULL"
    "   THEN CASE WHEN j.crashes < " SUSPECT " THEN 'waits for job '"
    "     ELSE 'suspect of ' || j.crashes || ' deaths of its process: '"
    "      || iif(j.crashes >= " LONER ", 'runs alone, ', '')"
    "      || 'waits for job ' END || " IN_THE_WAY
    "    || CASE WHEN j.crashes >= " LONER " THEN ''"
    "     WHEN j.crashes >= " SUSPECT " THEN ', a suspect too'"
    "     ELSE ', a suspect that runs alone' END"
    "   WHEN q.max_running <= (SELECT count(*) FROM _running"
    "    WHERE queue = q.id)"
    "   THEN 'its queue runs ' || q.max_running || ' at a time'"
    "   WHEN j.limit_key IS NOT NULL AND " KEY_IS_FULL
    "   THEN " KEY_WORDS
    "   ELSE 'waits for a worker' END") " AS why,"
    "  j.priority AS priority, j.failures AS attempt," NOTHING_RAN JOB_COMMON
    " FROM _ready r JOIN _job j ON j.id = r.id" FROM_JOB
    " UNION ALL"
    " SELECT h.id," NAMES " 'ready', " TEXT("'held'") ", " TEXT(KEY_WORDS) ","
    "  j.priority, j.failures," NOTHING_RAN JOB_COMMON
    " FROM _held h JOIN _job j ON j.id = h.id" FROM_JOB
    " UNION ALL"
    " SELECT s.id," NAMES " 'scheduled',"
    "  " TEXT("CASE WHEN j.failures > 0 THEN 'retrying' ELSE 'scheduled' END")
    "," TEXT("CASE WHEN j.failures > 0 THEN 'failed ' || j.failures || ' of '"
    "    || COALESCE(j.max_attempts, k.max_attempts)"
    "    || ' times' || COALESCE((SELECT ' (' || a.message || ')'"
    "      FROM _attempt a WHERE a.job = j.id AND a.message <> ''"
    "      ORDER BY a.lease DESC LIMIT 1), '')"
    "    || ', runs again at ' ELSE 'not before ' END"
    "   || strftime('%Y-%m-%dT%H:%M:%fZ', j.run_at / 1000.0, 'unixepoch')") ","
    "  j.priority, j.failures," NOTHING_RAN JOB_COMMON
    " FROM _scheduled s JOIN _job j ON j.id = s.id" FROM_JOB
    " UNION ALL"
    " SELECT w.id," NAMES " 'blocked', " TEXT("'blocked'") ","
    "  " TEXT("(SELECT 'waits for job ' || m.first"
    "    || COALESCE((SELECT CASE p.state"
    " WHEN " STATE_CANCELLED " THEN ', which was cancelled'"
    "      ELSE ', which failed' END FROM _done p WHERE p.id = m.first), '')"
    "    || CASE m.n WHEN 1 THEN '' WHEN 2 THEN ' and another'"
    "     ELSE ' and ' || (m.n - 1) || ' others' END"
    "   FROM (SELECT min(parent) AS first, count(*) AS n FROM _dep"
    "    WHERE child = j.id AND met = 0) m)") ","
    "  j.priority, j.failures," NOTHING_RAN JOB_COMMON
    " FROM _blocked w JOIN _job j ON j.id = w.id" FROM_JOB
    " UNION ALL"
    " SELECT r.id," NAMES " 'running',"
    "  " TEXT("CASE WHEN r.stuck_since IS NOT NULL THEN 'stuck'"
    "   WHEN r.cancel_at IS NOT NULL THEN 'cancelling'"
    "   WHEN r.started_at IS NULL THEN 'claimed' ELSE 'running' END") ","
    "  " TEXT("CASE WHEN r.stuck_since IS NOT NULL THEN 'has ignored for '"
    "    || ((" NOW " - r.stuck_since) / 1000) || ' s that it should stop'"
    "    || COALESCE(': ' || r.cancel_reason, '')"
    "   WHEN r.cancel_at IS NOT NULL"
    "   THEN 'cancel asked' || COALESCE(': ' || r.cancel_reason, '')"
    "   WHEN " NOW " - max(r.started_at, COALESCE(p.updated_at, 0)) >= 30000"
    "   THEN 'no advance for ' || ((" NOW " - max(r.started_at,"
    "    COALESCE(p.updated_at, 0))) / 1000) || ' s' END") ","
    "  j.priority, " INTEGER("j.failures + 1") ", r.started_at, " NO_INTEGER ","
    "  " NO_INTEGER ", " NO_TEXT ", r.cancel_at, r.cancel_reason, r.process,"
    "  r.lease, " NO_DATA "," JOB_COMMON
    " FROM _running r JOIN _job j ON j.id = r.id" FROM_JOB
    " UNION ALL" ENDED(STATE_SUCCEEDED, "succeeded", "")
    " UNION ALL" ENDED(STATE_FAILED, "failed", " AND d.state <> 4")
    " UNION ALL" ENDED(STATE_CANCELLED, "cancelled", " AND d.state <> 4") ";"

    "CREATE VIEW jobs AS"
    " SELECT id, batch, kind, queue, state, status, why, priority, attempt,"
    "  max_attempts, done, total,"
    "  CASE WHEN total > 0"
    "   THEN max(0.0, min(100.0, round(100.0 * done / total, 1)))"
    "   END AS percent, rate,"
    "  CASE WHEN state = 'running' AND rate > 0 AND total > done"
    "   THEN round((total - done) / rate, 1) END AS eta,"
    "  run_at, created_at, started_at, finished_at,"
    "  " CODE_NAME("code") " AS error, cause,"
    "  CASE typeof(args) WHEN 'text' THEN args END AS args_text, result,"
    "  worker, args, deadline_at, timeout_ms, cancel_requested_at,"
    "  cancel_reason, lease, failures, crashes,"
    "  " ISO("created_at") ", " ISO("run_at") ","
    "  " ISO("started_at") ", " ISO("finished_at") ","
    "  unique_key, limit_key, parent FROM _jobs;";

static const char others[] =
    "CREATE VIEW attempts AS"
    " SELECT *, " ISO("started_at") ", " ISO("ended_at") " FROM ("
    " SELECT job, lease, process AS worker, started_at, ended_at, outcome,"
    "  " TEXT(CODE_NAME("code")) " AS error, message FROM _attempt"
    " UNION ALL"
    " SELECT id, lease, process, started_at, " NO_INTEGER ","
    "  " TEXT("'running'") ", " NO_TEXT ", " NO_TEXT " FROM _running"
    " UNION ALL"
    " SELECT id, lease, process, started_at, finished_at,"
    "  " TEXT(END_NAME("state")) ", " TEXT(CODE_NAME("code")) ", cause"
    "  FROM _done WHERE process IS NOT NULL);"

    "CREATE VIEW batches AS"
    " SELECT *, " ISO("created_at") " FROM ("
    " SELECT b.name AS batch, count(j.id) AS jobs, count(w.id) AS blocked,"
    "  count(s.id) AS scheduled,"
    "  count(j.id) - count(w.id) - count(s.id) - count(r.id) - count(d.id)"
    "   AS ready,"
    "  count(r.id) AS running,"
    "  sum(COALESCE(d.state = " STATE_SUCCEEDED ", 0)) AS succeeded,"
    "  sum(COALESCE(d.state = " STATE_FAILED ", 0)) AS failed,"
    "  sum(COALESCE(d.state = " STATE_CANCELLED ", 0)) AS cancelled,"
    "  b.created_at AS created_at"
    " FROM _batch b JOIN _job j ON j.batch = b.id"
    " LEFT JOIN _done d ON d.id = j.id LEFT JOIN _running r ON r.id = j.id"
    " LEFT JOIN _blocked w ON w.id = j.id"
    " LEFT JOIN _scheduled s ON s.run_at = j.run_at AND s.id = j.id"
    " GROUP BY b.id);"

    "CREATE VIEW queues AS"
    " SELECT queue, paused, paused_at, blocked, scheduled, ready, running,"
    "  worker, " ISO("paused_at") ", max_running, retain_ms FROM ("
    " SELECT q.name AS queue, q.paused_at IS NOT NULL AS paused, q.paused_at,"
    "  (SELECT count(*) FROM _blocked w CROSS JOIN _job j ON j.id = w.id"
    "   WHERE j.queue = q.id) AS blocked,"
    "  (SELECT count(*) FROM _scheduled s CROSS JOIN _job j ON j.id = s.id"
    "   WHERE j.queue = q.id) AS scheduled,"
    "  (SELECT count(*) FROM _ready r WHERE r.queue = q.id)"
    "   + (SELECT count(*) FROM _held h WHERE h.queue = q.id) AS ready,"
    "  (SELECT count(*) FROM _running r WHERE r.queue = q.id) AS running,"
    "  q.owner AS worker, q.max_running, q.retain_ms FROM _queue q);"

    "CREATE VIEW cancellations AS"
    " SELECT *, " ISO("requested_at") ", " ISO("stopped_at") " FROM ("
    " SELECT d.id AS job, " TEXT(END_NAME("d.state")) " AS state,"
    "  d.cancel_at AS requested_at, d.delivered_at AS delivered_at,"
    "  d.finished_at AS stopped_at,"
    "  " INTEGER("d.delivered_at - d.cancel_at") " AS delivered_after,"
    "  " INTEGER("d.finished_at - d.cancel_at") " AS stopped_after,"
    "  d.cause AS reason FROM _done d WHERE d.cancel_at IS NOT NULL"
    " UNION ALL"
    " SELECT id, " TEXT("'running'") ", cancel_at, " NO_INTEGER ","
    "  " NO_INTEGER ", " NO_INTEGER ", " NO_INTEGER ", cancel_reason"
    "  FROM _running WHERE cancel_at IS NOT NULL);"

    "CREATE VIEW workers AS"
    " SELECT *, " ISO("started_at") ", " ISO("ended_at") " FROM ("
    " SELECT id, pid, host, CASE WHEN ended_at IS NULL THEN 'working'"
    "   ELSE end END AS state, threads,"
    "  (SELECT count(*) FROM _running r WHERE r.process = p.id) AS running,"
    "  version, started_at, ended_at,"
    "  (SELECT group_concat(r.id, ', ') FROM _running r"
    "   WHERE r.process = p.id AND r.stuck_since IS NOT NULL) AS stuck"
    "  FROM _process p);"

    "CREATE VIEW dependencies AS"
    " SELECT child AS job, parent AS waits_for, met FROM _dep;"

    "CREATE VIEW unique_keys AS SELECT key AS unique_key, job FROM _unique;"

    "CREATE VIEW limits AS"
    " SELECT key AS limit_key, " KEY_LIMIT("k.key") " AS max_running,"
    "  (SELECT count(*) FROM _running WHERE limit_key = k.key) AS running,"
    "  (SELECT count(*) FROM _held h WHERE h.key = k.key) AS held"
    " FROM (SELECT key FROM _limit UNION SELECT limit_key FROM _running"
    "   WHERE limit_key IS NOT NULL UNION SELECT key FROM _held) k;";

/* clang-format on */

const char *const schema_views[] = {jobs, others, NULL};

