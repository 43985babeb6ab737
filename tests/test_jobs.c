/*
 * What a job can say and ask (rota/job.h): progress, results, its databases
 * and their exactly-once steps, in one process.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/state.h"
#include "scratch.h"
#include "stage.h"

/* -- What a job can ask and say ------------------------------------------- */

static struct {
    int64_t id, cursor, lease;
    char kind[16];
    void *arg;
    struct rota *rota;
} asked;

static enum rota_error
asks(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    asked.id = rota_job_id(job);
    asked.cursor = rota_job_cursor(job);
    asked.lease = rota_job_lease(job);
    asked.arg = rota_job_arg(job);
    asked.rota = rota_job_rota(job);
    (void)snprintf(asked.kind, sizeof(asked.kind), "%s", rota_job_kind(job));
    act.stop = rota_job_stop_reason(job);
    rota_job_log(job, "item %d of %s", 7, "10");
    return ROTA_OK;
}

START_TEST(a_job_knows_what_it_is)
{
    int64_t id;

    open_queue(1);
    ck_assert_int_eq(rota_handle(rota, "k", asks, &asked, NULL), ROTA_OK);
    start_workers();
    act.stop = ROTA_STOP_LOST;
    id = submit();
    wait_for(id);
    ck_assert_int_eq(asked.id, id);
    ck_assert_int_eq(asked.cursor, 0);
    ck_assert_int_eq(asked.lease, 1);
    ck_assert_str_eq(asked.kind, "k");
    ck_assert_ptr_eq(asked.arg, &asked);
    ck_assert_ptr_eq(asked.rota, rota);
    ck_assert_int_eq(act.stop, ROTA_STOP_NONE);
    ck_assert(was_logged(id, "item 7 of 10"));
    ck_assert(!was_logged(id, "item 7 of 10\n"));
}
END_TEST

static enum rota_error
advances_in_steps(struct ctx *ctx, struct rota_job *job)
{
    rota_job_total(job, 10);
    rota_job_advance(job, 1);
    AWAIT(atomic_load(&act.ends) == 1);
    rota_job_advance(job, 7);
    return held(ctx, job);
}

START_TEST(progress_reaches_the_file_while_the_job_runs)
{
    int64_t id;

    begin(1, advances_in_steps);
    id = submit();
    AWAIT(strcmp(job_says(id, "done, total, percent"), "1|10|10.0") == 0);
    atomic_store(&act.ends, 1);
    AWAIT(strcmp(job_says(id, "done, total, percent"), "7|10|70.0") == 0);
    ck_assert_str_eq(job_says(id, "status, started_at >= created_at"),
                     "running|1");
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_int_eq(outcome.cursor, 7);
}
END_TEST

static const struct {
    int64_t done, total;
    const char *says;
} strange[] = {
    {-5, 5, "-5|5|0.0"},
    {7, 5, "7|5|100.0"},
    {0, 0, "0|0|NULL"},
    {3, -1, "3|NULL|NULL"},
    {INT64_MIN, 1, "-9223372036854775808|1|0.0"},
    {INT64_MIN, INT64_MAX, "-9223372036854775808|9223372036854775807|0.0"},
    {INT64_MAX, INT64_MAX, "9223372036854775807|9223372036854775807|100.0"}};

static enum rota_error
counts_strangely(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    rota_job_total(job, strange[act.number].total);
    rota_job_advance(job, strange[act.number].done);
    return ROTA_OK;
}

START_TEST(percent_is_from_0_to_100_or_not_there)
{
    int64_t id;

    act.number = _i;
    begin(1, counts_strangely);
    id = submit();
    wait_for(id);
    ck_assert_str_eq(job_says(id, "done, total, percent"), strange[_i].says);
    ck_assert_str_eq(job_says(id, "coalesce(rate, 0) >= 0, eta"), "1|NULL");
}
END_TEST

static enum rota_error
advances_when_told(struct ctx *ctx, struct rota_job *job)
{
    atomic_fetch_add(&act.runs, 1);
    AWAIT(atomic_load(&act.ends) == 1);
    rota_job_advance(job, 1);
    return held(ctx, job);
}

/* Whether the writer sleeps, having seen all that was done before. */
static bool
is_writer_asleep(void)
{
    bool is_asleep;

    lock_take(&rota->lock);
    is_asleep = !rota->is_writing && !rota->must_write;
    lock_drop(&rota->lock);
    return is_asleep;
}

START_TEST(the_first_advance_reaches_the_file_though_no_flush_is_due)
{
    int64_t id;

    begin(1, advances_when_told);
    id = submit_running(1);
    lock_take(&rota->lock);
    rota->next_flush = ROTA_FOREVER;
    lock_drop(&rota->lock);
    writer_poke(rota);
    AWAIT(is_writer_asleep());
    atomic_store(&act.ends, 1);
    AWAIT(strcmp(job_says(id, "done"), "1") == 0);
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_int_eq(outcome.cursor, 1);
}
END_TEST

static enum rota_error
advances_often(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    for (int i = 1; i <= MANY(1000000); i++)
        rota_job_advance(job, i);
    return ROTA_OK;
}

START_TEST(the_last_of_many_advances_is_in_the_file_at_the_end)
{
    begin(1, advances_often);
    wait_for(submit());
    ck_assert_int_eq(outcome.cursor, MANY(1000000));
}
END_TEST

static enum rota_error
commits(struct ctx *ctx, struct rota_job *job)
{
    act.error = rota_job_commit(job, 7);
    return held(ctx, job);
}

START_TEST(a_commit_is_in_the_file_when_it_returns)
{
    int64_t id;

    begin(1, commits);
    id = submit();
    gate_await(&act.gate, 1);
    ck_assert_int_eq(act.error, ROTA_OK);
    ck_assert_str_eq(job_says(id, "done"), "7");
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_int_eq(outcome.cursor, 7);
}
END_TEST

static enum rota_error
commits_late(struct ctx *ctx, struct rota_job *job)
{
    (void)held(ctx, job);
    act.error = rota_job_commit(job, 7);
    (void)snprintf(act.words, sizeof(act.words), "%s", rota_errmsg(NULL));
    return ROTA_OK;
}

START_TEST(a_run_that_was_overtaken_commits_nothing_and_records_no_end)
{
    int64_t id;

    begin(1, commits_late);
    id = submit_running(1);
    sql_run(queue, "UPDATE _running SET lease = lease + 1");
    gate_open(&act.gate);
    AWAIT(was_logged(id, "overtaken"));
    ck_assert_int_eq(act.error, ROTA_LOST);
    ck_assert_ptr_nonnull(strstr(act.words, "has taken over"));
    ck_assert_str_eq(job_says(id, "state, done"), "running|0");
}
END_TEST

static enum rota_error
advances_until_stopped(struct ctx *ctx, struct rota_job *job)
{
    atomic_fetch_add(&act.runs, 1);
    for (int i = 1; ctx_sleep(ctx, ROTA_MS(1)) == ROTA_OK; i++)
        rota_job_advance(job, i);
    note_end(ctx, job);
    return ctx_err(ctx);
}

START_TEST(a_run_that_was_overtaken_is_told)
{
    int64_t id;

    begin(1, advances_until_stopped);
    id = submit_running(1);
    sql_run(queue, "UPDATE _running SET lease = lease + 1");
    AWAIT(was_logged(id, "overtaken"));
    ck_assert_int_eq(act.stop, ROTA_STOP_LOST);
    ck_assert_int_eq(act.code, ROTA_LOST);
    ck_assert_str_eq(act.words, rota_strerror(ROTA_LOST));
}
END_TEST

/* -- Results -------------------------------------------------------------- */

static const struct {
    const char *data;
    size_t size;
    enum rota_error answer;
    const char *says; /* type and bytes in the file */
} results[] = {
    {"{\"n\":1}", 7, ROTA_OK, "text|7B226E223A317D"},
    {"a\0b", 3, ROTA_OK, "blob|610062"},
    {"\xff", 1, ROTA_OK, "blob|FF"},
    {"", 0, ROTA_OK, "text|"},
    {"kept", 4, ROTA_FAILED, "text|6B657074"},
    {"kept", 4, ROTA_FATAL, "text|6B657074"},
};

static enum rota_error
leaves_a_result(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    if (rota_job_result(job, "the first", 9) != ROTA_OK)
        return ROTA_NOMEM;
    if (rota_job_result(job, results[act.number].data,
                        results[act.number].size) != ROTA_OK)
        return ROTA_NOMEM;
    return results[act.number].answer;
}

START_TEST(the_last_result_is_kept_whatever_became_of_the_job)
{
    int64_t id;

    act.number = _i;
    begin(1, leaves_a_result);
    id = submit();
    wait_for(id);
    ck_assert_str_eq(job_says(id, "typeof(result), hex(result)"),
                     results[_i].says);
}
END_TEST

static enum rota_error
fails_at_length(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    act.error = rota_job_fail(job, ROTA_FATAL, "%05000d", 7);
    return rota_job_fail(job, act.error, "%-5000d.", 7);
}

START_TEST(the_last_message_counts_and_a_long_one_is_cut)
{
    int64_t id;

    begin(1, fails_at_length);
    id = submit();
    wait_for(id);
    ck_assert_int_eq(act.error, ROTA_FATAL);
    ck_assert_str_eq(job_says(id, "error, length(CAST(cause AS BLOB)),"
                                  " replace(cause, ' ', '')"),
                     "FATAL|4096|7\u2026.");
    ck_assert_int_eq(outcome.message[0], '7');
    ck_assert_uint_eq(strlen(outcome.message), sizeof(outcome.message) - 1);
}
END_TEST

/* -- Databases ------------------------------------------------------------ */

static char target[128];

static enum rota_error
sql_here(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? ROTA_OK
                                                                : ROTA_STORE;
}

static enum rota_error
insert_item(sqlite3 *db, void *arg)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "INSERT INTO t VALUES(%jd)",
                   (intmax_t) * (int64_t *)arg);
    return sql_here(db, sql);
}

static enum rota_error
insert_and_fail(sqlite3 *db, void *arg)
{
    enum rota_error error = insert_item(db, arg);

    return error == ROTA_OK ? ROTA_FULL : error;
}

/* The job's target, as it stands. */
static enum rota_error
take_up(struct rota_job *job, sqlite3 **ret_db, int64_t *ret_cursor)
{
    enum rota_error error = rota_job_db(job, target, ret_db);

    if (error == ROTA_OK)
        error = sql_here(*ret_db, "CREATE TABLE IF NOT EXISTS t(item)");
    if (error == ROTA_OK)
        error = rota_job_resume(job, *ret_db, ret_cursor);
    return error;
}

static void
begin_with_target(rota_job_fn *fn)
{
    (void)snprintf(target, sizeof(target), "%s", in_scratch("target.db"));
    begin(1, fn);
}

/* Ten items; the first run is stopped after the fifth. */
static enum rota_error
steps_in_two_runs(struct ctx *ctx, struct rota_job *job)
{
    int64_t cursor = -1;
    sqlite3 *db;
    enum rota_error error = take_up(job, &db, &cursor);

    act.number = cursor;
    for (; error == ROTA_OK && cursor < 10; cursor++) {
        if (cursor == 5 && rota_job_lease(job) == 1)
            return until_stopped(ctx, job);
        error = rota_job_step(job, db, cursor + 1, insert_item, &cursor);
    }
    return error;
}

START_TEST(steps_are_made_exactly_once_across_runs)
{
    int64_t id;

    begin_with_target(steps_in_two_runs);
    id = submit_running(1);
    ck_assert_str_eq(sql_text(target, "SELECT count(*), lease, cursor"
                                      " FROM t, _rota_cursor"),
                     "5|1|5");
    close_queue();
    /* the queue's own cursor is a copy to look at */
    sql_run(queue, "UPDATE _progress SET cursor = 2");
    begin_with_target(steps_in_two_runs);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.number, 5);
    ck_assert_int_eq(outcome.cursor, 10);
    ck_assert_str_eq(sql_text(target, "SELECT count(*), count(DISTINCT item),"
                                      " min(item), max(item) FROM t"),
                     "10|10|0|9");
    ck_assert_str_eq(
        sql_text(target, "SELECT queue, job, lease, cursor FROM _rota_cursor"),
        sql_text(queue, "SELECT value, 1, 2, 10 FROM _meta"
                        " WHERE key = 'instance'"));
}
END_TEST

static enum rota_error
fails_a_step(struct ctx *ctx, struct rota_job *job)
{
    int64_t cursor, item = 1;
    sqlite3 *db;
    enum rota_error error = take_up(job, &db, &cursor);

    (void)ctx;
    if (error == ROTA_OK)
        error = rota_job_step(job, db, 1, insert_item, &item);
    if (error == ROTA_OK)
        act.error = rota_job_step(job, db, 2, insert_and_fail, &item);
    act.number = rota_job_cursor(job);
    return error;
}

START_TEST(a_step_that_fails_leaves_nothing)
{
    begin_with_target(fails_a_step);
    wait_for(submit());
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.error, ROTA_FULL);
    ck_assert_int_eq(act.number, 1);
    ck_assert_str_eq(sql_text(target, "SELECT count(*), cursor"
                                      " FROM t, _rota_cursor"),
                     "1|1");
}
END_TEST

static enum rota_error
steps_too_late(struct ctx *ctx, struct rota_job *job)
{
    int64_t cursor, item = 1;
    sqlite3 *db;
    enum rota_error error = take_up(job, &db, &cursor);

    if (error != ROTA_OK)
        return act.error = error;
    (void)held(ctx, job);
    act.error = rota_job_step(job, db, 1, insert_item, &item);
    (void)snprintf(act.words, sizeof(act.words), "%s", rota_errmsg(NULL));
    return act.error;
}

START_TEST(a_run_that_has_lost_its_target_writes_nothing_into_it)
{
    int64_t id;

    begin_with_target(steps_too_late);
    id = submit_running(2);
    gate_await(&act.gate, 1);
    sql_run(target, "UPDATE _rota_cursor SET lease = 9");
    gate_open(&act.gate);
    await_state(id, "scheduled");
    ck_assert_int_eq(act.error, ROTA_LOST);
    ck_assert_ptr_nonnull(strstr(act.words, "has taken over"));
    hurry(id);
    wait_for(id); /* run 2 is not run 9 either */
    assert_outcome(ROTA_JOB_FAILED, ROTA_LOST, 2, rota_strerror(ROTA_LOST));
    ck_assert_int_eq(act.runs, 1); /* it could not even take up */
    ck_assert_str_eq(sql_text(target, "SELECT count(item), lease, cursor"
                                      " FROM _rota_cursor LEFT JOIN t"),
                     "0|9|0");
}
END_TEST

START_TEST(a_cancelled_run_begins_no_step)
{
    int64_t id;

    begin_with_target(steps_too_late);
    id = submit_running(1);
    gate_await(&act.gate, 1);
    ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_OK);
    gate_open(&act.gate);
    wait_for(id);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "enough");
    ck_assert_int_eq(act.error, ROTA_CANCELED);
    ck_assert_str_eq(act.words, "enough");
    ck_assert_int_eq(sql_int(target, "SELECT count(*) FROM t"), 0);
}
END_TEST

#define MISUSES 5
static enum rota_error misuses[MISUSES];

static enum rota_error
misuses_databases(struct ctx *ctx, struct rota_job *job)
{
    int64_t cursor = 0;
    sqlite3 *db, *own = NULL;
    enum rota_error error = rota_job_db(job, target, &db);

    (void)ctx;
    if (error != ROTA_OK)
        return error;
    misuses[0] = rota_job_db(job, queue, &own);
    misuses[1] = rota_job_step(job, db, 1, insert_item, &cursor);
    if (sqlite3_open(queue, &own) == SQLITE_OK)
        misuses[2] = rota_job_resume(job, own, &cursor);
    (void)sqlite3_close(own);
    if ((error = sql_here(db, "BEGIN")) == ROTA_OK)
        misuses[3] = rota_job_resume(job, db, &cursor);
    if (error == ROTA_OK && (error = sql_here(db, "ROLLBACK")) == ROTA_OK)
        error = rota_job_resume(job, db, &cursor);
    if (error == ROTA_OK && (error = sql_here(db, "BEGIN")) == ROTA_OK)
        misuses[4] = rota_job_step(job, db, 1, insert_item, &cursor);
    return error;
}

START_TEST(databases_that_are_misused_are_refused)
{
    begin_with_target(misuses_databases);
    wait_for(submit());
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    for (int i = 0; i < MISUSES; i++)
        ck_assert_msg(misuses[i] == ROTA_INVALID, "%d: %s", i,
                      rota_strerror(misuses[i]));
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM sqlite_schema"
                                    " WHERE name = '_rota_cursor'"),
                     0);
}
END_TEST

/* How many descriptors are open on files whose paths begin with prefix. */
static int
descriptors_on(const char *prefix)
{
    DIR *fds = opendir("/proc/self/fd");
    struct dirent *entry;
    char link[300], path[300];
    int n = 0;

    ck_assert_ptr_nonnull(fds);
    while ((entry = readdir(fds)) != NULL) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%s", entry->d_name);
        memset(path, 0, sizeof(path));
        n += readlink(link, path, sizeof(path) - 1) > 0 &&
             strncmp(path, prefix, strlen(prefix)) == 0;
    }
    closedir(fds);
    return n;
}

static enum rota_error
leaves_a_mess(struct ctx *ctx, struct rota_job *job)
{
    sqlite3_stmt *statement;
    sqlite3 *db, *other;
    enum rota_error error = rota_job_db(job, target, &db);

    if (error == ROTA_OK)
        error = rota_job_db(job, target, &other);
    if (error == ROTA_OK)
        error = sql_here(other, "CREATE TABLE t(item)");
    if (error == ROTA_OK)
        error = sql_here(db, "BEGIN; INSERT INTO t VALUES(1)");
    if (error == ROTA_OK &&
        (sqlite3_prepare_v2(db, "SELECT * FROM t", -1, &statement, NULL) !=
             SQLITE_OK ||
         sqlite3_step(statement) != SQLITE_ROW))
        error = ROTA_STORE;
    (void)held(ctx, job);
    return error;
}

START_TEST(a_jobs_databases_are_closed_and_rolled_back_when_it_returns)
{
    int64_t id;

    begin_with_target(leaves_a_mess);
    id = submit_running(1);
    gate_await(&act.gate, 1);
    ck_assert_int_ge(descriptors_on(target), 2);
    gate_open(&act.gate);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(descriptors_on(target), 0);
    ck_assert_int_eq(sql_int(target, "SELECT count(*) FROM t"), 0);
}
END_TEST

static enum rota_error
waits_for_a_lock(struct ctx *ctx, struct rota_job *job)
{
    sqlite3 *db;
    enum rota_error error = rota_job_db(job, target, &db);

    if (error != ROTA_OK)
        return error;
    atomic_fetch_add(&act.runs, 1);
    act.number = sqlite3_exec(db, "CREATE TABLE t(item)", NULL, NULL, NULL);
    return ctx_err(ctx);
}

START_TEST(a_wait_for_a_database_lock_ends_with_the_job)
{
    sqlite3 *locker;
    int64_t id;

    begin_with_target(waits_for_a_lock);
    ck_assert_int_eq(sqlite3_open(target, &locker), SQLITE_OK);
    ck_assert_int_eq(sql_here(locker, "BEGIN EXCLUSIVE"), ROTA_OK);
    id = submit_running(1);
    ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_OK);
    wait_for(id);
    /* whether it had begun to wait when the cancel came, nobody can tell */
    ck_assert((act.number & 0xff) == SQLITE_BUSY ||
              (act.number & 0xff) == SQLITE_INTERRUPT);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "context canceled");
    ck_assert_int_eq(sqlite3_close(locker), SQLITE_OK);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void
add_jobs(TCase *t)
{
    tcase_add_test(t, a_job_knows_what_it_is);
    tcase_add_test(t, progress_reaches_the_file_while_the_job_runs);
    tcase_add_loop_test(t, percent_is_from_0_to_100_or_not_there, 0,
                        sizeof(strange) / sizeof(strange[0]));
    tcase_add_test(t,
                   the_first_advance_reaches_the_file_though_no_flush_is_due);
    tcase_add_test(t, the_last_of_many_advances_is_in_the_file_at_the_end);
    tcase_add_test(t, a_commit_is_in_the_file_when_it_returns);
    tcase_add_test(t,
                   a_run_that_was_overtaken_commits_nothing_and_records_no_end);
    tcase_add_test(t, a_run_that_was_overtaken_is_told);
    tcase_add_loop_test(t, the_last_result_is_kept_whatever_became_of_the_job,
                        0, COUNT(results));
    tcase_add_test(t, the_last_message_counts_and_a_long_one_is_cut);
}

static void
add_databases(TCase *t)
{
    tcase_add_test(t, steps_are_made_exactly_once_across_runs);
    tcase_add_test(t, a_step_that_fails_leaves_nothing);
    tcase_add_test(t, a_run_that_has_lost_its_target_writes_nothing_into_it);
    tcase_add_test(t, a_cancelled_run_begins_no_step);
    tcase_add_test(t, databases_that_are_misused_are_refused);
    tcase_add_test(t,
                   a_jobs_databases_are_closed_and_rolled_back_when_it_returns);
    tcase_add_test(t, a_wait_for_a_database_lock_ends_with_the_job);
}

int
main(void)
{
    Suite *suite = suite_create("jobs");

    add_jobs(stage_case(suite, "jobs"));
    add_databases(stage_case(suite, "databases"));
    return suite_run(suite);
}
