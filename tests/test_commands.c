/*
 * The SQL commands and views of a SQLite queue, as a foreign shell uses them:
 * what C submits and what SQL submits are the same rows; bad input is refused
 * by the name of what is wrong with it, and changes nothing; ids come back; OR
 * REPLACE renames nothing; the views keep their columns; a look only looks.
 *
 * One thread; the shell is another connection of the same process.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"
#include "storage.h"
#include "support.h"

/* -- Submitting ----------------------------------------------------------- */

START_TEST(submitting_in_c_and_in_sql_leaves_the_same_rows)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.args = "{\"a\":1}";
    s.args_size = 7;
    s.queue = "q";
    s.batch = "b";
    s.priority = -3;
    s.deadline = 4000000000000;
    s.timeout = ROTA_MS(1500);
    s.run_at = 1000000000000;
    (void)storage_submit(&s);
    storage_run(
        "INSERT INTO submit(kind, args, queue, batch, priority, deadline_at,"
        " timeout_ms, run_at) VALUES('k', '{\"a\":1}', 'q', 'b', -3,"
        " 4000000000000, 1500, 1000000000000)");
    ck_assert_int_eq(
        sql_int(storage.queue,
                "SELECT count(DISTINCT quote(kind) || quote(queue) ||"
                " quote(batch) || quote(priority) || quote(run_at) ||"
                " quote(sort_key) || quote(deadline_at) ||"
                " quote(timeout_ms) || quote(max_attempts) || quote(lease) ||"
                " quote(failures) || quote(crashes) || quote(args) ||"
                " typeof(args)) FROM _job"),
        1);
    ck_assert_int_eq(sql_int(storage.queue, "SELECT count(*) FROM _ready"), 2);
    ck_assert_int_eq(
        sql_int(storage.queue, "SELECT max(id) - min(id) FROM _job"), 1);
}
END_TEST

START_TEST(sql_submit_returns_the_id_and_leaves_the_command_table_empty)
{
    static const char submit[] =
        "INSERT INTO submit(kind) VALUES('k') RETURNING id";

    ck_assert_int_eq(sql_int(storage.queue, submit), 1);
    (void)storage_submit_plain();
    ck_assert_int_eq(sql_int(storage.queue, submit), 3);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM submit"), 0);
    storage_run("INSERT INTO cancel(job) VALUES(1)");
    ck_assert_int_eq(storage_int("SELECT count(*) FROM cancel"), 0);
}
END_TEST

START_TEST(or_replace_on_a_command_renames_no_kind_and_no_queue)
{
    for (int i = 0; i < 2; i++)
        storage_run(
            "INSERT OR REPLACE INTO submit(kind, queue) VALUES('k', 'q')");
    ck_assert_int_eq(sql_int(storage.queue, "SELECT count(*) FROM _kind"), 1);
    ck_assert_int_eq(sql_int(storage.queue, "SELECT id FROM _kind"),
                     storage.kind);
    ck_assert_int_eq(
        sql_int(storage.queue, "SELECT count(*) FROM _queue WHERE name = 'q'"),
        1);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 2);
}
END_TEST

/* -- Refusals ------------------------------------------------------------- */

static const struct {
    const char *sql, *complaint;
} refused[] = {
    {"INSERT INTO submit(kind) VALUES('')", "kind"},
    {"INSERT INTO submit(kind) VALUES(NULL)", "kind"},
    {"INSERT INTO submit(kind) VALUES(x'00')", "kind"},
    {"INSERT INTO submit(kind) VALUES('k' || char(0) || 'l')", "kind"},
    {"INSERT INTO submit(kind, limit_key) VALUES('k', 'a' || char(0))",
     "limit_key"},
    {"INSERT INTO submit(id, kind) VALUES(7, 'k')", "leave id out"},
    {"INSERT INTO submit(id, kind) VALUES(-7, 'k')", "leave id out"},
    {"INSERT OR REPLACE INTO submit(id, kind) VALUES(1, 'k')", "leave id out"},
    {"INSERT INTO submit(kind, args) VALUES('k', 5)", "args"},
    {"INSERT INTO submit(kind, priority) VALUES('k', 'high')", "priority"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 'now')", "run_at"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 1798761600)", "run_at"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 1798761600)", "not seconds"},
    {"INSERT INTO submit(kind, deadline_at) VALUES('k', 1798761600)",
     "deadline_at"},
    {"INSERT INTO submit(kind, timeout_ms) VALUES('k', 0)", "timeout_ms"},
    {"INSERT INTO submit(kind, max_attempts) VALUES('k', 0)", "max_attempts"},
    {"INSERT INTO submit(kind, queue) VALUES('k', '')", "queue"},
    {"INSERT INTO submit(kind, batch) VALUES('k', '')", "batch"},
    {"INSERT INTO cancel VALUES(99, 'x')", "no job with that id"},
    {"INSERT INTO cancel VALUES(NULL, 'x')", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(99)", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(NULL)", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(1)", "has not ended"},
    {"INSERT INTO pause VALUES('')", "queue must be a text"},
    {"INSERT INTO pause VALUES(NULL)", "queue must be a text"},
    {"INSERT INTO pause VALUES(x'00')", "queue must be a text"},
    {"INSERT INTO resume VALUES('nowhere')", "no queue with that name"},
    {"INSERT INTO resume VALUES(NULL)", "no queue with that name"},
};

START_TEST(bad_input_to_the_sql_commands_is_refused_by_name)
{
    const char *message, *before;

    (void)storage_submit_plain();
    before = storage_everything();
    message = storage_try("%s", refused[_i].sql);
    ck_assert_msg(message != NULL, "accepted: %s", refused[_i].sql);
    ck_assert_msg(strstr(message, refused[_i].complaint) != NULL, "%s",
                  message);
    ck_assert_str_eq(storage_everything(), before);
}
END_TEST

/* -- The views ------------------------------------------------------------ */

/* Columns may be added at the end, never changed: this list only grows. */
START_TEST(the_public_views_and_commands_keep_their_columns)
{
    static const struct {
        const char *view, *columns;
    } views[] = {
        {"jobs", "id,batch,kind,queue,state,status,why,priority,attempt,"
                 "max_attempts,done,total,percent,rate,eta,run_at,created_at,"
                 "started_at,finished_at,error,cause,args_text,result,worker,"
                 "args,deadline_at,timeout_ms,cancel_requested_at,"
                 "cancel_reason,lease,failures,crashes,created_at_iso,"
                 "run_at_iso,started_at_iso,finished_at_iso,unique_key,"
                 "limit_key,parent"},
        {"attempts", "job,lease,worker,started_at,ended_at,outcome,error,"
                     "message,started_at_iso,ended_at_iso"},
        {"batches", "batch,jobs,blocked,scheduled,ready,running,succeeded,"
                    "failed,cancelled,created_at,created_at_iso"},
        {"workers", "id,pid,host,state,threads,running,version,started_at,"
                    "ended_at,stuck,started_at_iso,ended_at_iso"},
        {"queues", "queue,paused,paused_at,blocked,scheduled,ready,running,"
                   "worker,paused_at_iso,max_running,retain_ms"},
        {"dependencies", "job,waits_for,met"},
        {"unique_keys", "unique_key,job"},
        {"limits", "limit_key,max_running,running,held"},
        {"submit", "id,kind,args,queue,batch,priority,run_at,deadline_at,"
                   "timeout_ms,max_attempts,unique_key,limit_key,after,"
                   "parent"},
        {"cancel", "job,reason"},
        {"retry", "job,restart"},
        {"reschedule", "job,priority,run_at"},
        {"pause", "queue"},
        {"resume", "queue"},
        {"set_limit", "queue,limit_key,max_running"},
        {"retain", "queue,retain_ms"},
        {"cancellations", "job,state,requested_at,delivered_at,stopped_at,"
                          "delivered_after,stopped_after,reason,"
                          "requested_at_iso,stopped_at_iso"}};

    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        ck_assert_str_eq(
            sql_text(storage.queue,
                     "SELECT group_concat(name) FROM pragma_table_info('%s')",
                     views[i].view),
            views[i].columns);
    }
}
END_TEST

static const struct {
    const char *sql;
    enum rota_error error;
} looks[] = {
    {"SELECT * FROM jobs", ROTA_OK},
    {"PRAGMA table_info(jobs)", ROTA_OK},
    {"SELECT file FROM pragma_database_list", ROTA_OK},
    {"SELECT value FROM json_each('[1,2]')", ROTA_OK},
    {"SELECT * FROM jobs; ", ROTA_OK},
    {"SELECT * FROM jobs; SELECT 1", ROTA_INVALID},
    {"", ROTA_INVALID},
    {"SELEC", ROTA_INVALID},
    {"BEGIN", ROTA_INVALID},
    {"ATTACH ':memory:' AS x", ROTA_INVALID},
    {"PRAGMA query_only = 0", ROTA_INVALID},
    {"PRAGMA user_version = 7", ROTA_INVALID},
    {"SELECT load_extension('x')", ROTA_INVALID},
    {"DELETE FROM _job", ROTA_INVALID},
    {"INSERT INTO submit(kind) VALUES('k')", ROTA_INVALID},
    {"SELECT json('{')", ROTA_INVALID},
    {"VACUUM", ROTA_INVALID},
};

/* test_store.c has what any store refuses; this is what SQLite alone has. */
START_TEST(a_look_into_the_file_only_looks)
{
    (void)storage_submit_plain();
    ck_assert_int_eq(storage_look(looks[_i].sql), looks[_i].error);
    ck_assert_int_eq(storage_look("SELECT 1"), ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 1);
}
END_TEST

static Suite *
commands_suite(void)
{
    Suite *suite = suite_create("commands");
    TCase *commands = case_new(suite, "commands");

    tcase_add_checked_fixture(commands, storage_make, storage_remove);
    tcase_add_test(commands, submitting_in_c_and_in_sql_leaves_the_same_rows);
    tcase_add_test(
        commands, sql_submit_returns_the_id_and_leaves_the_command_table_empty);
    tcase_add_test(commands,
                   or_replace_on_a_command_renames_no_kind_and_no_queue);
    tcase_add_loop_test(commands,
                        bad_input_to_the_sql_commands_is_refused_by_name, 0,
                        (int)(sizeof(refused) / sizeof(*refused)));
    tcase_add_test(commands, the_public_views_and_commands_keep_their_columns);
    tcase_add_loop_test(commands, a_look_into_the_file_only_looks, 0,
                        (int)(sizeof(looks) / sizeof(*looks)));
    return suite;
}

/* This is about one kind of store, whatever the environment names. */
int
main(void)
{
    storage_use(&storage_sqlite);
    return suite_run(commands_suite());
}
