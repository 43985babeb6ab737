/*
 * rota_handle() and rota_start(): kinds, and which jobs workers take: as many
 * as there are workers, one job, one queue, no more at once than memory bears;
 * and who wants to know is told where each run led.
 *
 * Jobs are held at a gate until as many have come as are to.
 */
#define _GNU_SOURCE
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/state.h"
#include "scratch.h"
#include "stage.h"

START_TEST(kinds_that_make_no_sense_are_refused)
{
    struct rota_defaults defaults = ROTA_DEFAULTS_INIT, zero = {0};
    char name[257];

    memset(name, 'x', sizeof(name) - 1);
    name[256] = '\0';
    open_queue(1);
    ck_assert_int_eq(rota_start(NULL, rota), ROTA_INVALID); /* no kind */
    ck_assert_int_eq(rota_handle(rota, NULL, at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "", at_once, NULL, NULL), ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, name, at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "\xff", at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "k", NULL, NULL, NULL), ROTA_INVALID);
    ck_assert(!rota_handles(rota, "k"));
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, &zero),
                     ROTA_INVALID);
    defaults.max_attempts = -1;
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, &defaults),
                     ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "negative"));
    name[255] = '\0';
    ck_assert_int_eq(rota_handle(rota, name, at_once, NULL, NULL), ROTA_OK);
}
END_TEST

START_TEST(a_kind_is_handled_once_and_before_the_start_which_comes_once)
{
    open_with(1, at_once);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, NULL), ROTA_EXISTS);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "k has a function"));
    start_workers();
    ck_assert_int_eq(rota_handle(rota, "j", held, NULL, NULL), ROTA_BUSY);
    ck_assert_int_eq(rota_start(run, rota), ROTA_BUSY);
    ck_assert_int_eq(rota_start_job(run, rota, 1), ROTA_BUSY);
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(as_many_jobs_run_at_once_as_there_are_workers)
{
    begin(5, held);
    for (int i = 0; i < 6; i++)
        (void)submit();
    gate_await(&act.gate, 5);
    ck_assert_str_eq(sql_text(queue, "SELECT threads, running FROM workers"),
                     "5|5");
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.ends, 6);
}
END_TEST

START_TEST(workers_for_one_job_run_no_other)
{
    int64_t other, id;

    open_with(2, at_once);
    other = submit();
    id = submit();
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, id), ROTA_OK);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    close_queue();
    ck_assert_str_eq(job_says(other, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

/* Jobs are kept ahead of the workers, but not by the GiB. */
START_TEST(of_large_jobs_no_more_are_claimed_than_64_mib_and_the_workers_need)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    size_t most = 0;

    s.args_size = 16 << 20;
    s.args = calloc(1, s.args_size);
    s.args_blob = true;
    ck_assert_ptr_nonnull(s.args);
    begin(1, held);
    (void)submit_running(1);
    lock_take(&rota->lock);
    rota->prefetch = 100; /* as behind many short ones */
    lock_drop(&rota->lock);
    for (int i = 0; i < 12; i++) {
        (void)submit_as(&s);
        lock_take(&rota->lock);
        most = rota->args_bytes > most ? rota->args_bytes : most;
        lock_drop(&rota->lock);
    }
    ck_assert_uint_ge(most, s.args_size);
    ck_assert_uint_le(most, (64 << 20) + s.args_size);
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.ends, 13);
    ck_assert_uint_eq(rota->args_bytes, 0);
    free((void *)(uintptr_t)s.args);
}
END_TEST

static int64_t
submit_into(const char *name)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.queue = name;
    return submit_as(&s);
}

START_TEST(workers_for_a_queue_run_and_drain_that_one_only)
{
    int64_t first, mine, last;

    open_with(2, at_once);
    first = submit_into("first");
    mine = submit_into("mine");
    last = submit_into("last");
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_queue(run, rota, "mine"), ROTA_OK);
    wait_for(mine);
    mine = submit_into("mine");
    drain();
    ck_assert_str_eq(job_says(mine, "state"), "succeeded");
    close_queue();
    ck_assert_str_eq(job_says(first, "state, lease"), "ready|0");
    ck_assert_str_eq(job_says(last, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 2);
}
END_TEST

START_TEST(workers_for_a_queue_may_come_before_its_first_job)
{
    open_with(1, at_once);
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_queue(run, rota, ""), ROTA_INVALID);
    ck_assert_int_eq(rota_start_queue(run, rota, "\xff"), ROTA_INVALID);
    ck_assert_int_eq(rota_start_queue(run, rota, "new"), ROTA_OK);
    (void)submit_into("other");
    wait_for(submit_into("new"));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

/* What the option ended was told, in order: job * 10 + state. */
static int64_t told[8];
static atomic_int n_told;

static void
note_told(void *arg, int64_t job, enum rota_state state)
{
    ck_assert_ptr_eq(arg, told);
    told[atomic_load(&n_told)] = job * 10 + (int64_t)state;
    /* it is in the file, and still counted as running here */
    ck_assert_str_eq(job_says(job, "state"), rota_state_name(state));
    lock_take(&rota->lock); /* none is held */
    ck_assert(!engine_is_quiet(rota));
    lock_drop(&rota->lock);
    atomic_fetch_add(&n_told, 1);
}

START_TEST(who_wants_to_know_is_told_where_each_run_led)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int64_t id;

    atomic_store(&n_told, 0);
    options.workers = 1;
    options.ended = note_told;
    options.ended_arg = told;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    wait_for(submit());
    act.answer = ROTA_FAILED;
    id = submit_attempts(2);
    AWAIT(atomic_load(&n_told) == 2);
    hurry(id);
    wait_for(id);
    AWAIT(atomic_load(&n_told) == 3);
    ck_assert_int_eq(told[0], 10 + ROTA_SUCCEEDED);
    ck_assert_int_eq(told[1], 20 + ROTA_SCHEDULED);
    ck_assert_int_eq(told[2], 20 + ROTA_JOB_FAILED);
}
END_TEST

/* -- Beside a drain -------------------------------------------------------- */

static void *
drains(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++)
        if (rota_drain(NULL, rota) != ROTA_OK)
            return rota;
    return NULL;
}

/* The job that the workers are for becomes known with its submit, while others
 * look which one it is: for ThreadSanitizer. */
START_TEST(a_drain_may_go_on_while_the_job_that_workers_are_for_is_submitted)
{
    pthread_t drainer;
    void *failed;

    open_with(1, at_once);
    ck_assert_int_eq(rota_start_job(run, rota, 0), ROTA_OK);
    ck_assert_int_eq(pthread_create(&drainer, NULL, drains, NULL), 0);
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(pthread_join(drainer, &failed), 0);
    ck_assert_ptr_null(failed);
}
END_TEST

static void *
starts(void *ret_error)
{
    *(enum rota_error *)ret_error = rota_start(run, rota);
    return NULL;
}

START_TEST(of_two_that_start_at_once_one_does_and_one_is_told)
{
    enum rota_error errors[2];
    pthread_t other;

    open_with(1, at_once);
    ck_assert_int_eq(pthread_create(&other, NULL, starts, &errors[0]), 0);
    (void)starts(&errors[1]);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    ck_assert(errors[0] != errors[1]);
    ck_assert(errors[0] == ROTA_OK || errors[1] == ROTA_OK);
    ck_assert(errors[0] == ROTA_BUSY || errors[1] == ROTA_BUSY);
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

/* -- A batch that fails as a whole ----------------------------------------- */

static atomic_int claiming; /* how many cycles there were since the start */

/* The first that claims is held until two stand in line. The second, theirs,
 * fails when it has taken what is submitted for the job that is awaited, under
 * an id that will not be given. */
static enum rota_error
fail_for_both(struct store *store, struct work *work)
{
    int n = work->claim_limit == 0 ? 0 : 1 + atomic_fetch_add(&claiming, 1);

    if (n == 1)
        AWAIT(requests() == 2);
    if (n != 2)
        return cycle_for_real(store, work);
    work->has_begun = true;
    work->scope.job = 4711;
    return ROTA_STORE;
}

static void *
submits(void *ret_id)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    return rota_submit(rota, &submission, ret_id) == ROTA_OK ? NULL : rota;
}

static int64_t
awaited(void)
{
    struct scope scope;

    ck_assert(engine_scope(rota, &scope));
    return scope.job;
}

START_TEST(
    of_jobs_that_are_tried_one_by_one_workers_for_the_next_take_the_first)
{
    int64_t first = 0, second;
    pthread_t other;

    atomic_store(&claiming, 0);
    open_with(2, at_once);
    cycles_by(fail_for_both);
    ck_assert_int_eq(rota_start_job(run, rota, 0), ROTA_OK);
    AWAIT(atomic_load(&claiming) == 1);
    other = thread_new(submits, &first);
    AWAIT(requests() == 1);
    second = submit();
    ck_assert_ptr_null(thread_join(other));
    ck_assert_int_eq(awaited(), first);
    wait_for(first);
    close_queue();
    ck_assert_str_eq(job_says(second, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_starting(TCase *t)
{
    tcase_add_test(t, kinds_that_make_no_sense_are_refused);
    tcase_add_test(
        t, a_kind_is_handled_once_and_before_the_start_which_comes_once);
    tcase_add_test(t, as_many_jobs_run_at_once_as_there_are_workers);
    tcase_add_test(t, workers_for_one_job_run_no_other);
    tcase_add_test(
        t, of_large_jobs_no_more_are_claimed_than_64_mib_and_the_workers_need);
    tcase_add_test(t, workers_for_a_queue_run_and_drain_that_one_only);
    tcase_add_test(t, workers_for_a_queue_may_come_before_its_first_job);
    tcase_add_test(t, who_wants_to_know_is_told_where_each_run_led);
    tcase_add_test(
        t, a_drain_may_go_on_while_the_job_that_workers_are_for_is_submitted);
    tcase_add_test(t, of_two_that_start_at_once_one_does_and_one_is_told);
    tcase_add_test(
        t,
        of_jobs_that_are_tried_one_by_one_workers_for_the_next_take_the_first);
}

int
main(void)
{
    Suite *suite = suite_create("start");

    add_starting(stage_case(suite, "starting"));
    return suite_run(suite);
}
