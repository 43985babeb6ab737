/*
 * A job's own databases (rota_job_db()): what virtual tables keep prepared for
 * themselves is theirs, and what a job leaves behind holds nobody up.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/jobs.h"
#include "scratch.h"
#include "stage.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* -- Virtual tables ------------------------------------------------------- */

/* Tables that prepare statements for themselves and keep them. */
static const struct {
    const char *name, *create, *insert, *look, *csv;
} tables[] = {
    {"fts5", "CREATE VIRTUAL TABLE f USING fts5(a, b)",
     "INSERT INTO f VALUES('hello', 'world')",
     "SELECT count(*) FROM f WHERE f MATCH 'hello'", "a,b\nhello,there\n"},
    {"fts4", "CREATE VIRTUAL TABLE f USING fts4(a, b)",
     "INSERT INTO f VALUES('hello', 'world')",
     "SELECT count(*) FROM f WHERE f MATCH 'hello'", "a,b\nhello,there\n"},
    {"rtree", "CREATE VIRTUAL TABLE f USING rtree(id, lo, hi)",
     "INSERT INTO f VALUES(1, 2, 3)", "SELECT count(*) FROM f WHERE lo > 1",
     "id,lo,hi\n2,3,4\n"},
};

/* False: this SQLite does not have the table. */
static bool
make_table(int i, const char *path)
{
    return sql_try(path, "%s; %s", tables[i].create, tables[i].insert) == NULL;
}

static int64_t
submit_text(const char *args)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.args = args;
    s.args_size = strlen(args);
    return submit_as(&s);
}

/* The script, on a file that is called name. */
static int64_t
submit_script(const char *name)
{
    char args[512];

    (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"on\":\"%s\"}",
                   in_scratch("q.sql"), in_scratch(name));
    return submit_text(args);
}

START_TEST(a_script_on_a_virtual_table_harms_neither_itself_nor_its_neighbours)
{
    char script[512], name[32];

    if (!make_table(_i, in_scratch("0.db")))
        return;
    (void)snprintf(script, sizeof(script), "%s; DROP TABLE f; %s; %s; %s;",
                   tables[_i].look, tables[_i].create, tables[_i].insert,
                   tables[_i].look);
    scratch_write_text("q.sql", script);
    begin(4, job_sql.fn);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof(name), "%d.db", i);
        (void)make_table(_i, in_scratch(name));
        (void)submit_script(name);
    }
    drain();
    ck_assert_str_eq(sql_text(queue, "SELECT count(*), sum(state = 'succeeded')"
                                     " FROM jobs"),
                     "8|8");
}
END_TEST

START_TEST(a_script_that_only_reads_a_virtual_table_succeeds)
{
    if (!make_table(_i, in_scratch("0.db")))
        return;
    scratch_write_text("q.sql", tables[_i].look);
    begin(1, job_sql.fn);
    wait_for(submit_script("0.db"));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(an_import_into_a_virtual_table_succeeds)
{
    char args[512];

    if (!make_table(_i, in_scratch("0.db")))
        return;
    scratch_write_text("in.csv", tables[_i].csv);
    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"f\"}",
                   in_scratch("in.csv"), in_scratch("0.db"));
    begin(1, job_import.fn);
    wait_for(submit_text(args));
    ck_assert_msg(outcome.state == ROTA_SUCCEEDED, "%s", outcome.message);
    ck_assert_int_eq(sql_int(in_scratch("0.db"), "SELECT count(*) FROM f"), 2);
    ck_assert_int_eq(sql_int(in_scratch("0.db"), "%s", tables[_i].look), 2);
}
END_TEST

/* -- What a job leaves ---------------------------------------------------- */

/* How many descriptors of this process are of files that begin with path. */
static int
descriptors_of(const char *path)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    char link[512], name[512];
    int n = 0;
    ssize_t size;

    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%s", entry->d_name);
        size = readlink(link, name, sizeof(name) - 1);
        name[size < 0 ? 0 : size] = '\0';
        n += size > 0 && strncmp(name, path, strlen(path)) == 0;
    }
    (void)closedir(folder);
    return n;
}

static const struct {
    const char *first, *left; /* what is run, and what is left at a row */
    bool stays;               /* the file stays open */
} leavings[] = {
    {"SELECT 1", "SELECT a FROM t", false},
    {"SELECT 1", "INSERT INTO t VALUES(7), (8) RETURNING a", false},
    {"BEGIN; INSERT INTO t VALUES(7)", "SELECT a FROM t", false},
    {"BEGIN; INSERT INTO t VALUES(7)",
     "INSERT INTO t VALUES(8), (9) RETURNING a", false},
    {"SELECT 1", "EXPLAIN SELECT a FROM t", true},
    {"SELECT 1", "SELECT a FROM t, json_each('[1]')", true},
    {"INSERT INTO f VALUES('hello', 'world')", "SELECT a FROM t", false},
    {"INSERT INTO f VALUES('hello', 'world')",
     "SELECT a FROM f WHERE f MATCH 'hello'", true},
    {"BEGIN; INSERT INTO f VALUES('hello', 'world')",
     "SELECT a FROM f WHERE f MATCH 'hello'", true},
    {"BEGIN; CREATE VIRTUAL TABLE g USING fts5(a);"
     "INSERT INTO g VALUES('hello')",
     "SELECT a FROM g", true},
    {"CREATE TRIGGER r AFTER INSERT ON t BEGIN"
     " INSERT INTO f VALUES('hello', NEW.a); END",
     "INSERT INTO t VALUES(7), (8) RETURNING a", true},
    {"INSERT INTO b VALUES(1, 2, 3)", "SELECT id FROM b WHERE lo > 1", true},
    {"SELECT 1", "SELECT a AS backup FROM t", true},
};

/* Where what was left is found, by those who look for leaks. */
static sqlite3_stmt *not_begun, *at_row;
static sqlite3_blob *blob;
static sqlite3_backup *backup;
static sqlite3 *copy;

/* A rota_job_fn: leave a statement that was not begun, one at a row, a blob
 * that is open, and one of them a backup. */
static enum rota_error
leave(struct ctx *ctx, struct rota_job *job)
{
    const char *first = leavings[act.number].first;
    const char *left = leavings[act.number].left;
    sqlite3 *db;

    (void)ctx;
    if (rota_job_db(job, in_scratch("data.db"), &db) != ROTA_OK ||
        sqlite3_exec(db, first, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, left, -1, &not_begun, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, left, -1, &at_row, NULL) != SQLITE_OK ||
        sqlite3_step(at_row) != SQLITE_ROW ||
        sqlite3_blob_open(db, "main", "t", "a", 1, 0, &blob) != SQLITE_OK)
        return ROTA_FATAL;
    if (strstr(left, "backup") != NULL) {
        (void)sqlite3_open(":memory:", &copy);
        backup = sqlite3_backup_init(copy, "main", db, "main");
        if (sqlite3_backup_step(backup, 1) != SQLITE_OK)
            return ROTA_FATAL;
    }
    return ROTA_FAILED;
}

/* _i: of which leavings, and half of them in a file with a log. */
START_TEST(what_a_job_leaves_behind_holds_no_lock_and_breaks_nothing)
{
    bool is_logged = _i >= COUNT(leavings);
    int64_t id;

    act.number = _i % COUNT(leavings);
    sql_run(in_scratch("data.db"),
            "PRAGMA journal_mode = %s; CREATE TABLE t(a);"
            "INSERT INTO t VALUES('one'), ('two');"
            "CREATE VIRTUAL TABLE f USING fts5(a, b);"
            "INSERT INTO f VALUES('hello', 'you');"
            "CREATE VIRTUAL TABLE b USING rtree(id, lo, hi)",
            is_logged ? "WAL" : "DELETE");
    begin(1, leave);
    id = submit();
    wait_for(id);
    ck_assert_int_eq(outcome.error, ROTA_FAILED);
    sql_run(in_scratch("data.db"), "BEGIN EXCLUSIVE;"
                                   "INSERT INTO t VALUES('three'); COMMIT");
    ck_assert_str_eq(sql_text(in_scratch("data.db"), "PRAGMA integrity_check"),
                     "ok");
    sql_run(in_scratch("data.db"),
            "INSERT INTO f(f) VALUES('integrity-check')");
    if (is_logged) /* a reader would be in its way */
        ck_assert_str_eq(
            sql_text(in_scratch("data.db"), "PRAGMA wal_checkpoint(TRUNCATE)"),
            "0|0|0");
    ck_assert_int_eq(was_logged(id, "as long as the process runs"),
                     leavings[act.number].stays);
    ck_assert_int_eq(descriptors_of(in_scratch("data.db")) > 0,
                     leavings[act.number].stays);
}
END_TEST

static Suite *
target_suite(void)
{
    Suite *suite = suite_create("target");
    TCase *virtual = stage_case(suite, "virtual"),
          *left = stage_case(suite, "left");

    tcase_add_loop_test(
        virtual,
        a_script_on_a_virtual_table_harms_neither_itself_nor_its_neighbours, 0,
        COUNT(tables));
    tcase_add_loop_test(virtual,
                        a_script_that_only_reads_a_virtual_table_succeeds, 0,
                        COUNT(tables));
    tcase_add_loop_test(virtual, an_import_into_a_virtual_table_succeeds, 0,
                        COUNT(tables));
    tcase_add_loop_test(
        left, what_a_job_leaves_behind_holds_no_lock_and_breaks_nothing, 0,
        2 * COUNT(leavings));
    return suite;
}

int
main(void)
{
    return suite_run(target_suite());
}
