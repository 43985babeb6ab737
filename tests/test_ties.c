/*
 * What ties jobs to one another: unique keys, jobs that come after others,
 * children, limits; and what is asked of many jobs at once.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "scratch.h"
#include "stage.h"
#include "store/store.h"

/* How many run until none is ready. */
static int
step_all(void)
{
    int n = 0;

    while (step() != 0)
        n++;
    return n;
}

/* Those whose arguments begin so fail, unless act.number says that they do not
 * any more. */
static enum rota_error
fails_if_told(struct ctx *ctx, struct rota_job *job)
{
    const char *args = rota_job_args(job, NULL);

    (void)ctx;
    atomic_fetch_add(&act.runs, 1);
    if (strncmp(args, "fail", 4) == 0 && act.number == 0)
        return rota_job_fail(job, ROTA_FATAL, "broken");
    return ROTA_OK;
}

static struct rota_submission
submission_of(const char *args)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.args = args;
    submission.args_size = args == NULL ? 0 : strlen(args);
    return submission;
}

static int64_t
submit_text(const char *args)
{
    struct rota_submission submission = submission_of(args);

    return submit_as(&submission);
}

/* After a, and after b unless that is 0. */
static int64_t
submit_after(int64_t a, int64_t b)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t after[] = {a, b};

    submission.after = after;
    submission.n_after = b == 0 ? 1 : 2;
    return submit_as(&submission);
}

static void
assert_says(int64_t id, const char *columns, const char *expected)
{
    ck_assert_str_eq(job_says(id, columns), expected);
}

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

static int64_t
submit_child(int64_t parent)
{
    struct rota_submission submission = submission_of(NULL);

    submission.parent = parent;
    return submit_as(&submission);
}

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

/* -- Limits --------------------------------------------------------------- */

static atomic_int at_once_now, at_once_most;

static enum rota_error
counts_who_runs(struct ctx *ctx, struct rota_job *job)
{
    int now = atomic_fetch_add(&at_once_now, 1) + 1;
    int most = atomic_load(&at_once_most);

    (void)ctx;
    (void)job;
    while (now > most &&
           !atomic_compare_exchange_weak(&at_once_most, &most, now))
        continue;
    sched_yield();
    atomic_fetch_sub(&at_once_now, 1);
    atomic_fetch_add(&act.runs, 1);
    return ROTA_OK;
}

static void
submit_limited(int n, const char *key, const char *name)
{
    struct rota_submission submission = submission_of(NULL);

    submission.limit_key = key;
    submission.queue = name;
    for (int i = 0; i < n; i++)
        (void)submit_as(&submission);
}

START_TEST(of_a_queue_no_more_run_at_once_than_its_limit)
{
    at_once_most = 0;
    open_with(4, counts_who_runs);
    ck_assert_int_eq(rota_limit_queue(rota, "q", 2), ROTA_OK);
    start_workers();
    submit_limited(200, NULL, "q");
    AWAIT(atomic_load(&act.runs) == 200);
    ck_assert_int_le(at_once_most, 2);
    drain();
}
END_TEST

START_TEST(of_a_key_no_more_run_at_once_than_its_limit)
{
    at_once_most = 0;
    open_with(4, counts_who_runs);
    if (_i > 1)
        ck_assert_int_eq(rota_limit_key(rota, "a", _i), ROTA_OK);
    start_workers();
    submit_limited(100, "a", "q");
    submit_limited(100, "a", "r");
    drain();
    ck_assert_int_eq(act.runs, 200);
    ck_assert_int_le(at_once_most, _i);
}
END_TEST

START_TEST(a_job_that_a_limit_holds_says_so)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t id, keyed;

    open_with(4, held);
    ck_assert_int_eq(rota_limit_queue(rota, NULL, 1), ROTA_OK);
    start_workers();
    (void)submit_running(1);
    id = submit();
    assert_says(id, "state, why", "ready|its queue runs 1 at a time");
    ck_assert_str_eq(
        sql_text(queue, "SELECT queue, max_running, running FROM queues"),
        "default|1|1");
    sql_run(queue, "INSERT INTO set_limit(queue, max_running)"
                   " VALUES('default', NULL)");
    AWAIT(atomic_load(&act.runs) == 2);
    submission.limit_key = "x";
    (void)submit_as(&submission);
    AWAIT(atomic_load(&act.runs) == 3);
    keyed = submit_as(&submission);
    AWAIT(strcmp(job_says(keyed, "status"), "held") == 0);
    assert_says(keyed, "state, why", "ready|of the key x 1 runs at a time");
    ck_assert_str_eq(sql_text(queue, "SELECT * FROM limits"), "x|1|1|1");
    sql_run(queue, "INSERT INTO set_limit(limit_key, max_running)"
                   " VALUES('x', 2)");
    AWAIT(atomic_load(&act.runs) == 4);
    gate_open(&act.gate);
    drain();
}
END_TEST

START_TEST(a_key_at_its_limit_holds_up_no_other)
{
    int n = MANY(20000);
    int64_t other;

    open_with(2, held);
    sql_run(queue,
            "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n"
            " WHERE i < %d) INSERT INTO submit(kind, limit_key)"
            " SELECT 'k', 'x' FROM n",
            n);
    start_workers();
    AWAIT(atomic_load(&act.runs) == 1);
    other = submit();
    AWAIT(atomic_load(&act.runs) == 2);
    ck_assert_str_eq(job_says(other, "state"), "running");
    /* each was stepped over once, and is out of the way */
    ck_assert_int_eq(sql_int(queue, "SELECT held FROM limits"), n - 1);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _ready"), 0);
    ck_assert_int_eq(rota_limit_key(rota, "x", 1000000), ROTA_OK);
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.runs, n + 1);
}
END_TEST

START_TEST(a_held_job_can_be_cancelled_and_rescheduled)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t sooner = -5, cancelled, moved;

    submission.limit_key = "x";
    begin(2, held);
    (void)submit_as(&submission);
    AWAIT(atomic_load(&act.runs) == 1);
    cancelled = submit_as(&submission);
    moved = submit_as(&submission);
    AWAIT(strcmp(job_says(moved, "status"), "held") == 0);
    ck_assert_int_eq(rota_reschedule(rota, moved, &sooner, NULL), ROTA_OK);
    ck_assert_int_eq(rota_cancel(rota, cancelled, "no", NULL), ROTA_OK);
    assert_says(cancelled, "state, why", "cancelled|no");
    gate_open(&act.gate);
    drain();
    assert_says(moved, "state, priority", "succeeded|-5");
    ck_assert_int_eq(act.runs, 2);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _held"), 0);
}
END_TEST

/* How a job that is ready leaves the line, but not to run. */
static const char *const leavings[] = {
    "INSERT INTO cancel(job) VALUES(2)",
    "INSERT INTO reschedule(job, run_at) VALUES(2, 99999999999999)",
    /* its deadline has passed, as soon as somebody looks */
    ("UPDATE _job SET deadline_at = 1, ties = ties | 2 WHERE id = 2;"
     "INSERT INTO _deadline VALUES(1, 2)"),
};

START_TEST(a_job_in_turn_that_does_not_run_leaves_its_turn_to_those_held)
{
    struct rota_submission submission = submission_of(NULL);

    submission.limit_key = "x";
    begin(2, held);
    for (int i = 0; i < 3; i++)
        (void)submit_as(&submission);
    AWAIT(strcmp(job_says(3, "status"), "held") == 0);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    gate_open(&act.gate);
    wait_for(1);
    assert_says(2, "status", "paused"); /* not held any more */
    assert_says(3, "status", "held");
    sql_run(queue, "%s", leavings[_i]);
    ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
    wait_for(3);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

/* -- Other times ---------------------------------------------------------- */

START_TEST(a_job_that_waits_can_be_moved)
{
    int64_t soonest = -1, never = INT64_C(99999999999999), now = 0;
    int64_t a, b, c;

    open_with(1, fails_if_told);
    a = submit();
    b = submit();
    c = submit_after(b, 0);
    ck_assert_int_eq(rota_reschedule(rota, b, &soonest, NULL), ROTA_OK);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &never), ROTA_OK);
    assert_says(c, "state, run_at", "blocked|99999999999999");
    ck_assert_int_eq(step(), b);
    assert_says(c, "state", "scheduled");
    ck_assert_int_eq(step(), a);
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_OK);
    ck_assert_int_eq(step(), c);
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_INVALID);
    ck_assert_int_eq(rota_reschedule(rota, 99, NULL, &now), ROTA_NOTFOUND);
    now = -1;
    ck_assert_int_eq(rota_reschedule(rota, c, NULL, &now), ROTA_INVALID);
    ck_assert_str_eq(
        sql_try(queue, "INSERT INTO reschedule(job, run_at) VALUES(1, 1)"),
        "reschedule: the job does not wait any more");
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

/* -- Many at once --------------------------------------------------------- */

START_TEST(a_cancel_of_many_says_how_many_came_to_what)
{
    int64_t counts[ROTA_CANCEL_TOO_LATE + 1] = {0};
    struct rota_value batch = {
        .type = ROTA_TEXT, .data = "b", .size = strlen("b")};
    struct rota_submission submission = submission_of(NULL);
    int n = MANY(3000);

    begin(1, until_stopped);
    submission.batch = "b";
    for (int i = 0; i < n; i++)
        (void)submit_as(&submission);
    (void)submit(); /* of no batch */
    AWAIT(atomic_load(&act.runs) == 1);
    ck_assert_int_eq(rota_cancel_where(NULL, rota, "batch = ?1 -- all of it",
                                       &batch, 1, "all", counts),
                     ROTA_OK);
    /* with the one that runs, or is claimed, told */
    ck_assert_int_ge(counts[ROTA_CANCEL_REQUESTED], 1);
    ck_assert_int_eq(counts[ROTA_CANCEL_DONE] + counts[ROTA_CANCEL_REQUESTED],
                     n);
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'cancelled'"
                         " AND cause = 'all'") == n);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE state IN ('ready', 'running')"),
                     1);
    ck_assert_int_eq(rota_cancel_where(NULL, rota, NULL, NULL, 0, NULL, counts),
                     ROTA_OK);
    ck_assert_int_eq(counts[ROTA_CANCEL_DONE] + counts[ROTA_CANCEL_REQUESTED],
                     1);
}
END_TEST

static const char *const bad_conditions[] = {
    "no_such_column = 1",
    "1) OR (1",
    "1; DELETE FROM _job",
    "",
};

START_TEST(a_condition_that_is_none_cancels_and_forgets_nothing)
{
    int64_t count = 99;

    open_with(1, fails_if_told);
    (void)submit();
    (void)submit();
    ck_assert_int_eq(step(), 1);
    if (strcmp(bad_conditions[_i], "1) OR (1") != 0) {
        ck_assert_int_eq(rota_cancel_where(NULL, rota, bad_conditions[_i], NULL,
                                           0, NULL, NULL),
                         ROTA_INVALID);
        ck_assert_str_ne(rota_errmsg(rota), "");
        ck_assert_int_eq(
            rota_prune(NULL, rota, bad_conditions[_i], NULL, 0, &count),
            ROTA_INVALID);
    }
    ck_assert_str_eq(sql_text(queue, "SELECT state FROM jobs ORDER BY id"),
                     "succeeded\nready");
}
END_TEST

START_TEST(under_a_context_that_has_ended_none_of_many_is_cancelled)
{
    struct ctx *ctx = ctx_with_cancel(NULL);

    open_with(1, fails_if_told);
    (void)submit();
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_cancel_where(ctx, rota, NULL, NULL, 0, NULL, NULL),
                     ROTA_CANCELED);
    assert_says(1, "state", "ready");
    ctx_end(ctx);
}
END_TEST

/* -- Forgetting ----------------------------------------------------------- */

START_TEST(what_has_ended_is_forgotten_unless_another_job_waits_for_it)
{
    int64_t count = 0, a, b, c;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    b = submit();
    c = submit_after(b, 0);
    (void)submit_later();
    (void)step();
    (void)step();
    ck_assert_int_eq(
        rota_reschedule(rota, c, NULL, &(int64_t){INT64_C(99999999999999)}),
        ROTA_OK);
    ck_assert_int_eq(
        rota_prune(NULL, rota, "state = 'succeeded'", NULL, 0, &count),
        ROTA_OK);
    ck_assert_int_eq(count, 1); /* met: nobody waits for it any more */
    ck_assert_int_eq(rota_retry(rota, b, false), ROTA_NOTFOUND);
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, &count), ROTA_OK);
    ck_assert_int_eq(count, 1);
    ck_assert_str_eq(sql_text(queue, "SELECT id FROM jobs ORDER BY id"),
                     "3\n4");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM attempts"), 0);
    (void)a;
}
END_TEST

START_TEST(a_failure_that_a_blocked_job_waits_for_is_not_forgotten)
{
    int64_t count = 99, a;

    open_with(1, fails_if_told);
    a = submit_text("fail");
    (void)submit_after(a, 0);
    ck_assert_int_eq(step_all(), 1);
    /* it waits for it, until it is told */
    sql_run(queue, "INSERT INTO retry(job) VALUES(2)");
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, &count), ROTA_OK);
    ck_assert_int_eq(count, 0);
    act.number = 1;
    ck_assert_int_eq(rota_retry(rota, a, false), ROTA_OK);
    ck_assert_int_eq(step_all(), 2);
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, &count), ROTA_OK);
    ck_assert_int_eq(count, 2);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _dep"), 0);
}
END_TEST

START_TEST(a_cancel_that_the_children_have_not_heard_of_is_not_forgotten)
{
    int64_t count = 99, parent;

    open_with(1, fails_if_told);
    parent = submit();
    (void)submit_child(parent);
    /* by somebody who does not go on to tell them */
    sql_run(queue, "INSERT INTO cancel(job) VALUES(1)");
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, &count), ROTA_OK);
    ck_assert_int_eq(count, 0);
    ck_assert_int_eq(step_all(), 0);
    assert_says(2, "state", "cancelled");
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, &count), ROTA_OK);
    ck_assert_int_eq(count, 2);
}
END_TEST

START_TEST(the_id_of_a_forgotten_job_is_not_given_again)
{
    open_with(1, fails_if_told);
    (void)submit();
    (void)submit();
    ck_assert_int_eq(step_all(), 2);
    ck_assert_int_eq(rota_prune(NULL, rota, NULL, NULL, 0, NULL), ROTA_OK);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _job"), 0);
    close_queue();
    open_with(1, fails_if_told);
    ck_assert_int_gt(submit(), 2);
}
END_TEST

/* One runs, as somebody else's, and the rest are held. */
static void
hold_rest(int n)
{
    for (int i = 0; i < n; i++)
        sql_run(queue, "INSERT INTO submit(kind, limit_key) VALUES('k', 'a')");
    sql_run(queue, "INSERT INTO _running(id, lease, process, claimed_at, queue,"
                   " limit_key) VALUES(1, 1, 99, 0, 1, 'a');"
                   "DELETE FROM _ready WHERE id = 1;"
                   "INSERT INTO _held SELECT 'a', queue, kind, sort_key, id"
                   " FROM _ready; DELETE FROM _ready");
}

START_TEST(a_drain_does_not_wait_for_those_held_in_a_paused_queue)
{
    open_with(1, fails_if_told);
    hold_rest(2);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    start_workers();
    drain();
    assert_says(2, "status", "held");
}
END_TEST

START_TEST(the_one_job_of_its_workers_is_not_held_behind_others)
{
    open_with(1, fails_if_told);
    hold_rest(3);
    sql_run(queue, "DELETE FROM _running; INSERT INTO _ready"
                   " SELECT queue, kind, sort_key, id FROM _held WHERE id = 2;"
                   "DELETE FROM _held WHERE id = 2");
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, 3), ROTA_OK);
    wait_for(3);
    assert_says(3, "state", "succeeded");
    assert_says(2, "state", "ready");
}
END_TEST

START_TEST(what_is_kept_for_a_time_is_forgotten_without_being_asked)
{
    int64_t kept;

    open_with(1, fails_if_told);
    ck_assert_int_eq(rota_retain(rota, NULL, ROTA_MS(1)), ROTA_OK);
    ck_assert_int_eq(sql_int(queue, "SELECT retain_ms FROM queues"), 1);
    start_workers();
    for (int i = 0; i < MANY(2000); i++)
        (void)submit();
    submit_limited(1, NULL, "another");
    drain();
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs") == 1);
    kept = sql_int(queue, "SELECT id FROM jobs");
    assert_says(kept, "queue", "another");
    sql_run(queue, "INSERT INTO retain(queue, retain_ms) VALUES('another', 1)");
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs") == 0);
}
END_TEST

static int64_t
a_year_ahead(void *arg)
{
    return machine_clock(arg) + INT64_C(31536000000);
}

START_TEST(a_job_of_a_clock_that_was_ahead_keeps_no_other_in_the_file)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.workers = 1;
    options.clock = a_year_ahead;
    open_as(options);
    (void)submit_as(&(struct rota_submission)ROTA_SUBMISSION_INIT("other"));
    ck_assert_int_eq(rota_cancel(rota, 1, NULL, NULL), ROTA_OK);
    close_queue();
    open_with(1, fails_if_told);
    ck_assert_int_eq(rota_retain(rota, NULL, ROTA_MS(1)), ROTA_OK);
    start_workers();
    (void)submit();
    drain();
    AWAIT(sql_int(queue, "SELECT count(*) FROM jobs") == 1);
}
END_TEST

static atomic_bool are_enough;

static void *
submits_on(void *arg)
{
    int64_t *without_id = arg, id;
    struct rota_submission submission = submission_of(NULL);

    while (!atomic_load(&are_enough)) {
        id = 0;
        if (rota_submit(rota, &submission, &id) != ROTA_OK || id == 0)
            ++*without_id;
    }
    return NULL;
}

START_TEST(what_is_submitted_while_others_are_forgotten_has_an_id)
{
    pthread_t threads[8];
    int64_t without_id[8] = {0};

    open_with(2, fails_if_told);
    ck_assert_int_eq(rota_retain(rota, NULL, ROTA_MS(1)), ROTA_OK);
    start_workers();
    for (int i = 0; i < 8; i++)
        threads[i] = thread_new(submits_on, &without_id[i]);
    AWAIT(sql_int(queue,
                  "SELECT coalesce(max(id), 0) > %d"
                  " AND min(id) > %d FROM jobs",
                  MANY(20000), MANY(20000) / 2));
    atomic_store(&are_enough, true);
    for (int i = 0; i < 8; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(without_id[i], 0);
    }
    drain();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("ties");
    TCase *unique = stage_case(suite, "unique");
    TCase *after = stage_case(suite, "after");
    TCase *children = stage_case(suite, "children");
    TCase *limits = stage_case(suite, "limits");
    TCase *times = stage_case(suite, "times");
    TCase *many = stage_case(suite, "many");
    TCase *forgetting = stage_case(suite, "forgetting");

    tcase_add_test(unique, who_submits_a_key_again_is_told_the_job_that_stands);
    tcase_add_loop_test(unique, a_key_is_free_once_its_job_has_ended_however, 0,
                        3);
    tcase_add_test(
        unique, of_64_threads_with_one_key_one_makes_a_job_and_all_have_its_id);
    tcase_add_test(unique, a_retry_waits_until_no_other_job_has_its_key);
    tcase_add_test(unique, of_many_submissions_all_or_none_are_made);
    tcase_add_test(after,
                   a_job_waits_until_all_that_it_comes_after_have_succeeded);
    tcase_add_test(
        after, what_comes_after_a_failure_is_skipped_and_revived_by_its_retry);
    tcase_add_test(after, what_was_cancelled_by_hand_is_not_revived);
    tcase_add_test(after, a_retry_of_what_was_skipped_alone_is_skipped_again);
    tcase_add_test(after, what_is_revived_is_skipped_anew_for_another_failure);
    tcase_add_test(after, a_cancelled_job_skips_what_comes_after_it);
    tcase_add_test(after, what_comes_after_keeps_its_time);
    tcase_add_test(after, what_is_revived_keeps_its_time);
    tcase_add_test(after,
                   jobs_by_the_thousand_come_after_one_and_one_after_them);
    tcase_add_loop_test(after, after_in_plain_sql_is_an_id_or_an_array_of_ids,
                        0, (int)(sizeof(bad_after) / sizeof(*bad_after)));
    tcase_add_test(after,
                   after_may_be_an_id_that_came_as_a_real_number_or_a_text);
    tcase_add_test(children, a_cancel_reaches_the_children_and_theirs);
    tcase_add_test(children,
                   a_child_that_comes_after_the_cancel_is_cancelled_too);
    tcase_add_test(children, a_parent_that_ends_by_itself_leaves_its_children);
    tcase_add_test(children, a_job_may_submit_children);
    tcase_add_test(limits, of_a_queue_no_more_run_at_once_than_its_limit);
    tcase_add_loop_test(limits, of_a_key_no_more_run_at_once_than_its_limit, 1,
                        4);
    tcase_add_test(limits, a_job_that_a_limit_holds_says_so);
    tcase_add_test(limits, a_key_at_its_limit_holds_up_no_other);
    tcase_add_test(limits, a_held_job_can_be_cancelled_and_rescheduled);
    tcase_add_loop_test(
        limits, a_job_in_turn_that_does_not_run_leaves_its_turn_to_those_held,
        0, (int)(sizeof(leavings) / sizeof(leavings[0])));
    tcase_add_test(times, a_job_that_waits_can_be_moved);
    tcase_add_test(times, a_retry_goes_on_at_the_cursor_or_from_the_start);
    tcase_add_test(times, a_restart_begins_anew_in_the_target_file_too);
    tcase_add_test(many, a_cancel_of_many_says_how_many_came_to_what);
    tcase_add_loop_test(
        many, a_condition_that_is_none_cancels_and_forgets_nothing, 0,
        (int)(sizeof(bad_conditions) / sizeof(*bad_conditions)));
    tcase_add_test(many,
                   under_a_context_that_has_ended_none_of_many_is_cancelled);
    tcase_add_test(forgetting,
                   what_has_ended_is_forgotten_unless_another_job_waits_for_it);
    tcase_add_test(forgetting,
                   a_failure_that_a_blocked_job_waits_for_is_not_forgotten);
    tcase_add_test(
        forgetting,
        a_cancel_that_the_children_have_not_heard_of_is_not_forgotten);
    tcase_add_test(forgetting, the_id_of_a_forgotten_job_is_not_given_again);
    tcase_add_test(forgetting,
                   what_is_kept_for_a_time_is_forgotten_without_being_asked);
    tcase_add_test(forgetting,
                   a_job_of_a_clock_that_was_ahead_keeps_no_other_in_the_file);
    tcase_add_test(forgetting,
                   what_is_submitted_while_others_are_forgotten_has_an_id);
    tcase_add_test(limits,
                   a_drain_does_not_wait_for_those_held_in_a_paused_queue);
    tcase_add_test(limits,
                   the_one_job_of_its_workers_is_not_held_behind_others);
    return suite_run(suite);
}
