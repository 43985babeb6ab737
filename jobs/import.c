/*
 * The kind "import": the rows of a CSV or TSV file into a table of another
 * SQLite file, each exactly once, whatever stops the job and how often.
 *
 * An item is a row after the first, good or bad; the cursor is how many are
 * done. A run reads the file twice: once to count the rows and to find where
 * the cursor's row begins, and from there again to insert them, a group in
 * each step. Rows that were collected but not stepped when the context ends
 * are dropped: the next run reads them again.
 *
 * How many rows are a group is found out: so many as took 50 ms, or several
 * times as long as the commit behind them. A commit waits for the disk, for
 * 1 ms on one machine and for 30 on another, and is as dear for one row as for
 * a hundred thousand.
 */
#define _GNU_SOURCE /* strdup */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "jobs/args.h"
#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/json.h"
#include "jobs/source.h"
#include "jobs/table.h"

enum { GROUP_BYTES = 16 << 20, FIRST_GROUP = 500, MAX_GROUP = 1000000 };

/* The work in a group: at least, and in times of the last commit; at most. */
#define WORK_MIN     ROTA_MS(50)
#define WORK_MAX     ROTA_MS(250)
#define WORK_COMMITS 6

static const struct job_key keys[] = {
    {"file", JOB_KEY_REQUIRED | JOB_KEY_PATH, "the CSV or TSV file to read"},
    {"into", JOB_KEY_REQUIRED | JOB_KEY_PATH,
     "the SQLite file to write, made if it is not there"},
    {"table", 0, "the table, made if it is not there (default: file's name)"},
    {"format", 0, "csv or tsv (default: by file's name)"},
    DIALECT_KEYS,
    {"encoding", 0,
     "what the file is in, as iconv(1) knows it (default: by its byte order "
     "mark, else UTF-8)"},
    {"skip", 0, "lines to skip before the first row (default: 0)"},
    {"columns", 0,
     "a,b or \"a TEXT,b INTEGER\": then the first row is data, unless "
     "header=yes"},
    {"group", 0,
     "rows in a transaction, or the work in one, like 50ms (default: 50ms, "
     "and more where commits are slow)"},
    {"max_bad", 0, "fail when more rows than this are bad (default: no limit)"},
    {NULL, 0, NULL}};

struct import {
    struct rota_job *job;
    struct args *args;
    const char *into;
    char *name;         /* the table's */
    int64_t group_rows; /* how many the next group is to have */
    int64_t group_time; /* the work in one; 0: its rows are told */
    bool is_time_told;
    int64_t began, inserted; /* when the group was begun, and was in */
    int64_t max_bad;         /* -1: no limit */
    sqlite3 *db;
    int64_t cursor;
    struct source source;
    struct table table;
};

/* -- Arguments ----------------------------------------------------------- */

static enum rota_error
read_dialect(struct import *im)
{
    const char *format = args_text(im->args, "format");
    struct dialect *dialect = &im->source.dialect;
    enum rota_error error;
    bool is_tsv;

    if (format == NULL)
        is_tsv = files_name_ends(im->source.path, ".tsv") ||
                 files_name_ends(im->source.path, ".tab");
    else if (strcmp(format, "csv") == 0 || strcmp(format, "tsv") == 0)
        is_tsv = format[0] == 't';
    else
        return rota_job_fail(im->job, ROTA_FATAL,
                             "format=%s: must be csv or tsv", format);
    error = dialect_read(im->job, im->args, is_tsv, dialect);
    dialect->encoding = args_text(im->args, "encoding");
    if (error == ROTA_OK && dialect->encoding != NULL &&
        !decoder_knows(dialect->encoding))
        error = rota_job_fail(im->job, ROTA_FATAL,
                              "encoding=%s: there is none, `iconv -l` lists "
                              "those that there are",
                              dialect->encoding);
    if (args_text(im->args, "header") == NULL)
        dialect->has_header = im->source.columns == NULL;
    if (error == ROTA_OK)
        error =
            args_number(im->args, "skip", 0, INT64_MAX, 0, &im->source.skip);
    return error;
}

/* The table's name, or the file's without folder and extension. */
static enum rota_error
read_table(struct import *im)
{
    const char *table = args_text(im->args, "table");
    const char *slash = strrchr(im->source.path, '/');
    char *dot;

    im->name = strdup(table != NULL   ? table
                      : slash != NULL ? slash + 1
                                      : im->source.path);
    if (im->name == NULL)
        return ROTA_NOMEM;
    dot = table == NULL ? strrchr(im->name, '.') : NULL;
    if (dot != NULL && dot > im->name)
        *dot = '\0';
    if (im->name[0] == '\0' || strncasecmp(im->name, "_rota_", 6) == 0 ||
        strncasecmp(im->name, "sqlite_", 7) == 0)
        return rota_job_fail(im->job, ROTA_FATAL,
                             "table=%s: not a name to import into", im->name);
    im->table.name = im->name;
    return ROTA_OK;
}

/* A number of rows, or of milliseconds. */
static enum rota_error
read_group(struct import *im)
{
    const char *text = args_text(im->args, "group");
    char *end;
    long long n;

    im->group_rows = FIRST_GROUP;
    im->group_time = WORK_MIN;
    if (text == NULL)
        return ROTA_OK;
    errno = 0;
    n = strtoll(text, &end, 10);
    im->is_time_told = strcmp(end, "ms") == 0;
    if (end == text || errno != 0 || n < 1 || n > MAX_GROUP ||
        (*end != '\0' && !im->is_time_told))
        return rota_job_fail(im->job, ROTA_FATAL,
                             "group=%s: must be a number from 1 to %d, of "
                             "rows, or of milliseconds with ms behind it",
                             text, MAX_GROUP);
    im->group_time = im->is_time_told ? ROTA_MS(n) : 0;
    im->group_rows = im->is_time_told ? FIRST_GROUP : n;
    return ROTA_OK;
}

static enum rota_error
read_args(struct import *im)
{
    enum rota_error error;

    error = args_open(im->job, keys, &im->args);
    if (error != ROTA_OK)
        return error;
    im->source.path = args_text(im->args, "file");
    im->into = args_text(im->args, "into");
    im->source.into = im->into;
    im->source.columns = args_text(im->args, "columns");
    error = read_dialect(im);
    if (error == ROTA_OK)
        error = read_table(im);
    if (error == ROTA_OK)
        error = read_group(im);
    if (error == ROTA_OK)
        error =
            args_number(im->args, "max_bad", 0, INT64_MAX, -1, &im->max_bad);
    return error;
}

/* -- The target ---------------------------------------------------------- */

/* The job's answer to an error at the target. The library's messages name the
 * file. */
static enum rota_error
fail_target(struct import *im, enum rota_error error, const char *message)
{
    switch ((int)error) {
    case ROTA_INVALID: /* rota_job_db() and rota_job_resume() */
        return rota_job_fail(im->job, ROTA_FATAL,
                             "into=%s is the queue's own file", im->into);
    case ROTA_FATAL:
    case ROTA_CORRUPT:
        return rota_job_fail(im->job, ROTA_FATAL, "%s", message);
    case ROTA_STORE:
    case ROTA_FULL:
    case ROTA_BUSY:
        return rota_job_fail(im->job, ROTA_FAILED, "%s", message);
    case ROTA_LOST: /* by a run of another worker, or of a copy of the queue */
        return rota_job_fail(im->job, error, "%s", message);
    default: /* the context's */
        return error;
    }
}

/* A step of the library's. */
static enum rota_error
step(struct import *im, int64_t cursor, rota_sqlite_fn *fn, void *arg)
{
    const char *message = im->table.message;
    enum rota_error error;

    im->table.message[0] = '\0';
    error = rota_job_step(im->job, im->db, cursor, fn, arg);
    if (error == ROTA_OK)
        return ROTA_OK;
    if (message[0] == '\0')
        message = rota_errmsg(rota_job_rota(im->job));
    return fail_target(im, error, message);
}

static enum rota_error
open_target(struct import *im)
{
    struct rota *rota = rota_job_rota(im->job);
    enum rota_error error;

    error = rota_job_db(im->job, im->into, &im->db);
    if (error == ROTA_STORE)
        return rota_job_fail(im->job, ROTA_FAILED, "cannot open %s: %s",
                             im->into, rota_errmsg(rota));
    if (error == ROTA_OK)
        error = rota_job_resume(im->job, im->db, &im->cursor);
    if (error != ROTA_OK)
        return fail_target(im, error, rota_errmsg(rota));
    im->table.max = (size_t)sqlite3_limit(im->db, SQLITE_LIMIT_COLUMN, -1);
    return ROTA_OK;
}

static enum rota_error
check_bad(const struct import *im)
{
    if (im->max_bad < 0 || im->table.bad <= im->max_bad)
        return ROTA_OK;
    return rota_job_fail(im->job, ROTA_FATAL,
                         "%" PRId64 " bad rows, more than max_bad=%" PRId64
                         ": see _rota_import_bad in %s",
                         im->table.bad, im->max_bad, im->into);
}

static enum rota_error
check_source(const struct import *im)
{
    if (!digest_differs(im->job, im->db, im->source.digest))
        return ROTA_OK;
    return rota_job_fail(im->job, ROTA_FATAL,
                         "%s was changed since %" PRId64
                         " rows of it were imported: what they were is not "
                         "what is there now. Import it anew",
                         im->source.path, im->cursor);
}

static enum rota_error
make_table(struct import *im)
{
    enum rota_error error;

    error = step(im, im->cursor, table_make, &im->table);
    if (error != ROTA_OK)
        return error;
    error = table_take_up(&im->table, im->db);
    if (error != ROTA_OK)
        return fail_target(im, error, im->table.message);
    error = check_source(im);
    return error == ROTA_OK ? check_bad(im) : error;
}

/* A rota_sqlite_fn: the group's rows, and what has been read with them. */
static enum rota_error
insert(sqlite3 *db, void *arg)
{
    struct import *im = arg;
    enum rota_error error = table_insert(db, &im->table);

    im->inserted = ctx_now();
    if (error == ROTA_OK &&
        digest_keep(im->job, db, im->source.digest) != SQLITE_OK)
        error = table_db_fail(&im->table, db);
    return error;
}

/* How many rows the next group is to have, after one of n. */
static void
measure_group(struct import *im, int64_t n)
{
    int64_t now = ctx_now();
    int64_t work = im->inserted - im->began, commit = now - im->inserted;
    int64_t wanted = im->group_time;
    double rows;

    im->began = now;
    if (wanted == 0)
        return;
    if (!im->is_time_told && commit * WORK_COMMITS > wanted)
        wanted =
            commit < WORK_MAX / WORK_COMMITS ? commit * WORK_COMMITS : WORK_MAX;
    rows = (double)n * (double)wanted / (double)(work > 0 ? work : 1);
    rows = rows < 8.0 * (double)n ? rows : 8.0 * (double)n; /* by and by */
    im->group_rows = rows < 1           ? 1
                     : rows > MAX_GROUP ? MAX_GROUP
                                        : (int64_t)rows;
}

static enum rota_error
insert_group(struct import *im)
{
    int64_t n = (int64_t)im->source.group.n;
    enum rota_error error;

    if (n == 0)
        return ROTA_OK;
    error = step(im, im->cursor + n, insert, im);
    if (error != ROTA_OK)
        return error;
    measure_group(im, n);
    im->cursor += n;
    im->table.bad += im->table.step_bad;
    im->table.ignored += im->table.step_ignored;
    rowset_clear(&im->source.group);
    return check_bad(im);
}

/* -- The job ------------------------------------------------------------- */

static enum rota_error
insert_all(struct import *im)
{
    const struct rowset *group = &im->source.group;
    bool is_end = false;
    enum rota_error error = ROTA_OK;

    im->began = ctx_now();
    while (error == ROTA_OK && !is_end) {
        error = source_next(&im->source, &is_end);
        if (error == ROTA_OK &&
            (is_end || (int64_t)group->n >= im->group_rows ||
             group->size >= GROUP_BYTES))
            error = insert_group(im);
    }
    return error;
}

/* An import that got no row in, because none was one, has not succeeded. */
static enum rota_error
check_any(struct import *im)
{
    char first[256];

    if (im->cursor == 0 || im->table.bad < im->cursor)
        return ROTA_OK;
    table_first_bad(&im->table, im->db, first, sizeof(first));
    return rota_job_fail(
        im->job, ROTA_FATAL,
        "no row of %s could be imported, and the first of "
        "%" PRId64 ", %s%s: see _rota_import_bad in %s",
        im->source.path, im->cursor, first,
        strstr(first, " instead of ") != NULL ? " (does delimiter= fit?)" : "",
        im->into);
}

static void
log_counts(const struct import *im)
{
    if (im->table.bad > 0)
        rota_job_log(im->job,
                     "bad rows, kept in _rota_import_bad of %s: %" PRId64,
                     im->into, im->table.bad);
    if (im->table.ignored > 0)
        rota_job_log(im->job, "rows that a rule of table %s let fall: %" PRId64,
                     im->name, im->table.ignored);
    if (im->source.not_text > 0)
        rota_job_log(im->job,
                     "fields that are no UTF-8 text, kept as BLOBs: %" PRId64
                     ", the first in line %" PRId64
                     "; encoding= says what they are",
                     im->source.not_text, im->source.not_text_line);
}

static int
put_count(json_t *object, const char *name, int64_t n)
{
    return n > 0 ? json_object_set_new(object, name, json_integer(n)) : 0;
}

static enum rota_error
say_result(struct import *im)
{
    int64_t rows = im->cursor - im->table.bad - im->table.ignored;
    json_t *object;

    log_counts(im);
    object = json_pack("{sI sI ss ss}", "rows", (json_int_t)rows, "bad",
                       (json_int_t)im->table.bad, "table", im->name, "into",
                       im->into);
    if (put_count(object, "ignored", im->table.ignored) != 0 ||
        put_count(object, "not_text", im->source.not_text) != 0) {
        json_decref(object);
        object = NULL;
    }
    return json_result(im->job, object);
}

static enum rota_error
import_run(struct ctx *ctx, struct rota_job *job)
{
    struct import im = {.job = job};
    enum rota_error error;

    im.source.ctx = im.table.ctx = ctx;
    im.source.job = job;
    im.table.job = job;
    im.table.group = &im.source.group;
    error = read_args(&im);
    if (error == ROTA_OK)
        error = source_open(&im.source);
    if (error == ROTA_OK)
        error = open_target(&im);
    if (error == ROTA_OK)
        error = source_survey(&im.source, &im.table, im.cursor);
    if (error == ROTA_OK)
        error = make_table(&im);
    if (error == ROTA_OK)
        error = insert_all(&im);
    if (error == ROTA_OK)
        error = check_any(&im);
    if (error == ROTA_OK)
        error = say_result(&im);
    source_close(&im.source);
    table_fini(&im.table);
    free(im.name);
    args_close(im.args);
    return error;
}

const struct job_kind job_import = {
    .name = "import",
    .fn = import_run,
    .defaults = ROTA_DEFAULTS_INIT,
    .summary = "read a CSV or TSV file into a table of a SQLite file",
    .keys = keys,
};
