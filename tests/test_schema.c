/*
 * Files of other versions: an older one is brought up to date with all that is
 * in it, whoever else does so and whatever dies; a newer one is left alone.
 * tests/schemas holds a file of each older version, as SQL.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "stage.h"

#define NEWEST 3

/* What differs between the schemas of the queue and of a file made anew. */
static const char *
schema_differs(void)
{
    static char names[4096];
    const char *fresh = in_scratch("fresh.db");
    struct rota *other = NULL;
    sqlite3_stmt *s;
    sqlite3 *db;
    char *sql;

    ck_assert_int_eq(rota_open(fresh, NULL, &other), ROTA_OK);
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    ck_assert_int_eq(sqlite3_open(queue, &db), SQLITE_OK);
    sql = sqlite3_mprintf("ATTACH %Q AS f", fresh);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(sql);
    ck_assert_int_eq(
        sqlite3_prepare_v2(
            db,
            "SELECT COALESCE(group_concat(name, ', '), 'nothing') FROM ("
            " SELECT name FROM (SELECT type, name, tbl_name, sql"
            "  FROM main.sqlite_schema EXCEPT"
            "  SELECT type, name, tbl_name, sql FROM f.sqlite_schema)"
            " UNION SELECT name FROM (SELECT type, name, tbl_name, sql"
            "  FROM f.sqlite_schema EXCEPT"
            "  SELECT type, name, tbl_name, sql FROM main.sqlite_schema))",
            -1, &s, NULL),
        SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    (void)snprintf(names, sizeof(names), "%s",
                   (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    (void)sqlite3_close(db);
    return names;
}

/* -- Older ---------------------------------------------------------------- */

/* Of each job of version 1's file what must stay. */
static const char jobs_of_1[] =
    "1|exec|default|succeeded|0|1|1|0|NULL|NULL\n"
    "2|exec|default|failed|0|1|1|0|FAILED|exit code 1\n"
    "3|k|default|ready|0|0|1|0|NULL|NULL\n"
    "4|k|default|scheduled|0|0|5|0|NULL|NULL\n"
    "5|k2|q2|ready|-3|0|1|0|NULL|NULL\n"
    "6|k|default|cancelled|0|0|1|0|CANCELED|not wanted\n"
    "7|k|default|ready|0|0|1|0|NULL|NULL\n"
    "8|exec|default|running|0|1|1|5|NULL|NULL";

static void
assert_jobs_of_1(void)
{
    ck_assert_str_eq(
        sql_text(queue, "SELECT id, kind, queue, state, priority, attempt,"
                        " max_attempts, done, error, cause FROM jobs"
                        " ORDER BY id"),
        jobs_of_1);
    ck_assert_str_eq(job_says(4, "hex(args), timeout_ms, run_at"),
                     "0001FF|1500|32503680000000");
    ck_assert_str_eq(job_says(3, "batch, args_text, created_at"),
                     "b1|{\"a\":1}|1795475572128");
}

START_TEST(a_file_of_an_older_version_becomes_one_of_this_with_all_its_jobs)
{
    scratch_make_version(queue, 1);
    assert_jobs_of_1();
    open_with(1, at_once);
    assert_jobs_of_1();
    ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), NEWEST);
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
    ck_assert_str_eq(schema_differs(), "nothing");
    ck_assert_int_eq(submit(), 9);
    /* all that this version brought */
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _deadline"), 1);
    sql_run(queue, "INSERT INTO retry(job, restart) VALUES(2, 1)");
    ck_assert_int_eq(rota_handle(rota, "k2", at_once, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "exec", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    wait_for(9);
    drain();
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs"
                         " WHERE state = 'succeeded'") == 7);
    ck_assert_str_eq(job_says(8, "attempt, crashes, done"), "1|1|5");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _deadline"), 0);
}
END_TEST

/* Of each job of version 2's file, made of the one above. */
static const char jobs_of_2[] = "1|exec|succeeded|succeeded|1\n"
                                "2|exec|failed|failed|1\n"
                                "3|k|cancelled|cancelled|0\n"
                                "4|k|scheduled|scheduled|0\n"
                                "5|k2|ready|ready|0\n"
                                "6|k|ready|ready|0\n"
                                "7|k|ready|ready|0\n"
                                "8|exec|running|claimed|1\n"
                                "9|exec|ready|ready|0\n"
                                "10|k|ready|ready|0\n"
                                "11|k|ready|held|0\n"
                                "12|k|blocked|blocked|0\n"
                                "13|k|scheduled|scheduled|0";

static void
assert_jobs_of_2(void)
{
    ck_assert_str_eq(sql_text(queue, "SELECT id, kind, state, status, attempt"
                                     " FROM jobs ORDER BY id"),
                     jobs_of_2);
}

START_TEST(a_file_of_version_0_1_goes_on_with_jobs_in_every_place)
{
    scratch_make_version(queue, 2);
    assert_jobs_of_2();
    open_with(1, at_once);
    assert_jobs_of_2();
    ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), NEWEST);
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
    ck_assert_str_eq(schema_differs(), "nothing");
    ck_assert_int_eq(submit(), 14);
    ck_assert_int_eq(rota_handle(rota, "k2", at_once, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "exec", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    drain();
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY 1 ORDER BY 1"),
                     "cancelled|1\nfailed|1\nscheduled|2\nsucceeded|10");
}
END_TEST

/* Its process died, and not by its own doing: a file of version 2 does not say
 * of which kinds that is known. */
START_TEST(a_command_of_an_older_file_is_not_blamed_for_a_third_death)
{
    scratch_make_version(queue, 2);
    sql_run(queue, "UPDATE _progress SET advanced = 0 WHERE id = 8;"
                   "UPDATE _job SET crashes = 2 WHERE id = 8");
    open_with(1, at_once);
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(job_says(8, "state, crashes"), "ready|3");
}
END_TEST

START_TEST(what_a_client_has_of_its_own_in_the_file_stays_as_it_is)
{
    scratch_make_version(queue, 1);
    sql_run(queue,
            "CREATE TABLE app_orders(id INTEGER PRIMARY KEY, what TEXT);"
            "CREATE TABLE orders(what TEXT);"
            "INSERT INTO orders VALUES('shoes');"
            "CREATE INDEX app_orders_what ON app_orders(what);"
            "CREATE VIEW app_failed AS SELECT id FROM jobs"
            " WHERE state = 'failed';"
            "CREATE TRIGGER app_orders_do AFTER INSERT ON app_orders BEGIN"
            " INSERT INTO submit(kind, args) VALUES('k', NEW.what); END;"
            "INSERT INTO app_orders(what) VALUES('socks')");
    open_queue(1);
    ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), NEWEST);
    ck_assert_str_eq(
        schema_differs(),
        "app_failed, app_orders, app_orders_do, app_orders_what, orders");
    ck_assert_str_eq(sql_text(queue, "SELECT what FROM app_orders, app_failed"
                                     " UNION ALL SELECT what FROM orders"),
                     "socks\nshoes");
    sql_run(queue, "INSERT INTO app_orders(what) VALUES('a hat')");
    ck_assert_str_eq(job_says(10, "args_text, state"), "a hat|ready");
}
END_TEST

START_TEST(who_only_looks_is_told_that_an_older_file_must_be_opened_first)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    scratch_make_version(queue, 1);
    options.flags = ROTA_READONLY;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_VERSION);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "older"));
    ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), 1);
}
END_TEST

/* In a process of its own, so that nothing is left here for the next. */
static int
in_child(void (*body)(int64_t arg), int64_t arg)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        body(arg);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

/* -- Killed --------------------------------------------------------------- */

typedef ssize_t pwrite_fn(int fd, const void *data, size_t n, off_t at);

static int64_t writes_left;
static pwrite_fn *true_write;

/* The process dies at one write of SQLite's: before it or in its middle. */
static ssize_t
write_and_die(int fd, const void *data, size_t n, off_t at)
{
    if (writes_left-- > 0)
        return true_write(fd, data, n, at);
    if (at % 2 == 0)
        (void)true_write(fd, data, n / 2, at);
    _exit(9);
}

static void
open_and_die(int64_t writes)
{
    static const char *const names[] = {"pwrite", "pwrite64"};
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    writes_left = writes;
    for (int i = 0; i < 2; i++) {
        sqlite3_syscall_ptr found = vfs->xGetSystemCall(vfs, names[i]);

        if (found == NULL)
            continue;
        true_write = (pwrite_fn *)found;
        (void)vfs->xSetSystemCall(vfs, names[i],
                                  (sqlite3_syscall_ptr)write_and_die);
    }
    if (rota_open(queue, NULL, &rota) != ROTA_OK)
        _exit(1);
}

static void
open_and_close(int64_t unused)
{
    (void)unused;
    if (rota_open(queue, NULL, &rota) != ROTA_OK || rota_close(rota) != ROTA_OK)
        _exit(1);
}

START_TEST(an_upgrade_that_is_killed_at_any_write_is_whole_or_none)
{
    int kills[NEWEST + 1] = {0}, status;
    size_t size;
    char *before;

    scratch_make_version(in_scratch("old.db"), 1);
    before = file_read(in_scratch("old.db"), &size);
    for (int64_t n = 0;; n += IS_SANITIZED ? 7 : 1) {
        int64_t version;

        (void)unlink(in_scratch("queue.db-wal"));
        (void)unlink(in_scratch("queue.db-shm"));
        scratch_write("queue.db", before, size);
        status = in_child(open_and_die, n);
        ck_assert(WIFEXITED(status));
        ck_assert_int_ne(WEXITSTATUS(status), 1);
        version = sql_int(queue, "PRAGMA user_version");
        ck_assert_int_ge(version, 1);
        ck_assert_int_le(version, NEWEST);
        kills[version]++;
        assert_jobs_of_1();
        ck_assert_int_eq(in_child(open_and_close, 0), 0);
        assert_jobs_of_1();
        ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
        if (WEXITSTATUS(status) == 0)
            break;
    }
    ck_assert_int_gt(kills[1], IS_SANITIZED ? 3 : 20);
    open_queue(1);
    ck_assert_str_eq(schema_differs(), "nothing");
    free(before);
}
END_TEST

/* -- At once -------------------------------------------------------------- */

#define UPGRADERS 4

START_TEST(of_several_who_open_an_older_file_one_brings_it_up_to_date)
{
    for (int round = 0; round < MANY(40) + 1; round++) {
        pid_t children[UPGRADERS];
        int go[2], status;
        char byte;

        (void)unlink(in_scratch("queue.db-wal"));
        (void)unlink(in_scratch("queue.db-shm"));
        (void)unlink(queue);
        scratch_make_version(queue, 1);
        ck_assert_int_eq(pipe(go), 0);
        for (int i = 0; i < UPGRADERS; i++) {
            children[i] = fork();
            ck_assert_int_ge(children[i], 0);
            if (children[i] == 0) {
                (void)close(go[1]);
                (void)!read(go[0], &byte, 1); /* the end of the file */
                open_and_close(0);
                _exit(0);
            }
        }
        (void)close(go[0]);
        (void)close(go[1]);
        for (int i = 0; i < UPGRADERS; i++) {
            ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
            ck_assert_int_eq(status, 0);
        }
        assert_jobs_of_1();
        ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), NEWEST);
    }
    open_queue(1);
    ck_assert_str_eq(schema_differs(), "nothing");
}
END_TEST

/* -- Newer ---------------------------------------------------------------- */

START_TEST(a_newer_file_is_left_as_it_is)
{
    open_queue(1);
    (void)submit();
    close_queue();
    sql_run(queue, "PRAGMA user_version = 99");
    ck_assert_int_eq(rota_open(queue, NULL, &rota), ROTA_VERSION);
    ck_assert_ptr_nonnull(
        strstr(rota_errmsg(NULL),
               "was made by a newer rota (version 99 of the file,"));
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "; upgrade rota"));
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
    ck_assert_int_eq(sql_int(queue, "PRAGMA user_version"), 99);
}
END_TEST

START_TEST(who_has_a_file_open_that_becomes_newer_writes_nothing_to_it)
{
    begin(1, held);
    (void)submit_running(1);
    sql_run(queue, "PRAGMA user_version = 99");
    ck_assert_int_eq(
        rota_submit(rota, &(struct rota_submission)ROTA_SUBMISSION_INIT("k"),
                    NULL),
        ROTA_VERSION);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "newer rota"));
    ck_assert_int_eq(rota_cancel(rota, 1, NULL, NULL), ROTA_VERSION);
    gate_open(&act.gate);
    AWAIT(atomic_load(&act.ends) == 1);
    ck_assert_str_eq(job_says(1, "state, cancel_requested_at"), "running|NULL");
    sql_run(queue, "PRAGMA user_version = %d", NEWEST);
    wait_for(1); /* what it was about to write was kept */
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("schema");
    TCase *older = stage_case(suite, "older");
    TCase *killed = stage_case(suite, "killed");
    TCase *at_once_case = stage_case(suite, "at once");
    TCase *newer = stage_case(suite, "newer");

    tcase_add_test(
        older,
        a_file_of_an_older_version_becomes_one_of_this_with_all_its_jobs);
    tcase_add_test(older,
                   a_file_of_version_0_1_goes_on_with_jobs_in_every_place);
    tcase_add_test(older,
                   a_command_of_an_older_file_is_not_blamed_for_a_third_death);
    tcase_add_test(older,
                   what_a_client_has_of_its_own_in_the_file_stays_as_it_is);
    tcase_add_test(
        older, who_only_looks_is_told_that_an_older_file_must_be_opened_first);
    tcase_add_test(killed,
                   an_upgrade_that_is_killed_at_any_write_is_whole_or_none);
    tcase_add_test(at_once_case,
                   of_several_who_open_an_older_file_one_brings_it_up_to_date);
    tcase_add_test(newer, a_newer_file_is_left_as_it_is);
    tcase_add_test(newer,
                   who_has_a_file_open_that_becomes_newer_writes_nothing_to_it);
    return suite_run(suite);
}
