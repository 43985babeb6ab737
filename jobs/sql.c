/*
 * The kind "sql": a script of SQL statements on any SQLite file, each exactly
 * once, whatever stops the job and how often.
 *
 * An item is a statement, or all from BEGIN to COMMIT; the cursor counts
 * statements. From the first one that writes on, items are steps: what they
 * wrote, the cursor and the size of the file of rows are committed together.
 * A script that only reads leaves no trace in the file, and begins anew when
 * it is run again. VACUUM, ATTACH, DETACH and PRAGMA cannot be in a
 * transaction: they run before their step, and the last three again whenever
 * the job is taken up behind them, as their effect is the connection's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "jobs/args.h"
#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/script.h"
#include "jobs/sink.h"

static const struct job_key keys[] = {
    {"file", JOB_KEY_REQUIRED | JOB_KEY_PATH, "the script: SQL statements"},
    {"on", JOB_KEY_REQUIRED | JOB_KEY_PATH,
     "the SQLite file to run it on, made if it is not there"},
    {"out", JOB_KEY_PATH, "the file that gets the rows of SELECT"},
    {"format", 0, "csv or jsonl, of out (default: by its name, else csv)"},
    {NULL, 0, NULL}};

enum role {
    PLAIN,
    BEGIN,
    COMMIT,
    ROLLBACK,
    SAVEPOINT,
    OUTSIDE,   /* of any transaction */
    CONNECTION /* the same, and to be repeated */
};

struct sql {
    struct ctx *ctx;
    struct rota_job *job;
    struct args *args;
    const char *path, *on, *out;
    struct script script;
    enum role item; /* of the statement that the item begins with */
    struct sink sink;
    sqlite3 *db;
    int64_t cursor;   /* statements behind us */
    uint64_t digest;  /* of these and, in an item, of its own; digest.h */
    bool is_stepping; /* it is kept in the file */
};

/* ROLLBACK, and not ROLLBACK TO a savepoint. */
static bool
is_whole_rollback(const struct script *script)
{
    char word[16];

    script_keyword(script, 1, word, sizeof(word));
    if (strcmp(word, "TRANSACTION") == 0)
        script_keyword(script, 2, word, sizeof(word));
    return strcmp(word, "TO") != 0;
}

static enum role
role_of(const struct script *script)
{
    static const struct {
        const char *word;
        enum role role;
    } words[] = {{"BEGIN", BEGIN},         {"COMMIT", COMMIT},
                 {"END", COMMIT},          {"ROLLBACK", ROLLBACK},
                 {"SAVEPOINT", SAVEPOINT}, {"RELEASE", SAVEPOINT},
                 {"VACUUM", OUTSIDE},      {"ATTACH", CONNECTION},
                 {"DETACH", CONNECTION},   {"PRAGMA", CONNECTION}};
    char word[16];

    script_keyword(script, 0, word, sizeof(word));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(word, words[i].word) == 0)
            return words[i].role != ROLLBACK || is_whole_rollback(script)
                       ? words[i].role
                       : SAVEPOINT;
    return PLAIN;
}

/* -- Failures ------------------------------------------------------------ */

/* What SQLite said about the current statement. */
static enum rota_error
fail_statement(struct sql *sql)
{
    int code = sqlite3_errcode(sql->db) & 0xff;
    bool may_pass = code == SQLITE_BUSY || code == SQLITE_LOCKED ||
                    code == SQLITE_FULL || code == SQLITE_IOERR ||
                    code == SQLITE_NOMEM;

    if (ctx_done(sql->ctx))
        return ctx_err(sql->ctx);
    return rota_job_fail(sql->job, may_pass ? ROTA_FAILED : ROTA_FATAL,
                         "%s, line %" PRId64 ": %s", sql->path,
                         sql->script.begins, sqlite3_errmsg(sql->db));
}

static enum rota_error
fail_here(struct sql *sql, const char *what)
{
    return rota_job_fail(sql->job, ROTA_FATAL, "%s, line %" PRId64 ": %s",
                         sql->path, sql->script.begins, what);
}

static enum rota_error
fail_out(struct sql *sql)
{
    return files_fail(sql->job, ROTA_FAILED, "write", sql->out);
}

/* The next statement. *ret_is_end: there is none. */
static enum rota_error
next(struct sql *sql, bool *ret_is_end)
{
    *ret_is_end = false;
    if (ctx_done(sql->ctx))
        return ctx_err(sql->ctx);
    switch (script_next(&sql->script)) {
    case SCRIPT_STATEMENT:
        return ROTA_OK;
    case SCRIPT_END:
        *ret_is_end = true;
        return ROTA_OK;
    case SCRIPT_NO_MEMORY:
        return ROTA_NOMEM;
    case SCRIPT_IO:
        break;
    }
    return files_fail(sql->job, ROTA_FAILED, "read", sql->path);
}

/* The current statement has its turn. */
static void
note(struct sql *sql)
{
    sql->digest = digest_add(sql->digest, sql->script.text, sql->script.size);
}

/* -- One statement ------------------------------------------------------- */

static enum rota_error
rows(struct sql *sql, sqlite3_stmt *statement)
{
    bool is_first = true;
    int code;

    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (is_first && !sink_names(&sql->sink, statement))
            return fail_out(sql);
        is_first = false;
        if (!sink_row(&sql->sink, statement))
            return fail_out(sql);
    }
    return code == SQLITE_DONE ? ROTA_OK : fail_statement(sql);
}

static enum rota_error
run(struct sql *sql)
{
    sqlite3_stmt *statement;
    enum rota_error error;

    if (sqlite3_prepare_v2(sql->db, sql->script.text, (int)sql->script.size + 1,
                           &statement, NULL) != SQLITE_OK)
        return fail_statement(sql);
    error = rows(sql, statement);
    (void)sqlite3_finalize(statement);
    return error;
}

static enum rota_error
find_whether_it_writes(struct sql *sql, bool *ret_writes)
{
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v2(sql->db, sql->script.text, (int)sql->script.size + 1,
                           &statement, NULL) != SQLITE_OK)
        return fail_statement(sql);
    *ret_writes = !sqlite3_stmt_readonly(statement);
    (void)sqlite3_finalize(statement);
    return ROTA_OK;
}

static enum rota_error
run_text(struct sql *sql, const char *text)
{
    return sqlite3_exec(sql->db, text, NULL, NULL, NULL) == SQLITE_OK
               ? ROTA_OK
               : fail_statement(sql);
}

/* -- One item ------------------------------------------------------------ */

/* The statements after BEGIN, up to COMMIT. */
static enum rota_error
run_block(struct sql *sql)
{
    enum rota_error error = run_text(sql, "SAVEPOINT _rota_sql");
    int64_t at = sql->cursor + 1;
    bool is_end;

    while (error == ROTA_OK) {
        error = next(sql, &is_end);
        if (error == ROTA_OK && is_end)
            return fail_here(sql, "the script ends inside a transaction");
        if (error != ROTA_OK)
            return error;
        note(sql);
        rota_job_advance(sql->job,
                         at++); /* to look at; taken back if it fails */
        switch (role_of(&sql->script)) {
        case COMMIT:
            return run_text(sql, "RELEASE _rota_sql");
        case ROLLBACK:
            return run_text(sql, "ROLLBACK TO _rota_sql; RELEASE _rota_sql");
        case BEGIN:
            return fail_here(sql, "BEGIN inside a transaction");
        default:
            error = run(sql);
        }
    }
    return error;
}

/* How many statements there are from BEGIN, the current one, to its end. */
static enum rota_error
measure_block(struct sql *sql, int64_t *ret_n)
{
    int64_t line = sql->script.line;
    off_t at = ftello(sql->script.file);
    enum rota_error error = ROTA_OK;
    enum role role = BEGIN;
    bool is_end = false;

    for (*ret_n = 1;
         error == ROTA_OK && !is_end && role != COMMIT && role != ROLLBACK;
         ++*ret_n) {
        error = next(sql, &is_end);
        if (error == ROTA_OK && !is_end)
            role = role_of(&sql->script);
    }
    if (error == ROTA_OK && fseeko(sql->script.file, at, SEEK_SET) != 0)
        error = files_fail(sql->job, ROTA_FAILED, "read", sql->path);
    sql->script.line = line;
    return error;
}

/* In the item's transaction: how far the file of rows reaches with it. */
static enum rota_error
keep_size(struct sql *sql)
{
    const char *queue = rota_instance(rota_job_rota(sql->job));
    sqlite3_stmt *statement = NULL;
    enum rota_error error;
    int64_t size;

    if (!sink_sync(&sql->sink, &size))
        return fail_out(sql);
    error = run_text(sql, "CREATE TABLE IF NOT EXISTS _rota_sql(queue TEXT,"
                          " job INTEGER, size INTEGER, rows INTEGER,"
                          " PRIMARY KEY(queue, job)) WITHOUT ROWID");
    if (error != ROTA_OK)
        return error;
    if (sqlite3_prepare_v2(sql->db,
                           "INSERT OR REPLACE INTO _rota_sql"
                           " VALUES(?1, ?2, ?3, ?4)",
                           -1, &statement, NULL) != SQLITE_OK)
        return fail_statement(sql);
    (void)sqlite3_bind_text(statement, 1, queue, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(statement, 2, rota_job_id(sql->job));
    (void)sqlite3_bind_int64(statement, 3, size);
    (void)sqlite3_bind_int64(statement, 4, sql->sink.rows);
    if (sqlite3_step(statement) != SQLITE_DONE)
        error = fail_statement(sql);
    (void)sqlite3_finalize(statement);
    if (error == ROTA_OK &&
        digest_keep(sql->job, sql->db, sql->digest) != SQLITE_OK)
        error = fail_statement(sql);
    return error;
}

/* A rota_sqlite_fn. */
static enum rota_error
item(sqlite3 *db, void *arg)
{
    struct sql *sql = arg;
    enum rota_error error = ROTA_OK; /* of what was done before its step */

    (void)db;
    if (sql->item == BEGIN)
        error = run_block(sql);
    else if (sql->item == PLAIN)
        error = run(sql);
    return error == ROTA_OK ? keep_size(sql) : error;
}

static enum rota_error
step(struct sql *sql, int64_t n)
{
    enum rota_error error;

    error = rota_job_step(sql->job, sql->db, sql->cursor + n, item, sql);
    if (error == ROTA_OK) {
        sql->cursor += n;
        return ROTA_OK;
    }
    rota_job_advance(sql->job, sql->cursor);
    if (error == ROTA_STORE || error == ROTA_BUSY || error == ROTA_FULL)
        return rota_job_fail(sql->job, ROTA_FAILED, "%s",
                             rota_errmsg(rota_job_rota(sql->job)));
    return error;
}

/* -- The job ------------------------------------------------------------- */

/* From here on the cursor is kept in the file. */
static enum rota_error
begin_stepping(struct sql *sql)
{
    int64_t cursor;
    enum rota_error error = rota_job_resume(sql->job, sql->db, &cursor);

    if (error == ROTA_OK) {
        sql->is_stepping = true;
        if (cursor == 0) /* what came before only read */
            rota_job_advance(sql->job, sql->cursor);
        else
            sql->cursor = cursor;
        return ROTA_OK;
    }
    if (error != ROTA_STORE && error != ROTA_BUSY && error != ROTA_FULL)
        return error;
    return rota_job_fail(sql->job, ROTA_FAILED, "%s",
                         rota_errmsg(rota_job_rota(sql->job)));
}

/* Run the item that begins with the current statement. */
static enum rota_error
run_item(struct sql *sql)
{
    enum role role = sql->item = role_of(&sql->script);
    enum rota_error error = ROTA_OK;
    int64_t n = 1;
    bool writes = role == BEGIN;

    note(sql);
    if (role == COMMIT || role == ROLLBACK || role == SAVEPOINT)
        return fail_here(sql, "there is no transaction: BEGIN comes first");
    if (role == PLAIN)
        error = find_whether_it_writes(sql, &writes);
    if (error == ROTA_OK && writes && !sql->is_stepping)
        error = begin_stepping(sql);
    if (error == ROTA_OK && role == BEGIN)
        error = measure_block(sql, &n);
    if (error == ROTA_OK &&
        (role == OUTSIDE || role == CONNECTION || !sql->is_stepping))
        error = run(sql);
    if (error != ROTA_OK)
        return error;
    if (sql->is_stepping)
        return step(sql, n);
    rota_job_advance(sql->job, ++sql->cursor);
    return ROTA_OK;
}

/* Go past what an earlier run has done. */
static enum rota_error
skip(struct sql *sql)
{
    enum rota_error error = ROTA_OK;
    bool is_end = false;

    for (int64_t i = 0; error == ROTA_OK && i < sql->cursor; i++) {
        error = next(sql, &is_end);
        if (error == ROTA_OK && is_end)
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "%s has %" PRId64 " statements, but %" PRId64
                                 " were run before: it was cut or replaced",
                                 sql->path, i, sql->cursor);
        if (error == ROTA_OK)
            note(sql);
        if (error == ROTA_OK && role_of(&sql->script) == CONNECTION)
            error = run(sql);
    }
    if (error == ROTA_OK && digest_differs(sql->job, sql->db, sql->digest))
        error = rota_job_fail(sql->job, ROTA_FATAL,
                              "%s was changed since %" PRId64
                              " statements of it were run: what they were is "
                              "not what is there now",
                              sql->path, sql->cursor);
    return error;
}

static enum rota_error
run_all(struct sql *sql)
{
    enum rota_error error = skip(sql);
    bool is_end = false;

    while (error == ROTA_OK && !is_end) {
        error = next(sql, &is_end);
        if (error == ROTA_OK && !is_end)
            error = run_item(sql);
    }
    return error;
}

/* -- Beginning and end --------------------------------------------------- */

static enum rota_error
open_script(struct sql *sql)
{
    enum rota_error error;
    struct stat file;
    FILE *stream;

    if (stat(sql->path, &file) != 0)
        return files_fail(sql->job, ROTA_FATAL, "open", sql->path);
    if (!S_ISREG(file.st_mode))
        return rota_job_fail(sql->job, ROTA_FATAL,
                             "%s is no regular file, so that the job could not "
                             "be taken up again",
                             sql->path);
    error = files_refuse_databases(sql->ctx, sql->job, "file", sql->path, &file,
                                   sql->on);
    if (error != ROTA_OK)
        return error;
    stream = fopen(sql->path, "re");
    if (stream == NULL)
        return files_fail(sql->job, ROTA_FATAL, "open", sql->path);
    script_init(&sql->script, stream);
    return ROTA_OK;
}

/* Open the file of rows as it is; what is in it is seen to later. */
static enum rota_error
open_out(struct sql *sql)
{
    const char *format = args_text(sql->args, "format");
    enum rota_error error;
    struct stat file;
    int fd;

    if (format != NULL && strcmp(format, "csv") != 0 &&
        strcmp(format, "jsonl") != 0)
        return rota_job_fail(sql->job, ROTA_FATAL,
                             "format=%s: must be csv or jsonl", format);
    if (sql->out == NULL)
        return ROTA_OK;
    sql->sink.is_json = format != NULL ? format[0] == 'j'
                                       : files_name_ends(sql->out, ".jsonl") ||
                                             files_name_ends(sql->out, ".json");
    if (stat(sql->out, &file) == 0) {
        if (!S_ISREG(file.st_mode))
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "out=%s is no regular file", sql->out);
        error = files_refuse_databases(sql->ctx, sql->job, "out", sql->out,
                                       &file, sql->on);
        if (error != ROTA_OK)
            return error;
        if (files_is(&file, sql->path))
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "out=%s is the script itself", sql->out);
    }
    fd = open(sql->out, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return files_fail(sql->job, ROTA_FATAL, "open", sql->out);
    sql->sink.file = fdopen(fd, "w");
    if (sql->sink.file != NULL)
        return ROTA_OK;
    (void)close(fd);
    return ROTA_NOMEM;
}

/* The first row that text gives for this job; false if there is none. */
static bool
look_up(struct sql *sql, const char *text, int64_t *ret_a, int64_t *ret_b)
{
    const char *queue = rota_instance(rota_job_rota(sql->job));
    sqlite3_stmt *statement = NULL;
    bool found;

    if (sqlite3_prepare_v2(sql->db, text, -1, &statement, NULL) != SQLITE_OK)
        return false; /* no such table: nobody has been here */
    (void)sqlite3_bind_text(statement, 1, queue, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(statement, 2, rota_job_id(sql->job));
    found = sqlite3_step(statement) == SQLITE_ROW;
    if (found) {
        *ret_a = sqlite3_column_int64(statement, 0);
        *ret_b = sqlite3_column_int64(statement, 1);
    }
    (void)sqlite3_finalize(statement);
    return found;
}

/* Open the database, and take up what an earlier run has left there. */
static enum rota_error
take_up(struct sql *sql)
{
    int64_t cursor, lease, size = 0;
    enum rota_error error = rota_job_db(sql->job, sql->on, &sql->db);

    if (error == ROTA_INVALID)
        return rota_job_fail(sql->job, ROTA_FATAL,
                             "on=%s is the queue's own file", sql->on);
    if (error != ROTA_OK)
        return rota_job_fail(sql->job, ROTA_FAILED, "cannot open %s: %s",
                             sql->on, rota_errmsg(rota_job_rota(sql->job)));
    if (look_up(sql,
                "SELECT cursor, lease FROM _rota_cursor"
                " WHERE queue = ?1 AND job = ?2",
                &cursor, &lease)) {
        error = begin_stepping(sql);
        if (error == ROTA_OK)
            (void)look_up(sql,
                          "SELECT size, rows FROM _rota_sql"
                          " WHERE queue = ?1 AND job = ?2",
                          &size, &sql->sink.rows);
    }
    if (error == ROTA_OK && !sink_truncate(&sql->sink, size))
        error = fail_out(sql);
    return error;
}

static enum rota_error
count(struct sql *sql)
{
    enum rota_error error;
    bool is_end = false;
    int64_t n = -1;

    do {
        error = next(sql, &is_end);
        n++;
    } while (error == ROTA_OK && !is_end);
    if (error != ROTA_OK)
        return error;
    rota_job_total(sql->job, n);
    return script_rewind(&sql->script)
               ? ROTA_OK
               : files_fail(sql->job, ROTA_FAILED, "read", sql->path);
}

static enum rota_error
say_result(struct sql *sql)
{
    enum rota_error error = ROTA_NOMEM;
    json_t *result;
    char *text = NULL;
    int64_t size;

    if (!sink_sync(&sql->sink, &size))
        return fail_out(sql);
    result = json_pack("{sI sI ss*}", "statements", (json_int_t)sql->cursor,
                       "rows", (json_int_t)sql->sink.rows, "out", sql->out);
    if (result != NULL)
        text = json_dumps(result, JSON_COMPACT);
    if (text != NULL)
        error = rota_job_result(sql->job, text, strlen(text));
    free(text);
    json_decref(result);
    return error;
}

static enum rota_error
sql_run(struct ctx *ctx, struct rota_job *job)
{
    struct sql sql = {.ctx = ctx, .job = job};
    enum rota_error error = args_open(job, keys, &sql.args);

    if (error == ROTA_OK) {
        sql.path = args_text(sql.args, "file");
        sql.on = args_text(sql.args, "on");
        sql.out = args_text(sql.args, "out");
        error = open_script(&sql);
    }
    if (error == ROTA_OK)
        error = open_out(&sql);
    if (error == ROTA_OK)
        error = take_up(&sql);
    if (error == ROTA_OK)
        error = count(&sql);
    if (error == ROTA_OK)
        error = run_all(&sql);
    if (error == ROTA_OK)
        error = say_result(&sql);
    if (!sink_close(&sql.sink) && error == ROTA_OK)
        error = fail_out(&sql);
    script_fini(&sql.script);
    args_close(sql.args);
    return error;
}

const struct job_kind job_sql = {
    .name = "sql",
    .fn = sql_run,
    .defaults = ROTA_DEFAULTS_INIT,
    .summary = "run a SQL script on a SQLite file",
    .keys = keys,
};
