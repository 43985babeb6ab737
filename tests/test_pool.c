/*
 * What scheduler/pool/pool.h promises. Its failures are made by faults.c.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "faults.h"
#include "pool/pool.h"
#include "support.h"

static void
pass(void *arg)
{
    gate_pass(arg);
}

static struct rota_pool *
pool_new(int workers)
{
    struct rota_pool *pool = NULL;

    ck_assert_int_eq(pool_open(workers, "test", &pool), ROTA_OK);
    ck_assert_ptr_nonnull(pool);
    return pool;
}

/* Occupy workers of pool until gate is opened. */
static void
workers_hold(struct rota_pool *pool, struct gate *gate, int workers)
{
    for (int i = 0; i < workers; i++)
        ck_assert_int_eq(pool_submit(pool, pass, gate), ROTA_OK);
    gate_await(gate, workers);
}

/* -- Opening and closing ------------------------------------------------------
 */

START_TEST(pool_has_the_workers_that_were_asked_for)
{
    struct gate gate = GATE_INIT;
    struct rota_pool *pool = pool_new(5);

    ck_assert_int_eq(pool_workers(pool), 5);
    workers_hold(pool, &gate, 5); /* five at the same time */
    gate_open(&gate);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
}
END_TEST

START_TEST(pool_without_workers_is_invalid)
{
    struct rota_pool *pool = (struct rota_pool *)&pool, *before = pool;

    ck_assert_int_eq(pool_open(0, "test", &pool), ROTA_INVALID);
    ck_assert_int_eq(pool_open(-1, "test", &pool), ROTA_INVALID);
    ck_assert_ptr_eq(pool, before);
    ck_assert_int_eq(pool_close(NULL), ROTA_OK);
}
END_TEST

START_TEST(thread_or_memory_that_is_refused_is_reported_and_leaves_nothing)
{
    struct rota_pool *pool = NULL;

    for (int n = 0;; n++) {
        enum rota_error error;

        faults_arm(n);
        error = pool_open(4, "test", &pool);
        if (!faults_disarm()) {
            ck_assert_int_eq(error, ROTA_OK);
            ck_assert_int_eq(n, 9); /* the pool, four queues, four threads */
            break;
        }
        ck_assert_int_eq(error, n < 5 ? ROTA_NOMEM : ROTA_SYSTEM);
        ck_assert_ptr_null(pool);
        AWAIT(threads_named("test-") == 0); /* joined; listed a moment more */
    }
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
}
END_TEST

START_TEST(close_runs_what_is_queued)
{
    for (int workers = 1; workers <= 3; workers++) {
        struct gate gate = GATE_INIT;
        struct rota_pool *pool = pool_new(workers);
        atomic_int runs = 0;

        workers_hold(pool, &gate, workers);
        for (int i = 0; i < 1000; i++)
            ck_assert_int_eq(pool_submit(pool, count_up, &runs), ROTA_OK);
        ck_assert_int_eq(runs, 0);
        gate_open(&gate);
        ck_assert_int_eq(pool_close(pool), ROTA_OK);
        ck_assert_int_eq(runs, 1000);
    }
}
END_TEST

struct inside {
    struct rota_pool *pool, *other;
    enum rota_error error, late;
    struct gate gate;
    char name[16];
    bool is_worker, is_others;
};

static void
inside_body(void *arg)
{
    struct inside *in = arg;

    in->is_worker = pool_is_worker(in->pool);
    in->is_others = pool_is_worker(in->other);
    in->error = pool_close(in->pool);
    (void)pthread_getname_np(pthread_self(), in->name, sizeof(in->name));
    gate_pass(&in->gate);
}

START_TEST(worker_knows_its_pool_and_may_not_close_it)
{
    struct inside in = {.gate = GATE_INIT};

    in.pool = pool_new(1);
    in.other = pool_new(1);
    ck_assert(!pool_is_worker(in.pool));
    ck_assert_int_eq(pool_submit(in.pool, inside_body, &in), ROTA_OK);
    gate_await(&in.gate, 1);
    ck_assert(in.is_worker && !in.is_others);
    ck_assert_int_eq(in.error, ROTA_INVALID);
    ck_assert_str_eq(in.name, "test-0");
    gate_open(&in.gate);
    ck_assert_int_eq(pool_close(in.pool), ROTA_OK);
    ck_assert_int_eq(pool_close(in.other), ROTA_OK);
}
END_TEST

START_TEST(long_name_is_cut_before_the_number)
{
    struct inside in = {.gate = GATE_INIT};

    ck_assert_int_eq(pool_open(1, "a-name-beyond-measure", &in.pool), ROTA_OK);
    ck_assert_int_eq(pool_submit(in.pool, inside_body, &in), ROTA_OK);
    gate_await(&in.gate, 1);
    ck_assert_str_eq(in.name, "a-name-beyond-0");
    gate_open(&in.gate);
    ck_assert_int_eq(pool_close(in.pool), ROTA_OK);
}
END_TEST

static void
late_body(void *arg)
{
    struct inside *in = arg;

    /* until close has begun, which is what refuses */
    while ((in->late = pool_submit(in->pool, count_up, in->other)) == ROTA_OK)
        sched_yield();
}

START_TEST(closing_pool_refuses_tasks)
{
    struct inside in = {.pool = pool_new(2)};
    atomic_int runs = 0;

    in.other = (struct rota_pool *)(void *)&runs; /* only an argument here */
    ck_assert_int_eq(pool_submit(in.pool, late_body, &in), ROTA_OK);
    ck_assert_int_eq(pool_close(in.pool), ROTA_OK);
    ck_assert_int_eq(in.late, ROTA_CLOSED);
}
END_TEST

/* -- Running ------------------------------------------------------------------
 */

struct number {
    int *order, *n;
    int i;
};

static void
number_note(void *arg)
{
    struct number *number = arg;

    number->order[(*number->n)++] = number->i;
}

START_TEST(one_worker_runs_tasks_in_the_order_they_came)
{
    enum { N = 3000 };
    static struct number numbers[N];
    static int order[N];
    struct gate gate = GATE_INIT;
    struct rota_pool *pool = pool_new(1);
    int n = 0;

    workers_hold(pool, &gate, 1);
    for (int i = 0; i < N; i++) {
        numbers[i] = (struct number){.order = order, .n = &n, .i = i};
        ck_assert_int_eq(pool_submit(pool, number_note, &numbers[i]), ROTA_OK);
        if (i == N / 2)
            gate_open(&gate);
    }
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
    ck_assert_int_eq(n, N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(order[i], i);
}
END_TEST

START_TEST(submit_many_runs_each_once)
{
    enum { N = 20000 };
    static atomic_int runs[N];
    static void *args[N];
    struct rota_pool *pool = pool_new(_i);

    for (int i = 0; i < N; i++)
        args[i] = &runs[i];
    ck_assert_int_eq(pool_submit_many(pool, count_up, args, 0), ROTA_OK);
    ck_assert_int_eq(pool_submit_many(pool, count_up, args, N), ROTA_OK);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(runs[i], 1);
}
END_TEST

struct producer {
    struct rota_pool *pool;
    atomic_int *runs;
    int refused;
};

static void *
producer_body(void *arg)
{
    struct producer *producer = arg;

    for (int i = 0; i < MANY(100000); i++) {
        producer->refused +=
            pool_submit(producer->pool, count_up, producer->runs) != ROTA_OK;
        if (i % 64 == 0)
            sched_yield(); /* let the pool run dry */
    }
    return NULL;
}

START_TEST(many_producers_lose_nothing)
{
    enum { PRODUCERS = 4 };
    atomic_int runs = 0;
    struct rota_pool *pool = pool_new(_i);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];

    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.pool = pool, .runs = &runs};
        threads[i] = thread_new(producer_body, &producers[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        thread_join(threads[i]);
        ck_assert_int_eq(producers[i].refused, 0);
    }
    AWAIT(atomic_load(&runs) == PRODUCERS * MANY(100000));
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
}
END_TEST

/* A task that submits two more, down to leaves. */
struct spawn {
    struct rota_pool *pool;
    atomic_int left;
    atomic_int refused;
};
static struct spawn spawn;

static void
spawn_body(void *arg)
{
    uintptr_t depth = (uintptr_t)arg;

    for (int i = 0; i < 2 && depth > 0; i++) {
        if (pool_submit(spawn.pool, spawn_body, (void *)(depth - 1)) != ROTA_OK)
            atomic_fetch_add(&spawn.refused, 1);
    }
    atomic_fetch_sub(&spawn.left, 1);
}

START_TEST(tasks_may_submit_tasks)
{
    const uintptr_t depth = 13;

    spawn.pool = pool_new(_i);
    atomic_init(&spawn.left, (1 << (depth + 1)) - 1);
    ck_assert_int_eq(pool_submit(spawn.pool, spawn_body, (void *)depth),
                     ROTA_OK);
    AWAIT(atomic_load(&spawn.left) == 0);
    ck_assert_int_eq(pool_close(spawn.pool), ROTA_OK);
    ck_assert_int_eq(spawn.refused, 0);
}
END_TEST

/* -- Nothing hides behind a long task
 * ------------------------------------------ */

START_TEST(tasks_behind_one_that_blocks_are_run_by_others)
{
    enum { N = 300 };
    struct gate gate = GATE_INIT;
    atomic_int runs = 0;
    void *args[N];
    struct rota_pool *pool = pool_new(2);

    workers_hold(pool, &gate, 1);
    for (int i = 0; i < N; i++)
        args[i] = &runs;
    ck_assert_int_eq(pool_submit_many(pool, count_up, args, N), ROTA_OK);
    AWAIT(atomic_load(&runs) == N);
    gate_open(&gate);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
}
END_TEST

/* Either a task that blocks or one that counts, taken in one batch. */
struct mixed {
    struct gate *gate; /* NULL: count */
    atomic_int *runs;
};

static void
mixed_body(void *arg)
{
    struct mixed *mixed = arg;

    if (mixed->gate != NULL)
        gate_pass(mixed->gate);
    else
        atomic_fetch_add(mixed->runs, 1);
}

/* All but one of the workers end up blocked by tasks that stand among others,
 * first in the batches that they share; the others must run nevertheless. */
START_TEST(tasks_in_the_batch_of_a_worker_that_blocks_are_run_by_others)
{
    enum { N = 600 };
    const int workers = 2 + _i % 4, stride = 1 + _i / 4 * 7;
    static struct mixed mixed[N];
    static void *args[N];
    struct gate gate = GATE_INIT;
    atomic_int runs = 0;
    struct rota_pool *pool = pool_new(workers);
    int blockers = 0;

    for (int i = 0; i < N; i++) {
        bool blocks = blockers < workers - 1 && i % stride == 0;

        blockers += blocks;
        mixed[i] = (struct mixed){.gate = blocks ? &gate : NULL, .runs = &runs};
        args[i] = &mixed[i];
    }
    ck_assert_int_eq(pool_submit_many(pool, mixed_body, args, N), ROTA_OK);
    AWAIT(atomic_load(&runs) == N - blockers);
    gate_await(&gate, blockers);
    gate_open(&gate);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
}
END_TEST

START_TEST(small_groups_behind_blockers_are_run_whoever_sleeps)
{
    enum { GROUP = 6 };

    for (int round = 0; round < MANY(2000); round++) {
        struct mixed mixed[GROUP];
        void *args[GROUP];
        struct gate gate = GATE_INIT;
        atomic_int runs = 0;
        struct rota_pool *pool = pool_new(4);

        for (int i = 0; i < GROUP; i++) {
            mixed[i] =
                (struct mixed){.gate = i < 3 ? &gate : NULL, .runs = &runs};
            args[(i + round) % GROUP] = &mixed[i];
        }
        ck_assert_int_eq(pool_submit_many(pool, mixed_body, args, GROUP),
                         ROTA_OK);
        AWAIT(atomic_load(&runs) == GROUP - 3);
        gate_open(&gate);
        ck_assert_int_eq(pool_close(pool), ROTA_OK);
    }
}
END_TEST

/* -- Room
 * ---------------------------------------------------------------------- */

START_TEST(submit_without_memory_queues_nothing)
{
    struct gate gate = GATE_INIT;
    struct rota_pool *pool = pool_new(1);
    atomic_int runs = 0;
    void *args[200];
    enum rota_error error;
    int queued = 0;

    workers_hold(pool, &gate, 1);
    faults_arm(0);
    while (pool_submit(pool, count_up, &runs) == ROTA_OK)
        queued++;
    ck_assert(faults_disarm());
    for (int i = 0; i < 200; i++)
        args[i] = &runs;
    faults_arm(0);
    error = pool_submit_many(pool, count_up, args, 200);
    ck_assert(faults_disarm());
    ck_assert_int_eq(error, ROTA_NOMEM);
    ck_assert_int_eq(pool_submit_many(pool, count_up, args, 200), ROTA_OK);
    gate_open(&gate);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
    ck_assert_int_eq(runs, queued + 200);
}
END_TEST

START_TEST(reserved_room_is_there_without_memory)
{
    struct gate gate = GATE_INIT;
    struct rota_pool *pool = pool_new(1);
    atomic_int runs = 0;
    enum rota_error error;
    int refused = 0;

    workers_hold(pool, &gate, 1);
    faults_arm(0); /* while armed Check may not allocate either */
    error = pool_reserve(pool, 1000);
    ck_assert(faults_disarm());
    ck_assert_int_eq(error, ROTA_NOMEM);
    ck_assert_int_eq(pool_reserve(pool, SIZE_MAX), ROTA_NOMEM);
    ck_assert_int_eq(pool_reserve(pool, 1000), ROTA_OK);
    faults_arm(0);
    for (int i = 0; i < 1000; i++)
        refused += pool_submit(pool, count_up, &runs) != ROTA_OK;
    ck_assert(!faults_disarm());
    ck_assert_int_eq(refused, 0);
    gate_open(&gate);
    ck_assert_int_eq(pool_close(pool), ROTA_OK);
    ck_assert_int_eq(runs, 1000);
}
END_TEST

static Suite *
pool_suite(void)
{
    Suite *suite = suite_create("pool");
    TCase *life = tcase_create("opening and closing");
    TCase *running = tcase_create("running");
    TCase *hiding = tcase_create("nothing hides");
    TCase *room = tcase_create("room");

    tcase_add_test(life, pool_has_the_workers_that_were_asked_for);
    tcase_add_test(life, pool_without_workers_is_invalid);
    tcase_add_test(
        life, thread_or_memory_that_is_refused_is_reported_and_leaves_nothing);
    tcase_add_test(life, close_runs_what_is_queued);
    tcase_add_test(life, worker_knows_its_pool_and_may_not_close_it);
    tcase_add_test(life, long_name_is_cut_before_the_number);
    tcase_add_test(life, closing_pool_refuses_tasks);
    suite_add_tcase(suite, life);
    tcase_set_timeout(running, 60);
    tcase_add_test(running, one_worker_runs_tasks_in_the_order_they_came);
    tcase_add_loop_test(running, submit_many_runs_each_once, 1, 5);
    tcase_add_loop_test(running, many_producers_lose_nothing, 1, 5);
    tcase_add_loop_test(running, tasks_may_submit_tasks, 1, 5);
    suite_add_tcase(suite, running);
    tcase_set_timeout(hiding, 60);
    tcase_add_test(hiding, tasks_behind_one_that_blocks_are_run_by_others);
    tcase_add_loop_test(
        hiding, tasks_in_the_batch_of_a_worker_that_blocks_are_run_by_others, 0,
        20);
    tcase_add_test(hiding, small_groups_behind_blockers_are_run_whoever_sleeps);
    suite_add_tcase(suite, hiding);
    tcase_add_test(room, submit_without_memory_queues_nothing);
    tcase_add_test(room, reserved_room_is_there_without_memory);
    suite_add_tcase(suite, room);
    return suite;
}

int
main(void)
{
    return suite_run(pool_suite());
}
