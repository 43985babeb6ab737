/*
 * What goes into a queue: submissions, in C and in SQL, what they leave open,
 * ids, and many at once, in one process. When the world refuses them:
 * test_refusals.c.
 *
 * Threads that submit at once come through a gate.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "faults.h"
#include "scratch.h"
#include "stage.h"

/* How often each job has run, by id. */
#define IDS_MAX 20000
static atomic_int ran[IDS_MAX + 1];

static enum rota_error
counts_itself(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    atomic_fetch_add(&ran[rota_job_id(job)], 1);
    return ROTA_OK;
}

static void
assert_each_ran_once(int n)
{
    for (int i = 1; i <= n; i++)
        ck_assert_msg(ran[i] == 1, "job %d ran %d times", i, ran[i]);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"),
        n);
}

/* -- Arguments ------------------------------------------------------------ */

static struct {
    char args[64];
    size_t size;
    char after;
} seen;

static enum rota_error
keeps_its_arguments(struct ctx *ctx, struct rota_job *job)
{
    const char *args = rota_job_args(job, &seen.size);

    (void)ctx;
    memcpy(seen.args, args, seen.size);
    seen.after = args[seen.size];
    return ROTA_OK;
}

static const struct {
    const char *args;
    size_t size;
    bool blob;
    const char *type; /* in the file */
} arguments[] = {
    {"{\"a\":1}", 7, false, "text"},
    {"\xc3\xa9\xe6\xb0\xb4", 5, false, "text"},
    {"", 0, false, "text"},
    {NULL, 0, false, "null"},
    {"text", 4, true, "blob"},
    {"a\0b\0", 4, false, "blob"},
    {"\xff\xfe\x00", 3, false, "blob"},
    {"cut here", 3, false, "text"},
};

START_TEST(arguments_reach_the_job_and_the_file_as_they_are)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    submission.args = arguments[_i].args;
    submission.args_size = arguments[_i].size;
    submission.args_blob = arguments[_i].blob;
    seen.after = 'x';
    begin(1, keeps_its_arguments);
    id = submit_as(&submission);
    wait_for(id);
    ck_assert_uint_eq(seen.size, arguments[_i].size);
    if (seen.size > 0)
        ck_assert_mem_eq(seen.args, arguments[_i].args, seen.size);
    ck_assert_int_eq(seen.after, '\0');
    ck_assert_str_eq(job_says(id, "typeof(args)"), arguments[_i].type);
}
END_TEST

/* -- Submissions ---------------------------------------------------------- */

#define ALL_FIELDS                                                   \
    "queue, batch, priority, max_attempts, timeout_ms, deadline_at," \
    " run_at - created_at, state"

START_TEST(every_field_of_a_submission_is_in_the_file)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    open_with(1, at_once);
    id = submit_as(&submission);
    ck_assert_str_eq(job_says(id, ALL_FIELDS),
                     "default|NULL|0|1|NULL|NULL|0|ready");
    submission.queue = "q";
    submission.batch = "b\xc3\xa9";
    submission.priority = -1000000;
    submission.max_attempts = 1000000;
    submission.timeout = ROTA_MS(1500);
    submission.deadline = 99999999999999;
    submission.run_at = 99999999999999;
    id = submit_as(&submission);
    ck_assert_str_eq(
        job_says(id, "queue, batch, priority, max_attempts, timeout_ms,"
                     " deadline_at, run_at, state"),
        "q|b\xc3\xa9|-1000000|1000000|1500|99999999999999|99999999999999"
        "|scheduled");
}
END_TEST

START_TEST(what_a_submission_leaves_open_the_kind_decides)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("j");
    struct rota_defaults defaults = ROTA_DEFAULTS_INIT;
    int64_t id;

    defaults.max_attempts = 4;
    defaults.timeout = 1; /* rounded up, not down to none */
    open_with(1, at_once);
    ck_assert_int_eq(rota_handle(rota, "j", at_once, NULL, &defaults), ROTA_OK);
    id = submit_as(&submission); /* before and after the start */
    start_workers();
    ck_assert_str_eq(job_says(id, "max_attempts, timeout_ms"), "4|1");
    id = submit_as(&submission);
    ck_assert_str_eq(job_says(id, "max_attempts, timeout_ms"), "4|1");
    id = sql_int(queue, "INSERT INTO submit(kind) VALUES('j') RETURNING id");
    ck_assert_str_eq(job_says(id, "max_attempts, timeout_ms"), "4|1");
    submission.max_attempts = 2;
    submission.timeout = ROTA_SEC(90);
    id = submit_as(&submission);
    ck_assert_str_eq(job_says(id, "max_attempts, timeout_ms"), "2|90000");
    ck_assert_str_eq(job_says(submit(), "max_attempts, timeout_ms"), "1|NULL");
}
END_TEST

static struct {
    int64_t ids[8];
    size_t n;
} order; /* the one worker's */

static enum rota_error
notes_the_order(struct ctx *ctx, struct rota_job *job)
{
    if (atomic_load(&act.runs) == 0)
        return held(ctx, job);
    order.ids[order.n++] = rota_job_id(job);
    return ROTA_OK;
}

START_TEST(a_smaller_priority_runs_sooner_and_then_the_older_job)
{
    static const int priorities[] = {2, 0, -1, 1, 0};
    static const int sooner[] = {2, 1, 4, 3, 0};
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t ids[5];

    begin(1, notes_the_order);
    (void)submit_running(1);
    for (int i = 0; i < 5; i++) {
        submission.priority = priorities[i];
        ids[i] = submit_as(&submission);
    }
    gate_open(&act.gate);
    drain();
    ck_assert_uint_eq(order.n, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(order.ids[i], ids[sooner[i]]);
}
END_TEST

START_TEST(a_job_for_later_runs_when_it_is_due_and_not_before)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id, later;

    begin(1, at_once);
    later = submit_later();
    submission.run_at = machine_clock(NULL) + 30;
    id = submit_as(&submission);
    wait_for(id);
    ck_assert_str_eq(job_says(id, "state, started_at >= run_at"),
                     "succeeded|1");
    ck_assert_str_eq(job_says(later, "state"), "scheduled");
    hurry(later);
    wait_for(later);
    ck_assert_int_eq(act.runs, 2);
}
END_TEST

static enum rota_error
notes_its_deadline(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    act.number = ctx_remaining(ctx);
    return ctx_err(ctx);
}

START_TEST(the_year_5000_is_not_the_past)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    static const int64_t times[] = {11000000000000, 30000000000000,
                                    99999999999999};

    begin(1, notes_its_deadline);
    for (int i = 0; i < 3; i++) {
        submission.deadline = times[i];
        submission.run_at = 0;
        wait_for(submit_as(&submission));
        assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
        ck_assert_int_gt(act.number, ROTA_SEC(1) * 86400 * 365 * 100);
        submission.run_at = times[i];
        ck_assert_str_eq(job_says(submit_as(&submission), "state"),
                         "scheduled");
    }
}
END_TEST

/* -- Bad submissions ------------------------------------------------------ */

#define OF_KIND(name) .size = sizeof(struct rota_submission), .kind = (name)

static char long_name[257]; /* 256 bytes, once a test runs */

static const struct {
    struct rota_submission submission;
    const char *says;
} senseless[] = {
    {{.kind = "k"}, "ROTA_SUBMISSION_INIT"},
    {{OF_KIND(NULL)}, "kind"},
    {{OF_KIND("")}, "kind"},
    {{OF_KIND("\xff")}, "kind"},
    {{OF_KIND(long_name)}, "kind"},
    {{OF_KIND("k"), .queue = ""}, "queue"},
    {{OF_KIND("k"), .queue = long_name}, "queue"},
    {{OF_KIND("k"), .batch = ""}, "batch"},
    {{OF_KIND("k"), .batch = "\xc3"}, "batch"},
    {{OF_KIND("k"), .args_size = 3}, "args"},
    {{OF_KIND("k"), .args = "x", .args_size = 500000001}, "args"},
    {{OF_KIND("k"), .priority = 1000001}, "priority"},
    {{OF_KIND("k"), .priority = -1000001}, "priority"},
    {{OF_KIND("k"), .run_at = -1}, "run_at"},
    {{OF_KIND("k"), .run_at = 100000000000000}, "run_at"},
    {{OF_KIND("k"), .run_at = 1798761600}, "seconds"},
    {{OF_KIND("k"), .deadline = 1798761600}, "seconds"},
    {{OF_KIND("k"), .deadline = -1}, "deadline"},
    {{OF_KIND("k"), .deadline = 100000000000000}, "deadline"},
    {{OF_KIND("k"), .timeout = -1}, "timeout"},
    {{OF_KIND("k"), .max_attempts = -1}, "max_attempts"},
    {{OF_KIND("k"), .max_attempts = 1000001}, "max_attempts"},
};

START_TEST(what_makes_no_sense_is_refused_with_all_that_came_with_it)
{
    struct rota_submission many[3] = {
        {OF_KIND("k")}, senseless[_i].submission, {OF_KIND("k")}};
    int64_t ids[3] = {-1, -1, -1};

    memset(long_name, 'x', sizeof(long_name) - 1);
    begin(1, at_once);
    ck_assert_int_eq(rota_submit(rota, &many[1], ids), ROTA_INVALID);
    ck_assert_msg(strstr(rota_errmsg(rota), senseless[_i].says) != NULL, "%s",
                  rota_errmsg(rota));
    ck_assert_int_eq(rota_submit_many(rota, many, 3, ids), ROTA_INVALID);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ids[i], -1);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 0);
    ck_assert_int_eq(submit(), 1);
}
END_TEST

/* -- Many, and in SQL ----------------------------------------------------- */

START_TEST(ids_are_distinct_and_ascend)
{
    enum { N = 500 };
    static struct rota_submission submissions[N];
    static int64_t ids[N];
    int64_t last = 0;

    for (int i = 0; i < N; i++)
        submissions[i] = (struct rota_submission)ROTA_SUBMISSION_INIT("k");
    open_with(1, at_once);
    ck_assert_int_eq(rota_submit_many(rota, submissions, 0, NULL), ROTA_OK);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(rota_submit_many(rota, submissions, N, ids), ROTA_OK);
        for (int i = 0; i < N; i++) {
            ck_assert_int_gt(ids[i], last);
            last = ids[i];
        }
        ck_assert_int_gt(submit(), last++);
    }
    ck_assert_int_eq(rota_submit_many(rota, submissions, N, NULL), ROTA_OK);
}
END_TEST

START_TEST(twenty_thousand_jobs_run_exactly_once_each)
{
    const int n = MANY(IDS_MAX);
    struct rota_submission *submissions = calloc(IDS_MAX, sizeof(*submissions));

    ck_assert_ptr_nonnull(submissions);
    for (int i = 0; i < n; i++)
        submissions[i] = (struct rota_submission)ROTA_SUBMISSION_INIT("k");
    begin(4, counts_itself);
    ck_assert_int_eq(rota_submit_many(rota, submissions, (size_t)n, NULL),
                     ROTA_OK);
    free(submissions);
    drain();
    assert_each_ran_once(n);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM attempts"), n);
}
END_TEST

#define SUBMITTERS (IS_SANITIZED ? 16 : 64)
#define EACH       5

struct submitter {
    int64_t ids[EACH];
    int refused;
};

static void *
submitter_body(void *arg)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    struct submitter *submitter = arg;

    gate_pass(&act.gate);
    for (int i = 0; i < EACH; i++)
        submitter->refused +=
            rota_submit(rota, &submission, &submitter->ids[i]) != ROTA_OK;
    return NULL;
}

/* Threads submit at once, EACH some, and each gets ids of its own. */
static void
submit_by_many(bool may_start_thread)
{
    static struct submitter submitters[64];
    static bool taken[64 * EACH + 1];
    pthread_t threads[64];

    for (int i = 0; i < SUBMITTERS; i++)
        threads[i] = thread_new(submitter_body, &submitters[i]);
    gate_await(&act.gate, SUBMITTERS);
    if (!may_start_thread)
        faults_answer("pthread_create", 0, EAGAIN);
    gate_open(&act.gate);
    for (int i = 0; i < SUBMITTERS; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(submitters[i].refused, 0);
        for (int k = 0; k < EACH; k++) {
            ck_assert_int_le(submitters[i].ids[k], SUBMITTERS * EACH);
            ck_assert(!taken[submitters[i].ids[k]]);
            taken[submitters[i].ids[k]] = true;
        }
    }
}

START_TEST(threads_that_submit_at_once_get_each_their_own_ids)
{
    begin(2, counts_itself);
    submit_by_many(true);
    drain();
    assert_each_ran_once(SUBMITTERS * EACH);
}
END_TEST

/* Tells the time to who writes once another one waits for it. */
static int64_t
clock_of_a_crowd(void *arg)
{
    bool is_alone;

    (void)arg;
    do {
        sched_yield();
        lock_take(&rota->lock);
        is_alone = rota->is_writing && list_is_empty(&rota->requests) &&
                   !rota->has_writer && !faults_have_answered();
        lock_drop(&rota->lock);
    } while (is_alone);
    return machine_clock(NULL);
}

static void
open_to_a_crowd(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.workers = 1;
    options.clock = clock_of_a_crowd;
    open_as(options);
}

START_TEST(a_process_of_many_that_only_submit_has_a_thread_that_writes)
{
    open_to_a_crowd();
    ck_assert_int_eq(threads_named("rota-writer"), 0);
    submit_by_many(true);
    ck_assert_int_eq(threads_named("rota-writer"), 1);
    close_queue();
    ck_assert_int_eq(threads_named("rota-writer"), 0);
}
END_TEST

START_TEST(who_submit_at_once_take_turns_if_no_thread_can_be_had)
{
    open_to_a_crowd();
    submit_by_many(false);
    ck_assert(faults_have_answered());
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"),
                     SUBMITTERS * EACH);
}
END_TEST

/* Ids are reserved ahead, and what is left of them is taken back at the end of
 * a cycle, in the table where SQLite counts for all tables. */
START_TEST(ids_of_jobs_are_not_taken_from_a_clients_table)
{
    struct rota_submission three[3];
    int64_t ids[3];

    for (int i = 0; i < 3; i++)
        three[i] = (struct rota_submission)ROTA_SUBMISSION_INIT("k");
    begin(1, keeps_its_arguments);
    sql_run(queue, "CREATE TABLE app_orders(id INTEGER PRIMARY KEY"
                   " AUTOINCREMENT); INSERT INTO app_orders VALUES(1000);"
                   "DELETE FROM app_orders");
    ck_assert_int_eq(rota_submit_many(rota, three, 3, ids), ROTA_OK);
    drain();
    ck_assert_int_eq(sql_int(queue, "INSERT INTO app_orders DEFAULT VALUES"
                                    " RETURNING id"),
                     1001);
}
END_TEST

START_TEST(a_submit_in_plain_sql_runs_if_it_is_committed)
{
    int64_t id;

    begin(1, keeps_its_arguments);
    sql_run(queue, "BEGIN; INSERT INTO submit(kind) VALUES('k'), ('k');"
                   " ROLLBACK");
    id = sql_int(queue, "INSERT INTO submit(kind, args)"
                        " VALUES('k', 'by hand') RETURNING id");
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_str_eq(seen.args, "by hand");
    sql_run(queue, "BEGIN; INSERT INTO submit(kind) VALUES('k');"
                   " INSERT INTO submit(kind) VALUES('k'); COMMIT");
    drain();
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY state"),
                     "succeeded|3");
}
END_TEST

START_TEST(a_job_of_a_kind_that_is_not_handled_stays)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("other");
    int64_t id;

    begin(1, at_once);
    id = submit_as(&submission);
    wait_for(submit());
    drain();
    ck_assert_str_eq(job_says(id, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

static enum rota_error
submits_the_next(struct ctx *ctx, struct rota_job *job)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    (void)ctx;
    if (atomic_fetch_add(&act.runs, 1) == 20)
        return ROTA_OK;
    return rota_submit(rota_job_rota(job), &submission, NULL);
}

START_TEST(drain_waits_for_jobs_that_jobs_submit)
{
    begin(2, submits_the_next);
    (void)submit();
    drain();
    ck_assert_int_eq(act.runs, 21);
    ck_assert_int_eq(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"),
        21);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void
add_submissions(TCase *t)
{
    tcase_add_loop_test(t, arguments_reach_the_job_and_the_file_as_they_are, 0,
                        COUNT(arguments));
    tcase_add_test(t, every_field_of_a_submission_is_in_the_file);
    tcase_add_test(t, what_a_submission_leaves_open_the_kind_decides);
    tcase_add_test(t, a_smaller_priority_runs_sooner_and_then_the_older_job);
    tcase_add_test(t, a_job_for_later_runs_when_it_is_due_and_not_before);
    tcase_add_test(t, the_year_5000_is_not_the_past);
    tcase_add_loop_test(
        t, what_makes_no_sense_is_refused_with_all_that_came_with_it, 0,
        COUNT(senseless));
    tcase_add_test(t, ids_are_distinct_and_ascend);
    tcase_add_test(t, twenty_thousand_jobs_run_exactly_once_each);
    tcase_add_test(t, threads_that_submit_at_once_get_each_their_own_ids);
    tcase_add_test(t,
                   a_process_of_many_that_only_submit_has_a_thread_that_writes);
    tcase_add_test(t, who_submit_at_once_take_turns_if_no_thread_can_be_had);
    tcase_add_test(t, ids_of_jobs_are_not_taken_from_a_clients_table);
    tcase_add_test(t, a_submit_in_plain_sql_runs_if_it_is_committed);
    tcase_add_test(t, a_job_of_a_kind_that_is_not_handled_stays);
    tcase_add_test(t, drain_waits_for_jobs_that_jobs_submit);
}

int
main(void)
{
    Suite *suite = suite_create("submit");

    add_submissions(stage_case(suite, "submissions"));
    return suite_run(suite);
}
