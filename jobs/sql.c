/*
 * The kind sql (sql.h): its arguments, the files it opens, what it takes up of
 * an earlier run and what it says at the end. One thread; no lock.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "jobs/files.h"
#include "jobs/json.h"
#include "jobs/signature.h"
#include "jobs/sql.h"
#include "jobs/statement.h"

static const struct job_key keys[] = {
    {"file", JOB_KEY_REQUIRED | JOB_KEY_PATH, "the script: SQL statements"},
    {"on", JOB_KEY_REQUIRED | JOB_KEY_PATH,
     "the SQLite file to run it on, made if it is not there"},
    {"out", JOB_KEY_PATH, "the file that gets the rows of SELECT"},
    {"format", 0, "csv, tsv or jsonl, of out (default: by its name, else csv)"},
    DIALECT_KEYS,
    {NULL, 0, NULL}};

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
    error =
        files_refuse_databases(sql->ctx, sql->job, "file", sql->path, sql->on);
    if (error == ROTA_OK)
        error = signature_refuse(sql->job, "file", sql->path);
    if (error != ROTA_OK)
        return error;
    stream = fopen(sql->path, "re");
    if (stream == NULL)
        return files_fail(sql->job, ROTA_FATAL, "open", sql->path);
    script_init(&sql->script, sql->ctx, stream);
    return ROTA_OK;
}

/* How the rows are written. */
static enum rota_error
read_format(struct sql *sql)
{
    static const char *const keys_of_text[] = {"delimiter", "quote", "null",
                                               "header"};
    const char *format = args_text(sql->args, "format");
    const char *out = sql->out != NULL ? sql->out : "";
    struct sink *sink = &sql->sink;
    bool is_tsv;

    if (format != NULL && strcmp(format, "csv") != 0 &&
        strcmp(format, "tsv") != 0 && strcmp(format, "jsonl") != 0)
        return rota_job_fail(sql->job, ROTA_FATAL,
                             "format=%s: must be csv or jsonl, or tsv", format);
    sink->is_json = format != NULL ? format[0] == 'j'
                                   : files_name_ends(out, ".jsonl") ||
                                         files_name_ends(out, ".json");
    is_tsv = format != NULL
                 ? format[0] == 't'
                 : files_name_ends(out, ".tsv") || files_name_ends(out, ".tab");
    for (size_t i = 0; sink->is_json && i < 4; i++)
        if (args_text(sql->args, keys_of_text[i]) != NULL)
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "%s= is for CSV and TSV, not for JSON Lines",
                                 keys_of_text[i]);
    sink->line_end = is_tsv ? "\n" : "\r\n";
    return dialect_read(sql->job, sql->args, is_tsv, &sink->dialect);
}

/* Open the file of rows as it is; what is in it is seen to later. */
static enum rota_error
open_out(struct sql *sql)
{
    enum rota_error error;
    struct stat file;
    int fd;

    if (sql->out == NULL)
        return ROTA_OK;
    error =
        files_refuse_databases(sql->ctx, sql->job, "out", sql->out, sql->on);
    if (error != ROTA_OK)
        return error;
    if (stat(sql->out, &file) == 0) {
        if (!S_ISREG(file.st_mode))
            return rota_job_fail(sql->job, ROTA_FATAL,
                                 "out=%s is no regular file", sql->out);
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
    sqlite3_stmt *statement = NULL;
    bool found;

    if (statement_prepare(sql->job, sql->db, text, &statement) != SQLITE_OK)
        return false; /* no such table: nobody has been here */
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
        error = sql_begin_stepping(sql);
        if (error == ROTA_OK)
            (void)look_up(sql,
                          "SELECT size, rows FROM _rota_sql"
                          " WHERE queue = ?1 AND job = ?2",
                          &size, &sql->sink.n_rows);
    }
    if (error == ROTA_OK && !sink_truncate(&sql->sink, size))
        error = sql_fail_out(sql);
    return error;
}

static enum rota_error
count(struct sql *sql)
{
    enum rota_error error;
    bool is_end = false;
    int64_t n = -1;

    do {
        error = sql_next(sql, &is_end);
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
    int64_t size;

    if (!sink_sync(&sql->sink, &size))
        return sql_fail_out(sql);
    return json_result(sql->job, json_pack("{sI sI ss*}", "statements",
                                           (json_int_t)sql->cursor, "rows",
                                           (json_int_t)sql->sink.n_rows, "out",
                                           sql->out));
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
        error = read_format(&sql);
    if (error == ROTA_OK)
        error = open_out(&sql);
    if (error == ROTA_OK)
        error = take_up(&sql);
    if (error == ROTA_OK)
        error = count(&sql);
    if (error == ROTA_OK)
        error = sql_run_all(&sql);
    if (error == ROTA_OK)
        error = say_result(&sql);
    if (!sink_close(&sql.sink) && error == ROTA_OK)
        error = sql_fail_out(&sql);
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
