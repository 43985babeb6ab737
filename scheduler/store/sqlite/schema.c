/*
 * The file's private tables, and the way from older versions to this one.
 *
 * A job is one row in _job, written once (its few counters change only when a
 * run comes back), plus one row in the table that says where it stands:
 *
 *   _blocked --parents done--> _scheduled --due--> _ready --claim--> _running
 *   --end--> _done;   _ready <--> _held, while its key is at its limit
 *
 * so that submitting, claiming and finishing touch small tables at their edge
 * and history costs nothing. A move is a guarded DELETE from one and an INSERT
 * into the next, in one transaction (claim.c, end.c, dependents.c). Names that
 * start with _ are private. The views, and the commands, are the public
 * interface: columns are added to them, never changed or removed.
 *
 * Versions go forward only, in one transaction: a file is of one or of the
 * other, whatever dies. Views, triggers and commands hold nothing and are made
 * anew; the steps below change the tables. A step is never edited once it has
 * been released: the table that the next version changes gets its text here.
 */
#include "store/sqlite/schema.h"

#include <stdio.h>

#include "base/base.h"

/* -- Tables --------------------------------------------------------------- */

/* queue.owner is a process: nobody else claims while it lives */
#define TABLE_QUEUE                                                            \
    "CREATE TABLE _queue(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"   \
    " ageing_ms INTEGER NOT NULL DEFAULT 60000, paused_at INTEGER,"            \
    " owner INTEGER, max_running INTEGER, retain_ms INTEGER);"                 \
    "CREATE INDEX _queue_owner ON _queue(owner) WHERE owner IS NOT NULL;"

/* What version 3 brought: whether the kind's work runs in processes of its own
 * (store/suspicion.h), as the last process to join that knows it has said. It
 * is here for who rescues a job and does not know its kind. */
#define KIND_ISOLATED "is_isolated INTEGER NOT NULL DEFAULT 0"

/* max_attempts and timeout_ms: NULL is what the kind says. lease, failures and
 * crashes are those of the runs that came back; runs up to restart are
 * forgotten, with their cursor. ties: schema.h. args last, so that reading the
 * rest does not walk over them. */
#define TABLE_JOB                                                              \
    "CREATE TABLE _job(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"         \
    " queue INTEGER NOT NULL, batch INTEGER, priority INTEGER NOT NULL,"       \
    " run_at INTEGER NOT NULL, sort_key INTEGER NOT NULL,"                     \
    " created_at INTEGER NOT NULL, deadline_at INTEGER, timeout_ms INTEGER,"   \
    " max_attempts INTEGER, lease INTEGER NOT NULL,"                           \
    " failures INTEGER NOT NULL, crashes INTEGER NOT NULL, restart INTEGER,"   \
    " unique_key TEXT, limit_key TEXT, parent INTEGER, ties INTEGER NOT NULL," \
    " args);"                                                                  \
    "CREATE INDEX _job_batch ON _job(batch) WHERE batch IS NOT NULL;"          \
    "CREATE INDEX _job_parent ON _job(parent) WHERE parent IS NOT NULL;"

/* queue and limit_key: what the limits count */
#define TABLE_RUNNING                                                          \
    "CREATE TABLE _running(id INTEGER PRIMARY KEY, lease INTEGER NOT NULL,"    \
    " process INTEGER NOT NULL, claimed_at INTEGER NOT NULL,"                  \
    " queue INTEGER NOT NULL, limit_key TEXT, started_at INTEGER,"             \
    " cancel_at INTEGER, cancel_reason TEXT, stuck_since INTEGER);"            \
    "CREATE INDEX _running_key ON _running(limit_key)"                         \
    " WHERE limit_key IS NOT NULL;"

/* process is NULL if the job did not end by a run; skipped_by is the job that
 * it waited for, which did not succeed */
#define TABLE_DONE                                                             \
    "CREATE TABLE _done(id INTEGER PRIMARY KEY, state INTEGER NOT NULL,"       \
    " lease INTEGER NOT NULL, attempt INTEGER NOT NULL, process INTEGER,"      \
    " started_at INTEGER, finished_at INTEGER NOT NULL,"                       \
    " code INTEGER NOT NULL, cancel_at INTEGER, delivered_at INTEGER,"         \
    " cause TEXT, skipped_by INTEGER, result);"                                \
    "CREATE INDEX _done_cancel ON _done(cancel_at)"                            \
    " WHERE cancel_at IS NOT NULL;"

/* By what the views find the newest of each place (schema_views.c). Of what has
 * succeeded there is none: it is nearly all, and each end would pay for it. */
#define INDICES_BY_ID                                                          \
    "CREATE INDEX _ready_id ON _ready(id);"                                    \
    "CREATE INDEX _held_id ON _held(id);"                                      \
    "CREATE INDEX _scheduled_id ON _scheduled(id);"                            \
    "CREATE INDEX _done_state ON _done(state) WHERE state <> 4;"

/* What waits for its time. is_pause: which comes of how long it is to wait, for
 * another attempt or because it put itself off, and so goes with the clock when
 * that is set back (times.c); what an asker has named does not. */
#define TABLE_SCHEDULED                                                        \
    "CREATE TABLE _scheduled(run_at INTEGER, id INTEGER,"                      \
    " is_pause INTEGER NOT NULL, PRIMARY KEY(run_at, id)) WITHOUT ROWID;"

/* All that version 2 brought besides. A key is in _unique, and a deadline in
 * _deadline, until its job has ended. _dep.met: the parent has succeeded. What
 * goes into _ended has ended, and its trigger empties it. In _settle is whom a
 * job's end, or its return, concerns and who are yet to be told of it
 * (dependents.c): those behind the job called last. */
#define TABLES_OF_TIES                                                         \
    "CREATE TABLE _blocked(id INTEGER PRIMARY KEY);"                           \
    "CREATE TABLE _held(key TEXT, queue INTEGER, kind INTEGER,"                \
    " sort_key INTEGER, id INTEGER,"                                           \
    " PRIMARY KEY(key, queue, kind, sort_key, id)) WITHOUT ROWID;"             \
    "CREATE TABLE _limit(key TEXT PRIMARY KEY, max_running INTEGER NOT NULL)"  \
    " WITHOUT ROWID;"                                                          \
    "CREATE TABLE _unique(key TEXT PRIMARY KEY, job INTEGER NOT NULL)"         \
    " WITHOUT ROWID;"                                                          \
    "CREATE TABLE _deadline(at INTEGER, id INTEGER, PRIMARY KEY(at, id))"      \
    " WITHOUT ROWID;"                                                          \
    "CREATE TABLE _dep(parent INTEGER, child INTEGER, met INTEGER NOT NULL,"   \
    " PRIMARY KEY(parent, child)) WITHOUT ROWID;"                              \
    "CREATE INDEX _dep_child ON _dep(child, met);"                             \
    "CREATE TABLE _ended(job INTEGER, state INTEGER);"                         \
    "CREATE TABLE _settle(job INTEGER, what INTEGER, last INTEGER NOT NULL,"   \
    " PRIMARY KEY(job, what)) WITHOUT ROWID;"

const char schema_tables[] =
    "CREATE TABLE _meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "INSERT INTO _meta VALUES('instance', lower(hex(randomblob(16)))),"
    " ('synced', 0), ('ids', 0), ('latest', 0);"
    "CREATE TABLE _kind(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " max_attempts INTEGER NOT NULL DEFAULT 1, timeout_ms "
    "INTEGER, " KIND_ISOLATED ");" TABLE_QUEUE
    "CREATE TABLE _batch(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " created_at INTEGER NOT NULL);" TABLE_JOB TABLE_SCHEDULED
    /* the claim order, per queue and kind; only what may run now */
    "CREATE TABLE _ready(queue INTEGER, kind INTEGER, sort_key INTEGER,"
    " id INTEGER, PRIMARY KEY(queue, kind, sort_key, id)) WITHOUT "
    "ROWID;" TABLE_RUNNING TABLE_DONE
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
    " PRIMARY KEY(process, kind)) WITHOUT ROWID;" TABLES_OF_TIES INDICES_BY_ID;

/* -- Steps ---------------------------------------------------------------- */

/* Have the table called name be as create says, filled by select from what it
 * was, which is called _old meanwhile. */
#define REMAKE(name, create, select)                                           \
    "ALTER TABLE " name " RENAME TO _old;"                                     \
    "DROP INDEX IF EXISTS " name "_batch;"                                     \
    "DROP INDEX IF EXISTS " name "_owner;"                                     \
    "DROP INDEX IF EXISTS " name "_cancel;" create "INSERT INTO " name \
    " SELECT " select " FROM _old o;"                                  \
    "DROP TABLE _old;"

/* From version n, at n. */
static const char *const steps[SCHEMA_VERSION] =
    {
        [1] = REMAKE("_queue", TABLE_QUEUE,
                     "id, name, ageing_ms, paused_at, owner, NULL, NULL")
            REMAKE("_job", TABLE_JOB,
                   "id, kind, queue, batch, priority, run_at, sort_key, "
                   "created_at,"
                   " deadline_at, timeout_ms, max_attempts, lease, failures,"
                   " crashes, NULL, NULL, NULL, NULL,"
                   " 2 * (deadline_at IS NOT NULL AND NOT EXISTS"
                   "  (SELECT 1 FROM _done d WHERE d.id = o.id)), args")
                REMAKE("_running", TABLE_RUNNING,
                       "id, lease, process, claimed_at,"
                       " (SELECT queue FROM _job j WHERE j.id = o.id), NULL,"
                       " started_at, cancel_at, cancel_reason, stuck_since")
                    REMAKE(
                        "_done", TABLE_DONE,
                        "id, state, lease, attempt, process, started_at, "
                        "finished_at,"
                        " code, cancel_at, delivered_at, cause, NULL, result")
                        TABLES_OF_TIES
        "INSERT INTO _deadline SELECT deadline_at, id FROM _job WHERE ties = "
        "2;",
        /* and the commands refuse more. rota's own kind is known before anybody
         * says so: a rescue may come first */
        [2] = REMAKE("_scheduled", TABLE_SCHEDULED,
                     "run_at, id, (SELECT lease > 0 FROM _job j WHERE j.id = "
                     "o.id)") INDICES_BY_ID "INSERT INTO _meta VALUES('latest', 0);"
                              "ALTER TABLE _kind ADD COLUMN " KIND_ISOLATED ";"
                              "UPDATE _kind SET is_isolated = 1 WHERE name = "
                              "'exec';",
};

/* -- Upgrade -------------------------------------------------------------- */

/* The integer that a pragma or a count answers. */
static enum rota_error
ask_number(struct connection *connection, const char *sql, int64_t *ret_number)
{
    sqlite3_stmt *statement;
    enum rota_error error = ROTA_OK;

    if (sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL) !=
        SQLITE_OK)
        return connection_error(connection);
    if (sqlite3_step(statement) == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(statement, 0);
    else
        error = connection_error(connection);
    (void)sqlite3_finalize(statement);
    return error;
}

struct stamps {
    int64_t application, version, objects;
};

/* All three as of one moment: somebody may be making the schema. */
static enum rota_error
stamps_read(struct connection *connection, struct stamps *ret_stamps)
{
    enum rota_error error = connection_script(connection, "SAVEPOINT stamps");

    if (error != ROTA_OK)
        return error;
    error = ask_number(connection, "PRAGMA application_id",
                       &ret_stamps->application);
    if (error == ROTA_OK)
        error =
            ask_number(connection, "PRAGMA user_version", &ret_stamps->version);
    if (error == ROTA_OK)
        error = ask_number(connection, "SELECT count(*) FROM sqlite_schema",
                           &ret_stamps->objects);
    (void)sqlite3_exec(connection->db, "RELEASE stamps", NULL, NULL, NULL);
    return error;
}

enum rota_error
schema_check(struct connection *connection, int64_t *ret_version)
{
    struct stamps stamps = {0};
    enum rota_error error = stamps_read(connection, &stamps);

    if (error != ROTA_OK)
        return error;
    *ret_version = stamps.version;
    if (stamps.application == 0 && stamps.version == 0 && stamps.objects == 0)
        return ROTA_OK;
    if (stamps.application != SCHEMA_APPLICATION_ID || stamps.version < 1) {
        message_set("%s is a SQLite file of something else; name another file",
                    connection->path);
        return ROTA_CORRUPT;
    }
    if (stamps.version > SCHEMA_VERSION) {
        message_set("%s was made by a newer rota (version %jd of the file, "
                    "this one knows %d); upgrade rota",
                    connection->path, (intmax_t)stamps.version, SCHEMA_VERSION);
        return ROTA_VERSION;
    }
    return ROTA_OK;
}

static enum rota_error
run_scripts(struct connection *connection, const char *const *scripts)
{
    enum rota_error error = ROTA_OK;

    for (; error == ROTA_OK && *scripts != NULL; scripts++)
        error = connection_script(connection, *scripts);
    return error;
}

/* What is public in this version or was in one before: all that is rota's and
 * does not begin with _. Clients may have tables and views of their own. */
#define PUBLIC                                                         \
    "('submit', 'cancel', 'retry', 'reschedule', 'pause', 'resume',"   \
    " 'set_limit', 'retain', 'jobs', 'attempts', 'batches', 'queues'," \
    " 'workers', 'cancellations', 'dependencies', 'unique_keys', 'limits')"

/* Drop every view, trigger and public table of rota's, which are empty; what
 * ids have been given is kept. */
static enum rota_error
public_drop(struct connection *connection)
{
    static const char list[] =
        "SELECT 'DROP ' || type || ' IF EXISTS \"' || name || '\"'"
        " FROM sqlite_schema"
        " WHERE (type IN ('view', 'trigger')"
        "   AND tbl_name LIKE '\\_%' ESCAPE '\\')"
        "  OR (type <> 'index' AND tbl_name IN " PUBLIC ")"
        " ORDER BY type DESC";
    enum rota_error error = connection_script(
        connection, "INSERT OR REPLACE INTO _meta SELECT 'ids', seq"
                    " FROM sqlite_sequence WHERE name = 'submit'");
    sqlite3_stmt *s;
    char *drops = NULL;

    if (error != ROTA_OK)
        return error;
    if (sqlite3_prepare_v2(connection->db, list, -1, &s, NULL) != SQLITE_OK)
        return connection_error(connection);
    drops = sqlite3_mprintf("%s", "");
    while (drops != NULL && sqlite3_step(s) == SQLITE_ROW) {
        char *grown =
            sqlite3_mprintf("%s%s;", drops, sqlite3_column_text(s, 0));

        sqlite3_free(drops);
        drops = grown;
    }
    if (sqlite3_finalize(s) != SQLITE_OK)
        error = connection_error(connection);
    else
        error =
            drops == NULL ? no_memory() : connection_script(connection, drops);
    sqlite3_free(drops);
    return error;
}

/* From version to this one, within a transaction. */
static enum rota_error
upgrade_from(struct connection *connection, int64_t version)
{
    char stamp[96];
    enum rota_error error = version == 0
                                ? connection_script(connection, schema_tables)
                                : public_drop(connection);

    for (int64_t v = version; v > 0 && error == ROTA_OK && v < SCHEMA_VERSION;
         v++)
        error = connection_script(connection, steps[v]);
    if (error == ROTA_OK)
        error = run_scripts(connection, schema_commands);
    if (error == ROTA_OK)
        error = run_scripts(connection, schema_views);
    (void)snprintf(stamp, sizeof(stamp),
                   "PRAGMA application_id=%d; PRAGMA user_version=%d",
                   SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
    return error == ROTA_OK ? connection_script(connection, stamp) : error;
}

enum rota_error
schema_upgrade(struct connection *connection)
{
    int64_t version = SCHEMA_VERSION;
    enum rota_error error;

    /* a client's view of what is gone for a moment must not stop a RENAME */
    error = connection_script(connection, "PRAGMA legacy_alter_table=1;"
                                          "PRAGMA synchronous=FULL;"
                                          "BEGIN IMMEDIATE");
    if (error != ROTA_OK)
        return error;
    /* somebody else may have, while we waited for the lock */
    error = schema_check(connection, &version);
    if (error == ROTA_OK && version < SCHEMA_VERSION)
        error = upgrade_from(connection, version);
    if (error == ROTA_OK)
        error = connection_script(connection, "COMMIT");
    if (error != ROTA_OK && !sqlite3_get_autocommit(connection->db))
        (void)sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL);
    return error == ROTA_OK
               ? connection_script(connection, "PRAGMA legacy_alter_table=0;"
                                               "PRAGMA synchronous=NORMAL")
               : error;
}
