/*
 * ctx_cond_wait(): whom a signal, a broadcast and a cancel wake, and that no
 * signal is lost to one who was cancelled.
 *
 * Waiters are counted on the condition before they are woken; one that is to
 * have looked and not yet sleep is met on order (faults.h).
 */
#define _GNU_SOURCE
#include <check.h>

#include "faults.h"
#include "pair.h"

static struct ctx_cond cond;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int served, wanted;

static void *
take_one(void *arg)
{
    enum rota_error error = ROTA_OK;

    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    served++;
    while (wanted == 0 && error == ROTA_OK)
        error = ctx_cond_wait(arg, &cond, &mutex, ROTA_FOREVER);
    if (error == ROTA_OK)
        wanted--;
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    return (void *)(intptr_t)error;
}

/* Until n threads are waiting. */
static void
await_waiters(int n)
{
    bool are_there;

    do {
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        are_there = served == n;
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    } while (!are_there);
}

START_TEST(signal_wakes_the_one_that_has_waited_longest)
{
    pthread_t threads[3];

    ctx_cond_init(&cond);
    ctx_cond_signal(&cond); /* nobody: it is not kept */
    for (int i = 0; i < 3; i++) {
        threads[i] = thread_new(take_one, ctx);
        await_waiters(i + 1);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        wanted++;
        ctx_cond_signal(&cond);
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        ck_assert_ptr_eq(thread_join(threads[i]), NULL);
    }
}
END_TEST

START_TEST(broadcast_wakes_all)
{
    pthread_t threads[8];

    ctx_cond_init(&cond);
    for (int i = 0; i < 8; i++)
        threads[i] = thread_new(take_one, ctx);
    await_waiters(8);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    wanted = 8;
    ctx_cond_broadcast(&cond);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_ptr_eq(thread_join(threads[i]), NULL);
}
END_TEST

START_TEST(cancel_wakes_those_under_it_and_needs_not_the_mutex)
{
    struct ctx *mine = ctx_with_cancel(ctx), *others = ctx_with_cancel(ctx);
    pthread_t a, b;

    ctx_cond_init(&cond);
    a = thread_new(take_one, mine);
    b = thread_new(take_one, others);
    await_waiters(2);
    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    ctx_cancel(mine);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    ck_assert_int_eq((intptr_t)thread_join(a), ROTA_CANCELED);
    ck_assert_uint_eq(ctx_waiters(others), 1);
    ctx_cancel(others);
    ck_assert_int_eq((intptr_t)thread_join(b), ROTA_CANCELED);
    ctx_end(mine);
    ctx_end(others);
}
END_TEST

static struct gate has_looked;

static void
gate_open_fn(void *gate)
{
    gate_open(gate);
}

/* Looks for its place in the condition's ring with its fifth unlock: it joins,
 * lets the mutex go, joins and leaves the context. */
static void *
look_and_tell(void *under)
{
    enum rota_error error;

    ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
    faults_meet("pthread_mutex_unlock", 4, gate_open_fn, &has_looked);
    error = ctx_cond_wait(under, &cond, &mutex, ROTA_FOREVER);
    ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
    return (void *)(intptr_t)error;
}

/* By now the sleeper is taken, and is not yet woken. */
static void
cancel_meanwhile(void *under)
{
    ctx_cancel(under);
    gate_pass(&has_looked);
}

START_TEST(signal_that_has_taken_one_wins_over_the_end_of_its_context)
{
    static const struct gate fresh = GATE_INIT;
    pthread_t sleeper;

    has_looked = fresh;
    ctx_cond_init(&cond);
    sleeper = thread_new(look_and_tell, ctx);
    AWAIT(ctx_waiters(ctx) == 1);
    faults_meet("pthread_mutex_unlock", 0, cancel_meanwhile, ctx);
    ctx_cond_signal(&cond);
    ck_assert_int_eq((intptr_t)thread_join(sleeper), ROTA_OK);
    ck_assert(ctx_done(ctx));
}
END_TEST

/* Two wait; one is cancelled while a signal is given. Who is woken by it, takes
 * it: it is never lost on the one that was cancelled. */
START_TEST(signal_is_never_lost_to_one_that_was_cancelled)
{
    for (int i = 0; i < MANY(4000); i++) {
        struct ctx *mine = ctx_with_cancel(ctx);
        struct gate gate = GATE_INIT;
        pthread_t a, b, canceller;
        struct ctx *before = ctx;

        ctx_cond_init(&cond);
        served = wanted = 0;
        a = thread_new(take_one, mine);
        await_waiters(1);
        b = thread_new(take_one, ctx_background());
        await_waiters(2);
        ctx = mine;
        canceller = thread_new(cancel_when_open, &gate);
        gate_await(&gate, 1);
        gate_open(&gate);
        ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
        wanted = 1;
        ctx_cond_signal(&cond);
        ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        (void)thread_join(canceller);
        ctx = before;
        if (thread_join(a) == NULL) { /* it took the one */
            ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
            wanted++;
            ctx_cond_signal(&cond);
            ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
        }
        ck_assert_ptr_eq(thread_join(b), NULL);
        ctx_end(mine);
    }
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_conds(TCase *t)
{
    tcase_add_test(t, signal_wakes_the_one_that_has_waited_longest);
    tcase_add_test(t, broadcast_wakes_all);
    tcase_add_test(t, cancel_wakes_those_under_it_and_needs_not_the_mutex);
    tcase_add_test(t,
                   signal_that_has_taken_one_wins_over_the_end_of_its_context);
    tcase_add_test(t, signal_is_never_lost_to_one_that_was_cancelled);
}

int
main(void)
{
    Suite *suite = suite_create("ctx_cond");

    add_conds(pair_case(suite, "conditions"));
    return suite_run(suite);
}
