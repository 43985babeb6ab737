/*
 * Forgetting: rota_prune(), and queues that keep their jobs for a time. What
 * others still need is kept, an id is never given again, nobody is held up.
 *
 * One test has a thread that submits all the while.
 */
#define _GNU_SOURCE
#include <check.h>

#include "base/clock.h"
#include "scratch.h"
#include "stage.h"
#include "ties.h"

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

/* -- The suite ------------------------------------------------------------ */

static void
add_forgetting(TCase *t)
{
    tcase_add_test(t,
                   what_has_ended_is_forgotten_unless_another_job_waits_for_it);
    tcase_add_test(t, a_failure_that_a_blocked_job_waits_for_is_not_forgotten);
    tcase_add_test(
        t, a_cancel_that_the_children_have_not_heard_of_is_not_forgotten);
    tcase_add_test(t, the_id_of_a_forgotten_job_is_not_given_again);
    tcase_add_test(t, what_is_kept_for_a_time_is_forgotten_without_being_asked);
    tcase_add_test(t,
                   a_job_of_a_clock_that_was_ahead_keeps_no_other_in_the_file);
    tcase_add_test(t, what_is_submitted_while_others_are_forgotten_has_an_id);
}

int
main(void)
{
    Suite *suite = suite_create("prune");

    add_forgetting(stage_case(suite, "forgetting"));
    return suite_run(suite);
}
