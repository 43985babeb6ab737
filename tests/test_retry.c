/*
 * rota_retry(): a job that has ended is run again, with its attempts and at its
 * cursor or from the start; one that has not is left alone. What a retry does
 * to the jobs that come after is in test_ties.c.
 *
 * One test has two threads, which need no order.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"
#include "ties.h"

START_TEST(a_retried_job_runs_again_from_the_start_of_its_attempts)
{
    int64_t id;

    act.answer = ROTA_FATAL;
    begin(1, at_once);
    id = submit_attempts(2);
    wait_for(id);
    assert_outcome(ROTA_JOB_FAILED, ROTA_FATAL, 1, "failed for good");
    act.answer = ROTA_OK;
    if (_i == 0)
        ck_assert_int_eq(rota_retry(rota, id, false), ROTA_OK);
    else
        sql_run(queue, "INSERT INTO retry(job) VALUES(%" PRId64 ")", id);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.runs, 2);
}
END_TEST

START_TEST(what_has_not_ended_is_not_retried_and_what_is_not_there_neither)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    ck_assert_int_eq(rota_retry(rota, id, false), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "has not ended"));
    ck_assert_int_eq(rota_retry(rota, id + 1, false), ROTA_NOTFOUND);
    cancel(id, NULL, ROTA_CANCEL_REQUESTED);
    wait_for(id);
}
END_TEST

static void *
retry_what_runs(void *arg)
{
    for (int i = 0; i < MANY(2000); i++)
        ck_assert_int_eq(rota_retry(rota, *(int64_t *)arg, false),
                         ROTA_INVALID);
    return NULL;
}

START_TEST(a_retry_that_is_refused_spoils_nothing_that_is_asked_beside_it)
{
    pthread_t thread;
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    thread = thread_new(retry_what_runs, &id);
    for (int i = 0; i < MANY(2000); i++)
        (void)submit();
    (void)thread_join(thread);
}
END_TEST

/* Gets to item 7 and fails. */
static enum rota_error
gets_to_7(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    act.number = rota_job_cursor(job);
    rota_job_advance(job, 7);
    return ROTA_FAILED;
}

START_TEST(a_retry_goes_on_at_the_cursor_or_from_the_start)
{
    open_with(1, gets_to_7);
    (void)submit();
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(rota_retry(rota, 1, false), ROTA_OK);
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(act.number, 7);
    ck_assert_int_eq(rota_retry(rota, 1, true), ROTA_OK);
    assert_says(1, "done", "0");
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(act.number, 0);
    sql_run(queue, "INSERT INTO retry(job, restart) VALUES(1, 1)");
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(act.number, 0);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM attempts WHERE job = 1"), 4);
}
END_TEST

static int items_done;

static enum rota_error
do_item(struct sqlite3 *db, void *arg)
{
    (void)db;
    (void)arg;
    items_done++;
    return ROTA_OK;
}

/* Three items, each in one transaction with the cursor in the other file. */
static enum rota_error
steps_to_3(struct ctx *ctx, struct rota_job *job)
{
    struct sqlite3 *db;
    int64_t cursor = 0;
    enum rota_error error = rota_job_db(job, in_scratch("target.db"), &db);

    (void)ctx;
    if (error == ROTA_OK)
        error = rota_job_resume(job, db, &cursor);
    for (; error == ROTA_OK && cursor < 3; cursor++)
        error = rota_job_step(job, db, cursor + 1, do_item, NULL);
    return error;
}

START_TEST(a_restart_begins_anew_in_the_target_file_too)
{
    items_done = 0;
    open_with(1, steps_to_3);
    (void)submit();
    ck_assert_int_eq(step(), 1);
    assert_says(1, "state, done", "succeeded|3");
    ck_assert_int_eq(items_done, 3);
    ck_assert_int_eq(rota_retry(rota, 1, true), ROTA_OK);
    ck_assert_int_eq(step(), 1);
    assert_says(1, "state, done", "succeeded|3");
    ck_assert_int_eq(items_done, 6);
    ck_assert_int_eq(rota_retry(rota, 1, false), ROTA_OK);
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(items_done, 6);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_retry(TCase *t)
{
    tcase_add_loop_test(
        t, a_retried_job_runs_again_from_the_start_of_its_attempts, 0, 2);
    tcase_add_test(
        t, what_has_not_ended_is_not_retried_and_what_is_not_there_neither);
    tcase_add_test(
        t, a_retry_that_is_refused_spoils_nothing_that_is_asked_beside_it);
    tcase_add_test(t, a_retry_goes_on_at_the_cursor_or_from_the_start);
    tcase_add_test(t, a_restart_begins_anew_in_the_target_file_too);
}

int
main(void)
{
    Suite *suite = suite_create("retry");

    add_retry(stage_case(suite, "retry"));
    return suite_run(suite);
}
