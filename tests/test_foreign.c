/*
 * Other programs at the queue's file: those that write to it, read from it for
 * long, hold its lock, move it away, or are forked from one that has it open.
 * "Other programs are let in, and named"; "a file that was moved away
 * acknowledges nothing any more".
 *
 * The other program is a child that does what it is told and answers; calls
 * that wait for a lock are seen to wait (cast.h).
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cast.h"
#include "engine/engine.h"
#include "scratch.h"
#include "store/sqlite/yield.h"

/* -- Another program ------------------------------------------------------- */

/* A process that does SQL, one line of text for each call; what begins with a
 * space, again and again for good. Forked before this one opens the queue, so
 * that it has nothing of ours. */
static struct {
    pid_t pid;
    int to, from; /* pipes */
} other;

static void
other_loop(int from, int to)
{
    char sql[512];
    sqlite3 *db = NULL;
    FILE *lines = fdopen(from, "r");

    while (fgets(sql, sizeof(sql), lines) != NULL) {
        char answer = 'n';

        if (db == NULL)
            (void)sqlite3_open_v2(queue, &db, SQLITE_OPEN_READWRITE, NULL);
        (void)sqlite3_busy_timeout(db, 20000);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
            answer = 'y';
        if (write(to, &answer, 1) != 1)
            break;
        while (sql[0] == ' ')
            (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    _exit(0);
}

static void
other_set(void)
{
    int to[2], from[2];

    stage_set();
    ck_assert_int_eq(pipe(to) | pipe(from), 0);
    other.pid = fork();
    ck_assert_int_ge(other.pid, 0);
    if (other.pid == 0) {
        close(to[1]);
        close(from[0]);
        other_loop(to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    other.to = to[1];
    other.from = from[0];
}

static void
other_clear(void)
{
    close(other.to); /* it ends */
    close(other.from);
    (void)waitpid(other.pid, NULL, 0);
    stage_clear();
}

/* Have the other program do that, and succeed. */
static void
other_does(const char *sql)
{
    char line[512], answer = 0;
    int n = snprintf(line, sizeof(line), "%s\n", sql);

    ck_assert_int_eq(write(other.to, line, (size_t)n), n);
    ck_assert_int_eq(read(other.from, &answer, 1), 1);
    ck_assert_msg(answer == 'y', "%s", sql);
}

/* What a line says that names the other program. */
static const char *
other_name(void)
{
    static char name[64];

    (void)snprintf(name, sizeof(name), "process %d (", (int)other.pid);
    return name;
}

/* -- Writers --------------------------------------------------------------- */

/* How much of a second in which we write without pause we leave to others: the
 * pauses of 20 ms and more. */
static int64_t
left_to_others(void)
{
    struct rota_submission many[256];
    int64_t begun = ctx_now(), left = 0, before, after;

    for (size_t i = 0; i < 256; i++)
        many[i] = (struct rota_submission)ROTA_SUBMISSION_INIT("k");
    do {
        before = ctx_now();
        ck_assert_int_eq(rota_submit_many(rota, many, 256, NULL), ROTA_OK);
        after = ctx_now();
        if (after - before >= ROTA_MS(20))
            left += after - before;
    } while (after - begun < ROTA_SEC(1));
    return left;
}

START_TEST(writing_without_pause_leaves_time_to_another_program)
{
    open_queue(1);
    other_does("SELECT 1 FROM jobs");
    ck_assert_int_ge(left_to_others(), ROTA_MS(250));
}
END_TEST

START_TEST(another_program_at_the_file_is_seen_to_come_and_go)
{
    struct yield yield;

    open_queue(1);
    ck_assert_int_eq(yield_begin(&yield, queue), ROTA_OK);
    ck_assert(!yield_looks(&yield));
    other_does("SELECT 1 FROM jobs");
    ck_assert(yield_looks(&yield));
    kill(other.pid, SIGKILL);
    ck_assert_int_eq(waitpid(other.pid, NULL, 0), other.pid);
    ck_assert(!yield_looks(&yield));
    yield_end(&yield);
}
END_TEST

static int64_t
other_count(void)
{
    return sql_int(queue, "SELECT n FROM app_counter");
}

/* It has the lock for a millisecond or two, and leaves it for the blink of an
 * eye. */
START_TEST(a_program_that_writes_without_pause_does_not_shut_us_out)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    open_queue(1);
    other_does("PRAGMA synchronous = OFF; CREATE TABLE app_counter(n);"
               " INSERT INTO app_counter VALUES(0)");
    other_does(" BEGIN IMMEDIATE; UPDATE app_counter SET n = n + 1;"
               " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
               " LIMIT 10000) SELECT count(*) FROM n; COMMIT;"
               " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
               " LIMIT 250) SELECT count(*) FROM n");
    for (int i = 0; i < 20; i++) {
        int64_t count = other_count();

        AWAIT(other_count() > count + 3); /* it is at it again */
        ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    }
    kill(other.pid, SIGKILL);
}
END_TEST

START_TEST(who_holds_the_lock_too_long_is_named)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    open_queue(1);
    other_does("BEGIN IMMEDIATE");
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_BUSY);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), other_name()));
    other_does("COMMIT");
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
}
END_TEST

/* -- A lock that is held --------------------------------------------------- */

static sqlite3 *
foreign_lock(void)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(queue, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_busy_timeout(db, 20000), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    return db;
}

static void
foreign_unlock(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(a_submit_waits_for_a_foreign_client_and_then_succeeds)
{
    struct sitting waiting = {.kind = "quick"};
    sqlite3 *db = foreign_lock();
    pthread_t thread = thread_new(submit_in_thread, &waiting);

    AWAIT(somebody_writes());
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.id, 1);
    ck_assert(stands(1, "ready|0"));
}
END_TEST

START_TEST(a_cancel_reaches_a_job_here_while_a_foreign_client_has_the_lock)
{
    struct sitting waiting = {.id = 1};
    pthread_t thread;
    sqlite3 *db;

    work_here();
    (void)submit_kind("gate");
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    thread = thread_new(cancel_in_thread, &waiting);
    EVENTUALLY(noted("told", 0) == 1);
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "now");
}
END_TEST

START_TEST(so_does_the_end_of_the_context_that_it_is_run_under)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct sitting waiting = {
        .ctx = ctx, .kind = "gate", .outcome = ROTA_OUTCOME_INIT};
    pthread_t thread;
    sqlite3 *db;

    work_here();
    thread = thread_new(run_in_thread, &waiting);
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    (void)ctx_cancel_cause(ctx, "enough");
    EVENTUALLY(noted("told", 0) == 1);
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(waiting.outcome.message, "enough");
}
END_TEST

/* Each request waits for five seconds, one after the other. */
START_TEST(what_a_foreign_client_does_not_let_through_is_refused)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("quick");
    struct sitting waiting = {.id = 1};
    int64_t id = 77;
    pthread_t thread;
    sqlite3 *db;

    work_here();
    (void)submit_kind("gate");
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    thread = thread_new(cancel_in_thread, &waiting);
    EVENTUALLY(noted("told", 0) == 1);
    ck_assert_int_eq(rota_submit(rota, &s, &id), ROTA_BUSY);
    ck_assert_int_eq(id, 77);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_BUSY);
    foreign_unlock(db);
    /* the cancel was not recorded, but told; what became of the job waited */
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "now");
    ck_assert_int_eq(submit_kind("quick"), 2);
    wait_for(2);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 2);
}
END_TEST

START_TEST(who_waits_for_a_foreign_lock_in_vain_is_told_so)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    sqlite3 *shell;
    int64_t id = 4711;

    open_with(1, at_once);
    ck_assert_int_eq(sqlite3_open(queue, &shell), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(rota_submit(rota, &submission, &id), ROTA_BUSY);
    ck_assert_int_eq(id, 4711);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "locked"));
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_str_eq(job_says(submit(), "state"), "ready");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
}
END_TEST

/* -- Readers --------------------------------------------------------------- */

static enum rota_error
submit_mebibytes(size_t n)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    char *args = calloc(n, 1 << 20);
    enum rota_error error;

    ck_assert_ptr_nonnull(args);
    s.args = args;
    s.args_size = n << 20;
    error = rota_submit(rota, &s, NULL);
    free(args);
    return error;
}

START_TEST(a_log_that_a_long_read_keeps_is_told_with_who_reads)
{
    open_queue(1);
    other_does("BEGIN; SELECT count(*) FROM jobs");
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(submit_mebibytes(8), ROTA_OK);
    ck_assert(was_logged(0, "-wal has grown to"));
    ck_assert(was_logged(0, other_name()));
    other_does("COMMIT");
    AWAIT(submit_mebibytes(0) == ROTA_OK && was_logged(0, "is begun anew"));
}
END_TEST

/* Options with a log that is full after some MiB. */
static struct rota_options
short_log(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.workers = 1;
    options.log_max = 20 << 20;
    return options;
}

START_TEST(a_log_that_is_full_takes_no_more_jobs_until_the_read_has_ended)
{
    struct stat log;
    enum rota_error error;
    int n = 0;

    open_as(short_log());
    other_does("BEGIN; SELECT count(*) FROM jobs");
    while ((error = submit_mebibytes(4)) == ROTA_OK)
        n++;
    ck_assert_int_eq(error, ROTA_FULL);
    ck_assert_int_lt(n, 7);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), other_name()));
    ck_assert_int_eq(stat(in_scratch("queue.db-wal"), &log), 0);
    ck_assert_int_lt(log.st_size, 30 << 20);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), n);
    other_does("COMMIT");
    /* at most twice a second it is seen whether it has */
    ck_assert_int_eq(ctx_sleep(ctx_background(), ROTA_MS(500)), ROTA_OK);
    ck_assert_int_eq(submit_mebibytes(0), ROTA_OK);
}
END_TEST

START_TEST(jobs_that_run_end_while_the_log_is_full_and_others_wait)
{
    int64_t running, waiting;

    open_as(short_log());
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, NULL), ROTA_OK);
    start_workers();
    running = submit_running(1);
    waiting = submit();
    other_does("BEGIN; SELECT count(*) FROM jobs");
    sql_run(queue, "INSERT INTO submit(kind, args)"
                   " VALUES('other', zeroblob(25000000))");
    await_state(waiting, "ready");
    AWAIT(submit_mebibytes(0) == ROTA_FULL);
    gate_open(&act.gate);
    wait_for(running);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(job_says(waiting, "state"), "ready");
    other_does("COMMIT");
    wait_for(waiting); /* nobody asks for it: the listener looks */
}
END_TEST

/* -- The file -------------------------------------------------------------- */

static void
move_away(void)
{
    ck_assert_int_eq(rename(queue, in_scratch("elsewhere.db")), 0);
}

START_TEST(of_a_file_that_was_moved_away_nothing_is_acknowledged)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("other");
    int64_t id;

    begin(1, at_once); /* with a thread that looks outside */
    ck_assert_int_eq(rota_submit(rota, &s, &id), ROTA_OK);
    move_away();
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_STORE);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), queue));
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "moved"));
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_STORE);
    ck_assert_int_eq(rota_wait(NULL, rota, id, NULL), ROTA_STORE);
    AWAIT(was_logged(0, "has been moved"));
    ck_assert_int_eq(rename(in_scratch("elsewhere.db"), queue), 0);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    AWAIT(was_logged(0, "is back"));
}
END_TEST

START_TEST(a_file_that_was_replaced_is_not_taken_for_the_one_that_is_open)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    struct rota *second;

    open_queue(1);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    move_away();
    ck_assert_int_eq(unlink(in_scratch("queue.db-wal")), 0);
    ck_assert_int_eq(unlink(in_scratch("queue.db-shm")), 0);
    ck_assert_int_eq(rota_open(queue, NULL, &second), ROTA_OK);
    ck_assert_int_eq(rota_wait(NULL, rota, 1, NULL), ROTA_STORE);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_STORE);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 0);
    ck_assert_int_eq(rota_close(second), ROTA_OK);
}
END_TEST

START_TEST(of_a_log_that_was_removed_nothing_is_acknowledged)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("other");
    int64_t id;

    begin(1, at_once);
    ck_assert_int_eq(rota_submit(rota, &s, &id), ROTA_OK);
    ck_assert_int_eq(unlink(in_scratch("queue.db-wal")), 0);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_STORE);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "-wal has been removed"));
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_STORE);
}
END_TEST

START_TEST(without_its_lock_file_nothing_is_acknowledged_nor_begun)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    struct rota *second;

    begin(1, at_once);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    ck_assert_int_eq(unlink(in_scratch("queue.db-lock")), 0);
    ck_assert_int_eq(rota_open(queue, NULL, &second), ROTA_OK);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_STORE);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "-lock has been removed"));
    ck_assert_int_eq(rota_submit(second, &s, NULL), ROTA_OK);
    ck_assert_int_eq(rota_wait(NULL, rota, 1, NULL), ROTA_STORE);
    AWAIT(was_logged(0, "-lock has been removed"));
    ck_assert_int_eq(rota_close(second), ROTA_OK);
}
END_TEST

START_TEST(of_memory_that_is_not_shared_any_more_nothing_is_acknowledged)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("other");

    begin(1, at_once);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    ck_assert_int_eq(unlink(in_scratch("queue.db-shm")), 0);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_STORE);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "-shm has been removed"));
    AWAIT(was_logged(0, "-shm has been removed"));
}
END_TEST

START_TEST(who_stops_does_not_wait_for_a_file_that_is_gone)
{
    int64_t id;

    begin(1, held);
    id = submit_running(1);
    move_away();
    gate_open(&act.gate);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_STORE);
    ck_assert(was_logged(id, "is not recorded"));
    close_queue();
}
END_TEST

/* -- Forked children ------------------------------------------------------- */

/* What a child may not do, by what it answers; 0: all was refused. */
static int
child_tries(int64_t id)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    struct rota *second;
    int64_t now = 1;

    if (rota_open(queue, NULL, &second) != ROTA_INVALID ||
        strstr(rota_errmsg(NULL), "exec") == NULL)
        return 6;
    if (rota_submit(rota, &s, NULL) != ROTA_INVALID ||
        strstr(rota_errmsg(rota), "forked") == NULL)
        return 1;
    if (rota_cancel(rota, id, NULL, NULL) != ROTA_INVALID ||
        rota_retry(rota, id, false) != ROTA_INVALID ||
        rota_reschedule(rota, id, NULL, &now) != ROTA_INVALID ||
        rota_pause(rota, NULL) != ROTA_INVALID)
        return 2;
    if (rota_wait(NULL, rota, id, NULL) != ROTA_INVALID ||
        rota_run(NULL, rota, &s, &outcome) != ROTA_INVALID ||
        rota_drain(NULL, rota) != ROTA_INVALID ||
        rota_query(NULL, rota, "SELECT 1", NULL, 0, NULL, NULL) != ROTA_INVALID)
        return 3;
    if (rota_rescue(rota) != ROTA_INVALID ||
        rota_step(NULL, rota, NULL) != ROTA_INVALID ||
        rota_start(NULL, rota) != ROTA_INVALID)
        return 4;
    if (rota_stop(rota, 0) != ROTA_INVALID || rota_close(rota) != ROTA_INVALID)
        return 5;
    return 0;
}

START_TEST(a_forked_child_is_refused_and_does_no_harm)
{
    int64_t id;
    pid_t child;
    int status;

    begin(1, until_stopped);
    id = submit_running(1);
    child = fork();
    if (child == 0)
        _exit(child_tries(id));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_OK);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
}
END_TEST

static TCase *
foreign_case(Suite *suite, const char *name)
{
    TCase *tcase = case_new(suite, name);

    tcase_add_checked_fixture(tcase, other_set, other_clear);
    return tcase;
}

static Suite *
foreign_suite(void)
{
    Suite *suite = suite_create("foreign");
    TCase *writers = foreign_case(suite, "writers");
    TCase *readers = foreign_case(suite, "readers");
    TCase *held = cast_case(suite, "held lock");
    TCase *lock = stage_case(suite, "lock");
    TCase *file = stage_case(suite, "file");
    TCase *children = stage_case(suite, "children");

    tcase_add_test(writers,
                   writing_without_pause_leaves_time_to_another_program);
    tcase_add_test(writers, another_program_at_the_file_is_seen_to_come_and_go);
    tcase_add_test(writers,
                   a_program_that_writes_without_pause_does_not_shut_us_out);
    tcase_add_test(writers, who_holds_the_lock_too_long_is_named);
    tcase_add_test(readers,
                   a_log_that_a_long_read_keeps_is_told_with_who_reads);
    tcase_add_test(
        readers,
        a_log_that_is_full_takes_no_more_jobs_until_the_read_has_ended);
    tcase_add_test(readers,
                   jobs_that_run_end_while_the_log_is_full_and_others_wait);
    tcase_add_test(held, a_submit_waits_for_a_foreign_client_and_then_succeeds);
    tcase_add_test(
        held, a_cancel_reaches_a_job_here_while_a_foreign_client_has_the_lock);
    tcase_add_test(held, so_does_the_end_of_the_context_that_it_is_run_under);
    tcase_add_test(held, what_a_foreign_client_does_not_let_through_is_refused);
    tcase_add_test(lock, who_waits_for_a_foreign_lock_in_vain_is_told_so);
    tcase_add_test(file, of_a_file_that_was_moved_away_nothing_is_acknowledged);
    tcase_add_test(
        file, a_file_that_was_replaced_is_not_taken_for_the_one_that_is_open);
    tcase_add_test(file, of_a_log_that_was_removed_nothing_is_acknowledged);
    tcase_add_test(file,
                   without_its_lock_file_nothing_is_acknowledged_nor_begun);
    tcase_add_test(
        file, of_memory_that_is_not_shared_any_more_nothing_is_acknowledged);
    tcase_add_test(file, who_stops_does_not_wait_for_a_file_that_is_gone);
    tcase_add_test(children, a_forked_child_is_refused_and_does_no_harm);
    return suite;
}

int
main(int argc, char **argv)
{
    return cast_main(argc, argv, foreign_suite());
}
