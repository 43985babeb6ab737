#define _GNU_SOURCE
#include "queue.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define CHECKPOINT_FRAMES 600 /* as the library does */

const char queue_args[65] =
    "{\"path\":\"/srv/archive/0000000000000000000.csv\","
    "\"table\":\"orders\"}";

/* -- The folder ----------------------------------------------------------- */

static char folder[PATH_MAX];
static char path[PATH_MAX + 16]; /* the one database in it */

void
queue_clear(void)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
}

static void
folder_remove(void)
{
    queue_clear();
    (void)rmdir(folder);
}

void
queue_folder(const char *parent)
{
    (void)snprintf(folder, sizeof(folder), "%s/bench-XXXXXX", parent);
    if (mkdtemp(folder) == NULL)
        bench_fail("%s: no folder can be made here", parent);
    (void)snprintf(path, sizeof(path), "%s/jobs.db", folder);
    (void)atexit(folder_remove);
}

/* -- The queue ------------------------------------------------------------ */

void
must(enum rota_error error, const char *what)
{
    if (error != ROTA_OK)
        bench_fail("%s: %s", what, rota_errmsg(NULL));
}

const char *
queue_path(void)
{
    return path;
}

struct rota *
queue_reopen(bool is_full)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *rota = NULL;

    options.flags = is_full ? 0 : ROTA_NORMAL;
    options.workers = WORKERS;
    must(rota_open(path, &options, &rota), "rota_open");
    return rota;
}

struct rota *
queue_open(bool is_full)
{
    queue_clear();
    return queue_reopen(is_full);
}

void
queue_start(struct rota *rota, const char *kind, rota_job_fn *fn, void *arg)
{
    must(rota_handle(rota, kind, fn, arg, NULL), "rota_handle");
    must(rota_start(NULL, rota), "rota_start");
}

struct rota_submission
submission_of(const char *kind)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT(kind);

    submission.args = queue_args;
    submission.args_size = sizeof(queue_args) - 1;
    return submission;
}

enum rota_error
do_nothing(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    (void)job;
    return ROTA_OK;
}

double
lives_rate(struct rota *rota, size_t jobs)
{
    struct rota_submission chunk[CHUNK];
    int64_t start;

    for (size_t i = 0; i < CHUNK; i++)
        chunk[i] = submission_of("noop");
    queue_start(rota, "noop", do_nothing, NULL);
    start = ctx_now();
    for (size_t left = jobs, n; left > 0; left -= n) {
        n = left < CHUNK ? left : CHUNK;
        must(rota_submit_many(rota, chunk, n, NULL), "rota_submit_many");
    }
    must(rota_drain(NULL, rota), "rota_drain");
    return bench_rate(start, jobs);
}

static bool
number_take(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    (void)n;
    (void)names;
    if (values != NULL)
        *(int64_t *)arg = values[0].integer;
    return true;
}

int64_t
queue_number(struct rota *rota, const char *sql)
{
    int64_t number = 0;

    must(rota_query(NULL, rota, sql, NULL, 0, number_take, &number),
         "rota_query");
    return number;
}

void
history_check(struct rota *rota, size_t jobs)
{
    int64_t succeeded = queue_number(
        rota, "SELECT count(*) FROM jobs WHERE state = 'succeeded'");

    if (succeeded != (int64_t)jobs)
        bench_fail("%zu jobs were submitted, %lld succeeded", jobs,
                   (long long)succeeded);
}

/* -- SQLite by itself ----------------------------------------------------- */

void
bare_script(struct bare *bare, const char *sql)
{
    if (sqlite3_exec(bare->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        bench_fail("%s: %s", sql, sqlite3_errmsg(bare->db));
}

sqlite3_stmt *
bare_statement(struct bare *bare, const char *sql)
{
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v3(bare->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                           &statement, NULL) != SQLITE_OK)
        bench_fail("%s: %s", sql, sqlite3_errmsg(bare->db));
    return statement;
}

void
bare_run(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);

    if (code != SQLITE_DONE && code != SQLITE_ROW)
        bench_fail("%s: %s", sqlite3_sql(statement),
                   sqlite3_errmsg(sqlite3_db_handle(statement)));
    (void)sqlite3_reset(statement);
}

static int
bare_committed(void *arg, sqlite3 *db, const char *name, int frames)
{
    (void)db;
    (void)name;
    ((struct bare *)arg)->frames = frames;
    return SQLITE_OK;
}

void
bare_checkpoint(struct bare *bare)
{
    if (bare->frames < CHECKPOINT_FRAMES)
        return;
    bare->frames = 0;
    (void)sqlite3_wal_checkpoint_v2(bare->db, "main", SQLITE_CHECKPOINT_PASSIVE,
                                    NULL, NULL);
}

void
bare_open(struct bare *bare, bool is_full)
{
    *bare = (struct bare){0};
    if (sqlite3_open_v2(path, &bare->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        bench_fail("%s cannot be opened", path);
    bare_script(bare, "PRAGMA journal_mode=WAL; PRAGMA temp_store=MEMORY;"
                      "PRAGMA cache_size=-16384");
    bare_script(bare, is_full ? "PRAGMA synchronous=FULL"
                              : "PRAGMA synchronous=NORMAL");
}

void
bare_open_tables(struct bare *bare, bool is_full)
{
    (void)rota_close(queue_open(is_full));
    bare_open(bare, is_full);
    bare_script(bare, "PRAGMA wal_autocheckpoint=0;"
                      "INSERT INTO _kind(id, name) VALUES(1, 'noop');"
                      "INSERT INTO _queue(id, name) VALUES(1, 'default')");
    (void)sqlite3_wal_hook(bare->db, bare_committed, bare);
}

void
bare_close(struct bare *bare)
{
    sqlite3_stmt *statement;

    while ((statement = sqlite3_next_stmt(bare->db, NULL)) != NULL)
        (void)sqlite3_finalize(statement);
    (void)sqlite3_close(bare->db);
}

/* -- A job, step by step --------------------------------------------------- */

static const char *const ceiling_sql[CEILINGS] = {
    [CEILING_BEGIN] = "BEGIN IMMEDIATE",
    [CEILING_JOB] = "INSERT INTO _job VALUES(?1, 1, 1, NULL, 0, ?2, ?2, ?2,"
                    " NULL, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, 0,"
                    " ?3)",
    [CEILING_READY] = "INSERT INTO _ready VALUES(1, 1, ?2, ?1)",
    [CEILING_UNREADY] = "DELETE FROM _ready WHERE queue = 1 AND kind = 1"
                        " AND sort_key = ?2 AND id = ?1",
    [CEILING_RUNNING] = "INSERT INTO _running(id, lease, process, claimed_at,"
                        " queue) VALUES(?1, 1, 1, ?2, 1)",
    [CEILING_DONE] = "INSERT INTO _done VALUES(?1, 4, 1, 1, 1, ?2, ?2, 0, NULL,"
                     " NULL, NULL, NULL, NULL)",
    [CEILING_NOT_RUNNING] = "DELETE FROM _running WHERE id = ?1 AND lease = 1",
    [CEILING_COMMIT] = "COMMIT",
};

void
ceiling_prepare(struct bare *bare, sqlite3_stmt **ret_statements)
{
    for (int i = 0; i < CEILINGS; i++)
        ret_statements[i] = bare_statement(bare, ceiling_sql[i]);
    (void)sqlite3_bind_text(ret_statements[CEILING_JOB], 3, queue_args, -1,
                            SQLITE_STATIC);
}

void
ceiling_pair(sqlite3_stmt *const *pair, size_t first, size_t n, int64_t now)
{
    for (size_t i = 0; i < n; i++)
        for (int s = 0; s < 2; s++) {
            (void)sqlite3_bind_int64(pair[s], 1, (int64_t)(first + i));
            if (sqlite3_bind_parameter_count(pair[s]) > 1)
                (void)sqlite3_bind_int64(pair[s], 2, now);
            bare_run(pair[s]);
        }
}
