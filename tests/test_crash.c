/*
 * The heart: an import that is killed with SIGKILL at random times loses no
 * row and doubles none, and a run that was overtaken writes nothing.
 *
 * Workers are this program executed again as `test_crash --work QUEUE`.
 * ROTA_TEST_SEED replays a choice of moments, ROTA_TEST_KILLS sets how many
 * kills there are.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rota.h>

#include "jobs/jobs.h"
#include "scratch.h"
#include "support.h"

#define ROWS  20000
#define ITEMS 10

extern char **environ;
static char self[4096]; /* this program */
static char queue[128], target[128];

/* -- A worker ------------------------------------------------------------- */

static enum rota_error
enter_item(sqlite3 *db, void *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return ROTA_STORE;
    return ROTA_OK;
}

/* Enters items one by one, and is stopped in the middle of its first run. */
static enum rota_error
ledger(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;
    int64_t cursor;
    sqlite3 *db;
    char sql[128];

    (void)ctx;
    if ((error = rota_job_db(job, rota_job_args(job, NULL), &db)) != ROTA_OK ||
        (error = rota_job_resume(job, db, &cursor)) != ROTA_OK)
        return error;
    for (; cursor < ITEMS; cursor++) {
        (void)snprintf(sql, sizeof(sql),
                       "INSERT INTO ledger VALUES(%" PRId64 ",%" PRId64 ")",
                       cursor, rota_job_lease(job));
        error = rota_job_step(job, db, cursor + 1, enter_item, sql);
        if (error == ROTA_OK)
            error = rota_job_commit(job, cursor + 1); /* no lock is held now */
        if (error != ROTA_OK)
            return error;
        if (cursor == ITEMS / 2 && rota_job_lease(job) == 1)
            (void)raise(SIGSTOP);
    }
    return ROTA_OK;
}

static int
work(const char *path)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *rota;

    options.workers = 1;
    return rota_open(path, &options, &rota) == ROTA_OK &&
                   rota_handle(rota, "import", job_import.fn, NULL, NULL) ==
                       ROTA_OK &&
                   rota_handle(rota, "ledger", ledger, NULL, NULL) == ROTA_OK &&
                   rota_start(NULL, rota) == ROTA_OK &&
                   rota_drain(NULL, rota) == ROTA_OK &&
                   rota_close(rota) == ROTA_OK
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}

static pid_t
worker_start(void)
{
    char *argv[] = {self, (char *)"--work", queue, NULL};
    pid_t pid;

    ck_assert_int_eq(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
    return pid;
}

/* Whether it ends, and well, in so many nanoseconds. */
static bool
worker_ends_within(pid_t pid, int64_t time)
{
    int64_t limit = ctx_now() + time;
    int status;

    while (ctx_now() < limit) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                          "the worker failed: status %d", status);
            return true;
        }
        (void)ctx_sleep(ctx_background(), ROTA_US(200));
    }
    return false;
}

static void
worker_await(pid_t pid)
{
    ck_assert(worker_ends_within(pid, ROTA_SEC(120)));
}

static void
worker_kill(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* -- The stage ------------------------------------------------------------ */

static void
setup(void)
{
    scratch_make();
    (void)snprintf(queue, sizeof(queue), "%s", in_scratch("queue.db"));
    (void)snprintf(target, sizeof(target), "%s", in_scratch("target.db"));
}

static void
submit(const char *kind, const char *args)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT(kind);
    struct rota *rota;

    s.args = args;
    s.args_size = strlen(args);
    ck_assert_int_eq(rota_open(queue, NULL, &rota), ROTA_OK);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
}

/* -- Killed --------------------------------------------------------------- */

static void
submit_import(int round)
{
    char args[512];

    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"t%d\","
                   "\"group\":\"40\"}",
                   in_scratch("list.csv"), target, round);
    submit("import", args);
}

static void
check_import(int round)
{
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id) FROM t%d", round),
        "20000|20000");
    ck_assert_str_eq(
        sql_text(queue,
                 "SELECT state, done FROM jobs ORDER BY id DESC LIMIT 1"),
        "succeeded|20000");
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'running'"), 0);
}

/* How long an import takes that nobody disturbs. */
static int64_t
undisturbed(void)
{
    int64_t began = ctx_now();

    submit_import(0);
    worker_await(worker_start());
    check_import(0);
    return ctx_now() - began;
}

START_TEST(an_import_survives_kill_9_at_any_time_with_each_row_exactly_once)
{
    int wanted = number_from("ROTA_TEST_KILLS", IS_SANITIZED ? 10 : 100);
    unsigned seed =
        (unsigned)number_from("ROTA_TEST_SEED", (int)time(NULL) & 0xffffff);
    int64_t length;

    scratch_write_rows("list.csv", ROWS);
    length = undisturbed();
    for (int kills = 0, round = 1; kills < wanted; round++) {
        submit_import(round);
        /* not three times in one import: that would be a poisonous job */
        for (int i = 0; i < 2; i++) {
            pid_t pid = worker_start();

            if (worker_ends_within(pid, length * (rand_r(&seed) % 1000) / 1000))
                break;
            worker_kill(pid);
            kills++;
        }
        worker_await(worker_start());
        check_import(round);
    }
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
    ck_assert_str_eq(sql_text(target, "PRAGMA integrity_check"), "ok");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) - count(DISTINCT"
                                    " job || '.' || lease) FROM attempts"),
                     0);
}
END_TEST

/* -- Overtaken ------------------------------------------------------------ */

/* A process that is stopped lives, and keeps its jobs. Take them by force. */
static void
take_jobs_away(void)
{
    sql_run(queue, "BEGIN IMMEDIATE;"
                   "UPDATE _job SET lease = r.lease FROM _running r"
                   " WHERE r.id = _job.id;"
                   "INSERT INTO _ready SELECT queue, kind, sort_key, id"
                   " FROM _job WHERE id IN (SELECT id FROM _running);"
                   "DELETE FROM _running; COMMIT");
}

START_TEST(a_stopped_worker_whose_job_was_taken_over_writes_nothing)
{
    pid_t zombie;
    int status;

    sql_run(target, "CREATE TABLE ledger(item, lease)");
    submit("ledger", target);
    zombie = worker_start();
    ck_assert_int_eq(waitpid(zombie, &status, WUNTRACED), zombie);
    ck_assert(WIFSTOPPED(status));
    take_jobs_away();
    worker_await(worker_start());
    ck_assert_int_eq(kill(zombie, SIGCONT), 0);
    worker_await(zombie);
    ck_assert_str_eq(sql_text(target, "SELECT count(*), count(DISTINCT item),"
                                      " sum(lease = 1) FROM ledger"),
                     "10|10|6");
    ck_assert_str_eq(sql_text(queue, "SELECT state, lease, done FROM jobs"),
                     "succeeded|2|10");
}
END_TEST

START_TEST(a_stopped_worker_whose_job_waits_again_writes_nothing)
{
    pid_t zombie;
    int status;

    sql_run(target, "CREATE TABLE ledger(item, lease)");
    submit("ledger", target);
    zombie = worker_start();
    ck_assert_int_eq(waitpid(zombie, &status, WUNTRACED), zombie);
    ck_assert(WIFSTOPPED(status));
    take_jobs_away();
    ck_assert_int_eq(kill(zombie, SIGCONT), 0);
    /* it finds out, and runs the job anew as anybody may */
    worker_await(zombie);
    ck_assert_str_eq(sql_text(target, "SELECT count(*), count(DISTINCT item)"
                                      " FROM ledger"),
                     "10|10");
    ck_assert_str_eq(sql_text(queue, "SELECT state, lease, done FROM jobs"),
                     "succeeded|2|10");
}
END_TEST

static Suite *
crash_suite(void)
{
    Suite *suite = suite_create("crash");
    TCase *killed = tcase_create("killed"), *overtaken = tcase_create("zombie");

    tcase_add_checked_fixture(killed, setup, scratch_remove);
    tcase_set_timeout(killed, 500);
    tcase_add_test(
        killed,
        an_import_survives_kill_9_at_any_time_with_each_row_exactly_once);
    suite_add_tcase(suite, killed);
    tcase_add_checked_fixture(overtaken, setup, scratch_remove);
    tcase_set_timeout(overtaken, 60);
    tcase_add_test(overtaken,
                   a_stopped_worker_whose_job_was_taken_over_writes_nothing);
    tcase_add_test(overtaken,
                   a_stopped_worker_whose_job_waits_again_writes_nothing);
    suite_add_tcase(suite, overtaken);
    return suite;
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--work") == 0)
        return work(argv[2]);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return EXIT_FAILURE;
    return suite_run(crash_suite());
}
