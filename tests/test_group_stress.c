/*
 * Groups at random: threads open groups on one pool, whose tasks open groups,
 * give tasks to their own and to those above, fail, and end contexts; and each
 * group is held to what include/rota/group.h promises.
 *
 * ROTA_TEST_OPS sets how many tasks, about; 1000000 is the long form.
 * ROTA_TEST_SEED replays the choices.
 */
#define _GNU_SOURCE
#include <rota.h>

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "support.h"

#define THREADS 3
#define DEPTH   5

/* A group, and what has become of its tasks. */
struct tally {
    struct rota_group *group;
    struct tally *above; /* whose task opened it; NULL: a thread did */
    int limit;
    atomic_int given, ran, at_once;
    atomic_int failed, failed_first; /* all; those that are not optional */
    atomic_bool is_called_off;       /* by a task, or from above */
    atomic_bool is_given_inside;     /* tasks by its tasks: no limit then */
};

struct work {
    struct tally *tally;
    unsigned seed;
    int depth;
    bool is_optional;
    enum rota_error result;
};

static struct rota_pool *pool;
static atomic_int tasks_left;

static unsigned
any(unsigned *seed, unsigned n)
{
    return (unsigned)rand_r(seed) % n;
}

static enum rota_error work_do(struct ctx *ctx, void *arg);

static struct work *
work_new(struct tally *tally, unsigned *seed, int depth, bool is_optional)
{
    struct work *work = malloc(sizeof(*work));

    ck_assert_ptr_nonnull(work);
    *work = (struct work){.tally = tally,
                          .seed = (unsigned)rand_r(seed),
                          .depth = depth,
                          .is_optional = is_optional};
    atomic_fetch_add(&tally->given, 1);
    return work;
}

static void
give(struct tally *tally, unsigned *seed, int depth)
{
    struct work *work;
    void *many[8];
    unsigned n = 1 + any(seed, 8);

    switch (any(seed, 8)) {
    case 0:
        for (unsigned i = 0; i < n; i++)
            many[i] = work_new(tally, seed, depth, false);
        rota_group_go_many(tally->group, work_do, many, n);
        break;
    case 1:
        work = work_new(tally, seed, depth, false);
        if (!rota_group_try_go(tally->group, work_do, work)) {
            ck_assert_int_gt(tally->limit, 0);
            atomic_fetch_sub(&tally->given, 1);
            free(work);
        }
        break;
    case 2:
    case 3:
        rota_group_go_optional(tally->group, work_do,
                               work_new(tally, seed, depth, true));
        break;
    default:
        rota_group_go(tally->group, work_do,
                      work_new(tally, seed, depth, false));
    }
}

/* A whole life of a group. */
static void
group_life(struct ctx *ctx, struct tally *above, unsigned *seed, int depth)
{
    struct tally tally = {.above = above,
                          .limit = any(seed, 3) ? 0 : 1 + (int)any(seed, 3)};
    unsigned n = any(seed, 6), failures;
    enum rota_error error;

    tally.group = rota_group_open(ctx, pool, tally.limit);
    for (unsigned i = 0; i < n; i++)
        give(&tally, seed, depth);
    if (any(seed, 4) == 0) { /* wait, and give more */
        (void)rota_group_wait(tally.group);
        ck_assert_int_eq(tally.ran, tally.given);
        give(&tally, seed, depth);
    }
    error = rota_group_wait(tally.group);
    ck_assert_int_eq(tally.ran, tally.given);
    ck_assert_int_eq(tally.at_once, 0);
    failures = (unsigned)rota_group_failures(tally.group, NULL, 0);
    ck_assert_uint_eq(failures, (unsigned)tally.failed);
    if (tally.failed_first > 0)
        ck_assert(error == ROTA_FAILED || error == ROTA_FATAL);
    else if (error != ROTA_OK)
        ck_assert_int_eq(error, ROTA_CANCELED);
    if (error != ROTA_OK)
        ck_assert(ctx_done(rota_group_ctx(tally.group)));
    ck_assert_int_eq(rota_group_close(tally.group), error);
}

static enum rota_error
work_do(struct ctx *ctx, void *arg)
{
    struct work work = *(struct work *)arg;
    struct tally *tally = work.tally;
    int at_once = atomic_fetch_add(&tally->at_once, 1) + 1;
    unsigned *seed = &work.seed;

    free(arg);
    if (tally->limit > 0 && !tally->is_given_inside)
        ck_assert_int_le(at_once, tally->limit);
    if (work.depth < DEPTH && atomic_fetch_sub(&tasks_left, 1) > 0) {
        if (any(seed, 3) == 0)
            group_life(ctx, tally, seed, work.depth + 1);
        if (any(seed, 6) == 0) {
            atomic_store(&tally->is_given_inside, true);
            give(tally, seed, work.depth + 1);
        }
        if (any(seed, 10) == 0 && tally->above != NULL) {
            atomic_store(&tally->above->is_given_inside, true);
            give(tally->above, seed, work.depth + 1);
        }
        if (any(seed, 40) == 0)
            ctx_cancel(ctx);
        if (any(seed, 20) == 0)
            ck_assert_int_eq(rota_group_wait(tally->group), ROTA_INVALID);
    }
    if (any(seed, 30) == 0)
        work.result = any(seed, 2) ? ROTA_FAILED : ROTA_FATAL;
    if (work.result != ROTA_OK) {
        atomic_fetch_add(&tally->failed, 1);
        if (!work.is_optional)
            atomic_fetch_add(&tally->failed_first, 1);
    }
    atomic_fetch_sub(&tally->at_once, 1);
    atomic_fetch_add(&tally->ran, 1);
    return work.result;
}

static void *
play(void *arg)
{
    unsigned *seed = arg;

    while (tasks_left > 0)
        group_life(NULL, NULL, seed, 0);
    return NULL;
}

/* One round for each size of the pool. */
START_TEST(groups_keep_their_promises_whatever_is_done_with_them)
{
    int ops = number_from("ROTA_TEST_OPS", IS_SANITIZED ? 20000 : 100000);
    unsigned seed = (unsigned)number_from("ROTA_TEST_SEED", (int)time(NULL));
    unsigned seeds[THREADS];
    pthread_t threads[THREADS];

    (void)printf("ROTA_TEST_SEED=%u\n", seed);
    (void)fflush(stdout);
    ck_assert_int_eq(rota_pool_open(_i, &pool), ROTA_OK);
    tasks_left = ops / 4;
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = seed + i * 7919;
        threads[i] = thread_new(play, &seeds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        (void)thread_join(threads[i]);
    ck_assert_int_eq(rota_pool_close(pool), ROTA_OK);
}
END_TEST

static Suite *
stress_suite(void)
{
    Suite *suite = suite_create("group stress");
    TCase *all = tcase_create("all");

    tcase_set_timeout(all, 300);
    tcase_add_loop_test(
        all, groups_keep_their_promises_whatever_is_done_with_them, 1, 5);
    suite_add_tcase(suite, all);
    return suite;
}

int
main(void)
{
    return suite_run(stress_suite());
}
