/*
 * The commands of the public interface: tables that one INSERTs into, from any
 * client, and whose triggers check, act, and empty them again.
 *
 *   submit cancel retry reschedule pause resume set_limit retain
 *
 * and what follows from a job's end, wherever it is written. Pure SQL of SQLite
 * 3.37, so that it works from any client. An outer INSERT OR REPLACE overrides
 * the conflict rule of a trigger's statements: hence WHERE NOT EXISTS, and
 * never OR IGNORE. A trigger cannot reach jobs that depend on jobs that depend
 * on the one at hand; it leaves them to dependents.c, by a row in _settle. Of
 * JSON only json_each() is used: the others are refused to a client that does
 * not trust schemas.
 */
#include "store/sqlite/schema.h"

#include <stddef.h>

#define UNIQUE TEXT_OF(TIE_UNIQUE)
#define DEADLINE TEXT_OF(TIE_DEADLINE)
#define AWAITED TEXT_OF(TIE_AWAITED)
#define PARENT TEXT_OF(TIE_PARENT)

/* Whether the row j of _job waits. */
#define WAITS                                                                  \
    "(EXISTS (SELECT 1 FROM _ready r WHERE r.queue = j.queue"                  \
    "   AND r.kind = j.kind AND r.sort_key = j.sort_key AND r.id = j.id)"      \
    "  OR EXISTS (SELECT 1 FROM _scheduled s"                                  \
    "   WHERE s.run_at = j.run_at AND s.id = j.id)"                            \
    "  OR EXISTS (SELECT 1 FROM _blocked b WHERE b.id = j.id)"                 \
    "  OR EXISTS (SELECT 1 FROM _held h WHERE h.key = j.limit_key"             \
    "   AND h.queue = j.queue AND h.kind = j.kind"                             \
    "   AND h.sort_key = j.sort_key AND h.id = j.id))"

/* Take the job out of wherever it waits to be run. */
#define COLUMN(column) "(SELECT " column " FROM _job WHERE id = NEW.job)"
#define LEAVE_LINE                                                             \
    " DELETE FROM _ready WHERE id = NEW.job AND queue = " COLUMN("queue")      \
    "  AND kind = " COLUMN("kind") " AND sort_key = " COLUMN("sort_key") ";"   \
    " DELETE FROM _held WHERE id = NEW.job AND key = " COLUMN("limit_key")     \
    "  AND queue = " COLUMN("queue") " AND kind = " COLUMN("kind")             \
    "  AND sort_key = " COLUMN("sort_key") ";"                                 \
    " DELETE FROM _scheduled WHERE id = NEW.job"                               \
    "  AND run_at = " COLUMN("run_at") ";"

/* If it is in turn, and leaves: those that are held for its key, if that has
 * room, may run. A claim holds back anew what is too much. */
#define KEY_OF_TURN                                                            \
    "(SELECT j.limit_key FROM _job j JOIN _ready r ON r.queue = j.queue"       \
    "  AND r.kind = j.kind AND r.sort_key = j.sort_key AND r.id = j.id"        \
    "  WHERE j.id = NEW.job AND (SELECT count(*) FROM _running"                \
    "   WHERE limit_key = j.limit_key) < " KEY_LIMIT("j.limit_key") ")"
#define LEAVE_TURN                                                             \
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _held"          \
    "  WHERE key = " KEY_OF_TURN ";"                                           \
    " DELETE FROM _held WHERE key = " KEY_OF_TURN ";"

#define UNMET(id) \
    "EXISTS (SELECT 1 FROM _dep WHERE child = " id " AND met = 0)"

/* Have dependents.c tell those whom job concerns, from the first on. */
#define SETTLE(job, what, where)                                               \
    " DELETE FROM _settle WHERE job = " job " AND what = " what ";"            \
    " INSERT INTO _settle SELECT j.id, " what ", 0 FROM _job j"                \
    "  WHERE j.id = " job " AND " where ";"

/* What child waits for has failed before it came: it must hear of that. */
#define HEAR_PARENTS(child)                                                    \
    " INSERT INTO _settle SELECT p.id, " AWAITING ", 0"                        \
    "  FROM _dep d JOIN _done p ON p.id = d.parent"                            \
    "  WHERE d.child = " child " AND d.met = 0 AND NOT EXISTS (SELECT 1"       \
    "   FROM _settle WHERE job = p.id AND what = " AWAITING ");"

/* Whether a column has a NUL, which ends a text for some and not for others. */
#define HAS_NUL(column) "instr(CAST(NEW." column " AS BLOB), x'00') > 0"

/* Whether a short text is not UTF-8, which SQLite does not look at: a character
 * of it is not what its number is written as. Only where there is one that is
 * not ASCII are they gone through. */
#define IS_NOT_UTF8(column)                                                    \
    "(NEW." column " GLOB '*[^ -~]*' AND EXISTS (WITH RECURSIVE c(i) AS"       \
    "   (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < length(NEW." column  \
    "   )) SELECT 1 FROM c"                                                    \
    "   WHERE CAST(char(unicode(substr(NEW." column ", i, 1))) AS BLOB)"       \
    "    <> CAST(substr(NEW." column ", i, 1) AS BLOB)))"

#define BAD_NAME(column)                                                       \
    "(typeof(NEW." column ") <> 'text'"                                        \
    "  OR length(CAST(NEW." column " AS BLOB)) NOT BETWEEN 1 AND 255"          \
    "  OR " HAS_NUL(column) " OR " IS_NOT_UTF8(column) ")"
#define REFUSE_NAME(command, column, or_null)                                  \
    " SELECT RAISE(ABORT, '" command ": " column                               \
    " must be a text of 1 to 255 bytes') WHERE " or_null BAD_NAME(column) ";"
#define OR_NULL(column) "NEW." column " IS NOT NULL AND "

#define BAD_INTEGER(column, low, high)                                         \
    "(typeof(NEW." column ") NOT IN ('null', 'integer')"                       \
    "  OR NEW." column " NOT BETWEEN " low " AND " high ")"
#define BAD_PRIORITY BAD_INTEGER("priority", "-1000000", "1000000")
#define PRIORITY_WORDS "priority must be an integer from -1000000 to 1000000"
#define LAST_TIME "99999999999999"

/* What was before March 1973 is taken for seconds, by a clock that is past
 * it. */
#define REFUSE_TIME(command, column, low)                                      \
    " SELECT RAISE(ABORT, '" command ": " column " must be an integer: Unix"   \
    " milliseconds, not seconds') WHERE "                                      \
    BAD_INTEGER(column, low, LAST_TIME)                                        \
    "  OR (NEW." column " BETWEEN 1 AND 99999999999 AND " NOW                  \
    "   > 99999999999);"

#define REFUSE_NO_JOB(command)                                                 \
    " SELECT RAISE(ABORT, '" command ": there is no job with that id')"        \
    "  WHERE NOT EXISTS (SELECT 1 FROM _job WHERE id = NEW.job);"

/* The file has seen this time (times.c). */
#define NOTE_TIME                                                              \
    " UPDATE _meta SET value = " NOW                                           \
    "  WHERE key = 'latest' AND value < " NOW " - 1000;"

/* -- Submit --------------------------------------------------------------- */

/* The job and its keys. The time is the same wherever a statement asks for it. An
 * INSERT that reads its own table, or from a subquery, keeps the rows in a table
 * of its own meanwhile, which for SQLite is as dear to make as all of this
 * together: there is none of that here. */
#define INSERT_JOB                                                             \
    " SELECT RAISE(ABORT, 'submit: leave id out, the queue gives it')"         \
    "  WHERE NEW.id < 1;"                                                      \
    " INSERT INTO _job SELECT NEW.id, k.id, q.id,"                             \
    "  (SELECT id FROM _batch WHERE name = NEW.batch),"                        \
    "  COALESCE(NEW.priority, 0), COALESCE(NEW.run_at, " NOW "),"              \
    "  COALESCE(NEW.run_at, " NOW ") + COALESCE(NEW.priority, 0)"              \
    "   * q.ageing_ms, " NOW ", NEW.deadline_at, NEW.timeout_ms,"              \
    "  NEW.max_attempts, 0, 0, 0, NULL,"                                       \
    "  NEW.unique_key, NEW.limit_key, NEW.parent,"                             \
    "  " UNIQUE " * (NEW.unique_key IS NOT NULL)"                              \
    "   + " DEADLINE " * (NEW.deadline_at IS NOT NULL), NEW.args"              \
    "  FROM _kind k, _queue q"                                                 \
    "  WHERE k.name = NEW.kind AND q.name = COALESCE(NEW.queue, 'default');"   \
    " INSERT INTO _unique SELECT NEW.unique_key, NEW.id"                       \
    "  WHERE NEW.unique_key IS NOT NULL;"                                      \
    " INSERT INTO _deadline SELECT NEW.deadline_at, NEW.id"                    \
    "  WHERE NEW.deadline_at IS NOT NULL;"

/* sqlite_sequence's row for submit is the one counter of job ids. after is
 * NUMERIC for clients that bind every number as a real one: 7.0 becomes 7. */
static const char submit[] =
    "CREATE TABLE submit(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, args,"
    " queue TEXT, batch TEXT, priority INTEGER, run_at INTEGER,"
    " deadline_at INTEGER, timeout_ms INTEGER, max_attempts INTEGER,"
    " unique_key TEXT, limit_key TEXT, after NUMERIC, parent INTEGER);"
    "INSERT INTO sqlite_sequence(name, seq)"
    " SELECT 'submit', value FROM _meta WHERE key = 'ids';"
    "CREATE TRIGGER submit_check BEFORE INSERT ON submit BEGIN"
    " SELECT RAISE(ABORT, 'submit: leave id out, the queue gives it')"
    "  WHERE NEW.id > 0;"
    REFUSE_NAME("submit", "kind", "")
    REFUSE_NAME("submit", "queue", OR_NULL("queue"))
    REFUSE_NAME("submit", "batch", OR_NULL("batch"))
    REFUSE_NAME("submit", "unique_key", OR_NULL("unique_key"))
    REFUSE_NAME("submit", "limit_key", OR_NULL("limit_key"))
    " SELECT RAISE(ABORT, 'submit: args must be a text or a blob')"
    "  WHERE typeof(NEW.args) NOT IN ('null', 'text', 'blob');"
    " SELECT RAISE(ABORT, 'submit: " PRIORITY_WORDS "') WHERE " BAD_PRIORITY ";"
    REFUSE_TIME("submit", "run_at", "0")
    REFUSE_TIME("submit", "deadline_at", "1")
    " SELECT RAISE(ABORT, 'submit: timeout_ms must be a positive integer')"
    "  WHERE " BAD_INTEGER("timeout_ms", "1", "9000000000000") ";"
    " SELECT RAISE(ABORT, 'submit: max_attempts must be an integer from 1 to"
    " 1000000') WHERE " BAD_INTEGER("max_attempts", "1", "1000000") ";"
    " SELECT RAISE(ABORT, 'submit: after must be a job''s id or a JSON array"
    " of ids') WHERE typeof(NEW.after) NOT IN ('null', 'integer')"
    "  AND (typeof(NEW.after) <> 'text' OR " HAS_NUL("after")
    "   OR NEW.after NOT GLOB '[[]*]'"
    "   OR substr(NEW.after, 2, length(NEW.after) - 2) GLOB '*[^0-9, ]*');"
    " SELECT RAISE(ABORT, 'submit: after names a job that is not there')"
    "  WHERE EXISTS (SELECT 1 FROM json_each(NEW.after) e"
    "   WHERE NOT EXISTS (SELECT 1 FROM _job WHERE id = e.value));"
    " SELECT RAISE(ABORT, 'submit: parent must be the id of a job that is"
    " there') WHERE NEW.parent IS NOT NULL AND NOT EXISTS"
    "  (SELECT 1 FROM _job WHERE id = NEW.parent);"
    " SELECT RAISE(ABORT, 'submit: a job with this unique_key is there and has"
    " not ended; the view unique_keys says which')"
    "  WHERE EXISTS (SELECT 1 FROM _unique WHERE key = NEW.unique_key);"
    "END;"
    /* the names that are new; what is none is refused above, in whatever order
     * SQLite has them */
    "CREATE TRIGGER submit_kind BEFORE INSERT ON submit"
    " WHEN typeof(NEW.kind) = 'text'"
    "  AND NOT EXISTS (SELECT 1 FROM _kind WHERE name = NEW.kind) BEGIN"
    " INSERT INTO _kind(name) VALUES(NEW.kind);"
    "END;"
    "CREATE TRIGGER submit_queue BEFORE INSERT ON submit"
    " WHEN typeof(NEW.queue) IN ('null', 'text')"
    "  AND NOT EXISTS (SELECT 1 FROM _queue"
    "   WHERE name = COALESCE(NEW.queue, 'default')) BEGIN"
    " INSERT INTO _queue(name) VALUES(COALESCE(NEW.queue, 'default'));"
    "END;"
    "CREATE TRIGGER submit_batch BEFORE INSERT ON submit"
    " WHEN typeof(NEW.batch) = 'text'"
    "  AND NOT EXISTS (SELECT 1 FROM _batch WHERE name = NEW.batch) BEGIN"
    " INSERT INTO _batch(name, created_at) VALUES(NEW.batch, " NOW ");"
    "END;"
    /* nearly all, and the only ones that come by the million */
    "CREATE TRIGGER submit_plain AFTER INSERT ON submit"
    " WHEN NEW.after IS NULL AND NEW.parent IS NULL BEGIN"
    INSERT_JOB
    " INSERT INTO _scheduled SELECT run_at, id, 0 FROM _job"
    "  WHERE id = NEW.id AND run_at > created_at;"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.id AND run_at <= created_at;"
    NOTE_TIME
    " DELETE FROM submit;"
    "END;"
    "CREATE TRIGGER submit_tied AFTER INSERT ON submit"
    " WHEN NEW.after IS NOT NULL OR NEW.parent IS NOT NULL BEGIN"
    INSERT_JOB
    " INSERT INTO _dep SELECT DISTINCT e.value, NEW.id, EXISTS"
    "   (SELECT 1 FROM _done d WHERE d.id = e.value"
    " AND d.state = " STATE_SUCCEEDED ")"
    "  FROM json_each(NEW.after) e;"
    " UPDATE _job SET ties = ties | " AWAITED " WHERE ties & " AWAITED " = 0"
    "  AND id IN (SELECT parent FROM _dep WHERE child = NEW.id);"
    " UPDATE _job SET ties = ties | " PARENT " WHERE ties & " PARENT " = 0"
    "  AND id = NEW.parent;"
    HEAR_PARENTS("NEW.id")
    " INSERT INTO _settle SELECT NEW.parent, " CHILDREN ", 0"
    "  WHERE (EXISTS (SELECT 1 FROM _done WHERE id = NEW.parent"
    " AND state = " STATE_CANCELLED ")"
    "   OR EXISTS (SELECT 1 FROM _running"
    "    WHERE id = NEW.parent AND cancel_at IS NOT NULL))"
    "  AND NOT EXISTS (SELECT 1 FROM _settle"
    "   WHERE job = NEW.parent AND what = " CHILDREN ");"
    " INSERT INTO _blocked SELECT NEW.id WHERE " UNMET("NEW.id") ";"
    " INSERT INTO _scheduled SELECT run_at, id, 0 FROM _job"
    "  WHERE id = NEW.id AND run_at > created_at"
    "  AND NOT " UNMET("NEW.id") ";"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.id AND run_at <= created_at"
    "  AND NOT " UNMET("NEW.id") ";"
    NOTE_TIME
    " DELETE FROM submit;"
    "END;";

/* -- Cancel --------------------------------------------------------------- */

static const char cancel[] =
    "CREATE TABLE cancel(job INTEGER, reason TEXT);"
    "CREATE TRIGGER cancel_do AFTER INSERT ON cancel BEGIN"
    REFUSE_NO_JOB("cancel")
    " SELECT RAISE(ABORT, 'cancel: reason must be a text without a NUL')"
    "  WHERE typeof(NEW.reason) NOT IN ('null', 'text')"
    "   OR " HAS_NUL("reason") ";"
    " UPDATE _running SET cancel_at = " NOW ", cancel_reason = NEW.reason"
    "  WHERE id = NEW.job AND cancel_at IS NULL;"
    SETTLE("NEW.job", CHILDREN, "j.ties & " PARENT
           " AND EXISTS (SELECT 1 FROM _running WHERE id = NEW.job)")
    " INSERT INTO _done(id, state, lease, attempt, finished_at, code,"
    "   cancel_at, cause)"
    "  SELECT j.id, " STATE_CANCELLED ", j.lease, j.failures, " NOW ","
    " 1, " NOW ","
    "   COALESCE(NEW.reason, 'context canceled') FROM _job j"
    "  WHERE j.id = NEW.job AND " WAITS ";"
    " INSERT INTO _ended SELECT j.id, " STATE_CANCELLED " FROM _job j"
    "  WHERE j.id = NEW.job AND j.ties > 0 AND " WAITS ";"
    LEAVE_TURN
    LEAVE_LINE
    " DELETE FROM _blocked WHERE id = NEW.job;"
    " DELETE FROM cancel;"
    "END;";

/* What a job's end concerns besides itself: whoever inserts into _done a job
 * that has ties inserts it here too. Not a trigger of _done, which would cost
 * the many that have none a quarter of their time. */
static const char ended[] =
    "CREATE TRIGGER _ended_do AFTER INSERT ON _ended BEGIN"
    " DELETE FROM _unique WHERE job = NEW.job"
    "  AND key = " COLUMN("unique_key") ";"
    " DELETE FROM _deadline WHERE id = NEW.job"
    "  AND at = " COLUMN("deadline_at") ";"
    SETTLE("NEW.job", AWAITING, "j.ties & " AWAITED)
    SETTLE("NEW.job", CHILDREN, "j.ties & " PARENT
           " AND NEW.state = " STATE_CANCELLED)
    " DELETE FROM _ended;"
    "END;";

/* -- Retry and reschedule -------------------------------------------------- */

/* What ended waits anew: its last run becomes one of those that came back, the
 * cursor stays unless restart says otherwise, and a deadline that has passed is
 * none any more. */
static const char retry[] =
    "CREATE TABLE retry(job INTEGER, restart INTEGER);"
    "CREATE TRIGGER retry_do AFTER INSERT ON retry BEGIN"
    REFUSE_NO_JOB("retry")
    " SELECT RAISE(ABORT, 'retry: restart must be an integer: 1, or 0')"
    "  WHERE typeof(NEW.restart) NOT IN ('null', 'integer');"
    " SELECT RAISE(ABORT, 'retry: the job has not ended')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _done WHERE id = NEW.job);"
    " SELECT RAISE(ABORT, 'retry: another job has its unique_key; the view"
    " unique_keys says which') WHERE EXISTS (SELECT 1 FROM _unique"
    "  WHERE key = " COLUMN("unique_key") ");"
    " INSERT INTO _attempt(job, lease, process, started_at, ended_at, outcome,"
    "   code, message)"
    "  SELECT id, lease, process, started_at, finished_at,"
    "   CASE state WHEN " STATE_SUCCEEDED " THEN 'succeeded'"
    " WHEN " STATE_FAILED " THEN 'failed'"
    "    ELSE 'cancelled' END, code, cause"
    "  FROM _done d WHERE id = NEW.job AND process IS NOT NULL"
    "  AND NOT EXISTS (SELECT 1 FROM _attempt a"
    "   WHERE a.job = d.id AND a.lease = d.lease);"
    " UPDATE _job SET failures = 0, crashes = 0, run_at = " NOW ","
    "  sort_key = " NOW " + priority"
    "   * (SELECT ageing_ms FROM _queue q WHERE q.id = queue),"
    "  lease = (SELECT lease FROM _done WHERE id = NEW.job),"
    "  restart = CASE WHEN NEW.restart THEN (SELECT lease FROM _done"
    "   WHERE id = NEW.job) ELSE restart END,"
    "  deadline_at = CASE WHEN deadline_at > " NOW " THEN deadline_at END,"
    "  ties = CASE WHEN deadline_at <= " NOW " THEN ties & ~" DEADLINE
    "   ELSE ties END"
    "  WHERE id = NEW.job;"
    " DELETE FROM _progress WHERE id = NEW.job AND NEW.restart;"
    " DELETE FROM _done WHERE id = NEW.job;"
    " INSERT INTO _unique SELECT unique_key, id FROM _job"
    "  WHERE id = NEW.job AND unique_key IS NOT NULL;"
    " INSERT INTO _deadline SELECT deadline_at, id FROM _job"
    "  WHERE id = NEW.job AND deadline_at IS NOT NULL;"
    SETTLE("NEW.job", AWAITING, "j.ties & " AWAITED)
    HEAR_PARENTS("NEW.job")
    " DELETE FROM _settle WHERE job = NEW.job AND what = " CHILDREN ";"
    " INSERT INTO _blocked SELECT NEW.job WHERE " UNMET("NEW.job") ";"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.job AND NOT " UNMET("NEW.job") ";"
    NOTE_TIME
    " DELETE FROM retry;"
    "END;";

static const char reschedule[] =
    "CREATE TABLE reschedule(job INTEGER, priority INTEGER, run_at INTEGER);"
    "CREATE TRIGGER reschedule_do AFTER INSERT ON reschedule BEGIN"
    REFUSE_NO_JOB("reschedule")
    " SELECT RAISE(ABORT, 'reschedule: the job does not wait any more')"
    "  WHERE NOT EXISTS (SELECT 1 FROM _job j"
    "   WHERE j.id = NEW.job AND " WAITS ");"
    " SELECT RAISE(ABORT, 'reschedule: " PRIORITY_WORDS "')"
    "  WHERE " BAD_PRIORITY ";"
    REFUSE_TIME("reschedule", "run_at", "0")
    LEAVE_TURN
    LEAVE_LINE
    " UPDATE _job SET priority = COALESCE(NEW.priority, priority),"
    "  run_at = COALESCE(NEW.run_at, run_at),"
    "  sort_key = COALESCE(NEW.run_at, run_at)"
    "   + COALESCE(NEW.priority, priority)"
    "   * (SELECT ageing_ms FROM _queue q WHERE q.id = queue)"
    "  WHERE id = NEW.job;"
    " INSERT INTO _scheduled SELECT run_at, id, 0 FROM _job"
    "  WHERE id = NEW.job AND run_at > " NOW
    "  AND NOT EXISTS (SELECT 1 FROM _blocked WHERE id = NEW.job);"
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _job"
    "  WHERE id = NEW.job AND NOT EXISTS"
    "   (SELECT 1 FROM _blocked WHERE id = NEW.job)"
    "  AND NOT EXISTS (SELECT 1 FROM _scheduled s"
    "   WHERE s.run_at = _job.run_at AND s.id = NEW.job);"
    " DELETE FROM reschedule;"
    "END;";

/* -- Queues and limits ----------------------------------------------------- */

#define MAKE_QUEUE                                                             \
    " INSERT INTO _queue(name) SELECT NEW.queue WHERE NEW.queue IS NOT NULL"   \
    "  AND NOT EXISTS (SELECT 1 FROM _queue WHERE name = NEW.queue);"

/* of a paused queue nothing is claimed; what runs goes on */
static const char queues[] =
    "CREATE TABLE pause(queue TEXT);"
    "CREATE TRIGGER pause_do AFTER INSERT ON pause BEGIN"
    REFUSE_NAME("pause", "queue", "")
    MAKE_QUEUE
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
    "END;"
    "CREATE TABLE set_limit(queue TEXT, limit_key TEXT, max_running INTEGER);"
    "CREATE TRIGGER set_limit_do AFTER INSERT ON set_limit BEGIN"
    " SELECT RAISE(ABORT, 'set_limit: either queue or limit_key')"
    "  WHERE (NEW.queue IS NULL) = (NEW.limit_key IS NULL);"
    REFUSE_NAME("set_limit", "queue", OR_NULL("queue"))
    REFUSE_NAME("set_limit", "limit_key", OR_NULL("limit_key"))
    " SELECT RAISE(ABORT, 'set_limit: max_running must be an integer from 1 to"
    " 1000000, or NULL for none (of a key: 1)')"
    "  WHERE " BAD_INTEGER("max_running", "1", "1000000") ";"
    MAKE_QUEUE
    " UPDATE _queue SET max_running = NEW.max_running WHERE name = NEW.queue;"
    " DELETE FROM _limit WHERE key = NEW.limit_key;"
    " INSERT INTO _limit SELECT NEW.limit_key, NEW.max_running"
    "  WHERE NEW.limit_key IS NOT NULL AND NEW.max_running IS NOT NULL;"
    /* a claim holds back anew what is too much */
    " INSERT INTO _ready SELECT queue, kind, sort_key, id FROM _held"
    "  WHERE key = NEW.limit_key;"
    " DELETE FROM _held WHERE key = NEW.limit_key;"
    " DELETE FROM set_limit;"
    "END;"
    "CREATE TABLE retain(queue TEXT, retain_ms INTEGER);"
    "CREATE TRIGGER retain_do AFTER INSERT ON retain BEGIN"
    REFUSE_NAME("retain", "queue", "")
    " SELECT RAISE(ABORT, 'retain: retain_ms must be a positive integer, or"
    " NULL for ever') WHERE " BAD_INTEGER("retain_ms", "1", LAST_TIME) ";"
    MAKE_QUEUE
    " UPDATE _queue SET retain_ms = NEW.retain_ms WHERE name = NEW.queue;"
    " DELETE FROM retain;"
    "END;";

const char *const schema_commands[] = {submit,     cancel, ended, retry,
                                       reschedule, queues, NULL};
