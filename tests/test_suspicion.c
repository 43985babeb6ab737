/*
 * The store's conformance suite: what is held against a job whose process died.
 * It promises that deaths and advances are counted as rota(5) has it, that
 * suspects are kept apart and hold up nobody else, and that nobody is given up
 * for what another may have done. Run for each kind by ROTA_TEST_STORE
 * (storage.h).
 *
 * One thread. A process that died is a store that was closed without a leave.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "storage.h"
#include "support.h"

/* The process gives it back as it stops. */
static void
give_back(const struct claim *claim)
{
    enum rota_state state;

    ck_assert_int_eq(
        storage_end(claim, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, &state),
        ROTA_OK);
    ck_assert_int_eq(state, ROTA_READY);
}

/* It runs the next job, which has been run before times, as it dies: how many
 * jobs were rescued. */
static int64_t
die_with_the_job(int64_t before)
{
    int64_t process = storage_dead_process(), jobs;

    ck_assert_int_eq(storage_claim(process).lease, before + 1);
    jobs = storage_rescue(process);
    ck_assert_int_eq(storage_rescue(process), 0); /* once only */
    return jobs;
}

START_TEST(a_job_that_killed_three_processes_without_advancing_is_poison)
{
    (void)storage_submit_plain();
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(die_with_the_job(i), 1);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "failed");
    ck_assert_ptr_nonnull(
        strstr(storage_text("SELECT cause FROM jobs"), "poison"));
}
END_TEST

/* So many jobs run in a process as it dies: those that wait and may. Their ids,
 * as storage_cycle() has them. */
static const char *
die_with(size_t n)
{
    int64_t process = storage_dead_process();
    const char *ids;
    struct work work;

    work_init(&work);
    work.scope.process = process;
    ids = storage_cycle(&work, n);
    (void)storage_rescue(process);
    return ids;
}

/* What is claimed, at most n, beside so many jobs, suspects and loners. */
static const char *
claimed_beside(struct aboard aboard, size_t n)
{
    struct work work;

    work_init(&work);
    work.aboard = aboard;
    return storage_cycle(&work, n);
}

START_TEST(suspects_are_claimed_one_at_a_time_and_all_others_beside_them)
{
    for (int i = 0; i < 3; i++)
        (void)storage_submit_plain();
    for (int i = 0; i < 2; i++)
        ck_assert_str_eq(die_with(3), " 1 2 3");
    for (int i = 0; i < 4; i++)
        (void)storage_submit_plain();
    ck_assert_str_eq(claimed_beside((struct aboard){.jobs = 2}, 2), " 1 4");
    ck_assert_int_eq(storage.rest, CLAIM_LIMITED);
    ck_assert_str_eq(
        storage_text("SELECT why FROM jobs WHERE id IN (2, 3)"),
        "suspect of 2 deaths of its process: waits for job 1, a suspect too\n"
        "suspect of 2 deaths of its process: waits for job 1, a suspect too");
    ck_assert_str_eq(
        claimed_beside((struct aboard){.jobs = 2, .suspects = 1}, 2), " 5 6");
    ck_assert_str_eq(
        claimed_beside((struct aboard){.jobs = 4, .suspects = 1}, 2), " 7");
    ck_assert_int_eq(storage.rest, CLAIM_LIMITED);
    ck_assert_str_eq(claimed_beside((struct aboard){.jobs = 4}, 2), " 2");
}
END_TEST

START_TEST(nobody_is_given_up_for_a_third_death_in_company)
{
    (void)storage_submit_plain();
    (void)storage_submit_plain();
    for (int i = 0; i < 2; i++)
        ck_assert_str_eq(die_with(2), " 1 2");
    (void)storage_submit_plain();
    ck_assert_str_eq(die_with(3), " 1 3");
    ck_assert_str_eq(storage_text("SELECT state, crashes FROM jobs"
                                  " ORDER BY id"),
                     "ready|3\nready|2\nready|1");
    /* and now it runs alone */
    ck_assert_str_eq(die_with(3), " 1");
    ck_assert_str_eq(
        storage_text("SELECT state, cause FROM jobs ORDER BY id"),
        "failed|poison: its process died four times before the job got any "
        "further\nready|NULL\nready|NULL");
}
END_TEST

START_TEST(who_was_there_at_three_deaths_runs_only_where_nothing_else_does)
{
    struct claim claim;

    (void)storage_submit_plain();
    storage_run("UPDATE _job SET crashes = 3");
    (void)storage_submit_plain();
    ck_assert_str_eq(claimed_beside((struct aboard){.jobs = 1}, 2), " 2");
    ck_assert_int_eq(storage.rest, CLAIM_LIMITED);
    ck_assert_str_eq(
        storage_text("SELECT why FROM jobs WHERE id = 1"),
        "suspect of 3 deaths of its process: runs alone, waits for job 2");
    (void)storage_submit_plain();
    ck_assert_str_eq(claimed_beside((struct aboard){0}, 2), " 1");
    ck_assert_int_eq(storage.rest, CLAIM_LIMITED);
    ck_assert_str_eq(claimed_beside((struct aboard){.jobs = 1, .loners = 1}, 2),
                     "");
    ck_assert_int_eq(storage.rest, CLAIM_LIMITED);
    ck_assert_str_eq(storage_text("SELECT why FROM jobs WHERE id = 3"),
                     "waits for job 1, a suspect that runs alone");
    claim = (struct claim){.id = 1, .lease = 1};
    ck_assert_int_eq(storage_progress(&claim, 1, 9), ROTA_OK);
    ck_assert_str_eq(storage_text("SELECT why FROM jobs WHERE id = 3"),
                     "waits for a worker");
}
END_TEST

/* Have jobs of "k" be of a kind that is isolated. */
static void
isolate(void)
{
    struct joined_kind kind = {
        .name = "k", .max_attempts = STORAGE_ATTEMPTS, .is_isolated = true};
    struct wish join = {.kind = WISH_JOIN,
                        .join = {.kinds = &kind, .n_kinds = 1, .threads = 1}};

    ck_assert_int_eq(storage_grant(&join), ROTA_OK);
}

START_TEST(a_suspect_that_waits_takes_nobodys_turn_of_its_key)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    struct claim claim;

    s.limit_key = "key"; /* one at a time */
    for (int i = 0; i < 3; i++)
        (void)storage_submit(&s);
    claim = storage_claim(storage.process); /* the others are held */
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    ck_assert_str_eq(storage_text("SELECT count(*) FROM _held"), "2");
    storage_run("UPDATE _job SET crashes = 3 WHERE id = 2");
    storage_succeed(&claim);
    /* the suspect may not run beside what runs here, and the third may */
    ck_assert_str_eq(claimed_beside((struct aboard){.jobs = 1}, 2), " 3");
}
END_TEST

START_TEST(what_runs_in_a_process_of_its_own_is_no_suspect_until_ten_deaths)
{
    struct work work;

    for (int i = 0; i < 3; i++)
        (void)storage_submit_plain();
    for (int i = 0; i < 10; i++) {
        int64_t process = storage_dead_process();

        isolate(); /* what the dead one said is overruled */
        work_init(&work);
        work.scope.process = process;
        work.scope.n_isolated = 1;
        work.aboard.loners = work.aboard.jobs = 1;
        ck_assert_str_eq(storage_cycle(&work, 3), " 1 2 3");
        (void)storage_rescue(process);
        if (i < 9)
            ck_assert_str_eq(
                storage_text("SELECT DISTINCT state, crashes, why FROM jobs"
                             " WHERE crashes = %d",
                             i + 1),
                storage_text("SELECT 'ready', %d, 'waits for a worker'",
                             i + 1));
    }
    ck_assert_str_eq(storage_text("SELECT DISTINCT state, cause FROM jobs"),
                     "failed|poison: its process died ten times before the job "
                     "got any further");
}
END_TEST

START_TEST(a_job_that_advances_before_each_crash_is_not_poison)
{
    struct claim claim;

    (void)storage_submit_plain();
    for (int64_t cursor = 11; cursor <= 20; cursor++) {
        int64_t process = storage_dead_process();

        claim = storage_claim(process);
        ck_assert_int_ne(claim.id, 0);
        ck_assert_int_eq(storage_progress(&claim, cursor, 100), ROTA_OK);
        ck_assert_int_eq(storage_rescue(process), 1);
    }
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "ready");
    ck_assert_int_eq(storage_int("SELECT crashes FROM jobs"), 1);
}
END_TEST

START_TEST(a_run_that_advances_and_comes_back_makes_good_for_the_deaths_before)
{
    struct claim claim;

    (void)storage_submit_plain();
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(die_with_the_job(i), 1);
    ck_assert_int_eq(storage_int("SELECT crashes FROM jobs"), 2);
    claim = storage_claim(storage.process);
    ck_assert_int_eq(storage_progress(&claim, 5, -1), ROTA_OK);
    give_back(&claim);
    ck_assert_int_eq(storage_int("SELECT crashes FROM jobs"), 0);
    ck_assert_int_eq(die_with_the_job(3), 1);
    ck_assert_str_eq(storage_text("SELECT state, crashes FROM jobs"),
                     "ready|1");
}
END_TEST

START_TEST(a_dead_process_leaves_cancelled_what_was_to_be_cancelled)
{
    int64_t process = storage_dead_process();

    (void)storage_submit_plain();
    (void)storage_claim(process);
    storage_run("INSERT INTO cancel VALUES(1, 'enough')");
    ck_assert_int_eq(storage_rescue(process), 1);
    ck_assert_str_eq(storage_text("SELECT state, why FROM jobs"),
                     "cancelled|enough");
}
END_TEST

START_TEST(a_living_process_is_not_rescued)
{
    (void)storage_submit_plain();
    (void)storage_claim(storage.process);
    ck_assert_int_eq(storage_rescue(storage.process), 0);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "running");
}
END_TEST

static Suite *
suspicion_suite(void)
{
    Suite *suite = suite_create("suspicion");
    TCase *deaths = case_new(suite, "deaths");

    tcase_add_checked_fixture(deaths, storage_make, storage_remove);
    tcase_add_test(deaths, a_suspect_that_waits_takes_nobodys_turn_of_its_key);
    tcase_add_test(
        deaths, a_job_that_killed_three_processes_without_advancing_is_poison);
    tcase_add_test(
        deaths, suspects_are_claimed_one_at_a_time_and_all_others_beside_them);
    tcase_add_test(deaths, nobody_is_given_up_for_a_third_death_in_company);
    tcase_add_test(
        deaths,
        who_was_there_at_three_deaths_runs_only_where_nothing_else_does);
    tcase_add_test(
        deaths,
        what_runs_in_a_process_of_its_own_is_no_suspect_until_ten_deaths);
    tcase_add_test(deaths, a_job_that_advances_before_each_crash_is_not_poison);
    tcase_add_test(
        deaths,
        a_run_that_advances_and_comes_back_makes_good_for_the_deaths_before);
    tcase_add_test(deaths,
                   a_dead_process_leaves_cancelled_what_was_to_be_cancelled);
    tcase_add_test(deaths, a_living_process_is_not_rescued);
    return suite;
}

int
main(void)
{
    return storage_suite_run(suspicion_suite());
}
