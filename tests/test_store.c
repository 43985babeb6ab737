/*
 * The store's conformance suite: what a job's life is, whichever kind of store
 * keeps it. It promises that a run ends where the outcome rules say, and never
 * once a later one has taken over; that failures are counted as rota(5) has it
 * (deaths: test_suspicion.c); that claims take the right job of the right queue
 * and kind; what retry, pause, cancel and prune come to; and that a look only
 * looks. Run for each kind by ROTA_TEST_STORE (storage.h).
 *
 * One thread. A process that died is a store that was closed without a leave.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
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

/* -- Fencing -------------------------------------------------------------- */

static const struct {
    enum rota_error error;
    enum rota_stop_reason stop;
    bool never_started;
    enum rota_state state; /* where it leads when the lease holds */
} endings[] = {
    {ROTA_OK, ROTA_STOP_NONE, false, ROTA_SUCCEEDED},
    {ROTA_FAILED, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_FATAL, ROTA_STOP_NONE, false, ROTA_JOB_FAILED},
    {ROTA_SNOOZE, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_CANCEL, false, ROTA_CANCELLED},
    {ROTA_FAILED, ROTA_STOP_CANCEL, false, ROTA_CANCELLED},
    {ROTA_OK, ROTA_STOP_CANCEL, false, ROTA_SUCCEEDED},
    {ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, ROTA_READY},
    {ROTA_FAILED, ROTA_STOP_SHUTDOWN, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_DEADLINE, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_SHUTDOWN, true, ROTA_READY},
    {ROTA_CANCELED, ROTA_STOP_CANCEL, true, ROTA_CANCELLED},
};
#define ENDINGS ((int)(sizeof(endings) / sizeof(endings[0])))

START_TEST(an_ending_leads_where_the_outcome_rules_say)
{
    struct claim claim;
    enum rota_state state = ROTA_BLOCKED;

    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    ck_assert_int_eq(storage_end(&claim, endings[_i].error, endings[_i].stop,
                                 endings[_i].never_started, &state),
                     ROTA_OK);
    ck_assert_int_eq(state, endings[_i].state);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"),
                     rota_state_name(state));
}
END_TEST

static const char *
others_say(void)
{
    return storage_text(
        "SELECT id, state, lease, failures, crashes, run_at,"
        " done, started_at FROM jobs WHERE id <> 2 ORDER BY id");
}

/* All have the same lease: the id alone tells the jobs apart. */
START_TEST(an_ending_is_that_of_its_own_job_among_many_that_run)
{
    struct claim claims[3];
    enum rota_state state;
    const char *before;

    for (int i = 0; i < 3; i++)
        (void)storage_submit_plain();
    for (int i = 0; i < 3; i++)
        claims[i] = storage_claim(storage.process);
    storage.skipped += 1000;
    before = others_say();
    ck_assert_int_eq(storage_progress(&claims[1], 7, 10), ROTA_OK);
    ck_assert_int_eq(storage_end(&claims[1], endings[_i].error,
                                 endings[_i].stop, endings[_i].never_started,
                                 &state),
                     ROTA_OK);
    ck_assert_int_eq(state, endings[_i].state);
    ck_assert_str_eq(others_say(), before);
}
END_TEST

START_TEST(a_success_keeps_the_cancel_that_came_too_late_for_it)
{
    enum rota_cancel_answer answer;
    struct claim claim;

    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    ck_assert_int_eq(storage_cancel(claim.id, "late", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_REQUESTED);
    storage_succeed(&claim);
    ck_assert_str_eq(storage_text("SELECT state, cause,"
                                  " cancel_requested_at IS NOT NULL FROM jobs"),
                     "succeeded|late|1");
}
END_TEST

/* The same process claims it again: the lease alone tells the runs apart. */
START_TEST(a_run_that_was_overtaken_ends_in_nothing_whatever_it_returns)
{
    struct claim first, second;
    enum rota_state state;
    const char *before;

    (void)storage_submit_plain();
    first = storage_claim(storage.process);
    give_back(&first);
    second = storage_claim(storage.process);
    ck_assert_int_eq(second.id, first.id);
    ck_assert_int_eq(second.lease, first.lease + 1);
    before = storage_everything();
    ck_assert_int_eq(storage_end(&first, endings[_i].error, endings[_i].stop,
                                 endings[_i].never_started, &state),
                     ROTA_LOST);
    ck_assert_str_eq(storage_everything(), before);
    storage_succeed(&second);
    ck_assert_int_eq(storage_int("SELECT lease FROM jobs"), second.lease);
}
END_TEST

START_TEST(a_run_that_was_overtaken_records_no_progress)
{
    struct wish commit = {.kind = WISH_COMMIT,
                          .commit = {.cursor = 78, .total = 100}};
    struct claim first, second;
    const char *before;

    (void)storage_submit_plain();
    first = storage_claim(storage.process);
    give_back(&first);
    second = storage_claim(storage.process);
    before = storage_everything();
    ck_assert_int_eq(storage_progress(&first, 77, 100), ROTA_LOST);
    commit.commit.id = first.id;
    commit.commit.lease = first.lease;
    ck_assert_int_eq(storage_grant(&commit), ROTA_LOST);
    ck_assert_str_eq(storage_everything(), before);
    ck_assert_int_eq(storage_progress(&second, 77, 100), ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT done FROM jobs"), 77);
    commit.commit.lease = second.lease;
    ck_assert_int_eq(storage_grant(&commit), ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT done FROM jobs"), 78);
}
END_TEST

/* -- Counters ------------------------------------------------------------- */

START_TEST(failures_are_charged_until_none_are_left)
{
    enum rota_state state = ROTA_BLOCKED;
    struct claim claim;

    (void)storage_submit_plain();
    for (int i = 1; i <= STORAGE_ATTEMPTS; i++) {
        (void)storage_chores();
        claim = storage_claim(storage.process);
        ck_assert_int_eq(claim.lease, i);
        ck_assert_int_eq(
            storage_end(&claim, ROTA_FAILED, ROTA_STOP_NONE, false, &state),
            ROTA_OK);
        storage.skipped += 86400000; /* whenever it is to be tried again */
    }
    ck_assert_int_eq(state, ROTA_JOB_FAILED);
    ck_assert_int_eq(storage_int("SELECT attempt FROM jobs"), 3);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM attempts"), 3);
    ck_assert_int_eq(
        storage_int("SELECT count(*) FROM attempts WHERE outcome = 'failed'"),
        3);
}
END_TEST

START_TEST(interrupted_and_snoozed_runs_are_not_charged)
{
    enum rota_state state;
    struct claim claim;

    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    give_back(&claim);
    claim = storage_claim(storage.process);
    (void)storage_end(&claim, ROTA_SNOOZE, ROTA_STOP_NONE, false, &state);
    ck_assert_int_eq(storage_int("SELECT failures FROM jobs"), 0);
    ck_assert_int_eq(storage_int("SELECT attempt FROM jobs"), 0);
    ck_assert_str_eq(
        storage_text("SELECT outcome FROM attempts ORDER BY lease"),
        "interrupted\nsnoozed");
}
END_TEST

/* -- Claiming ------------------------------------------------------------- */

START_TEST(jobs_are_claimed_by_priority_with_ageing_then_by_id)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    struct submitting late, soon, old, again;
    struct work work;

    work_init(&work);
    s.priority = 1;
    work_submit(&work, &late, &s);
    s.priority = 0;
    work_submit(&work, &soon, &s);
    work_submit(&work, &again, &s);
    s.priority = 5; /* but it has waited for longer than five minutes */
    s.run_at = machine_clock(NULL) - 301000;
    work_submit(&work, &old, &s);
    (void)storage_cycle(&work, 0);
    ck_assert_int_eq(storage_claim(storage.process).id, old.id);
    ck_assert_int_eq(storage_claim(storage.process).id, soon.id);
    ck_assert_int_eq(storage_claim(storage.process).id, again.id);
    ck_assert_int_eq(storage_claim(storage.process).id, late.id);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
}
END_TEST

START_TEST(a_queue_that_a_living_process_owns_is_its_alone)
{
    struct wish leave = {.kind = WISH_LEAVE};
    int64_t other = storage.process, owner;
    enum rota_error error;

    owner = storage_join("default", &error);
    ck_assert_int_eq(error, ROTA_OK);
    (void)storage_join("default", &error);
    ck_assert_int_eq(error, ROTA_EXISTS);
    (void)storage_submit_plain();
    (void)storage_submit_plain();
    ck_assert_int_eq(storage_claim(other).id, 0);
    ck_assert_int_gt(storage_claim(owner).id, 0);
    leave.leave.process = owner;
    ck_assert_int_eq(storage_grant(&leave), ROTA_OK);
    ck_assert_int_gt(storage_claim(other).id, 0);
    (void)storage_join("default", &error);
    ck_assert_int_eq(error, ROTA_OK);
}
END_TEST

START_TEST(jobs_of_a_kind_that_is_not_handled_here_stay)
{
    struct joined_kind other = {.name = "other", .max_attempts = 1};
    struct wish join = {.kind = WISH_JOIN,
                        .join = {.kinds = &other, .n_kinds = 1, .threads = 1}};

    storage_run("INSERT INTO submit(kind) VALUES('other')");
    ck_assert_int_eq(storage_grant(&join), ROTA_OK);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    storage.kind = other.number;
    ck_assert_int_ne(storage_claim(storage.process).id, 0);
}
END_TEST

/* One whose deadline has passed. */
static void
submit_late(void)
{
    storage_run("INSERT INTO submit(kind, deadline_at)"
                " VALUES('k', 100000000000)");
}

START_TEST(a_job_whose_deadline_has_passed_fails_unclaimed)
{
    submit_late();
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    ck_assert_str_eq(storage_text("SELECT state, error FROM jobs"),
                     "failed|DEADLINE");
}
END_TEST

START_TEST(jobs_past_their_deadline_do_not_hide_the_one_behind_them)
{
    int64_t id;

    for (int i = 0; i < 3; i++)
        submit_late();
    id = storage_submit_plain();
    ck_assert_int_eq(storage_claim(storage.process).id, id);
    ck_assert_int_eq(
        storage_int("SELECT count(*) FROM jobs WHERE state = 'failed'"), 3);
}
END_TEST

START_TEST(a_scheduled_job_is_not_claimed_before_it_is_due)
{
    storage_run("INSERT INTO submit(kind, run_at) VALUES('k', 4000000000000)");
    ck_assert_int_eq(storage_chores(), 4000000000000);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "scheduled");
}
END_TEST

/* -- Retry, pause, cancel, prune ------------------------------------------- */

START_TEST(a_retry_runs_again_what_has_ended_and_keeps_its_cursor_and_history)
{
    static const enum rota_error codes[] = {ROTA_OK, ROTA_FATAL, ROTA_FATAL};
    struct claim claim;
    enum rota_state state;

    (void)storage_submit_plain();
    for (int run = 1; run <= 3; run++) {
        claim = storage_claim(storage.process);
        ck_assert_int_eq(claim.id, 1);
        ck_assert_int_eq(claim.lease, run);
        ck_assert_int_eq(claim.failures, 0);
        ck_assert_int_eq(claim.cursor, run == 1 ? 0 : 7);
        ck_assert_int_eq(storage_progress(&claim, 7, 9), ROTA_OK);
        (void)storage_end(&claim, codes[run - 1], ROTA_STOP_NONE, false,
                          &state);
        storage_run("INSERT INTO retry(job) VALUES(1)");
        ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "ready");
    }
    ck_assert_str_eq(
        storage_text("SELECT lease, outcome FROM attempts ORDER BY lease"),
        "1|succeeded\n2|failed\n3|failed");
    ck_assert_int_eq(storage_int("SELECT count(*) FROM retry"), 0);
}
END_TEST

START_TEST(a_retry_of_what_was_cancelled_while_it_waited_leaves_no_attempt)
{
    struct wish wishes[] = {
        {.kind = WISH_RETRY, .retry = {.job = 1}},
        {.kind = WISH_RETRY, .retry = {.job = 1}},
        {.kind = WISH_RETRY, .retry = {.job = 2}},
    };
    struct work work;

    (void)storage_submit_plain();
    storage_run("INSERT INTO cancel(job) VALUES(1)");
    work_init(&work);
    for (int i = 0; i < 3; i++)
        work_wish(&work, &wishes[i]);
    (void)storage_cycle(&work, 0);
    ck_assert_int_eq(wishes[0].error, ROTA_OK);
    ck_assert_int_eq(wishes[1].error, ROTA_INVALID);
    ck_assert_int_eq(wishes[2].error, ROTA_NOTFOUND);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM attempts"), 0);
    ck_assert_int_eq(storage_claim(storage.process).id, 1);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_none_for_a_retry)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.deadline = machine_clock(NULL) - 1;
    (void)storage_submit(&s);
    ck_assert_int_eq(storage_claim(storage.process).id, 0); /* too late */
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"), "failed");
    storage_run("INSERT INTO retry(job) VALUES(1)");
    ck_assert_int_eq(storage_claim(storage.process).id, 1);
}
END_TEST

START_TEST(of_a_paused_queue_nothing_is_claimed_until_it_is_resumed)
{
    (void)storage_submit_plain();
    storage_run("INSERT INTO pause VALUES('default')");
    storage_run("INSERT INTO pause VALUES('default')");
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
    ck_assert_str_eq(storage_text("SELECT state, status, why FROM jobs"),
                     "ready|paused|its queue is paused");
    ck_assert_str_eq(storage_text("SELECT queue, paused, ready FROM queues"),
                     "default|1|1");
    storage_run("INSERT INTO resume VALUES('default')");
    ck_assert_int_eq(storage_claim(storage.process).id, 1);
    ck_assert_str_eq(
        storage_text("SELECT queue, paused, ready, running FROM queues"),
        "default|0|0|1");
    ck_assert_int_eq(storage_pause("new", true), ROTA_OK);
    ck_assert_int_eq(storage_pause("new", false), ROTA_OK);
    ck_assert_int_eq(storage_pause("nowhere", false), ROTA_NOTFOUND);
    ck_assert_str_eq(storage_text("SELECT queue FROM queues ORDER BY queue"),
                     "default\nnew");
}
END_TEST

START_TEST(a_job_that_does_not_advance_says_since_when)
{
    struct claim claim;

    storage.skipped = -100500; /* it is then that it started */
    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    ck_assert_int_eq(storage_progress(&claim, 0, 9), ROTA_OK);
    storage.skipped = 0;
    ck_assert_str_eq(storage_text("SELECT state, why FROM jobs"),
                     "running|no advance for 100 s");
    ck_assert_int_eq(storage_progress(&claim, 7, 9), ROTA_OK);
    ck_assert_str_eq(storage_text("SELECT why FROM jobs"), "NULL");
}
END_TEST

/* Its progress says that it is stuck, its own commits do not know. */
START_TEST(a_job_that_is_stuck_and_commits_is_stuck_all_the_same)
{
    struct wish commit = {.kind = WISH_COMMIT};
    struct claim claim;

    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    commit.commit = (struct progress){.id = claim.id,
                                      .lease = claim.lease,
                                      .started_at = storage.time + 1,
                                      .stuck_since = storage.time + 2,
                                      .total = -1};
    ck_assert_int_eq(storage_grant(&commit), ROTA_OK);
    commit.commit.stuck_since = 0;
    commit.commit.cursor = 8;
    ck_assert_int_eq(storage_grant(&commit), ROTA_OK);
    ck_assert_str_eq(storage_text("SELECT status, done FROM jobs"), "stuck|8");
}
END_TEST

/* As one that was retried after it was looked up, and has ended anew. */
START_TEST(a_job_that_ended_later_than_asked_is_not_forgotten)
{
    int64_t ids[] = {storage_submit_plain(), storage_submit_plain()};
    struct wish prune = {.kind = WISH_PRUNE,
                         .prune = {.jobs = ids, .n = 2, .before = 2000}};
    struct claim claim;

    storage.time = 1000;
    for (int i = 0; i < 2; i++, storage.time += 1000) {
        claim = storage_claim(storage.process);
        storage_succeed(&claim);
    }
    ck_assert_int_eq(storage_grant(&prune), ROTA_OK);
    ck_assert_int_eq(prune.prune.count, 1);
    ck_assert_int_eq(storage_int("SELECT id FROM jobs"), ids[1]);
}
END_TEST

/* One ends, another is forgotten, and those behind the first are told last. */
START_TEST(what_is_forgotten_takes_nobody_elses_news_with_it)
{
    struct rota_submission after = ROTA_SUBMISSION_INIT("k");
    int64_t old = storage_submit_plain(), awaited;
    struct wish prune = {.kind = WISH_PRUNE,
                         .prune = {.jobs = &old, .n = 1, .before = INT64_MAX}};
    struct wish cancel = {.kind = WISH_CANCEL};
    struct claim claim = storage_claim(storage.process);
    struct work work;

    storage_succeed(&claim);
    awaited = storage_submit_plain();
    after.after = &awaited;
    after.n_after = 1;
    (void)storage_submit(&after);
    cancel.cancel.job = awaited;
    work_init(&work);
    work_wish(&work, &cancel);
    work_wish(&work, &prune);
    (void)storage_cycle(&work, 0);
    ck_assert_int_eq(prune.prune.count, 1);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs"),
                     "cancelled\ncancelled");
}
END_TEST

START_TEST(a_batch_is_forgotten_with_the_last_of_its_jobs)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t ids[2], made_at;
    struct wish prune = {.kind = WISH_PRUNE,
                         .prune = {.n = 1, .before = INT64_MAX}};

    s.batch = "b";
    for (int i = 0; i < 2; i++) {
        struct claim claim;

        ids[i] = storage_submit(&s);
        claim = storage_claim(storage.process);
        storage_succeed(&claim);
    }
    made_at = storage_int("SELECT created_at FROM batches");
    prune.prune.jobs = &ids[0];
    ck_assert_int_eq(storage_grant(&prune), ROTA_OK);
    ck_assert_str_eq(storage_text("SELECT batch FROM jobs"), "b");
    prune.prune.jobs = &ids[1];
    ck_assert_int_eq(storage_grant(&prune), ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM batches"), 0);
    storage.skipped += 1000;
    (void)storage_submit(&s); /* one of that name is another */
    ck_assert_int_ge(storage_int("SELECT created_at FROM batches"),
                     made_at + 1000);
}
END_TEST

START_TEST(a_submit_that_is_rolled_back_leaves_no_job)
{
    storage_run("BEGIN; INSERT INTO submit(kind) VALUES('k'); ROLLBACK");
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 0);
    ck_assert_int_eq(storage_claim(storage.process).id, 0);
}
END_TEST

START_TEST(an_id_is_never_given_twice)
{
    int64_t first = storage_submit_plain();
    struct wish prune = {
        .kind = WISH_PRUNE,
        .prune = {.jobs = &first, .n = 1, .before = INT64_MAX}};

    storage_run("INSERT INTO cancel(job) VALUES(1)");
    ck_assert_int_eq(storage_grant(&prune), ROTA_OK);
    ck_assert_int_eq(prune.prune.count, 1);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 0);
    if (_i == 1)
        storage_reopen();
    ck_assert_int_gt(storage_submit_plain(), first);
}
END_TEST

START_TEST(cancel_answers_what_it_came_to)
{
    const int64_t waits = storage_submit_plain(), runs = 2;
    struct wish wishes[] = {
        {.kind = WISH_CANCEL, .cancel = {.job = waits, .reason = "no"}},
        {.kind = WISH_CANCEL, .cancel = {.job = waits, .reason = "no"}},
        {.kind = WISH_CANCEL, .cancel = {.job = 99, .reason = "no"}},
        {.kind = WISH_CANCEL, .cancel = {.job = runs, .reason = "stop"}},
        {.kind = WISH_CANCEL, .cancel = {.job = runs, .reason = "late"}}};
    struct claim claim;
    enum rota_state state;
    struct work work;

    work_init(&work);
    for (int i = 0; i < 3; i++)
        work_wish(&work, &wishes[i]);
    (void)storage_cycle(&work, 0);
    ck_assert_int_eq(wishes[0].error, ROTA_OK);
    ck_assert_int_eq(wishes[0].cancel.answer, ROTA_CANCEL_DONE);
    ck_assert_int_eq(wishes[1].error, ROTA_OK);
    ck_assert_int_eq(wishes[1].cancel.answer, ROTA_CANCEL_TOO_LATE);
    ck_assert_int_eq(wishes[2].error, ROTA_NOTFOUND);
    ck_assert_int_eq(storage_submit_plain(), runs);
    claim = storage_claim(storage.process);
    work_init(&work);
    for (int i = 3; i < 5; i++)
        work_wish(&work, &wishes[i]);
    (void)storage_cycle(&work, 0);
    ck_assert_int_eq(wishes[3].error, ROTA_OK);
    ck_assert_int_eq(wishes[3].cancel.answer, ROTA_CANCEL_REQUESTED);
    ck_assert_int_eq(wishes[4].error, ROTA_OK);
    ck_assert_int_eq(wishes[4].cancel.answer, ROTA_CANCEL_AGAIN);
    ck_assert_str_eq(storage_text("SELECT status FROM jobs WHERE id = 2"),
                     "cancelling");
    (void)storage_end(&claim, ROTA_FAILED, ROTA_STOP_NONE, false, &state);
    ck_assert_int_eq(state, ROTA_CANCELLED);
    ck_assert_str_eq(storage_text("SELECT why FROM jobs WHERE id = 2"), "stop");
}
END_TEST

/* -- Looking -------------------------------------------------------------- */

START_TEST(a_batch_counts_its_jobs)
{
    struct claim claim;

    storage_run("INSERT INTO submit(kind, batch) VALUES('k', 'b'),"
                " ('k', 'b'), ('k', 'b'), ('k', 'b'), ('k', NULL)");
    storage_run("INSERT INTO cancel(job) VALUES(4)");
    claim = storage_claim(storage.process);
    storage_succeed(&claim);
    (void)storage_claim(storage.process);
    ck_assert_str_eq(
        storage_text("SELECT batch, jobs, ready, running, succeeded, failed,"
                     " cancelled FROM batches"),
        "b|4|1|1|1|0|1");
}
END_TEST

static const struct {
    const char *sql;
    enum rota_error error;
} looks[] = {
    {"SELECT * FROM jobs", ROTA_OK},
    {"SELECT * FROM jobs; ", ROTA_OK},
    {"SELECT * FROM jobs; SELECT 1", ROTA_INVALID},
    {"", ROTA_INVALID},
    {"SELEC", ROTA_INVALID},
    {"BEGIN", ROTA_INVALID},
    {"DELETE FROM jobs", ROTA_INVALID},
    {"INSERT INTO submit(kind) VALUES('k')", ROTA_INVALID},
    {"VACUUM", ROTA_INVALID},
};

START_TEST(a_look_only_looks)
{
    (void)storage_submit_plain();
    ck_assert_int_eq(storage_look(looks[_i].sql), looks[_i].error);
    ck_assert_int_eq(storage_look("SELECT 1"), ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 1);
}
END_TEST

/* -- What is text ---------------------------------------------------------- */

static const struct {
    const char *text;
    size_t size;
    bool is_utf8;
} texts[] = {
    {"", 0, true},
    {"plain", 5, true},
    {"\xc3\xa9", 2, true},
    {"\xe2\x82\xac", 3, true},
    {"\xf0\x9f\x98\x80", 4, true},
    {"a\0b", 3, false},
    {"\xff", 1, false},
    {"\xc0\x80", 2, false},
    {"\xed\xa0\x80", 3, false},
    {"\xf4\x90\x80\x80", 4, false},
    {"\xe2\x82", 2, false},
    {"\xe0\x80\x80", 3, false},
};

START_TEST(text_is_told_from_other_bytes)
{
    ck_assert_int_eq(text_is_utf8(texts[_i].text, texts[_i].size),
                     texts[_i].is_utf8);
}
END_TEST

static void
add_forgetting(TCase *t)
{
    tcase_add_checked_fixture(t, storage_make, storage_remove);
    tcase_add_test(t, a_job_that_ended_later_than_asked_is_not_forgotten);
    tcase_add_test(t, what_is_forgotten_takes_nobody_elses_news_with_it);
    tcase_add_test(t, a_batch_is_forgotten_with_the_last_of_its_jobs);
}

static Suite *
store_suite(void)
{
    Suite *suite = suite_create("store");
    TCase *life = case_new(suite, "life");

    tcase_add_checked_fixture(life, storage_make, storage_remove);
    tcase_add_loop_test(life, an_ending_leads_where_the_outcome_rules_say, 0,
                        ENDINGS);
    tcase_add_loop_test(
        life, an_ending_is_that_of_its_own_job_among_many_that_run, 0, ENDINGS);
    tcase_add_loop_test(
        life, a_run_that_was_overtaken_ends_in_nothing_whatever_it_returns, 0,
        ENDINGS);
    tcase_add_test(life, a_success_keeps_the_cancel_that_came_too_late_for_it);
    tcase_add_test(life, a_run_that_was_overtaken_records_no_progress);
    tcase_add_test(life, failures_are_charged_until_none_are_left);
    tcase_add_test(life, interrupted_and_snoozed_runs_are_not_charged);
    tcase_add_test(life, jobs_are_claimed_by_priority_with_ageing_then_by_id);
    tcase_add_test(life, a_queue_that_a_living_process_owns_is_its_alone);
    tcase_add_test(life, jobs_of_a_kind_that_is_not_handled_here_stay);
    tcase_add_test(life, a_job_whose_deadline_has_passed_fails_unclaimed);
    tcase_add_test(life,
                   jobs_past_their_deadline_do_not_hide_the_one_behind_them);
    tcase_add_test(life, a_scheduled_job_is_not_claimed_before_it_is_due);
    tcase_add_test(
        life,
        a_retry_runs_again_what_has_ended_and_keeps_its_cursor_and_history);
    tcase_add_test(
        life, a_retry_of_what_was_cancelled_while_it_waited_leaves_no_attempt);
    tcase_add_test(life, a_deadline_that_has_passed_is_none_for_a_retry);
    tcase_add_test(life,
                   of_a_paused_queue_nothing_is_claimed_until_it_is_resumed);
    tcase_add_test(life, a_job_that_does_not_advance_says_since_when);
    tcase_add_test(life, a_job_that_is_stuck_and_commits_is_stuck_all_the_same);
    tcase_add_test(life, a_submit_that_is_rolled_back_leaves_no_job);
    tcase_add_loop_test(life, an_id_is_never_given_twice, 0, 2);
    tcase_add_test(life, cancel_answers_what_it_came_to);
    tcase_add_test(life, a_batch_counts_its_jobs);
    tcase_add_loop_test(life, a_look_only_looks, 0,
                        (int)(sizeof(looks) / sizeof(*looks)));
    tcase_add_loop_test(life, text_is_told_from_other_bytes, 0,
                        (int)(sizeof(texts) / sizeof(*texts)));
    add_forgetting(case_new(suite, "forgetting"));
    return suite;
}

int
main(void)
{
    return storage_suite_run(store_suite());
}
