/*
 * A job and all its retries, one step at a time under a clock of the test's
 * own: rota_step(), and what is due when. No test here waits.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "engine/engine.h"
#include "faults.h"
#include "scratch.h"
#include "stage.h"

#define START INT64_C(2000000000000)
#define HOUR  INT64_C(3600000)

static int64_t now;                 /* what the clock says */
static enum rota_error answers[16]; /* of the runs, in their order */
static int runs;
static int64_t last_id, seen_cursor;
static int64_t takes; /* how long a run takes by the clock, ms */

/* By how much the machine's clock is off. */
static int64_t off_ms;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int
__wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    int answer = __real_clock_gettime(clock, ret_time);

    if (clock == CLOCK_REALTIME)
        ret_time->tv_sec += off_ms / 1000;
    return answer;
}

static int64_t
says_now(void *arg)
{
    return *(int64_t *)arg;
}

static enum rota_error
as_told(struct ctx *ctx, struct rota_job *job)
{
    if (ctx_done(ctx))
        return ctx_err(ctx);
    now += takes;
    last_id = rota_job_id(job);
    seen_cursor = rota_job_cursor(job);
    rota_job_advance(job, seen_cursor + 10);
    if (answers[runs] == ROTA_SNOOZE) {
        runs++;
        return rota_job_snooze(job, ROTA_SEC(90));
    }
    return answers[runs++];
}

static void
set_up(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    stage_set();
    now = START;
    runs = 0;
    takes = 0;
    memset(answers, 0, sizeof(answers));
    options.clock = says_now;
    options.clock_arg = &now;
    options.flags = ROTA_NORMAL;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "k", as_told, NULL, NULL), ROTA_OK);
}

/* Go on to when the job is due, and let it run. */
static void
step_when_due(int64_t id)
{
    now = sql_int(queue, "SELECT run_at FROM jobs WHERE id = %d", (int)id) - 1;
    ck_assert_int_eq(step(), 0);
    now++;
    ck_assert_int_eq(step(), id);
}

START_TEST(a_step_runs_one_job_on_the_callers_thread)
{
    int64_t first = submit(), second = submit();

    ck_assert_int_eq(step(), first);
    ck_assert_str_eq(job_says(first, "state, started_at, finished_at"),
                     "succeeded|2000000000000|2000000000000");
    ck_assert_str_eq(job_says(second, "state"), "ready");
    ck_assert_int_eq(step(), second);
    ck_assert_int_eq(step(), 0);
    ck_assert_str_eq(rota_errmsg(rota), "no job is ready");
    ck_assert_int_eq(runs, 2);
}
END_TEST

/* Ten seconds to see how much there is, and two for 100 of 500. */
static enum rota_error
surveys_first(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    now += 10000;
    rota_job_total(job, 500);
    now += 1000;
    rota_job_advance(job, 50);
    now += 1000;
    rota_job_total(job, 500);
    rota_job_advance(job, 100);
    return ROTA_OK;
}

START_TEST(the_time_it_took_to_count_the_items_is_no_part_of_the_rate)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("surveys");
    int64_t id = 0;

    ck_assert_int_eq(rota_handle(rota, "surveys", surveys_first, NULL, NULL),
                     ROTA_OK);
    ck_assert_int_eq(rota_submit(rota, &submission, &id), ROTA_OK);
    ck_assert_int_eq(step(), id);
    ck_assert_str_eq(job_says(id, "done, total, rate"), "100|500|50.0");
}
END_TEST

START_TEST(a_job_and_its_retries_are_stepped_through_by_the_clock)
{
    int64_t id = submit_attempts(4), before, delay, least = 750;

    for (int i = 0; i < 3; i++)
        answers[i] = ROTA_FAILED;
    ck_assert_int_eq(step(), id);
    for (int i = 1; i <= 3; i++, least *= 2) {
        before = now;
        ck_assert_str_eq(job_says(id, "status"), "retrying");
        step_when_due(id);
        delay = now - before; /* doubles, give or take a quarter */
        ck_assert_int_ge(delay, least);
        ck_assert_int_le(delay, least / 3 * 5);
        ck_assert_int_eq(seen_cursor, 10 * i);
    }
    ck_assert_str_eq(job_says(id, "state, attempt, done"), "succeeded|4|40");
}
END_TEST

START_TEST(the_pause_between_retries_grows_to_an_hour_and_no_more)
{
    int64_t id, before;

    for (size_t i = 0; i < 15; i++)
        answers[i] = ROTA_FAILED;
    id = submit_attempts(100);
    ck_assert_int_eq(step(), id);
    for (int i = 1; i < 15; i++) {
        before = now;
        step_when_due(id);
    }
    ck_assert_int_ge(now - before, HOUR / 4 * 3);
    ck_assert_int_le(now - before, HOUR / 4 * 5);
}
END_TEST

START_TEST(jobs_that_failed_together_do_not_return_together)
{
    int64_t ids[8], due[8];
    int differ = 0;

    for (int i = 0; i < 8; i++) {
        answers[i] = ROTA_FAILED;
        ids[i] = submit_attempts(2);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(step(), ids[i]);
    for (int i = 0; i < 8; i++) {
        due[i] = sql_int(queue, "SELECT run_at FROM jobs WHERE id = %d",
                         (int)ids[i]);
        differ += due[i] != due[0];
    }
    ck_assert_int_ge(differ, 4);
}
END_TEST

START_TEST(a_snoozed_job_is_due_when_it_said)
{
    int64_t id = submit();

    answers[0] = ROTA_SNOOZE;
    ck_assert_int_eq(step(), id);
    ck_assert_str_eq(job_says(id, "state, run_at - 2000000000000"),
                     "scheduled|90000");
    step_when_due(id);
    ck_assert_str_eq(job_says(id, "state, attempt"), "succeeded|1");
}
END_TEST

START_TEST(what_waits_beyond_its_deadline_fails_though_nobody_takes_it)
{
    static const char *const waiting[] = {"ready", "scheduled", "blocked"};
    struct rota_submission s = ROTA_SUBMISSION_INIT("nobody knows this");
    int64_t ids[3], first = submit();

    s.deadline = START + HOUR;
    ids[0] = submit_as(&s);
    s.run_at = START + 2 * HOUR;
    ids[1] = submit_as(&s);
    s.run_at = 0;
    s.after = &first;
    s.n_after = 1;
    ids[2] = submit_as(&s);
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    now = START + HOUR - 1;
    ck_assert_int_eq(step(), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(job_says(ids[i], "state"), waiting[i]);
    now++;
    ck_assert_int_eq(step(), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(job_says(ids[i], "state, error, cause"),
                         "failed|DEADLINE|its deadline passed before it ran");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _deadline"), 0);
}
END_TEST

/* More than are gone through in one cycle. */
START_TEST(what_is_due_at_the_same_time_is_due_one_and_all)
{
    sql_run(queue,
            "BEGIN IMMEDIATE;"
            " INSERT INTO submit(kind, run_at) VALUES('k', %jd), ('k', %jd);"
            " WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n"
            "  WHERE i < 1001) INSERT INTO submit(kind, deadline_at)"
            "  SELECT 'nobody knows this', %jd FROM n; COMMIT",
            (intmax_t)(START + HOUR), (intmax_t)(START + HOUR),
            (intmax_t)(START + HOUR));
    ck_assert_int_eq(step(), 0);
    now += HOUR;
    ck_assert_int_eq(step(), 1);
    ck_assert_int_eq(step(), 2);
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"
                                    " WHERE error = 'DEADLINE'"),
                     1001);
}
END_TEST

START_TEST(a_deadline_between_two_runs_hides_nothing_of_the_last_failure)
{
    static const enum rota_error last[] = {ROTA_FAILED, ROTA_STORE};
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    char wanted[256];
    int64_t id;

    s.deadline = START + 500; /* it is tried again in 750 ms or more */
    s.max_attempts = 5;
    answers[0] = last[_i];
    id = submit_as(&s);
    ck_assert_int_eq(step(), id);
    now = START + 500;
    ck_assert_int_eq(step(), 0);
    (void)snprintf(
        wanted, sizeof(wanted),
        "failed|DEADLINE|1|1|%s; its deadline passed before it ran again",
        rota_strerror(last[_i]));
    ck_assert_str_eq(job_says(id, "state, error, attempt, why = cause, cause"),
                     wanted);
}
END_TEST

START_TEST(a_failure_that_is_not_tried_again_for_its_deadline_says_so)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    char wanted[256];
    int64_t id;

    s.deadline = START + 60000;
    s.max_attempts = _i == 0 ? 5 : 1;
    answers[0] = ROTA_FAILED;
    takes = 60000;
    id = submit_as(&s);
    ck_assert_int_eq(step(), id);
    (void)snprintf(wanted, sizeof(wanted), "failed|FAILED|1|%s%s",
                   rota_strerror(ROTA_FAILED),
                   _i == 0 ? "; its deadline passed" : "");
    ck_assert_str_eq(job_says(id, "state, error, attempt, cause"), wanted);
}
END_TEST

START_TEST(a_job_that_comes_back_after_its_deadline_has_failed)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    s.deadline = START + 60000; /* it snoozes for longer */
    s.max_attempts = 5;
    answers[0] = ROTA_SNOOZE;
    id = submit_as(&s);
    ck_assert_int_eq(step(), id);
    now += 60000;
    ck_assert_int_eq(step(), 0);
    ck_assert_str_eq(job_says(id, "state, error"), "failed|DEADLINE");
}
END_TEST

/* A wall clock that steps back, or far ahead, neither loses nor repeats a run.
 */
START_TEST(a_clock_that_steps_loses_and_repeats_nothing)
{
    static const int64_t steps[] = {-24 * HOUR, 48 * HOUR, -HOUR, 3 * HOUR, -1};
    int64_t ids[10];
    int n = 0;

    for (int i = 0; i < 10; i++)
        ids[i] = submit();
    for (int i = 0; i < 10; i++) {
        now += steps[i % 5];
        n += step() == ids[i];
    }
    ck_assert_int_eq(n, 10);
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"
                       " AND lease = 1"),
        10);
}
END_TEST

/* They wait for a year, and then an hour behind each other, with a timeout of a
 * second: what counts is how long a run of theirs lasts. */
START_TEST(what_has_waited_for_longer_than_any_timeout_runs_once)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t first;

    s.timeout = ROTA_SEC(1);
    first = submit_as(&s);
    for (int i = 1; i < 16; i++)
        (void)submit_as(&s);
    now += 365 * 24 * HOUR;
    for (int i = 0; i < 16; i++) {
        ck_assert_int_eq(step(), first + i);
        now += HOUR;
        ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    }
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(runs, 16);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"
                       " AND lease = 1 AND attempt = 1"),
        16);
}
END_TEST

START_TEST(a_clock_that_was_wrong_and_set_right_is_followed)
{
    int64_t first, second;

    close_queue();
    off_ms = HOUR;
    open_queue(1);
    ck_assert_int_eq(rota_handle(rota, "k", as_told, NULL, NULL), ROTA_OK);
    first = submit();
    off_ms = 0;
    second = submit();
    ck_assert_int_eq(sql_int(queue, "SELECT max(created_at) - min(created_at)"
                                    " > 3000000 FROM jobs"),
                     1);
    ck_assert_int_eq(step(), first); /* what it said then puts it behind none */
    ck_assert_int_eq(step(), second);
}
END_TEST

static struct rota *neighbour; /* as another process: a lock of its own */
static int taken;              /* what it could take away */

static enum rota_error
takes_47_minutes(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx, (void)job;
    runs++;
    for (int minute = 0; runs == 1 && minute < 47; minute++) {
        now += 60000;
        taken += rota_rescue(neighbour) != ROTA_OK ||
                 rota_step(NULL, neighbour, NULL) != ROTA_NOTFOUND;
    }
    return ROTA_OK;
}

START_TEST(a_job_of_47_minutes_is_not_begun_again_while_its_process_lives)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota_submission s = ROTA_SUBMISSION_INIT("long");
    int64_t id;

    options.clock = says_now;
    options.clock_arg = &now;
    ck_assert_int_eq(rota_open(queue, &options, &neighbour), ROTA_OK);
    ck_assert_int_eq(
        rota_handle(rota, "long", takes_47_minutes, NULL, NULL) |
            rota_handle(neighbour, "long", takes_47_minutes, NULL, NULL),
        ROTA_OK);
    id = submit_as(&s);
    ck_assert_int_eq(step(), id);
    ck_assert_int_eq(taken, 0);
    ck_assert_int_eq(runs, 1);
    ck_assert_str_eq(
        job_says(id, "state, lease, finished_at - started_at, crashes"),
        "succeeded|1|2820000|0");
    ck_assert_int_eq(rota_close(neighbour), ROTA_OK);
}
END_TEST

START_TEST(a_step_ends_with_its_context)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    int64_t id = submit(), ran = 0;

    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_step(ctx, rota, &ran), ROTA_OK);
    ck_assert_int_eq(ran, id);
    ck_assert_int_eq(runs, 0); /* given back, as by a worker that stops */
    ck_assert_str_eq(job_says(id, "state, attempt"), "ready|0");
    ck_assert_int_eq(step(), id);
    ck_assert_int_eq(runs, 1);
}
END_TEST

static bool refuses; /* the next cycle */

static enum rota_error
refuse_once(struct store *store, struct work *work)
{
    if (!refuses)
        return cycle_for_real(store, work);
    refuses = false;
    message_set("refused");
    return ROTA_STORE;
}

/* Another caller comes when the step has said that it wants a job, and not yet
 * asked for its cycle. */
static void
submit_meanwhile(void *ret_id)
{
    if (rota->steps == 0) {
        faults_meet("pthread_mutex_lock", 0, submit_meanwhile, ret_id);
        return;
    }
    *(int64_t *)ret_id = submit();
    refuses = true;
}

START_TEST(a_step_runs_what_anothers_cycle_claimed_for_it_though_its_own_fails)
{
    int64_t id = 0, ran = 0;

    cycles_by(refuse_once);
    ck_assert_int_eq(step(), 0);
    faults_meet("pthread_mutex_lock", 0, submit_meanwhile, &id);
    ck_assert_int_eq(rota_step(NULL, rota, &ran), ROTA_OK);
    ck_assert(!refuses);
    ck_assert_int_eq(ran, id);
    ck_assert_str_eq(job_says(id, "state, lease"), "succeeded|1");
    refuses = true;
    ck_assert_int_eq(rota_step(NULL, rota, &ran), ROTA_STORE);
    ck_assert_str_eq(rota_errmsg(rota), "refused");
}
END_TEST

static enum rota_error
misuses(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    act.error = rota_step(NULL, rota_job_rota(job), NULL);
    act.number = rota_close(rota_job_rota(job));
    return ROTA_OK;
}

START_TEST(a_job_that_is_stepped_can_neither_step_nor_close)
{
    ck_assert_int_eq(rota_handle(rota, "m", misuses, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(
        rota_submit(rota, &(struct rota_submission)ROTA_SUBMISSION_INIT("m"),
                    NULL),
        ROTA_OK);
    ck_assert_int_gt(step(), 0);
    ck_assert_int_eq(act.error, ROTA_INVALID);
    ck_assert_int_eq(act.number, ROTA_INVALID);
}
END_TEST

START_TEST(who_steps_does_not_start_and_who_started_does_not_step)
{
    ck_assert_int_eq(step(), 0);
    ck_assert_int_eq(rota_drain(NULL, rota), ROTA_INVALID);
    ck_assert_int_eq(rota_start(NULL, rota), ROTA_BUSY);
    close_queue();
    begin(1, at_once);
    ck_assert_int_eq(rota_step(NULL, rota, NULL), ROTA_BUSY);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("step");
    TCase *t = tcase_create("step");

    tcase_add_checked_fixture(t, set_up, stage_clear);
    tcase_set_timeout(t, 60);
    suite_add_tcase(suite, t);
    tcase_add_test(t, a_step_runs_one_job_on_the_callers_thread);
    tcase_add_test(t,
                   the_time_it_took_to_count_the_items_is_no_part_of_the_rate);
    tcase_add_test(t, a_job_and_its_retries_are_stepped_through_by_the_clock);
    tcase_add_test(t, the_pause_between_retries_grows_to_an_hour_and_no_more);
    tcase_add_test(t, jobs_that_failed_together_do_not_return_together);
    tcase_add_test(t, a_snoozed_job_is_due_when_it_said);
    tcase_add_test(t,
                   what_waits_beyond_its_deadline_fails_though_nobody_takes_it);
    tcase_add_test(t, what_is_due_at_the_same_time_is_due_one_and_all);
    tcase_add_loop_test(
        t, a_deadline_between_two_runs_hides_nothing_of_the_last_failure, 0, 2);
    tcase_add_loop_test(
        t, a_failure_that_is_not_tried_again_for_its_deadline_says_so, 0, 2);
    tcase_add_test(t, a_job_that_comes_back_after_its_deadline_has_failed);
    tcase_add_test(t, a_clock_that_steps_loses_and_repeats_nothing);
    tcase_add_test(t, a_clock_that_was_wrong_and_set_right_is_followed);
    tcase_add_test(t, what_has_waited_for_longer_than_any_timeout_runs_once);
    tcase_add_test(
        t, a_job_of_47_minutes_is_not_begun_again_while_its_process_lives);
    tcase_add_test(t, a_step_ends_with_its_context);
    tcase_add_test(
        t, a_step_runs_what_anothers_cycle_claimed_for_it_though_its_own_fails);
    tcase_add_test(t, a_job_that_is_stepped_can_neither_step_nor_close);
    tcase_add_test(t, who_steps_does_not_start_and_who_started_does_not_step);
    return suite_run(suite);
}
