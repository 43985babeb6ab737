/*
 * Jobs that come in the cycle that claims, in any kind of store: they are
 * claimed in one order with those that wait, what may not run yet is not, what
 * one refusal takes back is not, and one that never stood in line leaves what
 * any other leaves.
 *
 * One thread; each test hands the store works that submit and claim at once.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "storage.h"
#include "support.h"

#define AT INT64_C(1700000000000) /* what the clock says, if it stands */

static const struct rota_submission plain = ROTA_SUBMISSION_INIT("k");

/* Whether the cycle took it. */
static void
check_taken(const struct submitting *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(all[i].wish.error == ROTA_OK, "%zu: %s", i,
                      all[i].wish.message);
}

/* Submit a job, claim it, and let it succeed; together: in one cycle. What it
 * leaves in the store. */
static const char *
traces_of_a_job(const struct rota_submission *submission, bool together)
{
    struct claim claim = {0};
    struct submitting submitting;
    enum rota_state state;
    struct work work;

    work_init(&work);
    if (together)
        work_submit(&work, &submitting, submission);
    else
        (void)storage_submit(submission);
    work.claims = &claim;
    work.claim_limit = 1;
    ck_assert_int_eq(store_cycle(storage.store, &work), ROTA_OK);
    ck_assert_uint_eq(work.n_claims, 1);
    ck_assert_str_eq(claim.args, "{}");
    ck_assert_int_eq(claim.timeout_ms, 7);
    ck_assert_int_eq(claim.deadline_at, submission->deadline);
    ck_assert_int_eq(claim.max_attempts, 2);
    free(claim.args);
    claim.args = NULL;
    ck_assert_int_eq(
        storage_end(&claim, ROTA_OK, ROTA_STOP_NONE, false, &state), ROTA_OK);
    ck_assert_int_eq(state, ROTA_SUCCEEDED);
    return storage_everything();
}

START_TEST(a_job_that_never_stood_in_line_leaves_what_any_other_leaves)
{
    struct rota_submission s = plain;
    const char *first;

    s.args = "{}";
    s.args_size = 2;
    s.batch = "b";
    s.priority = -2;
    s.deadline = _i == 0 ? 0 : AT + 9000;
    s.timeout = ROTA_MS(7);
    s.max_attempts = 2;
    s.unique_key = "u";
    storage.time = AT;
    first = traces_of_a_job(&s, true);
    ck_assert_str_ne(first, "");
    storage_renew();
    ck_assert_str_eq(traces_of_a_job(&s, false), first);
}
END_TEST

START_TEST(what_comes_is_claimed_in_one_order_with_what_waits)
{
    static const int priorities[] = {0, -1, 1, -2}; /* of 2 to 5 */
    struct submitting all[4];
    struct work work;

    (void)storage_submit_plain(); /* 1 */
    work_init(&work);
    for (int i = 0; i < 4; i++) {
        struct rota_submission s = plain;

        s.priority = priorities[i];
        work_submit(&work, &all[i], &s);
    }
    ck_assert_str_eq(storage_cycle(&work, 3), " 5 3 1");
    check_taken(all, 4);
    ck_assert_str_eq(
        storage_text("SELECT id FROM jobs WHERE state = 'ready' ORDER BY id"),
        "2\n4");
    ck_assert_str_eq(storage_claims(3), " 2 4");
}
END_TEST

/* A key that is full puts the first aside, and so does a deadline. */
START_TEST(what_comes_is_not_passed_by_when_another_is_put_aside)
{
    struct rota_submission s = plain;
    struct submitting first, aside, kept, beyond;
    struct work work;

    s.limit_key = "x";
    work_init(&work);
    work_submit(&work, &first, &s); /* 1 */
    ck_assert_str_eq(storage_cycle(&work, 1), " 1");
    work_init(&work);
    s.priority = -1000;
    if (_i == 1) {
        s.limit_key = NULL;
        s.deadline = AT;
    }
    work_submit(&work, &aside, &s); /* 2 */
    s = plain;
    s.priority = -500;
    work_submit(&work, &kept, &s); /* 3 */
    s.priority = 0;
    work_submit(&work, &beyond, &s); /* 4: is it passed by? */
    ck_assert_str_eq(storage_cycle(&work, 1), " 3");
    ck_assert_int_eq(aside.wish.error | kept.wish.error | beyond.wish.error,
                     ROTA_OK);
    ck_assert_str_eq(storage_claims(1), " 4");
}
END_TEST

/* Likewise, of those that wait: behind the one that is put aside there is one
 * that goes before what comes. */
START_TEST(what_comes_does_not_pass_by_what_waits_behind_one_put_aside)
{
    struct rota_submission s = plain;
    struct submitting comes;
    struct work work;

    s.limit_key = "x";
    (void)storage_submit(&s); /* 1 */
    ck_assert_str_eq(storage_claims(1), " 1");
    s.priority = -1000;
    if (_i == 1) {
        s.limit_key = NULL;
        s.deadline = AT;
    }
    (void)storage_submit(&s); /* 2 */
    s = plain;
    s.priority = -500;
    (void)storage_submit(&s); /* 3 */
    work_init(&work);
    work_submit(&work, &comes, &plain); /* 4 */
    ck_assert_str_eq(storage_cycle(&work, 1), " 3");
    ck_assert_str_eq(storage_claims(1), " 4");
}
END_TEST

START_TEST(of_several_that_are_refused_together_none_is_claimed)
{
    struct rota_submission many[2] = {ROTA_SUBMISSION_INIT("k"),
                                      ROTA_SUBMISSION_INIT("k")};
    int64_t ids[2];
    struct wish both = {.kind = WISH_SUBMIT,
                        .submit = {.submissions = many, .n = 2, .ids = ids}};
    struct submitting first, last;
    struct work work;

    many[1].unique_key = "u";
    work_init(&work);
    work_submit(&work, &first, &many[1]);
    work_wish(&work, &both);
    work_submit(&work, &last, &many[0]);
    ck_assert_str_eq(storage_cycle(&work, 9), " 1 2");
    ck_assert_int_eq(first.wish.error, ROTA_OK);
    ck_assert_int_eq(both.error, ROTA_EXISTS);
    ck_assert_int_eq(ids[0], 1); /* who has the key */
    ck_assert_int_eq(last.wish.error, ROTA_OK);
    ck_assert_int_eq(storage_int("SELECT count(*) FROM jobs"), 2);
}
END_TEST

/* Fill in those that come, and say how many: of them 1, 2 and 4 may run. */
static size_t
mixed(struct rota_submission *all, const int64_t *after)
{
    size_t n = 0;

    for (int i = 0; i < 10; i++)
        all[i] = plain;
    n++;                      /* 1 */
    all[n++].limit_key = "x"; /* 2 */
    all[n++].limit_key = "x"; /* not two with one key */
    all[n++].queue = "one";   /* 4 */
    all[n++].queue = "one";   /* not two in that queue */
    all[n++].queue = "none";  /* which is paused */
    all[n++].run_at = store_now(storage.store) + 60000;
    all[n].after = after;
    all[n++].n_after = 1;
    all[n++].kind = "other";
    all[n++].deadline = AT;
    return n;
}

START_TEST(what_may_not_run_yet_is_not_claimed_as_it_comes)
{
    struct wish limit = {.kind = WISH_LIMIT,
                         .limit = {.queue = "one", .max_running = 1}};
    struct wish pause = {.kind = WISH_PAUSE,
                         .pause = {.queue = "none", .pauses = true}};
    const int64_t after = 1;
    struct rota_submission all[10];
    struct submitting submitting[10];
    struct work work;
    size_t n = mixed(all, &after);

    work_init(&work);
    work_wish(&work, &limit);
    work_wish(&work, &pause);
    for (size_t i = 0; i < n; i++)
        work_submit(&work, &submitting[i], &all[i]);
    ck_assert_str_eq(storage_cycle(&work, 99), " 1 2 4");
    ck_assert_int_eq(limit.error, ROTA_OK);
    ck_assert_int_eq(pause.error, ROTA_OK);
    check_taken(submitting, n);
    ck_assert_str_eq(storage_text("SELECT state FROM jobs ORDER BY id"),
                     "running\nrunning\nready\nrunning\nready\nready\n"
                     "scheduled\nblocked\nready\nfailed");
}
END_TEST

START_TEST(what_came_before_its_queue_was_paused_is_not_claimed)
{
    struct wish pause = {.kind = WISH_PAUSE,
                         .pause = {.queue = "default", .pauses = true}};
    struct submitting before, behind;
    struct work work;

    work_init(&work);
    work_submit(&work, &before, &plain);
    work_wish(&work, &pause);
    work_submit(&work, &behind, &plain);
    ck_assert_str_eq(storage_cycle(&work, 3), "");
    ck_assert_str_eq(storage_text("SELECT id, status FROM jobs ORDER BY id"),
                     "1|paused\n2|paused");
    ck_assert_int_eq(storage_pause("default", false), ROTA_OK);
    ck_assert_str_eq(storage_claims(3), " 1 2");
}
END_TEST

/* Seven of 16 MiB that wait. */
static void
submit_big(void)
{
    struct rota_submission big[7];
    int64_t ids[7];
    struct wish wish = {.kind = WISH_SUBMIT,
                        .submit = {.submissions = big, .n = 7, .ids = ids}};
    void *args = calloc(1, 16 << 20);

    ck_assert_ptr_nonnull(args);
    for (int i = 0; i < 7; i++) {
        big[i] = plain;
        big[i].args = args;
        big[i].args_size = 16 << 20;
    }
    ck_assert_int_eq(storage_grant(&wish), ROTA_OK);
    free(args);
}

/* They are in one lane, and a small one comes in another, later. */
START_TEST(a_claim_reads_no_more_than_64_mib_and_keeps_the_order)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("l");
    struct joined_kind joined = {.name = "l", .max_attempts = 1};
    struct wish join = {.kind = WISH_JOIN,
                        .join = {.kinds = &joined, .n_kinds = 1, .threads = 1}};
    int64_t kinds[2] = {storage.kind, 0};
    struct submitting small;
    struct work work;

    submit_big();
    ck_assert_int_eq(storage_grant(&join), ROTA_OK);
    kinds[1] = joined.number;
    s.priority = 1;
    work_init(&work);
    work.scope.kinds = kinds;
    work.scope.n_kinds = 2;
    ck_assert_str_eq(storage_cycle(&work, 0), ""); /* nobody has room */
    ck_assert(!work.has_looked);
    ck_assert_int_eq(work.rest, CLAIM_NOTHING); /* not to be asked again */
    work_submit(&work, &small, &s);
    ck_assert_str_eq(storage_cycle(&work, 99), " 1 2 3 4 5");
    ck_assert_int_eq(work.rest, CLAIM_MORE);
    list_init(&work.wishes);
    ck_assert_str_eq(storage_cycle(&work, 99), " 6 7 8");
    ck_assert_int_eq(work.rest, CLAIM_NOTHING);
}
END_TEST

static Suite *
arrivals_suite(void)
{
    Suite *suite = suite_create("arrivals");
    TCase *claims = case_new(suite, "claims");

    tcase_add_checked_fixture(claims, storage_make, storage_remove);
    tcase_add_loop_test(
        claims, a_job_that_never_stood_in_line_leaves_what_any_other_leaves, 0,
        2);
    tcase_add_test(claims, what_comes_is_claimed_in_one_order_with_what_waits);
    tcase_add_loop_test(
        claims, what_comes_is_not_passed_by_when_another_is_put_aside, 0, 2);
    tcase_add_loop_test(
        claims, what_comes_does_not_pass_by_what_waits_behind_one_put_aside, 0,
        2);
    tcase_add_test(claims,
                   of_several_that_are_refused_together_none_is_claimed);
    tcase_add_test(claims, what_may_not_run_yet_is_not_claimed_as_it_comes);
    tcase_add_test(claims,
                   what_came_before_its_queue_was_paused_is_not_claimed);
    tcase_add_test(claims,
                   a_claim_reads_no_more_than_64_mib_and_keeps_the_order);
    return suite;
}

int
main(void)
{
    return storage_suite_run(arrivals_suite());
}
