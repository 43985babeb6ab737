/*
 * The kinds "sql" and "exec", run through the public API as a program would
 * run them. "import" has a program of its own.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/jobs.h"
#include "scratch.h"
#include "stage.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int64_t
submit_args(const void *args, size_t size)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.args = args;
    s.args_size = size;
    return submit_as(&s);
}

static void
assert_message(const char *part)
{
    ck_assert_msg(strstr(outcome.message, part) != NULL, "%s: %s",
                  outcome.message, part);
    ck_assert_ptr_null(strchr(outcome.message, '\n'));
}

/* Who opens the next file to read meets this error, once; 0: nobody does. */
static atomic_int open_error;

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *
__wrap_fopen(const char *path, const char *mode)
{
    int error = strstr(path, "q.sql") == NULL || mode[0] != 'r'
                    ? 0
                    : atomic_exchange(&open_error, 0);

    errno = error;
    return error != 0 ? NULL : __real_fopen(path, mode);
}

/* -- sql ------------------------------------------------------------------ */

/* Submit the script, to be run on data.db with what more says. */
static int64_t
submit_script(const char *script, const char *more)
{
    char args[512];

    scratch_write_text("q.sql", script);
    (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"on\":\"%s\"%s%s}",
                   in_scratch("q.sql"), in_scratch("data.db"),
                   more[0] == '\0' ? "" : ",", more);
    return submit_args(args, strlen(args));
}

static void
run_script(const char *script, const char *more)
{
    begin(1, job_sql.fn);
    wait_for(submit_script(script, more));
}

static const char *
data(const char *sql)
{
    return sql_text(in_scratch("data.db"), "%s", sql);
}

static const char *
file_text(const char *name)
{
    static char text[2048];
    FILE *file = fopen(in_scratch(name), "r");

    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    return text;
}

START_TEST(each_statement_is_an_item_however_it_is_written)
{
    run_script("\xef\xbb\xbf-- a comment; with a semicolon\n"
               "CREATE TABLE t(a, b);; /* ; */ ;\n"
               "CREATE TRIGGER r AFTER INSERT ON t WHEN NEW.a = 7 BEGIN"
               " UPDATE t SET b = 'x;y' WHERE a = 7; SELECT 1; END;\n"
               "INSERT INTO t VALUES(7, 'a;''b'), (8, \"c;d\"), (9, [e;f]"
               ");",
               "");
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED); /* [e;f] is a column */
    assert_message("line 4: ");
    ck_assert_str_eq(job_says(1, "done, total"), "2|3");
    ck_assert_str_eq(data("SELECT count(*) FROM t"), "0");
}
END_TEST

START_TEST(a_script_runs_to_its_end_with_or_without_a_last_semicolon)
{
    run_script("PRAGMA journal_mode = WAL;\nCREATE TABLE t(a);"
               "BEGIN; INSERT INTO t VALUES(1); INSERT INTO t VALUES(2); END;"
               "BEGIN; INSERT INTO t VALUES(3); ROLLBACK;"
               "BEGIN; INSERT INTO t VALUES(4); SAVEPOINT s;"
               " INSERT INTO t VALUES(5); ROLLBACK TO s; RELEASE s; COMMIT;"
               "VACUUM; SELECT count(*) FROM t",
               "");
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(data("SELECT group_concat(a) FROM t"), "1,2,4");
    ck_assert_str_eq(job_says(1, "done, total, result"),
                     "18|18|{\"statements\":18,\"rows\":2}");
    ck_assert_str_eq(data("PRAGMA journal_mode"), "wal");
}
END_TEST

START_TEST(rows_go_to_a_file_as_csv_or_json_lines)
{
    char out[256];

    (void)snprintf(out, sizeof(out), "\"out\":\"%s\"",
                   in_scratch(_i == 0 ? "o.csv" : "o.jsonl"));
    run_script("SELECT 1 AS a, 2.5 AS \"b c\", NULL AS n, '' AS e;"
               "SELECT 'x,\"y\"' AS t, x'ff00' AS z, ' s' AS s;",
               out);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    if (_i == 0)
        ck_assert_mem_eq(file_text("o.csv"),
                         "a,b c,n,e\r\n1,2.5,,\"\"\r\n"
                         "t,z,s\r\n\"x,\"\"y\"\"\",\xff",
                         41);
    else
        ck_assert_str_eq(
            file_text("o.jsonl"),
            "{\"a\":1,\"b c\":2.5,\"n\":null,\"e\":\"\"}\n"
            "{\"t\":\"x,\\\"y\\\"\",\"z_b64\":\"/wA=\",\"s\":\" s\"}\n");
    /* it only read: no trace of us */
    ck_assert_str_eq(data("SELECT count(*) FROM sqlite_schema"), "0");
}
END_TEST

static struct gate middle = GATE_INIT;

static void
pass_middle(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)context, (void)n, (void)values;
    gate_pass(&middle);
}

static int
add_middle(sqlite3 *db, char **message, const void *api)
{
    (void)message, (void)api;
    return sqlite3_create_function(db, "middle", 0, SQLITE_UTF8, NULL,
                                   pass_middle, NULL, NULL);
}

static const char stopped_script[] =
    "CREATE TABLE t(a); PRAGMA case_sensitive_like = 1;"
    "INSERT INTO t VALUES(1); SELECT a FROM t;"
    "BEGIN; INSERT INTO t VALUES(2);"
    "INSERT INTO t SELECT 3 WHERE middle() IS NULL;"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
    " SELECT i + 1 FROM n WHERE i < 3000)"
    " INSERT INTO t SELECT NULL FROM n; COMMIT;"
    "SELECT a FROM t WHERE a > 1 AND 'a' NOT LIKE 'A';";

/* Stop it inside its transaction. */
static int64_t
stop_in_the_middle(void)
{
    char out[256];
    int64_t id;

    (void)sqlite3_auto_extension((void (*)(void))add_middle);
    (void)snprintf(out, sizeof(out), "\"out\":\"%s\"", in_scratch("o.csv"));
    begin(1, job_sql.fn);
    id = submit_script(stopped_script, out);
    gate_await(&middle, 1);
    (void)ctx_cancel(run);
    gate_open(&middle);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_str_eq(job_says(id, "state, done"), "ready|4");
    close_queue();
    return id;
}

static const int shortages[] = {EMFILE, ENFILE, ENOMEM};

START_TEST(a_script_is_put_off_while_descriptors_or_memory_are_short)
{
    int64_t id;

    begin(1, job_sql.fn);
    id = submit_script("CREATE TABLE a(b);", "");
    wait_for(id);
    open_error = shortages[_i];
    id = submit_script("INSERT INTO a VALUES(1);", "");
    wait_for(id);
    ck_assert_int_eq(open_error, 0);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert(was_logged(id, "tried again"));
    ck_assert_str_eq(
        sql_text(queue, "SELECT lease, failures FROM jobs WHERE id = 2"),
        "2|0");
}
END_TEST

START_TEST(a_script_that_was_stopped_goes_on_at_its_statement)
{
    int64_t id = stop_in_the_middle();

    begin(1, job_sql.fn);
    wait_for(id);
    ck_assert_msg(outcome.state == ROTA_SUCCEEDED, "%s", outcome.message);
    ck_assert_str_eq(data("SELECT count(*), count(a), max(a) FROM t"),
                     "3003|3|3");
    ck_assert_str_eq(file_text("o.csv"), "a\r\n1\r\na\r\n2\r\n3\r\n");
}
END_TEST

START_TEST(a_script_whose_statements_were_changed_after_they_ran_fails_for_good)
{
    char changed[sizeof(stopped_script)];
    int64_t id = stop_in_the_middle();

    memcpy(changed, stopped_script, sizeof(changed));
    memcpy(strchr(changed, '1'), "0", 1); /* of the PRAGMA, which was run */
    scratch_write_text("q.sql", changed);
    begin(1, job_sql.fn);
    wait_for(id);
    ck_assert_int_eq(outcome.error, ROTA_FATAL);
    assert_message("was changed since 4 statements of it were run");
    ck_assert_str_eq(data("SELECT count(*) FROM t"), "1");
}
END_TEST

START_TEST(a_script_is_not_written_over_with_its_own_rows)
{
    char out[256];

    ck_assert_int_eq(symlink("q.sql", in_scratch("link")), 0);
    (void)snprintf(out, sizeof(out), "\"out\":\"%s\"",
                   in_scratch(_i == 0 ? "q.sql" : "link"));
    run_script("SELECT 1;", out);
    ck_assert_int_eq(outcome.error, ROTA_FATAL);
    assert_message("is the script itself");
    ck_assert_str_eq(file_text("q.sql"), "SELECT 1;");
}
END_TEST

START_TEST(a_cancel_ends_a_statement_that_would_run_for_hours)
{
    int64_t id;

    begin(1, job_sql.fn);
    id = submit_script("CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1);"
                       "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
                       " SELECT i + 1 FROM n) INSERT INTO t SELECT i FROM n;",
                       "");
    await_state(id, "running");
    sql_run(queue, "INSERT INTO cancel(job, reason) VALUES(%d, 'enough')",
            (int)id);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "enough");
    if (access(in_scratch("data.db"), F_OK) == 0 &&
        sql_int(in_scratch("data.db"), "SELECT count(*) FROM sqlite_schema"
                                       " WHERE name = 't'") == 1)
        ck_assert_str_eq(data("SELECT count(*) FROM t"), "0");
}
END_TEST

static const struct {
    const char *script, *more, *message;
} refused[] = {
    {"SELECT 1; SELEC 2", "", "line 1: near \"SELEC\": syntax error"},
    {"SELECT 1;\n\n -- x\n COMMIT;", "", "line 4: there is no transaction"},
    {"SAVEPOINT s", "", "there is no transaction"},
    {"BEGIN; SELECT 1;", "", "ends inside a transaction"},
    {"BEGIN; BEGIN; COMMIT", "", "BEGIN inside a transaction"},
    {"\x1f\x8bSELECT 1", "", "is a gzip file, not UTF-8: unpack it first"},
    {"\xff\xfeSELECT 1", "", "is text in UTF-16LE, not UTF-8: convert it"},
    {"\xef\xbbSELECT 1", "", "near \"\xef\xbbSELECT\""},
    {"SELECT 1", "\"format\":\"xml\"", "must be csv or jsonl"},
    {"SELECT 1", "\"out\":\"/no/such/file\"", "cannot open /no/such/file"},
    {"SELECT 1", "\"out\":\"/dev/null\"", "is no regular file"},
    {"SELECT 1", "\"outt\":\"x\"", "unknown argument outt"},
};

START_TEST(a_script_that_makes_no_sense_is_refused_in_one_line)
{
    run_script(refused[_i].script, refused[_i].more);
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, ROTA_FATAL);
    assert_message(refused[_i].message);
}
END_TEST

START_TEST(databases_are_not_opened_as_text)
{
    char args[512];

    begin(1, job_sql.fn);
    (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"on\":\"%s\"}", queue,
                   in_scratch("data.db"));
    wait_for(submit_args(args, strlen(args)));
    assert_message("is the queue's own file");
    (void)snprintf(args, sizeof(args), "\"out\":\"%s\"", in_scratch("data.db"));
    wait_for(submit_script("CREATE TABLE t(a)", ""));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    wait_for(submit_script("SELECT 1", args));
    assert_message("is the file to write");
    (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"on\":\"%s\"}",
                   in_scratch("q.sql"), queue);
    wait_for(submit_args(args, strlen(args)));
    assert_message("is the queue's own file");
}
END_TEST

/* By its name, whether it is there or not, and by a link that leads to it. */
static void
check_no_name_of(const char *database, const char *suffix, const char *says)
{
    char path[200], args[300];

    (void)snprintf(path, sizeof(path), "%s%s", database, suffix);
    (void)snprintf(args, sizeof(args), "\"out\":\"%s\"", path);
    wait_for(submit_script("SELECT 1", args));
    assert_message(says);
    (void)unlink(in_scratch("link"));
    ck_assert_int_eq(symlink(path, in_scratch("link")), 0);
    (void)snprintf(args, sizeof(args), "\"out\":\"%s\"", in_scratch("link"));
    if (access(path, F_OK) == 0) {
        wait_for(submit_script("SELECT 1", args));
        assert_message(says);
    }
}

START_TEST(no_job_writes_rows_to_what_belongs_to_a_database)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal",
                                           "-lock"};

    begin(1, job_sql.fn);
    wait_for(submit_script("PRAGMA journal_mode=WAL; CREATE TABLE t(a)", ""));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    for (int i = 0; i < COUNT(suffixes); i++) {
        check_no_name_of(queue, suffixes[i], "is the queue's own file");
        check_no_name_of(in_scratch("data.db"), suffixes[i],
                         "is the file to write");
    }
    wait_for(submit_script("SELECT 1", ""));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED); /* all is as it was */
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
}
END_TEST

START_TEST(no_job_runs_on_what_belongs_to_the_queue)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal", "-lock"};
    char args[512];

    begin(1, job_sql.fn);
    scratch_write_text("q.sql", "CREATE TABLE t(a)");
    for (int i = 0; i < COUNT(suffixes); i++) {
        (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"on\":\"%s%s\"}",
                       in_scratch("q.sql"), queue, suffixes[i]);
        wait_for(submit_args(args, strlen(args)));
        assert_message("is the queue's own file");
        (void)snprintf(args, sizeof(args), "{\"file\":\"%s%s\",\"on\":\"%s\"}",
                       queue, suffixes[i], in_scratch("data.db"));
        wait_for(submit_args(args, strlen(args)));
        ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
        if (strcmp(suffixes[i], "-journal") != 0)
            assert_message("is the queue's own file");
    }
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
}
END_TEST

/* -- exec ----------------------------------------------------------------- */

static void
run_command(const char *args)
{
    begin(1, job_exec.fn);
    wait_for(submit_args(args, strlen(args)));
}

static const char *
result(const char *path)
{
    return sql_text(queue, "SELECT result ->> '%s' FROM jobs", path);
}

START_TEST(a_command_that_exits_with_0_has_succeeded)
{
    run_command("[\"sh\",\"-c\",\"echo \\\"$1\\\"; echo e >&2\",\"x\","
                "\"it's $(so)\"]");
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(result("exit_code"), "0");
    ck_assert_str_eq(result("out"), "it's $(so)\n");
    ck_assert_str_eq(result("err"), "e\n");
}
END_TEST

START_TEST(a_command_that_fails_says_how_and_its_output_is_kept)
{
    run_command("{\"argv\":[\"sh\",\"-c\",\"echo o; echo why >&2; exit 3\"]}");
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, ROTA_FAILED);
    ck_assert_str_eq(outcome.message, "exit code 3: why");
    ck_assert_str_eq(result("exit_code"), "3");
    ck_assert_str_eq(result("out"), "o\n");
}
END_TEST

START_TEST(a_command_killed_by_a_signal_is_told_from_one_that_exits)
{
    run_command("[\"sh\",\"-c\",\"kill -9 $$\"]");
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_str_eq(outcome.message, "killed by signal 9, Killed");
    ck_assert_str_eq(result("exit_code"), "NULL");
    ck_assert_str_eq(result("signal"), "9");
}
END_TEST

START_TEST(bytes_that_are_not_utf8_pass_through)
{
    static const char args[] = "/tmp\0sh\0-c\0printf %s \"$1\"; pwd\0x\0\xff";

    begin(1, job_exec.fn);
    wait_for(submit_args(args, sizeof(args)));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(result("out_b64"), "/y90bXAK");
}
END_TEST

START_TEST(a_script_may_report_progress_and_knows_its_job)
{
    run_command("[\"sh\",\"-c\",\"echo progress 3 9 >&3; echo hello >&3;"
                "echo $ROTA_JOB $ROTA_LEASE\"]");
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(result("out"), "1 1\n");
    ck_assert_str_eq(job_says(1, "done, total"), "3|9");
    ck_assert(was_logged(1, "hello"));
}
END_TEST

START_TEST(a_cancel_ends_the_command)
{
    begin(1, job_exec.fn);
    (void)submit_args("[\"sleep\",\"87654\"]", 17);
    await_state(1, "running");
    ck_assert_int_eq(rota_cancel(rota, 1, "enough", NULL), ROTA_OK);
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_int_ne(system("pgrep -f '[s]leep 87654' >/dev/null"), 0);
}
END_TEST

/* What pipe2() or fork() answers, as long as the system is short of it; 0:
 * nothing. */
static atomic_int pipe_error, fork_error;

int __real_pipe2(int pair[2], int flags);
int __wrap_pipe2(int pair[2], int flags);
int
__wrap_pipe2(int pair[2], int flags)
{
    errno = pipe_error;
    return errno != 0 ? -1 : __real_pipe2(pair, flags);
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t
__wrap_fork(void)
{
    errno = fork_error;
    return errno != 0 ? -1 : __real_fork();
}

static void
begin_in_need(int i)
{
    static const int pipes[] = {EMFILE, ENFILE, 0, 0};
    static const int forks[] = {0, 0, EAGAIN, ENOMEM};

    pipe_error = pipes[i];
    fork_error = forks[i];
    begin(1, job_exec.fn);
    (void)submit_args("[\"true\"]", 8);
    AWAIT(was_logged(1, "wait for room"));
}

START_TEST(a_command_waits_for_what_the_system_is_short_of)
{
    begin_in_need(_i);
    pipe_error = fork_error = 0;
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(sql_int(queue, "SELECT lease + failures FROM jobs"), 1);
}
END_TEST

START_TEST(a_command_that_waits_for_room_can_be_cancelled)
{
    begin_in_need(_i);
    ck_assert_int_eq(rota_cancel(rota, 1, "enough", NULL), ROTA_OK);
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "enough");
}
END_TEST

static const char *const senseless[] = {
    "",
    "{}",
    "[]",
    "[1]",
    "{\"argv\":\"ls\"}",
    "ls -l",
    "[\"a\\u0000b\"]",
    "[\"\"]",
    "{\"argv\":[\"ls\"],\"dir\":1}",
    "[\"ls\"",
    "[\"no-such-command\"]",
    "{\"argv\":[\"ls\"],\"dir\":\"/nil\"}",
};

START_TEST(a_command_that_makes_no_sense_is_refused_for_good)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.args = senseless[_i];
    s.args_size = strlen(senseless[_i]);
    s.max_attempts = 5;
    begin(1, job_exec.fn);
    wait_for(submit_as(&s));
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, ROTA_FATAL);
    ck_assert_str_ne(outcome.message, "");
}
END_TEST

static Suite *
kinds_suite(void)
{
    Suite *suite = suite_create("kinds");
    TCase *sql = stage_case(suite, "sql"), *exec = stage_case(suite, "exec");

    tcase_add_test(sql, each_statement_is_an_item_however_it_is_written);
    tcase_add_test(sql,
                   a_script_runs_to_its_end_with_or_without_a_last_semicolon);
    tcase_add_loop_test(sql, rows_go_to_a_file_as_csv_or_json_lines, 0, 2);
    tcase_add_loop_test(
        sql, a_script_is_put_off_while_descriptors_or_memory_are_short, 0,
        COUNT(shortages));
    tcase_add_test(sql, a_script_that_was_stopped_goes_on_at_its_statement);
    tcase_add_test(
        sql,
        a_script_whose_statements_were_changed_after_they_ran_fails_for_good);
    tcase_add_loop_test(sql, a_script_is_not_written_over_with_its_own_rows, 0,
                        2);
    tcase_add_test(sql, a_cancel_ends_a_statement_that_would_run_for_hours);
    tcase_add_loop_test(sql,
                        a_script_that_makes_no_sense_is_refused_in_one_line, 0,
                        COUNT(refused));
    tcase_add_test(sql, databases_are_not_opened_as_text);
    tcase_add_test(sql, no_job_writes_rows_to_what_belongs_to_a_database);
    tcase_add_test(sql, no_job_runs_on_what_belongs_to_the_queue);
    tcase_add_test(exec, a_command_that_exits_with_0_has_succeeded);
    tcase_add_test(exec, a_command_that_fails_says_how_and_its_output_is_kept);
    tcase_add_test(exec,
                   a_command_killed_by_a_signal_is_told_from_one_that_exits);
    tcase_add_test(exec, bytes_that_are_not_utf8_pass_through);
    tcase_add_test(exec, a_script_may_report_progress_and_knows_its_job);
    tcase_add_test(exec, a_cancel_ends_the_command);
    tcase_add_loop_test(exec, a_command_waits_for_what_the_system_is_short_of,
                        0, 4);
    tcase_add_loop_test(exec, a_command_that_waits_for_room_can_be_cancelled, 0,
                        4);
    tcase_add_loop_test(exec, a_command_that_makes_no_sense_is_refused_for_good,
                        0, COUNT(senseless));
    return suite;
}

int
main(void)
{
    return suite_run(kinds_suite());
}
