/*
 * rota/ctx.h, when threads do it at once: one cancel wins, a child made
 * meanwhile is done, "when ctx_cancel() returns, true or false, the whole
 * subtree is done", a cause is there with its end; and a forked child reads
 * done.
 *
 * Threads come through a gate and then race: no order is the right one.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "context/node.h"
#include "support.h"

static void *
cancel_body(void *arg)
{
    return (void *)(intptr_t)ctx_cancel(arg);
}

START_TEST(cancelling_every_node_at_once_ends_all_and_one_call_wins_each)
{
    enum { NODES = 85 };
    struct ctx *nodes[NODES];
    pthread_t threads[NODES];

    nodes[0] = ctx_with_cancel(NULL);
    for (int i = 1; i < NODES; i++)
        nodes[i] = ctx_with_cancel(nodes[(i - 1) / 4]);
    for (int i = 0; i < NODES; i++)
        threads[i] = thread_new(cancel_body, nodes[NODES - 1 - i]);
    for (int i = 0; i < NODES; i++)
        thread_join(threads[i]);
    for (int i = 0; i < NODES; i++) {
        ck_assert_int_eq(ctx_err(nodes[i]), ROTA_CANCELED);
        ctx_unref(nodes[i]);
    }
}
END_TEST

START_TEST(many_cancels_of_one_context_have_one_winner)
{
    enum { THREADS = 8 };
    struct ctx *ctx = ctx_with_cancel(NULL);
    pthread_t threads[THREADS];
    int winners = 0;

    for (int i = 0; i < THREADS; i++)
        threads[i] = thread_new(cancel_body, ctx);
    for (int i = 0; i < THREADS; i++)
        winners += thread_join(threads[i]) != NULL;
    ck_assert_int_eq(winners, 1);
    ctx_unref(ctx);
}
END_TEST

struct births {
    struct ctx *parent;
    struct gate gate;
    atomic_bool has_begun;
    int done, right_cause;
};

static void *
births_body(void *arg)
{
    struct births *births = arg;
    struct ctx *children[50];

    gate_pass(&births->gate);
    for (int i = 0; i < 50; i++) {
        children[i] = i % 2 ? ctx_with_cancel(births->parent)
                            : ctx_with_timeout(births->parent, ROTA_SEC(60));
        atomic_store(&births->has_begun, true);
    }
    ctx_cancel(births->parent); /* true or false: now all are done */
    for (int i = 0; i < 50; i++) {
        const char *cause = ctx_cause(children[i]);

        births->done += ctx_done(children[i]);
        births->right_cause +=
            cause != NULL && ctx_cause(births->parent) == cause;
        ctx_unref(children[i]);
    }
    return NULL;
}

START_TEST(child_made_while_its_parent_ends_is_done)
{
    for (int round = 0; round < MANY(2000); round++) {
        struct births births = {.gate = GATE_INIT};
        pthread_t thread;

        births.parent = ctx_with_cancel(NULL);
        thread = thread_new(births_body, &births);
        gate_open(&births.gate);
        AWAIT(atomic_load(&births.has_begun));
        ctx_cancel_cause(births.parent, "round %d", round);
        thread_join(thread);
        ck_assert_int_eq(births.done, 50);
        ck_assert_int_eq(births.right_cause, 50);
        ctx_unref(births.parent);
    }
}
END_TEST

/* Ends a leaf of a wide tree and reports whether all of it was then done. */
struct race {
    struct ctx *top, *last;
    struct gate gate;
    bool is_last_done;
};

static void *
race_body(void *arg)
{
    struct race *race = arg;

    gate_pass(&race->gate);
    ctx_cancel(race->top);
    race->is_last_done = ctx_done(race->last);
    return NULL;
}

START_TEST(when_cancel_returns_false_too_the_subtree_is_done)
{
    enum { WIDTH = 2000, THREADS = 3 };
    static struct ctx *children[WIDTH];

    for (int round = 0; round < MANY(400); round++) {
        struct race races[THREADS];
        pthread_t threads[THREADS];
        struct ctx *top = ctx_with_cancel(NULL);

        for (int i = 0; i < WIDTH; i++)
            children[i] = ctx_with_cancel(top);
        for (int i = 0; i < THREADS; i++) {
            races[i] = (struct race){.gate = GATE_INIT};
            races[i].top = top;
            races[i].last = children[WIDTH - 1];
            threads[i] = thread_new(race_body, &races[i]);
        }
        for (int i = 0; i < THREADS; i++)
            gate_await(&races[i].gate, 1);
        for (int i = 0; i < THREADS; i++)
            gate_open(&races[i].gate);
        for (int i = 0; i < THREADS; i++) {
            thread_join(threads[i]);
            ck_assert(races[i].is_last_done);
        }
        for (int i = 0; i < WIDTH; i++)
            ctx_unref(children[i]);
        ctx_unref(top);
    }
}
END_TEST

struct publication {
    struct ctx *ctx;
    int plain; /* written before the end, read after it */
    int seen;
    int wrong_causes;
    atomic_bool has_begun;
};

static void *
publication_body(void *arg)
{
    struct publication *p = arg;
    const char *cause;

    atomic_store(&p->has_begun, true);
    while ((cause = ctx_cause(p->ctx)) == NULL)
        continue;
    p->wrong_causes += strcmp(cause, "the very one") != 0;
    p->wrong_causes += ctx_err(p->ctx) != ROTA_CANCELED;
    p->seen = p->plain;
    return NULL;
}

START_TEST(cause_is_there_with_the_end_and_what_the_ender_did_is_visible)
{
    for (int round = 0; round < MANY(1000); round++) {
        struct publication p = {.ctx = ctx_with_cancel(NULL)};
        pthread_t thread = thread_new(publication_body, &p);

        AWAIT(atomic_load(&p.has_begun));
        p.plain = 7;
        ctx_cancel_cause(p.ctx, "the very %s", "one");
        thread_join(thread);
        ck_assert_int_eq(p.wrong_causes, 0);
        ck_assert_int_eq(p.seen, 7);
        ctx_unref(p.ctx);
    }
}
END_TEST

static void *
drop_body(void *arg)
{
    ctx_end(arg);
    return NULL;
}

START_TEST(parent_and_children_may_be_dropped_in_any_order_at_once)
{
    for (int round = 0; round < MANY(1000); round++) {
        struct ctx *parent = ctx_with_cancel(NULL);
        struct ctx *a = ctx_with_cancel(parent);
        struct ctx *b = ctx_with_timeout(parent, ROTA_MS(round % 2));
        struct ctx *below = ctx_with_cancel(a);
        pthread_t threads[] = {
            thread_new(drop_body, parent), thread_new(drop_body, a),
            thread_new(drop_body, b), thread_new(cancel_body, below)};

        for (int i = 0; i < 4; i++)
            thread_join(threads[i]);
        ck_assert(ctx_done(below));
        ctx_unref(below);
    }
}
END_TEST

START_TEST(forked_child_reads_done)
{
    struct ctx *live = ctx_with_timeout(NULL, ROTA_SEC(3600));
    struct ctx *done = ctx_with_cancel(live);
    int status;
    pid_t pid;

    ctx_cancel(done);
    pid = fork();
    if (pid == 0)
        _exit(!ctx_done(live) && ctx_done(done) ? 42 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 42);
    ctx_end(done);
    ctx_end(live);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_threads(TCase *t)
{
    tcase_add_test(
        t, cancelling_every_node_at_once_ends_all_and_one_call_wins_each);
    tcase_add_test(t, many_cancels_of_one_context_have_one_winner);
    tcase_add_test(t, child_made_while_its_parent_ends_is_done);
    tcase_add_test(t, when_cancel_returns_false_too_the_subtree_is_done);
    tcase_add_test(
        t, cause_is_there_with_the_end_and_what_the_ender_did_is_visible);
    tcase_add_test(t, parent_and_children_may_be_dropped_in_any_order_at_once);
    tcase_add_test(t, forked_child_reads_done);
}

int
main(void)
{
    Suite *suite = suite_create("ctx threads");

    add_threads(case_new(suite, "threads"));
    return suite_run(suite);
}
