/*
 * Clocks that are wrong for a while: no wait becomes longer than it was meant
 * to be because a clock was set back, and nothing that is ready stands behind
 * what came after it; a time that somebody has named stays.
 *
 * The store's clock is the test's, but for what SQL does by itself. One thread,
 * but for the worker of the last test.
 */
#include <check.h>
#include <stdatomic.h>

#include "scratch.h"
#include "stage.h"
#include "storage.h"
#include "support.h"

#define HOUR INT64_C(3600000)
#define NOON INT64_C(1800000000000)

static void
make_at_noon(void)
{
    storage_make();
    storage.time = NOON;
}

static int64_t
submit_for(int64_t run_at, int64_t priority, int64_t after)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.run_at = run_at;
    s.priority = priority;
    s.after = &after;
    s.n_after = after != 0;
    return storage_submit(&s);
}

/* A claimed job comes back: to be tried again, or put off for a minute. */
static void
come_back(enum rota_error answer)
{
    struct claim claim = storage_claim(storage.process);
    enum rota_state state;

    ck_assert_int_ne(claim.id, 0);
    ck_assert_int_eq(storage_end(&claim, answer, ROTA_STOP_NONE, false, &state),
                     ROTA_OK);
    ck_assert_int_eq(state, ROTA_SCHEDULED);
}

/* -- Waits ---------------------------------------------------------------- */

static const enum rota_error answers[] = {ROTA_FAILED, ROTA_SNOOZE};

START_TEST(a_pause_is_no_longer_for_a_clock_that_is_set_back)
{
    int64_t due, id = storage_submit_plain();

    come_back(answers[_i]);
    due = storage_chores() - storage.time;
    ck_assert_int_gt(due, 0);
    ck_assert_int_le(due, 60000);
    storage.time -= HOUR;
    ck_assert_int_eq(storage_chores(), storage.time + due);
    ck_assert_int_eq(storage_int("SELECT run_at FROM jobs"),
                     storage.time + due);
    storage.time += due;
    (void)storage_chores();
    ck_assert_int_eq(storage_claim(storage.process).id, id);
}
END_TEST

START_TEST(what_waits_shows_that_the_clock_was_set_back_before_anything_is_due)
{
    const struct scope scope = {
        .process = storage.process, .kinds = &storage.kind, .n_kinds = 1};
    struct waiting waiting;
    struct reader *reader;

    (void)storage_submit_plain();
    come_back(ROTA_FAILED);
    ck_assert_int_eq(reader_open(storage.store, &reader), ROTA_OK);
    ck_assert_int_eq(reader_waiting(reader, &scope, &waiting), ROTA_OK);
    ck_assert_int_gt(waiting.next, storage.time);
    storage.time -= HOUR;
    ck_assert_int_eq(reader_waiting(reader, &scope, &waiting), ROTA_OK);
    ck_assert_int_le(waiting.next, storage.time);
    (void)storage_chores();
    ck_assert_int_eq(reader_waiting(reader, &scope, &waiting), ROTA_OK);
    ck_assert_int_gt(waiting.next, storage.time);
    reader_close(reader);
}
END_TEST

START_TEST(a_time_that_was_named_stays_when_the_clock_is_set_back)
{
    int64_t id = submit_for(NOON + HOUR / 2, 0, 0);

    (void)storage_submit_plain();
    come_back(ROTA_FAILED); /* rescheduled, it has a time that was named */
    storage_run("INSERT INTO reschedule(job, run_at) VALUES(2, %jd)",
                (intmax_t)NOON + HOUR / 4);
    storage.time -= HOUR;
    ck_assert_int_eq(storage_chores(), NOON + HOUR / 4);
    ck_assert_int_eq(
        storage_int("SELECT run_at FROM jobs WHERE id = %jd", (intmax_t)id),
        NOON + HOUR / 2);
}
END_TEST

START_TEST(what_was_due_by_a_clock_that_was_wrong_waits_for_its_time_again)
{
    int64_t id = submit_for(NOON + HOUR / 2, 0, 0);

    storage.time += HOUR;
    (void)storage_chores();
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"
                                 " WHERE state = 'ready'"),
                     1);
    storage.time -= HOUR;
    ck_assert_int_eq(storage_chores(), NOON + HOUR / 2);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    storage.time = NOON + HOUR / 2;
    (void)storage_chores();
    ck_assert_int_eq(storage_claim(storage.process).id, id);
}
END_TEST

START_TEST(who_waited_for_another_since_the_clock_was_ahead_waits_no_longer)
{
    int64_t first = storage_submit_plain(), second;
    struct claim claim;
    enum rota_state state;

    storage.time += HOUR;
    second = submit_for(0, 0, first);
    storage.time -= HOUR;
    claim = storage_claim(storage.process);
    ck_assert_int_eq(
        storage_end(&claim, ROTA_OK, ROTA_STOP_NONE, false, &state), ROTA_OK);
    ck_assert_int_eq(storage_claim(storage.process).id, second);
}
END_TEST

/* -- Order ---------------------------------------------------------------- */

START_TEST(what_came_while_the_clock_was_ahead_goes_before_what_comes_later)
{
    (void)storage_submit_plain();
    storage.time += 24 * HOUR;
    (void)storage_submit_plain();
    (void)storage_submit_plain();
    (void)submit_for(0, -1, 0);
    storage.time = NOON + 5000;
    (void)storage_submit_plain();
    storage.time += 5000;
    (void)storage_submit_plain();
    ck_assert_str_eq(storage_claims(16), " 4 1 2 3 5 6");
}
END_TEST

START_TEST(what_is_held_or_runs_since_the_clock_was_ahead_keeps_its_place_too)
{
    enum rota_state state;
    struct claim running;

    storage.time += 24 * HOUR;
    for (int i = 0; i < 2; i++)
        storage_run("INSERT INTO submit(kind, limit_key, run_at)"
                    " VALUES('k', 'key', 0)");
    (void)storage_submit_plain();
    running = storage_claim(storage.process);
    ck_assert_int_eq(running.id, 1);
    (void)storage_claims(0);
    storage.time = NOON;
    (void)storage_submit_plain();
    ck_assert_int_eq(
        storage_end(&running, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, true, &state),
        ROTA_OK);
    ck_assert_str_eq(storage_claims(16), " 1 3 4");
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"
                                 " WHERE run_at > %jd",
                                 (intmax_t)NOON),
                     0);
}
END_TEST

START_TEST(small_steps_of_the_clock_change_nothing)
{
    int64_t due;

    (void)storage_submit_plain();
    come_back(ROTA_FAILED);
    due = storage_chores();
    storage.time -= 900;
    ck_assert_int_eq(storage_chores(), due);
}
END_TEST

/* Whoever wrote last: a client that runs no code of ours, by its own clock,
 * which is ahead of the store's. */
START_TEST(what_sql_submitted_by_a_clock_that_was_ahead_goes_first_as_well)
{
    storage.time = NOON - 100000 * HOUR;
    storage_run("INSERT INTO submit(kind) VALUES('k')");
    (void)storage_submit_plain();
    ck_assert_str_eq(storage_claims(16), " 1 2");
}
END_TEST

/* -- A worker ------------------------------------------------------------- */

static _Atomic int64_t clock_is;

static int64_t
clock_of_test(void *arg)
{
    (void)arg;
    return atomic_load(&clock_is);
}

START_TEST(a_worker_that_sleeps_notices_that_the_clock_was_set_back)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int64_t id;

    atomic_store(&clock_is, NOON);
    options.workers = 1;
    options.clock = clock_of_test;
    open_as(options);
    act.answer = ROTA_FAILED;
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    id = submit_attempts(2);
    await_state(id, "scheduled");
    atomic_store(&clock_is, NOON - HOUR);
    AWAIT(was_logged(0, "the clock was set back by 3600.0 s"));
    atomic_store(&clock_is, NOON - HOUR + 2000);
    wait_for(id);
    assert_outcome(ROTA_JOB_FAILED, ROTA_FAILED, 2, "failed");
}
END_TEST

static Suite *
times_suite(void)
{
    Suite *suite = suite_create("times");
    TCase *waits = case_new(suite, "waits");
    TCase *order = case_new(suite, "order");
    TCase *worker = stage_case(suite, "worker");

    tcase_add_checked_fixture(waits, make_at_noon, storage_remove);
    tcase_add_loop_test(waits,
                        a_pause_is_no_longer_for_a_clock_that_is_set_back, 0,
                        (int)(sizeof(answers) / sizeof(*answers)));
    tcase_add_test(
        waits,
        what_waits_shows_that_the_clock_was_set_back_before_anything_is_due);
    tcase_add_test(waits,
                   a_time_that_was_named_stays_when_the_clock_is_set_back);
    tcase_add_test(
        waits, what_was_due_by_a_clock_that_was_wrong_waits_for_its_time_again);
    tcase_add_test(
        waits,
        who_waited_for_another_since_the_clock_was_ahead_waits_no_longer);
    tcase_add_checked_fixture(order, make_at_noon, storage_remove);
    tcase_add_test(
        order,
        what_came_while_the_clock_was_ahead_goes_before_what_comes_later);
    tcase_add_test(
        order,
        what_is_held_or_runs_since_the_clock_was_ahead_keeps_its_place_too);
    tcase_add_test(order, small_steps_of_the_clock_change_nothing);
    tcase_add_test(
        order, what_sql_submitted_by_a_clock_that_was_ahead_goes_first_as_well);
    tcase_add_test(worker,
                   a_worker_that_sleeps_notices_that_the_clock_was_set_back);
    return suite;
}

int
main(void)
{
    storage_use(&storage_sqlite);
    return suite_run(times_suite());
}
