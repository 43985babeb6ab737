/*
 * "What a job is to wait for is said with it": unique keys, jobs that come
 * after others, children. Limits are in test_limits.c.
 *
 * Jobs are stepped through on the test's thread; where threads submit at once
 * they come through a gate, and need no further order.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"
#include "ties.h"

/* -- Unique keys ---------------------------------------------------------- */

static enum rota_error
submit_unique(const char *key, int64_t *ret_id)
{
    struct rota_submission submission = submission_of(NULL);

    submission.unique_key = key;
    return rota_submit(rota, &submission, ret_id);
}

START_TEST(who_submits_a_key_again_is_told_the_job_that_stands)
{
    int64_t id = 0, again = 0;

    open_with(1, fails_if_told);
    ck_assert_int_eq(submit_unique("a", &id), ROTA_OK);
    ck_assert_int_eq(submit_unique("a", &again), ROTA_EXISTS);
    ck_assert_int_eq(again, id);
    ck_assert_str_eq(rota_errmsg(rota),
                     "job 1 has the unique key a and has not ended");
    ck_assert_str_eq(
        sql_try(queue, "INSERT INTO submit(kind, unique_key) VALUES('k', 'a')"),
        "submit: a job with this unique_key is there and has not ended; the"
        " view unique_keys says which");
    ck_assert_str_eq(sql_text(queue, "SELECT * FROM unique_keys"), "a|1");
    assert_says(id, "unique_key", "a");
    ck_assert_int_eq(submit_unique("A", &again), ROTA_OK);
    ck_assert_int_eq(again, id + 1);
}
END_TEST

static const struct {
    const char *args;
    bool cancel;
} ends[] = {{"", false}, {"fail", false}, {"", true}};

START_TEST(a_key_is_free_once_its_job_has_ended_however)
{
    struct rota_submission submission = submission_of(ends[_i].args);
    int64_t id, again = 0;

    open_with(1, fails_if_told);
    submission.unique_key = "a";
    id = submit_as(&submission);
    if (ends[_i].cancel)
        ck_assert_int_eq(rota_cancel(rota, id, NULL, NULL), ROTA_OK);
    else
        ck_assert_int_eq(step(), id);
    ck_assert_int_eq(submit_unique("a", &again), ROTA_OK);
    ck_assert_int_eq(again, id + 1);
    ck_assert_str_eq(sql_text(queue, "SELECT * FROM unique_keys"), "a|2");
}
END_TEST

#define RIVALS 64
static struct gate all_at_once = GATE_INIT;
static atomic_int made;
static int64_t answers[RIVALS];

static void *
submits_the_key(void *arg)
{
    int64_t *answer = arg;
    enum rota_error error;

    gate_pass(&all_at_once);
    error = submit_unique("a", answer);
    if (error == ROTA_OK)
        atomic_fetch_add(&made, 1);
    return error == ROTA_OK || error == ROTA_EXISTS ? NULL : arg;
}

START_TEST(of_64_threads_with_one_key_one_makes_a_job_and_all_have_its_id)
{
    pthread_t threads[RIVALS];

    open_with(1, fails_if_told);
    for (int i = 0; i < RIVALS; i++)
        threads[i] = thread_new(submits_the_key, &answers[i]);
    gate_await(&all_at_once, RIVALS);
    gate_open(&all_at_once);
    for (int i = 0; i < RIVALS; i++)
        ck_assert_ptr_null(thread_join(threads[i]));
    ck_assert_int_eq(made, 1);
    for (int i = 0; i < RIVALS; i++)
        ck_assert_int_eq(answers[i], answers[0]);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
}
END_TEST

START_TEST(a_retry_waits_until_no_other_job_has_its_key)
{
    int64_t id = 0, rival = 0;

    open_with(1, fails_if_told);
    ck_assert_int_eq(submit_unique("a", &id), ROTA_OK);
    ck_assert_int_eq(step(), id);
    ck_assert_int_eq(submit_unique("a", &rival), ROTA_OK);
    ck_assert_int_eq(rota_retry(rota, id, false), ROTA_EXISTS);
    ck_assert_str_eq(rota_errmsg(rota),
                     "job 2 has its unique key and has not ended");
    ck_assert_str_eq(sql_try(queue, "INSERT INTO retry(job) VALUES(1)"),
                     "retry: another job has its unique_key; the view"
                     " unique_keys says which");
    assert_says(id, "state", "succeeded");
    ck_assert_int_eq(rota_cancel(rota, rival, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_retry(rota, id, false), ROTA_OK);
    ck_assert_int_eq(rota_retry(rota, rival, false), ROTA_EXISTS);
    ck_assert_int_eq(submit_unique("a", &rival), ROTA_EXISTS);
    ck_assert_int_eq(rival, id);
    ck_assert_int_eq(step(), id);
}
END_TEST

START_TEST(of_many_submissions_all_or_none_are_made)
{
    struct rota_submission all[3] = {submission_of("1"), submission_of("2"),
                                     submission_of("3")};
    int64_t ids[3] = {0}, missing = 99, id = 0;

    open_with(1, fails_if_told);
    ck_assert_int_eq(submit_unique("a", &id), ROTA_OK);
    all[0].batch = "new";
    all[2].unique_key = "a";
    ck_assert_int_eq(rota_submit_many(rota, all, 3, ids), ROTA_EXISTS);
    ck_assert_int_eq(ids[0], id);
    all[0].unique_key = all[2].unique_key = "twice";
    ck_assert_int_eq(rota_submit_many(rota, all, 3, NULL), ROTA_EXISTS);
    all[2].unique_key = NULL;
    all[2].after = &missing;
    all[2].n_after = 1;
    ck_assert_int_eq(rota_submit_many(rota, all, 3, NULL), ROTA_NOTFOUND);
    ck_assert_str_eq(rota_errmsg(rota),
                     "after names job 99, which is not there");
    all[2].n_after = 0;
    all[2].parent = 98;
    ck_assert_int_eq(rota_submit_many(rota, all, 3, NULL), ROTA_NOTFOUND);
    ck_assert_str_eq(rota_errmsg(rota),
                     "parent names job 98, which is not there");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _batch"), 0);
    all[2].parent = 0;
    ck_assert_int_eq(rota_submit_many(rota, all, 3, ids), ROTA_OK);
    ck_assert_int_eq(ids[2], ids[0] + 2);
    assert_says(ids[0], "batch, unique_key", "new|twice");
}
END_TEST

/* -- After ---------------------------------------------------------------- */

START_TEST(a_job_waits_until_all_that_it_comes_after_have_succeeded)
{
    int64_t a, b, c;

    open_with(1, fails_if_told);
    a = submit();
    b = submit();
    c = submit_after(a, b);
    assert_says(c, "state, status, why",
                "blocked|blocked|waits for job 1 and another");
    ck_assert_int_eq(step(), a);
    assert_says(c, "state, why", "blocked|waits for job 2");
    ck_assert_str_eq(sql_text(queue, "SELECT * FROM dependencies ORDER BY 2"),
                     "3|1|1\n3|2|0");
    ck_assert_int_eq(step(), b);
    assert_says(c, "state", "ready");
    ck_assert_int_eq(step(), c);
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(step_all(), 0);
    assert_says(submit_after(a, c), "state", "ready");
}
END_TEST

START_TEST(what_comes_after_a_failure_is_skipped_and_revived_by_its_retry)
{
    int64_t a, b, c, late;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    b = submit_after(a, 0);
    c = submit_after(b, 0);
    ck_assert_int_eq(step(), a);
    ck_assert_int_eq(step(), 0);
    assert_says(b, "state, why, started_at IS NULL",
                "cancelled|job 1, which it waits for, failed|1");
    assert_says(c, "state, why",
                "cancelled|job 2, which it waits for, was cancelled");
    late = submit_after(a, 0);
    ck_assert_int_eq(step(), 0);
    assert_says(late, "state", "cancelled");
    act.number = 1;
    ck_assert_int_eq(rota_retry(rota, a, false), ROTA_OK);
    ck_assert_int_eq(step(), a);
    assert_says(c, "state, why", "blocked|waits for job 2");
    ck_assert_int_eq(step_all(), 3);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"),
        4);
}
END_TEST

/* More than are settled in one cycle. */
START_TEST(all_that_was_skipped_is_revived_though_the_retry_succeeds_at_once)
{
    enum { N = 2500 };
    struct rota_submission *all = calloc(N, sizeof(*all));
    int64_t *ids = calloc(N, sizeof(*ids)), failed;

    open_with(1, fails_if_told);
    failed = submit_text("fail");
    for (int i = 0; i < N; i++) {
        all[i] = submission_of("x");
        all[i].after = &failed;
        all[i].n_after = 1;
    }
    ck_assert_int_eq(rota_submit_many(rota, all, N, ids), ROTA_OK);
    for (int i = 0; i < 4; i++)
        (void)step_all(); /* each settles some more */
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE state = 'cancelled'"),
                     N);
    act.number = 1; /* it does not fail any more */
    ck_assert_int_eq(rota_retry(rota, failed, false), ROTA_OK);
    for (int i = 0; i < 4; i++)
        (void)step_all(); /* each settles some more */
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE state = 'succeeded'"),
                     N + 1);
    free(all);
    free(ids);
}
END_TEST

START_TEST(what_was_cancelled_by_hand_is_not_revived)
{
    int64_t a, b;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    b = submit_after(a, 0);
    ck_assert_int_eq(rota_cancel(rota, b, "not this", NULL), ROTA_OK);
    ck_assert_int_eq(step(), a);
    ck_assert_int_eq(step(), 0);
    act.number = 1;
    ck_assert_int_eq(rota_retry(rota, a, false), ROTA_OK);
    ck_assert_int_eq(step_all(), 1);
    assert_says(b, "state, why", "cancelled|not this");
}
END_TEST

START_TEST(a_retry_of_what_was_skipped_alone_is_skipped_again)
{
    int64_t a, b;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    b = submit_after(a, 0);
    ck_assert_int_eq(step_all(), 1);
    ck_assert_int_eq(rota_retry(rota, b, false), ROTA_OK);
    ck_assert_int_eq(step(), 0);
    assert_says(b, "state, why", "cancelled|job 1, which it waits for, failed");
    sql_run(queue, "INSERT INTO retry(job) VALUES(2)");
    ck_assert_int_eq(step(), 0);
    assert_says(b, "state, why", "cancelled|job 1, which it waits for, failed");
    act.number = 1;
    /* both together, in whatever order, and it waits */
    sql_run(queue, "INSERT INTO retry(job) VALUES(2), (1)");
    ck_assert_int_eq(step_all(), 2);
    assert_says(b, "state", "succeeded");
}
END_TEST

START_TEST(what_is_revived_is_skipped_anew_for_another_failure)
{
    int64_t a, b, c;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    b = submit_text("fail");
    c = submit_after(a, b);
    ck_assert_int_eq(step_all(), 2);
    act.number = 1;
    ck_assert_int_eq(rota_retry(rota, a, false), ROTA_OK);
    ck_assert_int_eq(step_all(), 1);
    assert_says(c, "state, why", "cancelled|job 2, which it waits for, failed");
    ck_assert_int_eq(rota_retry(rota, b, false), ROTA_OK);
    ck_assert_int_eq(step_all(), 2);
    assert_says(c, "state", "succeeded");
}
END_TEST

START_TEST(a_cancelled_job_skips_what_comes_after_it)
{
    int64_t a, b;

    open_with(1, fails_if_told);
    a = submit();
    b = submit_after(a, 0);
    ck_assert_int_eq(rota_cancel(rota, a, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(step(), 0);
    assert_says(b, "state, why",
                "cancelled|job 1, which it waits for, was cancelled");
}
END_TEST

START_TEST(all_that_come_after_a_job_once_it_has_failed_are_skipped)
{
    struct rota_submission latecomers[2];
    int64_t failed, ids[2];

    open_with(1, fails_if_told);
    failed = submit_text("fail");
    (void)step_all();
    for (int i = 0; i < 2; i++) {
        latecomers[i] = submission_of("x");
        latecomers[i].after = &failed;
        latecomers[i].n_after = 1;
    }
    ck_assert_int_eq(rota_submit_many(rota, latecomers, 2, ids), ROTA_OK);
    (void)step_all();
    for (int i = 0; i < 2; i++)
        assert_says(ids[i], "state", "cancelled");
}
END_TEST

START_TEST(what_comes_after_keeps_its_time)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t a;

    open_with(1, fails_if_told);
    a = submit();
    submission.after = &a;
    submission.n_after = 1;
    submission.run_at = INT64_C(99999999999999);
    (void)submit_as(&submission);
    ck_assert_int_eq(step_all(), 1);
    assert_says(2, "state, run_at", "scheduled|99999999999999");
}
END_TEST

START_TEST(what_is_revived_keeps_its_time)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t a;

    open_with(1, fails_if_told);
    a = submit_as(&(struct rota_submission)ROTA_SUBMISSION_INIT("other"));
    submission.after = &a;
    submission.n_after = 1;
    submission.run_at = INT64_C(99999999999999);
    (void)submit_as(&submission);
    ck_assert_int_eq(rota_cancel(rota, a, NULL, NULL), ROTA_OK);
    assert_says(2, "state", "cancelled");
    ck_assert_int_eq(rota_retry(rota, a, false), ROTA_OK);
    ck_assert_int_eq(step_all(), 0);
    assert_says(2, "state, run_at", "blocked|99999999999999");
}
END_TEST

START_TEST(jobs_by_the_thousand_come_after_one_and_one_after_them)
{
    int n = MANY(20000);

    open_with(1, fails_if_told);
    sql_run(queue,
            "BEGIN IMMEDIATE;"
            " INSERT INTO submit(kind) VALUES('k');"
            " WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n"
            "  WHERE i < %d) INSERT INTO submit(kind, after)"
            "  SELECT 'k', 1 FROM n;"
            " INSERT INTO submit(kind, after) SELECT 'k',"
            "  '[' || group_concat(id) || ']' FROM jobs WHERE id > 1; COMMIT",
            n);
    start_workers();
    wait_for(n + 2);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(act.runs, n + 2);
    ck_assert_int_eq(
        sql_int(queue, "SELECT max(finished_at) FROM jobs WHERE id < %d",
                n + 2) <=
            sql_int(queue, "SELECT started_at FROM jobs WHERE id = %d", n + 2),
        true);
}
END_TEST

static const struct {
    const char *after, *words;
} bad_after[] = {
    {"'1a'", "submit: after must be a job's id or a JSON array of ids"},
    {"'[1'", "submit: after must be a job's id or a JSON array of ids"},
    {"'[\"1\"]'", "submit: after must be a job's id or a JSON array of ids"},
    {"'[1,[1]]'", "submit: after must be a job's id or a JSON array of ids"},
    {"'{\"a\":1}'", "submit: after must be a job's id or a JSON array of ids"},
    {"1.5", "submit: after must be a job's id or a JSON array of ids"},
    {"x'31'", "submit: after must be a job's id or a JSON array of ids"},
    {"2", "submit: after names a job that is not there"},
    {"'[1, 2]'", "submit: after names a job that is not there"},
};

START_TEST(after_in_plain_sql_is_an_id_or_an_array_of_ids)
{
    open_with(1, fails_if_told);
    (void)submit();
    ck_assert_str_eq(sql_try(queue,
                             "INSERT INTO submit(kind, after) VALUES('k', %s)",
                             bad_after[_i].after),
                     bad_after[_i].words);
    sql_run(queue,
            "INSERT INTO submit(kind, after) VALUES('k', 1), ('k', '[]'),"
            " ('k', '[1]'), ('k', '[1, 2, 1]')");
    ck_assert_str_eq(sql_text(queue, "SELECT id, state FROM jobs ORDER BY id"),
                     "1|ready\n2|blocked\n3|ready\n4|blocked\n5|blocked");
}
END_TEST

/* as the languages bind it that have one type for all numbers */
START_TEST(after_may_be_an_id_that_came_as_a_real_number_or_a_text)
{
    open_queue(1);
    sql_run(queue, "INSERT INTO submit(kind) VALUES('k');"
                   "UPDATE sqlite_sequence SET seq = 9007199254740000"
                   " WHERE name = 'submit';"
                   "INSERT INTO submit(kind) VALUES('k')");
    sql_run(queue, "INSERT INTO submit(kind, after) VALUES('k', 1.0),"
                   " ('k', '1'), ('k', 9007199254740001.0)");
    ck_assert_str_eq(sql_text(queue, "SELECT waits_for, typeof(waits_for)"
                                     " FROM dependencies ORDER BY job"),
                     "1|integer\n1|integer\n9007199254740001|integer");
}
END_TEST

/* -- Children ------------------------------------------------------------- */

START_TEST(a_cancel_reaches_the_children_and_theirs)
{
    int64_t parent, child, grandchild, waiting;

    begin(3, until_stopped);
    parent = submit_running(1);
    child = submit_child(parent);
    grandchild = submit_child(child);
    waiting = submit_child(parent);
    AWAIT(atomic_load(&act.runs) == 3);
    ck_assert_int_eq(rota_cancel(rota, parent, "enough", NULL), ROTA_OK);
    wait_for(waiting);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 0,
                   "its parent, job 1, was cancelled");
    wait_for(grandchild);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1,
                   "its parent, job 2, was cancelled");
    wait_for(parent);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "enough");
    assert_says(child, "parent, state", "1|cancelled");
}
END_TEST

START_TEST(a_child_that_comes_after_the_cancel_is_cancelled_too)
{
    int64_t parent, child;

    begin(2, held);
    parent = submit_running(1);
    ck_assert_int_eq(rota_cancel(rota, parent, NULL, NULL), ROTA_OK);
    child = submit_child(parent);
    AWAIT(strcmp(job_says(child, "state = 'cancelled'"
                                 " OR cancel_requested_at IS NOT NULL"),
                 "1") == 0);
    gate_open(&act.gate);
    wait_for(parent);
    assert_says(parent, "state", "succeeded");
}
END_TEST

/* By the hundred, so that they are gone through in several goes, in turns. */
START_TEST(a_cancel_reaches_its_children_and_what_comes_after_it_alike)
{
    open_with(1, fails_if_told);
    sql_run(queue,
            "BEGIN IMMEDIATE;"
            " INSERT INTO submit(kind) VALUES('k');"
            " WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1"
            "  FROM n WHERE i < 600) INSERT INTO submit(kind, after,"
            "  parent) SELECT 'k', nullif(i %% 2, 0), nullif(1 - i %% 2, 0)"
            "  FROM n; COMMIT");
    cancel(1, NULL, ROTA_CANCEL_DONE);
    ck_assert_int_eq(step_all(), 0);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE state = 'cancelled'"),
                     601);
}
END_TEST

START_TEST(a_parent_that_ends_by_itself_leaves_its_children)
{
    int64_t parent;

    open_with(1, fails_if_told);
    parent = submit_text("fail");
    (void)submit_child(parent);
    ck_assert_int_eq(step_all(), 2);
    assert_says(2, "state", "succeeded");
}
END_TEST

/* A job that submits its own, as the manual shows. */
static enum rota_error
has_children(struct ctx *ctx, struct rota_job *job)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    enum rota_error error = ROTA_OK;

    if (atomic_fetch_add(&act.runs, 1) > 0)
        return until_stopped(ctx, job);
    submission.parent = rota_job_id(job);
    for (int i = 0; error == ROTA_OK && i < 5; i++)
        error = rota_submit(rota_job_rota(job), &submission, NULL);
    act.error = error;
    return until_stopped(ctx, job);
}

START_TEST(a_job_may_submit_children)
{
    int64_t parent;

    begin(3, has_children);
    parent = submit();
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs WHERE parent = 1") == 5);
    ck_assert_int_eq(rota_cancel(rota, parent, NULL, NULL), ROTA_OK);
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs"
                         " WHERE state = 'cancelled'") == 6);
    ck_assert_int_eq(act.error, ROTA_OK);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_unique(TCase *t)
{
    tcase_add_test(t, who_submits_a_key_again_is_told_the_job_that_stands);
    tcase_add_loop_test(t, a_key_is_free_once_its_job_has_ended_however, 0, 3);
    tcase_add_test(
        t, of_64_threads_with_one_key_one_makes_a_job_and_all_have_its_id);
    tcase_add_test(t, a_retry_waits_until_no_other_job_has_its_key);
    tcase_add_test(t, of_many_submissions_all_or_none_are_made);
}

static void
add_after(TCase *t)
{
    tcase_add_test(t, a_job_waits_until_all_that_it_comes_after_have_succeeded);
    tcase_add_test(
        t, what_comes_after_a_failure_is_skipped_and_revived_by_its_retry);
    tcase_add_test(
        t, all_that_was_skipped_is_revived_though_the_retry_succeeds_at_once);
    tcase_add_test(t, what_was_cancelled_by_hand_is_not_revived);
    tcase_add_test(t, a_retry_of_what_was_skipped_alone_is_skipped_again);
    tcase_add_test(t, what_is_revived_is_skipped_anew_for_another_failure);
    tcase_add_test(t, a_cancelled_job_skips_what_comes_after_it);
    tcase_add_test(t, all_that_come_after_a_job_once_it_has_failed_are_skipped);
    tcase_add_test(t, what_comes_after_keeps_its_time);
    tcase_add_test(t, what_is_revived_keeps_its_time);
    tcase_add_test(t, jobs_by_the_thousand_come_after_one_and_one_after_them);
    tcase_add_loop_test(t, after_in_plain_sql_is_an_id_or_an_array_of_ids, 0,
                        (int)(sizeof(bad_after) / sizeof(*bad_after)));
    tcase_add_test(t, after_may_be_an_id_that_came_as_a_real_number_or_a_text);
}

static void
add_children(TCase *t)
{
    tcase_add_test(t, a_cancel_reaches_the_children_and_theirs);
    tcase_add_test(t, a_child_that_comes_after_the_cancel_is_cancelled_too);
    tcase_add_test(t,
                   a_cancel_reaches_its_children_and_what_comes_after_it_alike);
    tcase_add_test(t, a_parent_that_ends_by_itself_leaves_its_children);
    tcase_add_test(t, a_job_may_submit_children);
}

int
main(void)
{
    Suite *suite = suite_create("ties");

    add_unique(stage_case(suite, "unique"));
    add_after(stage_case(suite, "after"));
    add_children(stage_case(suite, "children"));
    return suite_run(suite);
}
