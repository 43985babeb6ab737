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

#include "base/text.h"
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
    {"INSERT INTO submit(kind) VALUES(CAST(x'6bff' AS TEXT))", "kind"},
    {"INSERT INTO submit(kind, queue) VALUES('k', CAST(x'c3' AS TEXT))",
     "queue"},
    {"INSERT INTO submit(kind, after) VALUES('k', '[1]' || char(0) || ']')",
     "after"},
    {"INSERT INTO cancel VALUES(1, x'6e6f')", "reason must be a text"},
    {"INSERT INTO cancel VALUES(1, 'no' || char(0))", "reason must be a text"},
    {"INSERT INTO retry VALUES(1, 'yes')", "restart must be an integer"},
    {"INSERT INTO retry VALUES(1, 0.5)", "restart must be an integer"},
    {"INSERT INTO retry VALUES(1, x'31')", "restart must be an integer"},
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

/* -- Any value ------------------------------------------------------------ */

/* Every column of every command, with what else a row of it needs. */
static const struct {
    const char *table, *column, *others, *values;
} columns[] = {
    {"submit", "id", ", kind", ", 'k'"},
    {"submit", "kind", "", ""},
    {"submit", "args", ", kind", ", 'k'"},
    {"submit", "queue", ", kind", ", 'k'"},
    {"submit", "batch", ", kind", ", 'k'"},
    {"submit", "priority", ", kind", ", 'k'"},
    {"submit", "run_at", ", kind", ", 'k'"},
    {"submit", "deadline_at", ", kind", ", 'k'"},
    {"submit", "timeout_ms", ", kind", ", 'k'"},
    {"submit", "max_attempts", ", kind", ", 'k'"},
    {"submit", "unique_key", ", kind", ", 'k'"},
    {"submit", "limit_key", ", kind", ", 'k'"},
    {"submit", "after", ", kind", ", 'k'"},
    {"submit", "parent", ", kind", ", 'k'"},
    {"cancel", "job", "", ""},
    {"cancel", "reason", ", job", ", 1"},
    {"retry", "job", "", ""},
    {"retry", "restart", ", job", ", 2"},
    {"reschedule", "job", "", ""},
    {"reschedule", "priority", ", job", ", 1"},
    {"reschedule", "run_at", ", job", ", 1"},
    {"pause", "queue", "", ""},
    {"resume", "queue", "", ""},
    {"set_limit", "queue", ", max_running", ", 1"},
    {"set_limit", "limit_key", ", max_running", ", 1"},
    {"set_limit", "max_running", ", queue", ", 'q'"},
    {"set_limit", "max_running", ", limit_key", ", 'key'"},
    {"retain", "queue", "", ""},
    {"retain", "retain_ms", ", queue", ", 'q'"},
};

/* Every type, its ends, and what looks like another. */
static const char *const any[] = {
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "1000000",
    "1000001",
    "99999999999",
    "100000000000",
    "99999999999999",
    "100000000000000",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.0",
    "1.5",
    "-0.0",
    "1e300",
    "9e999",
    "-9e999",
    "''",
    "'1'",
    "'1.0'",
    "'1e3'",
    "'0x10'",
    "' 1 '",
    "'1x'",
    "'nan'",
    "'k'",
    "'\u00e4\u20ac\U0001f600'",
    "char(0)",
    "'1' || char(0)",
    "'k' || char(0) || 'l'",
    "char(0xfffd)",
    "char(0xd800)",
    "char(9, 10, 27)",
    "CAST(x'ff' AS TEXT)",
    "CAST(x'6bc3' AS TEXT)",
    "CAST(x'c080' AS TEXT)",
    "CAST(x'eda080' AS TEXT)",
    "CAST(x'f4908080' AS TEXT)",
    "printf('%.255c', 'x')",
    "printf('%.256c', 'x')",
    "printf('%.127c', char(228)) || 'x'",
    "printf('%.128c', char(228))",
    "x''",
    "x'31'",
    "x'00'",
    "x'6b'",
    "zeroblob(300)",
    "'[]'",
    "'[1]'",
    "'[1, 2]'",
    "'[1, 1]'",
    "'[1' || char(0) || ']'",
    "'[1]' || char(0)",
    "'[1.0]'",
    "'[-1]'",
    "'[99999999999999999999]'",
    "'[1 2]'",
    "'{\"a\":1}'",
};

/* What must hold of what is kept, whatever was accepted. */
static const char whole[] =
    "SELECT"
    " (SELECT count(*) FROM _job WHERE typeof(kind) <> 'integer'"
    "  OR typeof(queue) <> 'integer' OR priority NOT BETWEEN -1000000"
    "  AND 1000000 OR typeof(priority) <> 'integer'"
    "  OR typeof(run_at) <> 'integer' OR run_at NOT BETWEEN 0"
    "  AND 99999999999999 OR typeof(sort_key) <> 'integer'"
    "  OR typeof(created_at) <> 'integer'"
    "  OR typeof(deadline_at) NOT IN ('null', 'integer')"
    "  OR typeof(timeout_ms) NOT IN ('null', 'integer') OR timeout_ms < 1"
    "  OR typeof(max_attempts) NOT IN ('null', 'integer')"
    "  OR max_attempts NOT BETWEEN 1 AND 1000000"
    "  OR typeof(parent) NOT IN ('null', 'integer')"
    "  OR typeof(args) NOT IN ('null', 'text', 'blob'))"
    " + (SELECT count(*) FROM _dep WHERE typeof(parent) <> 'integer'"
    "  OR parent NOT IN (SELECT id FROM _job)"
    "  OR child NOT IN (SELECT id FROM _job))"
    " + (SELECT count(*) FROM _queue"
    "  WHERE typeof(max_running) NOT IN ('null', 'integer')"
    "  OR typeof(retain_ms) NOT IN ('null', 'integer') OR retain_ms < 1"
    "  OR typeof(paused_at) NOT IN ('null', 'integer'))"
    " + (SELECT count(*) FROM _limit WHERE typeof(max_running) <> 'integer')"
    " + (SELECT count(*) FROM submit) + (SELECT count(*) FROM cancel)"
    " + (SELECT count(*) FROM retry) + (SELECT count(*) FROM reschedule)"
    " + (SELECT count(*) FROM pause) + (SELECT count(*) FROM resume)"
    " + (SELECT count(*) FROM set_limit) + (SELECT count(*) FROM retain)";

/* The names that are kept, as bytes, and of which type each is. */
static const char names[] =
    "SELECT DISTINCT typeof(name) || ' ' || hex(name) FROM"
    " (SELECT name FROM _kind UNION ALL SELECT name FROM _queue"
    "  UNION ALL SELECT name FROM _batch UNION ALL SELECT key FROM _unique"
    "  UNION ALL SELECT key FROM _limit UNION ALL SELECT limit_key FROM _job"
    "  WHERE limit_key IS NOT NULL UNION ALL SELECT unique_key FROM _job"
    "  WHERE unique_key IS NOT NULL)";

/* Whether line is "text ", and as hexadecimal digits a name. */
static bool
is_name(const char *line, size_t size)
{
    unsigned char name[1024];
    size_t n = 0;

    if (strncmp(line, "text ", 5) != 0 || size > sizeof(name))
        return false;
    for (size_t i = 5; i + 1 < size; i += 2) {
        unsigned byte;

        if (sscanf(line + i, "%2x", &byte) != 1)
            return false;
        name[n++] = (unsigned char)byte;
    }
    return n > 0 && n <= 255 && text_is_utf8(name, n);
}

static void
assert_whole(const char *sql)
{
    const char *line;

    ck_assert_msg(sql_int(storage.queue, whole) == 0, "%s", sql);
    for (line = sql_text(storage.queue, names); *line != '\0';
         line += line[strcspn(line, "\n")] == '\n' ? strcspn(line, "\n") + 1
                                                   : strcspn(line, "\n"))
        ck_assert_msg(is_name(line, strcspn(line, "\n")), "%s", sql);
}

/* True if it was accepted. */
static bool
try_value(int c, const char *value)
{
    const char *message;
    char sql[512], begins[32];

    (void)snprintf(sql, sizeof(sql), "INSERT INTO %s(%s%s) VALUES(%s%s)",
                   columns[c].table, columns[c].column, columns[c].others,
                   value, columns[c].values);
    (void)snprintf(begins, sizeof(begins), "%s: ", columns[c].table);
    message = storage_try("%s", sql);
    ck_assert_msg(message == NULL ||
                      strncmp(message, begins, strlen(begins)) == 0 ||
                      strcmp(message, "malformed JSON") == 0 ||
                      strcmp(message, "datatype mismatch") == 0,
                  "%s: %s", sql, message);
    assert_whole(sql);
    return message == NULL;
}

/* 1 waits, 2 has ended. Each value is tried by itself, in a transaction that is
 * rolled back; then all of them are, and the file is worked on. */
START_TEST(any_value_of_any_column_is_refused_or_leaves_a_file_that_is_whole)
{
    int accepted = 0, n = (int)(sizeof(any) / sizeof(*any));
    enum rota_cancel_answer answer;

    (void)storage_submit_plain();
    ck_assert_int_eq(storage_cancel(storage_submit_plain(), NULL, &answer),
                     ROTA_OK);
    for (int i = 0; i < n; i++) {
        storage_run("BEGIN IMMEDIATE");
        accepted += try_value(_i, any[i]);
        storage_run("ROLLBACK");
    }
    ck_assert_int_lt(accepted, n);
    if (strcmp(columns[_i].table, "resume") != 0)
        ck_assert_int_gt(accepted, 0);
    storage_run("BEGIN IMMEDIATE");
    for (int i = 0; i < n; i++)
        (void)try_value(_i, any[i]);
    storage_run("COMMIT");
    (void)storage_chores();
    (void)storage_claims(100);
    ck_assert_ptr_null(store_damage(storage.store));
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
    tcase_add_loop_test(
        commands,
        any_value_of_any_column_is_refused_or_leaves_a_file_that_is_whole, 0,
        (int)(sizeof(columns) / sizeof(*columns)));
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
