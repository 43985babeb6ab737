/*
 * The file's tables, triggers and views: SQL text, run once in a new file.
 *
 * A job is one row in _job, written once (its few counters change only when a
 * run comes back), plus one row in the table that says where it stands:
 *
 *   _scheduled --due--> _ready --claim--> _running --end--> _done
 *
 * so that submitting, claiming and finishing touch small tables at their edge
 * and history costs nothing. A move is a guarded DELETE from one and an INSERT
 * into the next, in one transaction (claim.c, end.c). Names that start with _
 * are private. The views, and the tables submit, cancel, retry, pause and
 * resume, are the public interface: columns are added to them, never changed or
 * removed.
 *
 * Triggers and views use pure SQL of SQLite 3.37, so that they work from any
 * client. An outer INSERT OR REPLACE overrides the conflict rule of a
 * trigger's statements: hence WHERE NOT EXISTS, and never OR IGNORE.
 */
#include "store/schema.h"

/* Unix milliseconds, in SQL. */
#define NOW "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)"
#define ISO(column)                          \
    "strftime('%Y-%m-%dT%H:%M:%fZ', " column \
    " / 1000.0, 'unixepoch') AS " column "_iso"

static const char tables[] =
    "CREATE TABLE _meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "INSERT INTO _meta VALUES('instance', lower(hex(randomblob(16)))),"
    " ('synced', 0);"
    "CREATE TABLE _kind(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " max_attempts INTEGER NOT NULL DEFAULT 1, timeout_ms INTEGER);"
    "CREATE TABLE _queue(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " ageing_ms INTEGER NOT NULL DEFAULT 60000, paused_at INTEGER,"
    " owner INTEGER);" /* a process: nobody else claims while it lives */
    "CREATE INDEX _queue_owner ON _queue(owner) WHERE owner IS NOT NULL;"
    "CREATE TABLE _batch(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " created_at INTEGER NOT NULL);"
    /* lease, failures and crashes are those of the runs that came back; args
     * last, so that reading the rest does not walk over them */
    "CREATE TABLE _job(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, batch INTEGER, priority INTEGER NOT NULL,"
    " run_at INTEGER NOT NULL, sort_key INTEGER NOT NULL,"
    " created_at INTEGER NOT NULL, deadline_at INTEGER, timeout_ms INTEGER,"
    " max_attempts INTEGER NOT NULL, lease INTEGER NOT NULL,"
    " failures INTEGER NOT NULL, crashes INTEGER NOT NULL, args);"
    "CREATE INDEX _job_batch ON _job(batch) WHERE batch IS NOT NULL;"
    "CREATE TABLE _scheduled(run_at INTEGER, id INTEGER,"
    " PRIMARY KEY(run_at, id)) WITHOUT ROWID;"
    /* the claim order, per queue and kind; only what may run now */
    "CREATE TABLE _ready(queue INTEGER, kind INTEGER, sort_key INTEGER,"
    " id INTEGER, PRIMARY KEY(queue, kind, sort_key, id)) WITHOUT ROWID;"
    "CREATE TABLE _running(id INTEGER PRIMARY KEY, lease INTEGER NOT NULL,"
    " process INTEGER NOT NULL, claimed_at INTEGER NOT NULL,"
    " started_at INTEGER, cancel_at INTEGER, cancel_reason TEXT,"
    " stuck_since INTEGER);"
    /* process is NULL if the job did not end by a run */
    "CREATE TABLE _done(id INTEGER PRIMARY KEY, state INTEGER NOT NULL,"
    " lease INTEGER NOT NULL, attempt INTEGER NOT NULL, process INTEGER,"
    " started_at INTEGER, finished_at INTEGER NOT NULL,"
    " code INTEGER NOT NULL, cancel_at INTEGER, delivered_at INTEGER,"
    " cause TEXT, result);"
    "CREATE INDEX _done_cancel ON _done(cancel_at) WHERE cancel_at IS NOT NULL;"
    "CREATE TABLE _progress(id INTEGER PRIMARY KEY, lease INTEGER NOT NULL,"
    " cursor INTEGER NOT NULL, total INTEGER, base INTEGER NOT NULL,"
    " base_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    " advanced INTEGER NOT NULL);"
    /* the runs that came back; the last one is in _done */
    "CREATE TABLE _attempt(job INTEGER, lease INTEGER, process INTEGER,"
    " started_at INTEGER, ended_at INTEGER, outcome TEXT, code INTEGER,"
    " message TEXT, PRIMARY KEY(job, lease)) WITHOUT ROWID;"
    "CREATE TABLE _process(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " pid INTEGER NOT NULL, host TEXT, boot TEXT, start_ticks INTEGER,"
    " threads INTEGER NOT NULL, version TEXT, started_at INTEGER NOT NULL,"
    " ended_at INTEGER, end TEXT);"
    "CREATE INDEX _process_open ON _process(id) WHERE ended_at IS NULL;"
    /* the kinds that a process which has not ended knows */
    "CREATE TABLE _handles(process INTEGER, kind INTEGER,"
    " PRIMARY KEY(process, kind)) WITHOUT ROWID;";

static const char commands[] =
    /* sqlite_sequence's row for submit is the one counter of job ids */
    "CREATE TABLE submit(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, args,"
    " queue TEXT, batch TEXT, priority INTEGER, run_at INTEGER,"
    " deadline_at INTEGER, timeout_ms INTEGER, max_attempts INTEGER);"
    "INSERT INTO sqlite_sequence(name, seq) VALUES('submit', 0);"
    "CREATE TRIGGER submit_check BEFORE INSERT ON submit BEGIN"
    " SELECT RAISE(ABORT, 'submit: leave id out, the queue gives it')"
    "  WHERE NEW.id > 0;"
    " SELECT RAISE(ABORT, 'submit: kind must be a text of 1 to 255 bytes')"
    "  WHERE typeof(NEW.kind) <> 'text'"
    "  OR length(CAST(NEW.kind AS BLOB)) NOT BETWEEN 1 AND 255;"
    " SELECT RAISE(ABORT, 'submit: queue must be a text of 1 to 255 bytes')"
    "  WHERE NEW.queue IS NOT NULL AND (typeof(NEW.queue) <> 'text'"
    "  OR length(CAST(NEW.queue AS BLOB)) NOT BETWEEN 1 AND 255);"
    " SELECT RAISE(ABORT, 'submit: batch must be a text of 1 to 255 bytes')"
    "  WHERE NEW.batch IS NOT NULL AND (typeof(NEW.batch) <> 'text'"
    "  OR length(CAST(NEW.batch AS BLOB)) NOT BETWEEN 1 AND 255);"
    " SELECT RAISE(ABORT, 'submit: args must be a text or a blob')"
    "  WHERE typeof(NEW.args) NOT IN ('null', 'text', 'blob');"
    " SELECT RAISE(ABORT, 'submit: priority must be an integer from -1000000"
    " to 1000000') WHERE NEW.priority IS NOT NULL AND (typeof(NEW.priority)"
    "  <> 'integer' OR NEW.priority NOT BETWEEN -1000000 AND 1000000);"
    " SELECT RAISE(ABORT, 'submit: run_at and deadline_at must be Unix"
    " milliseconds')"
    "  WHERE typeof(NEW.run_at) NOT IN ('null', 'integer')"
    "  OR typeof(NEW.deadline_at) NOT IN ('null', 'integer')"
    "  OR NEW.run_at NOT BETWEEN 0 AND 99999999999999"
    "  OR NEW.deadline_at NOT BETWEEN 1 AND 99999999999999;"
    " SELECT RAISE(ABORT, 'submit: timeout_ms must be a positive integer')"
    "  WHERE typeof(NEW.timeout_ms) NOT IN ('null', 'integer')"
    "  OR NEW.timeout_ms NOT BETWEEN 1 AND 9000000000000;"
    " SELECT RAISE(ABORT, 'submit: max_attempts must be an integer from 1 to"
    " 1000000') WHERE typeof(NEW.max_attempts) NOT IN ('null', 'integer')"
    "  OR NEW.max_attempts NOT BETWEEN 1 AND 1000000;"
    "END;"
    "CREATE TRIGGER submit_do AFTER INSERT ON submit BEGIN"
    " SELECT RAISE(ABORT, 'submit: leave id out, the queue gives it')"
    "  WHERE NEW.id < 1;"
    " INSERT INTO _kind(name) SELECT NEW.kind"
    "  WHERE NOT EXISTS (SELECT 1 FROM _kind WHERE name = NEW.kind);"
    " INSERT INTO _queue(name) SELECT COALESCE(NEW.queue, 'default')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _queue"
    "   WHERE name = COALESCE(NEW.queue, 'default'));"
    " INSERT INTO _batch(name, created_at) SELECT NEW.batch, " NOW
    "  WHERE NEW.batch IS NOT NULL"
    "  AND NOT EXISTS (SELECT 1 FROM _batch WHERE name = NEW.batch);"
    " INSERT INTO _job SELECT NEW.id, k.id, q.id,"
    "  (SELECT id FROM _batch WHERE name = NEW.batch),"
    "  COALESCE(NEW.priority, 0), COALESCE(NEW.run_at, n.now),"
    "  COALESCE(NEW.run_at, n.now) + COALESCE(NEW.priority, 0) * q.ageing_ms,"
    "  n.now, NEW.deadline_at, COALESCE(NEW.timeout_ms, k.timeout_ms),"
    "  COALESCE(NEW.max_attempts, k.max_attempts), 0, 0, 0, NEW.args"
    "  FROM _kind k, _queue q, (SELECT " NOW " AS now) n"
    "  WHERE k.name = NEW.kind AND q.name = COALESCE(NEW.queue, 'default');"
    " INSERT INTO _scheduled SELECT run_at, id FROM _job"
    "  WHERE id = NEW.id AND run_at > created_at;"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.id AND run_at <= created_at;"
    " DELETE FROM submit;"
    "END;"
    "CREATE TABLE cancel(job INTEGER, reason TEXT);"
    "CREATE TRIGGER cancel_do AFTER INSERT ON cancel BEGIN"
    " SELECT RAISE(ABORT, 'cancel: there is no job with that id')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _job WHERE id = NEW.job);"
    " UPDATE _running SET cancel_at = " NOW ", cancel_reason = NEW.reason"
    "  WHERE id = NEW.job AND cancel_at IS NULL;"
    " INSERT INTO _done(id, state, lease, attempt, finished_at, code,"
    "   cancel_at, cause)"
    "  SELECT j.id, 6, j.lease, j.failures, " NOW ", 1, " NOW ","
    "   COALESCE(NEW.reason, 'context canceled') FROM _job j"
    "  WHERE j.id = NEW.job AND (EXISTS (SELECT 1 FROM _ready r"
    "   WHERE r.queue = j.queue AND r.kind = j.kind"
    "   AND r.sort_key = j.sort_key AND r.id = j.id)"
    "  OR EXISTS (SELECT 1 FROM _scheduled s"
    "   WHERE s.run_at = j.run_at AND s.id = j.id));"
    " DELETE FROM _ready WHERE id = NEW.job"
    "  AND queue = (SELECT queue FROM _job WHERE id = NEW.job)"
    "  AND kind = (SELECT kind FROM _job WHERE id = NEW.job)"
    "  AND sort_key = (SELECT sort_key FROM _job WHERE id = NEW.job);"
    " DELETE FROM _scheduled WHERE id = NEW.job"
    "  AND run_at = (SELECT run_at FROM _job WHERE id = NEW.job);"
    " DELETE FROM cancel;"
    "END;"
    /* what ended waits anew: its last run becomes one of those that came back,
     * the cursor stays, and a deadline that has passed is none any more */
    "CREATE TABLE retry(job INTEGER);"
    "CREATE TRIGGER retry_do AFTER INSERT ON retry BEGIN"
    " SELECT RAISE(ABORT, 'retry: there is no job with that id')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _job WHERE id = NEW.job);"
    " SELECT RAISE(ABORT, 'retry: the job has not ended')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _done WHERE id = NEW.job);"
    " INSERT INTO _attempt(job, lease, process, started_at, ended_at, outcome,"
    "   code, message)"
    "  SELECT id, lease, process, started_at, finished_at,"
    "   CASE state WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed'"
    "    ELSE 'cancelled' END, code, cause"
    "  FROM _done d WHERE id = NEW.job AND process IS NOT NULL"
    "  AND NOT EXISTS (SELECT 1 FROM _attempt a"
    "   WHERE a.job = d.id AND a.lease = d.lease);"
    " UPDATE _job SET failures = 0, crashes = 0, run_at = " NOW ","
    "  sort_key = " NOW " + priority"
    "   * (SELECT ageing_ms FROM _queue q WHERE q.id = queue),"
    "  lease = (SELECT lease FROM _done WHERE id = NEW.job),"
    "  deadline_at = iif(deadline_at > " NOW ", deadline_at, NULL)"
    "  WHERE id = NEW.job;"
    " DELETE FROM _done WHERE id = NEW.job;"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.job;"
    " DELETE FROM retry;"
    "END;"
    /* of a paused queue nothing is claimed; what runs goes on */
    "CREATE TABLE pause(queue TEXT);"
    "CREATE TRIGGER pause_do AFTER INSERT ON pause BEGIN"
    " SELECT RAISE(ABORT, 'pause: queue must be a text of 1 to 255 bytes')"
    "  WHERE typeof(NEW.queue) <> 'text'"
    "  OR length(CAST(NEW.queue AS BLOB)) NOT BETWEEN 1 AND 255;"
    " INSERT INTO _queue(name) SELECT NEW.queue"
    "  WHERE NOT EXISTS (SELECT 1 FROM _queue WHERE name = NEW.queue);"
    " UPDATE _queue SET paused_at = " NOW
    "  WHERE name = NEW.queue AND paused_at IS NULL;"
    " DELETE FROM pause;"
    "END;"
    "CREATE TABLE resume(queue TEXT);"
    "CREATE TRIGGER resume_do AFTER INSERT ON resume BEGIN"
    " SELECT RAISE(ABORT, 'resume: there is no queue with that name')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _queue WHERE name = NEW.queue);"
    " UPDATE _queue SET paused_at = NULL WHERE name = NEW.queue;"
    " DELETE FROM resume;"
    "END;";

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
    "CASE " column " WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed'"             \
    " ELSE 'cancelled' END"

/* What a job says of itself wherever it stands. */
#define NAMES " b.name AS batch, k.name AS kind, q.name AS queue,"
#define JOB_COMMON                                                             \
    " j.max_attempts AS max_attempts, COALESCE(p.cursor, 0) AS done,"          \
    " p.total AS total,"                                                       \
    " CASE WHEN p.updated_at > p.base_at AND p.cursor > p.base"                \
    "  THEN round((p.cursor - p.base) * 1000.0"                                \
    "   / (p.updated_at - p.base_at), 1) END AS rate,"                         \
    " j.run_at AS run_at, j.created_at AS created_at,"                         \
    " j.deadline_at AS deadline_at, j.timeout_ms AS timeout_ms,"               \
    " j.failures AS failures, j.crashes AS crashes, j.args AS args"
#define FROM_JOB                                                               \
    " JOIN _kind k ON k.id = j.kind JOIN _queue q ON q.id = j.queue"           \
    " LEFT JOIN _batch b ON b.id = j.batch"                                    \
    " LEFT JOIN _progress p ON p.id = j.id"
#define NOTHING_RAN                                                            \
    " NULL AS started_at, NULL AS finished_at, NULL AS code,"                  \
    " NULL AS cause, NULL AS cancel_requested_at, NULL AS cancel_reason,"      \
    " NULL AS worker, j.lease AS lease, NULL AS result,"

static const char views[] =
    /* one arm for each place: WHERE state = '...' reads its arm only, and
     * WHERE id = ... probes each */
    "CREATE VIEW _jobs AS"
    " SELECT j.id AS id," NAMES " 'ready' AS state,"
    "  CASE WHEN q.paused_at IS NOT NULL THEN 'paused'"
    "   WHEN j.lease > 0 THEN 'resumable' ELSE 'ready' END AS status,"
    "  CASE WHEN q.paused_at IS NOT NULL THEN 'its queue is paused'"
    "   WHEN q.owner IS NOT NULL"
    "   THEN 'waits for worker ' || q.owner || ', whose queue it is'"
    "   WHEN NOT EXISTS (SELECT 1 FROM _process w WHERE w.ended_at IS NULL)"
    "   THEN 'no worker runs'"
    "   WHEN NOT EXISTS (SELECT 1 FROM _process w JOIN _handles h"
    "    ON h.process = w.id WHERE w.ended_at IS NULL AND h.kind = j.kind)"
    "   THEN 'no worker that runs knows this kind'"
    "   ELSE 'waits for a worker' END AS why,"
    "  j.priority AS priority, j.failures AS attempt," NOTHING_RAN JOB_COMMON
    " FROM _ready r JOIN _job j ON j.queue = r.queue AND j.kind = r.kind"
    "  AND j.sort_key = r.sort_key AND j.id = r.id" FROM_JOB
    " UNION ALL"
    " SELECT j.id," NAMES " 'scheduled',"
    "  CASE WHEN j.failures > 0 THEN 'retrying' ELSE 'scheduled' END,"
    "  CASE WHEN j.failures > 0 THEN 'failed ' || j.failures || ' of '"
    "    || j.max_attempts || ' times, runs again at ' ELSE 'not before ' END"
    "   || strftime('%Y-%m-%dT%H:%M:%fZ', j.run_at / 1000.0, 'unixepoch'),"
    "  j.priority, j.failures," NOTHING_RAN JOB_COMMON
    " FROM _scheduled s JOIN _job j ON j.run_at = s.run_at AND j.id = s.id"
    FROM_JOB
    " UNION ALL"
    " SELECT r.id," NAMES " 'running',"
    "  CASE WHEN r.stuck_since IS NOT NULL THEN 'stuck'"
    "   WHEN r.cancel_at IS NOT NULL THEN 'cancelling'"
    "   WHEN r.started_at IS NULL THEN 'claimed' ELSE 'running' END,"
    "  CASE WHEN r.stuck_since IS NOT NULL THEN 'has ignored for '"
    "    || ((" NOW " - r.stuck_since) / 1000) || ' s that it should stop'"
    "    || COALESCE(': ' || r.cancel_reason, '')"
    "   WHEN r.cancel_at IS NOT NULL"
    "   THEN 'cancel asked' || COALESCE(': ' || r.cancel_reason, '')"
    "   WHEN " NOW " - max(r.started_at, COALESCE(p.updated_at, 0)) >= 30000"
    "   THEN 'no advance for ' || ((" NOW " - max(r.started_at,"
    "    COALESCE(p.updated_at, 0))) / 1000) || ' s' END,"
    "  j.priority, j.failures + 1, r.started_at, NULL, NULL, NULL,"
    "  r.cancel_at, r.cancel_reason, r.process, r.lease, NULL," JOB_COMMON
    " FROM _running r JOIN _job j ON j.id = r.id" FROM_JOB
    " UNION ALL"
    " SELECT d.id," NAMES " " END_NAME("d.state") ", " END_NAME("d.state") ","
    "  d.cause, j.priority, d.attempt, d.started_at, d.finished_at, d.code,"
    "  d.cause, d.cancel_at, CASE WHEN d.cancel_at IS NOT NULL"
    "   THEN d.cause END, d.process, d.lease, d.result," JOB_COMMON
    " FROM _done d JOIN _job j ON j.id = d.id" FROM_JOB ";"

    "CREATE VIEW jobs AS"
    " SELECT id, batch, kind, queue, state, status, why, priority, attempt,"
    "  max_attempts, done, total,"
    "  CASE WHEN total > 0 THEN min(100.0, round(100.0 * done / total, 1))"
    "   END AS percent, rate,"
    "  CASE WHEN state = 'running' AND rate > 0 AND total > done"
    "   THEN round((total - done) / rate, 1) END AS eta,"
    "  run_at, created_at, started_at, finished_at,"
    "  " CODE_NAME("code") " AS error, cause,"
    "  CASE typeof(args) WHEN 'text' THEN args END AS args_text, result,"
    "  worker, args, deadline_at, timeout_ms, cancel_requested_at,"
    "  cancel_reason, lease, failures, crashes,"
    "  " ISO("created_at") ", " ISO("run_at") ","
    "  " ISO("started_at") ", " ISO("finished_at")
    " FROM _jobs;"

    "CREATE VIEW attempts AS"
    " SELECT *, " ISO("started_at") ", " ISO("ended_at") " FROM ("
    " SELECT job, lease, process AS worker, started_at, ended_at, outcome,"
    "  " CODE_NAME("code") " AS error, message FROM _attempt"
    " UNION ALL"
    " SELECT id, lease, process, started_at, NULL, 'running', NULL, NULL"
    "  FROM _running"
    " UNION ALL"
    " SELECT id, lease, process, started_at, finished_at,"
    "  " END_NAME("state") ", " CODE_NAME("code") ", cause"
    "  FROM _done WHERE process IS NOT NULL);"

    "CREATE VIEW batches AS"
    " SELECT *, " ISO("created_at") " FROM ("
    " SELECT b.name AS batch, count(j.id) AS jobs, 0 AS blocked,"
    "  count(s.id) AS scheduled,"
    "  count(j.id) - count(s.id) - count(r.id) - count(d.id) AS ready,"
    "  count(r.id) AS running,"
    "  sum(COALESCE(d.state = 4, 0)) AS succeeded,"
    "  sum(COALESCE(d.state = 5, 0)) AS failed,"
    "  sum(COALESCE(d.state = 6, 0)) AS cancelled,"
    "  b.created_at AS created_at"
    " FROM _batch b JOIN _job j ON j.batch = b.id"
    " LEFT JOIN _done d ON d.id = j.id LEFT JOIN _running r ON r.id = j.id"
    " LEFT JOIN _scheduled s ON s.run_at = j.run_at AND s.id = j.id"
    " GROUP BY b.id);"

    "CREATE VIEW queues AS"
    " SELECT *, " ISO("paused_at") " FROM ("
    " SELECT q.name AS queue, q.paused_at IS NOT NULL AS paused, q.paused_at,"
    "  0 AS blocked,"
    "  (SELECT count(*) FROM _scheduled s JOIN _job j ON j.id = s.id"
    "   WHERE j.queue = q.id) AS scheduled,"
    "  (SELECT count(*) FROM _ready r WHERE r.queue = q.id) AS ready,"
    "  (SELECT count(*) FROM _running r JOIN _job j ON j.id = r.id"
    "   WHERE j.queue = q.id) AS running,"
    "  q.owner AS worker FROM _queue q);"

    "CREATE VIEW cancellations AS"
    " SELECT *, " ISO("requested_at") ", " ISO("stopped_at") " FROM ("
    " SELECT d.id AS job, " END_NAME("d.state") " AS state,"
    "  d.cancel_at AS requested_at, d.delivered_at AS delivered_at,"
    "  d.finished_at AS stopped_at,"
    "  d.delivered_at - d.cancel_at AS delivered_after,"
    "  d.finished_at - d.cancel_at AS stopped_after, d.cause AS reason"
    "  FROM _done d WHERE d.cancel_at IS NOT NULL"
    " UNION ALL"
    " SELECT id, 'running', cancel_at, NULL, NULL, NULL, NULL, cancel_reason"
    "  FROM _running WHERE cancel_at IS NOT NULL);"

    "CREATE VIEW workers AS"
    " SELECT *, " ISO("started_at") ", " ISO("ended_at") " FROM ("
    " SELECT id, pid, host, CASE WHEN ended_at IS NULL THEN 'working'"
    "   ELSE end END AS state, threads,"
    "  (SELECT count(*) FROM _running r WHERE r.process = p.id) AS running,"
    "  version, started_at, ended_at,"
    "  (SELECT group_concat(r.id, ', ') FROM _running r"
    "   WHERE r.process = p.id AND r.stuck_since IS NOT NULL) AS stuck"
    "  FROM _process p);";

/* clang-format on */

const char *const schema_parts[] = {tables, commands, views, 0};
