/*
 * rota/ctx.h: a context's life, its ends and their causes, and its values,
 * of every way to derive one. See also test_ctx_threads.c, test_ctx_hook.c,
 * test_ctx_wait.c and test_ctx_signals.c.
 *
 * No threads but the library's own.
 */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <wchar.h>

#include "context/node.h"
#include "support.h"

static const char one_key, other_key;

/* -- Roots ----------------------------------------------------------------- */

static struct ctx *(*const roots[])(void) = {ctx_background, ctx_todo};

START_TEST(root_is_never_done_and_has_nothing)
{
    struct ctx *root = roots[_i]();

    ck_assert_ptr_nonnull(root);
    ck_assert_ptr_eq(root, roots[_i]());
    ck_assert(!ctx_done(root));
    ck_assert_int_eq(ctx_err(root), ROTA_OK);
    ck_assert_ptr_null(ctx_cause(root));
    ck_assert_int_eq(ctx_cause_code(root), ROTA_OK);
    ck_assert_int_eq(ctx_deadline(root), ROTA_FOREVER);
    ck_assert_int_eq(ctx_remaining(root), ROTA_FOREVER);
    ck_assert_ptr_null(ctx_value(root, &one_key));
}
END_TEST

START_TEST(ending_a_root_does_nothing)
{
    struct ctx *root = roots[_i]();

    ck_assert(!ctx_cancel(root));
    ck_assert(!ctx_cancel_cause(root, "because"));
    ck_assert(!ctx_cancel_error(root, ROTA_LOST, "because"));
    ctx_unref(ctx_ref(root));
    ctx_unref(roots[_i]());
    ctx_end(roots[_i]());
    ck_assert(!ctx_done(roots[_i]()));
    ck_assert_ptr_null(ctx_cause(roots[_i]()));
}
END_TEST

START_TEST(null_is_ignored_by_end_and_unref)
{
    ctx_end(NULL);
    ctx_unref(NULL);
}
END_TEST

/* -- Every way to derive ----------------------------------------------------
 */

static struct ctx *
derive_cancel(struct ctx *parent)
{
    return ctx_with_cancel(parent);
}

static struct ctx *
derive_value(struct ctx *parent)
{
    return ctx_with_value(parent, &other_key, NULL, NULL);
}

static struct ctx *
derive_timeout(struct ctx *parent)
{
    return ctx_with_timeout(parent, ROTA_SEC(3600));
}

static struct ctx *
derive_timeout_cause(struct ctx *parent)
{
    return ctx_with_timeout_cause(parent, ROTA_SEC(3600), "too slow");
}

static struct ctx *
derive_later(struct ctx *parent)
{
    return ctx_with_deadline(parent, ROTA_FOREVER);
}

static struct ctx *
derive_signals(struct ctx *parent)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return ctx_with_signals(parent, &set);
}

static struct ctx *
derive_merge(struct ctx *parent)
{
    return ctx_merge(parent, ctx_todo());
}

static struct ctx *
derive_peer(struct ctx *parent)
{
    static int pair[2] = {-1, -1};

    if (pair[0] < 0)
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    return ctx_with_peer(parent, pair[0]);
}

typedef struct ctx *derive_fn(struct ctx *parent);
static derive_fn *const derivations[] = {
    derive_cancel, derive_value,   derive_timeout, derive_timeout_cause,
    derive_later,  derive_signals, derive_merge,   derive_peer};
#define DERIVATIONS ((int)(sizeof(derivations) / sizeof(derivations[0])))

START_TEST(null_as_a_parent_means_background)
{
    struct ctx *ctx = derivations[_i](NULL);

    ck_assert(!ctx_done(ctx));
    ck_assert_ptr_null(ctx_value(ctx, &one_key));
    ck_assert(ctx_cancel(ctx));
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ctx_unref(ctx);
    ctx = ctx_without_cancel(NULL);
    ck_assert(!ctx_done(ctx));
    ctx_end(ctx);
}
END_TEST

START_TEST(cancel_ends_a_context_at_once_and_says_so)
{
    struct ctx *ctx = derivations[_i](ctx_background());

    ck_assert(!ctx_done(ctx));
    ck_assert_int_eq(ctx_err(ctx), ROTA_OK);
    ck_assert_ptr_null(ctx_cause(ctx));
    ck_assert(ctx_cancel(ctx));
    ck_assert(ctx_done(ctx));
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "context canceled");
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_CANCELED);
    ctx_unref(ctx);
}
END_TEST

START_TEST(cancel_is_true_once_and_the_first_end_is_final)
{
    struct ctx *ctx = derivations[_i](ctx_background());

    ck_assert(ctx_cancel_error(ctx, ROTA_LOST, "%s %d", "first", 1));
    ck_assert(!ctx_cancel_error(ctx, ROTA_FATAL, "second"));
    ck_assert(!ctx_cancel_cause(ctx, "third"));
    ck_assert(!ctx_cancel(ctx));
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "first 1");
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_LOST);
    ctx_end(ctx);
}
END_TEST

START_TEST(end_of_a_parent_ends_every_kind_of_child)
{
    struct ctx *parent = derivations[_i](ctx_background());
    struct ctx *children[DERIVATIONS], *below[DERIVATIONS];

    for (int i = 0; i < DERIVATIONS; i++) {
        children[i] = derivations[i](parent);
        below[i] = derivations[DERIVATIONS - 1 - i](children[i]);
        ck_assert(!ctx_done(below[i]));
    }
    ck_assert(ctx_cancel_cause(parent, "enough"));
    for (int i = 0; i < DERIVATIONS; i++) {
        ck_assert_int_eq(ctx_err(children[i]), ROTA_CANCELED);
        ck_assert_str_eq(ctx_cause(children[i]), "enough");
        ck_assert_int_eq(ctx_err(below[i]), ROTA_CANCELED);
        ck_assert_str_eq(ctx_cause(below[i]), "enough");
        ctx_end(children[i]);
        ctx_end(below[i]);
    }
    ck_assert_uint_eq(ctx_children(parent), 0);
    ctx_end(parent);
}
END_TEST

START_TEST(child_of_a_done_parent_is_born_done)
{
    struct ctx *parent = ctx_with_cancel(NULL), *child;

    ctx_cancel_error(parent, ROTA_LOST, "it is %s", "gone");
    child = derivations[_i](parent);
    ctx_unref(parent);
    ck_assert(ctx_done(child));
    ck_assert_int_eq(ctx_err(child), ROTA_CANCELED);
    ck_assert_int_eq(ctx_cause_code(child), ROTA_LOST);
    ck_assert_str_eq(ctx_cause(child), "it is gone");
    ck_assert(!ctx_cancel(child));
    ctx_unref(child);

    parent = ctx_with_timeout(NULL, 0);
    child = derivations[_i](parent);
    ck_assert_int_eq(ctx_err(child), ROTA_DEADLINE);
    ck_assert_str_eq(ctx_cause(child), "context deadline exceeded");
    ctx_end(child);
    ctx_end(parent);
}
END_TEST

START_TEST(end_of_a_child_leaves_its_parent_live)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct ctx *child = derivations[_i](parent);
    struct ctx *sibling = derivations[_i](parent);

    ck_assert(ctx_cancel_cause(child, "only here"));
    ck_assert(!ctx_done(parent));
    ck_assert(!ctx_done(sibling));
    ck_assert_uint_eq(ctx_children(parent), 2);
    ctx_unref(child);
    ck_assert_uint_eq(ctx_children(parent), 1);
    ctx_end(sibling);
    ck_assert_uint_eq(ctx_children(parent), 0);
    ck_assert(!ctx_done(parent));
    ctx_end(parent);
}
END_TEST

START_TEST(dropping_the_last_handle_cancels_nobody)
{
    struct ctx *top = ctx_with_cancel(NULL);
    struct ctx *middle = derivations[_i](top);
    struct ctx *leaf = derivations[_i](middle);

    ctx_unref(middle);
    ck_assert(!ctx_done(leaf));
    ck_assert_uint_eq(ctx_children(top), 1);
    ctx_cancel(top);
    ctx_unref(top);
    ck_assert_int_eq(ctx_err(leaf), ROTA_CANCELED);
    ctx_unref(leaf);
}
END_TEST

START_TEST(reference_keeps_a_context)
{
    struct ctx *ctx = derivations[_i](NULL);
    struct ctx *again = ctx_ref(ctx);

    ctx_end(ctx);
    ck_assert(ctx_done(again));
    ck_assert_str_eq(ctx_cause(again), "context canceled");
    ctx_unref(again);
}
END_TEST

/* -- Trees ----------------------------------------------------------------- */

#define HEAP 11

START_TEST(cancel_ends_exactly_the_subtree)
{
    struct ctx *heap[HEAP];
    bool is_below[HEAP] = {false};

    heap[0] = ctx_with_cancel(NULL);
    for (int i = 1; i < HEAP; i++)
        heap[i] = ctx_with_cancel(heap[(i - 1) / 2]);
    ck_assert(ctx_cancel(heap[_i]));
    is_below[_i] = true;
    for (int i = 0; i < HEAP; i++) {
        if (i > _i)
            is_below[i] = is_below[(i - 1) / 2];
        ck_assert_int_eq(ctx_done(heap[i]), is_below[i]);
    }
    for (int i = 0; i < HEAP; i++)
        ctx_end(heap[i]);
}
END_TEST

START_TEST(deadline_ends_exactly_the_subtree)
{
    struct ctx *heap[HEAP];
    bool is_below[HEAP] = {false};

    heap[0] = ctx_with_cancel(NULL);
    for (int i = 1; i < HEAP; i++) {
        struct ctx *above = heap[(i - 1) / 2];

        heap[i] = i == _i ? ctx_with_timeout(above, ROTA_MS(5))
                          : ctx_with_cancel(above);
    }
    ck_assert_int_eq(ctx_wait(heap[_i], ROTA_FOREVER), ROTA_DEADLINE);
    is_below[_i] = true;
    for (int i = 0; i < HEAP; i++) {
        if (i > _i)
            is_below[i] = is_below[(i - 1) / 2];
        ck_assert_int_eq(ctx_err(heap[i]),
                         is_below[i] ? ROTA_DEADLINE : ROTA_OK);
        ctx_unref(heap[i]);
    }
}
END_TEST

#define LAYERS 40

/* A stack of layers of random kinds, and a leaf below all. */
static void
layers_new(struct ctx **layers, unsigned seed, int64_t timeout)
{
    struct ctx *parent = ctx_with_value(NULL, &one_key, layers, NULL);

    for (int i = 0; i < LAYERS; i++) {
        layers[i] = parent;
        switch (rand_r(&seed) % 3) {
        case 0:
            parent = ctx_with_cancel(parent);
            break;
        case 1:
            parent = ctx_with_timeout(parent, timeout);
            break;
        default:
            parent = ctx_with_value(parent, &other_key, &layers[i], NULL);
        }
    }
    layers[LAYERS] = parent;
}

START_TEST(cancelling_any_layer_ends_the_leaf_and_keeps_the_values)
{
    for (int i = 0; i < LAYERS; i++) {
        struct ctx *layers[LAYERS + 1];
        void *value;

        layers_new(layers, (unsigned)_i, ROTA_SEC(3600));
        value = ctx_value(layers[LAYERS], &other_key);
        ck_assert(!ctx_done(layers[LAYERS]));
        ck_assert(ctx_cancel(layers[i]));
        ck_assert_msg(ctx_done(layers[LAYERS]), "layer %d, seed %d", i, _i);
        ck_assert_ptr_eq(ctx_value(layers[LAYERS], &one_key), layers);
        ck_assert_ptr_eq(ctx_value(layers[LAYERS], &other_key), value);
        ck_assert(i == 0 || !ctx_done(layers[i - 1]));
        for (int j = 0; j <= LAYERS; j++)
            ctx_unref(layers[(j * 7 + i) % (LAYERS + 1)]);
    }
}
END_TEST

START_TEST(timeouts_in_layers_end_the_leaf_and_keep_the_values)
{
    struct ctx *layers[LAYERS + 1];
    void *value;

    layers_new(layers, (unsigned)_i, ROTA_MS(1));
    value = ctx_value(layers[LAYERS], &other_key);
    ck_assert_int_eq(ctx_wait(layers[LAYERS], ROTA_FOREVER), ROTA_DEADLINE);
    ck_assert_ptr_eq(ctx_value(layers[LAYERS], &one_key), layers);
    ck_assert_ptr_eq(ctx_value(layers[LAYERS], &other_key), value);
    for (int j = 0; j <= LAYERS; j++)
        ctx_unref(layers[j]);
}
END_TEST

START_TEST(chain_of_a_million_ends_and_is_freed)
{
    const int n = MANY(1000000);
    struct ctx *top = ctx_with_cancel(NULL), *leaf = ctx_ref(top);

    for (int i = 0; i < n; i++) {
        struct ctx *child = ctx_with_cancel(leaf);

        ctx_unref(leaf);
        leaf = child;
    }
    ck_assert(ctx_cancel(top));
    ctx_unref(top);
    ck_assert(ctx_done(leaf));
    ctx_unref(leaf); /* frees all, upwards */
}
END_TEST

START_TEST(fan_out_of_a_million_ends_and_is_freed)
{
    const int n = MANY(1000000);
    struct ctx *top = ctx_with_cancel(NULL);
    struct ctx **children = malloc((size_t)n * sizeof(struct ctx *));
    int done = 0;

    ck_assert_ptr_nonnull(children);
    for (int i = 0; i < n; i++)
        children[i] = ctx_with_cancel(top);
    ck_assert(ctx_cancel(top));
    for (int i = 0; i < n; i++) {
        done += ctx_done(children[i]);
        ctx_unref(children[i]);
    }
    free(children);
    ck_assert_int_eq(done, n);
    ck_assert_uint_eq(ctx_children(top), 0);
    ctx_unref(top);
}
END_TEST

/* -- Causes -----------------------------------------------------------------
 */

#define CANCELED "context canceled"
#define DEADLINE "context deadline exceeded"
enum { FAR = 3600 };

/* A parent, a child below it, and who is cancelled, in this order. */
static const struct cause_case {
    int parent_timeout, child_timeout; /* seconds; -1: none */
    const char *child_text;            /* for the timeout */
    struct {
        char who; /* p, c or 0 */
        const char *cause;
    } steps[2];
    const char *parent_cause, *child_cause; /* what is to come out */
} cause_cases[] = {
    {-1, -1, NULL, {{0, NULL}}, NULL, NULL},
    {-1, -1, NULL, {{'p', NULL}}, CANCELED, CANCELED},
    {-1, -1, NULL, {{'p', "P"}}, "P", "P"},
    {-1, -1, NULL, {{'c', "C"}}, NULL, "C"},
    {-1, -1, NULL, {{'p', "P"}, {'c', "C"}}, "P", "P"},
    {-1, -1, NULL, {{'c', "C"}, {'p', "P"}}, "P", "C"},
    {-1, -1, NULL, {{'p', "P"}, {'c', NULL}}, "P", "P"},
    {-1, -1, NULL, {{'c', NULL}, {'p', "P"}}, "P", CANCELED},
    {-1, -1, NULL, {{'p', NULL}, {'c', "C"}}, CANCELED, CANCELED},
    {-1, -1, NULL, {{'c', "C"}, {'p', NULL}}, CANCELED, "C"},
    {0, -1, NULL, {{'p', NULL}}, DEADLINE, DEADLINE},
    {-1, 0, NULL, {{'c', "C"}}, NULL, DEADLINE},
    {-1, FAR, NULL, {{'c', NULL}}, NULL, CANCELED},
    {-1, 0, "slow", {{'c', "C"}}, NULL, "slow"},
    {-1, FAR, "slow", {{'c', NULL}}, NULL, CANCELED},
    {-1, 0, "slow", {{'p', "P"}}, "P", "slow"},
    {-1, FAR, "slow", {{'p', "P"}}, "P", "P"},
    {FAR, 0, "slow", {{'p', "P"}}, "P", "slow"},
};

static struct ctx *
cause_case_derive(struct ctx *parent, int timeout, const char *text)
{
    if (timeout < 0)
        return ctx_with_cancel(parent);
    return ctx_with_timeout_cause(parent, ROTA_SEC(timeout), text);
}

/* cause says which error goes with it. */
static void
ck_assert_cause(struct ctx *ctx, const char *cause)
{
    enum rota_error error = ROTA_CANCELED;

    if (cause == NULL)
        error = ROTA_OK;
    else if (strcmp(cause, DEADLINE) == 0 || strcmp(cause, "slow") == 0)
        error = ROTA_DEADLINE;
    ck_assert_pstr_eq(ctx_cause(ctx), cause);
    ck_assert_int_eq(ctx_err(ctx), error);
    ck_assert_int_eq(ctx_cause_code(ctx), error);
}

START_TEST(first_end_decides_error_and_cause)
{
    const struct cause_case *c = &cause_cases[_i];
    struct ctx *parent = cause_case_derive(NULL, c->parent_timeout, NULL);
    struct ctx *child =
        cause_case_derive(parent, c->child_timeout, c->child_text);
    struct ctx *leaf = ctx_with_value(child, &one_key, NULL, NULL);

    for (int i = 0; i < 2 && c->steps[i].who; i++) {
        struct ctx *ctx = c->steps[i].who == 'p' ? parent : child;

        if (c->steps[i].cause != NULL)
            ctx_cancel_cause(ctx, "%s", c->steps[i].cause);
        else
            ctx_cancel(ctx);
    }
    ck_assert_cause(parent, c->parent_cause);
    ck_assert_cause(child, c->child_cause);
    ck_assert_cause(leaf, c->child_cause);
    ctx_end(leaf);
    ctx_end(child);
    ctx_end(parent);
}
END_TEST

START_TEST(error_behind_an_end_is_kept)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct ctx *child = ctx_with_cancel(parent);

    ck_assert(ctx_cancel_error(parent, ROTA_FATAL, "sibling %d", 3));
    ck_assert_int_eq(ctx_err(child), ROTA_CANCELED);
    ck_assert_int_eq(ctx_cause_code(child), ROTA_FATAL);
    ck_assert_str_eq(ctx_cause(child), "sibling 3");
    ctx_end(child);
    ctx_end(parent);
}
END_TEST

START_TEST(long_cause_is_kept_whole_and_outlives_its_first_context)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct ctx *child = ctx_with_cancel(parent);
    char text[5000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    ctx_cancel_cause(parent, "%s", text);
    ctx_unref(parent);
    ck_assert_str_eq(ctx_cause(child), text);
    ctx_unref(child);
}
END_TEST

START_TEST(error_that_is_none_of_ours_is_canceled_in_words)
{
    static const int numbers[] = {15, 19, 24, 1000, -1};
    const char *const no_words = NULL;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        ctx_cancel_error(ctx, (enum rota_error)numbers[i], no_words);
        ck_assert_cause(ctx, CANCELED);
        ctx_end(ctx);
    }
}
END_TEST

START_TEST(cause_without_words_or_that_cannot_be_written_has_the_usual_ones)
{
    static const wchar_t not_to_be_written[] = {0x20ac, 0}; /* in locale C */
    const char *const no_words = NULL;
    struct ctx *ctx = ctx_with_cancel(NULL);

    ck_assert(ctx_cancel_cause(ctx, no_words));
    ck_assert_cause(ctx, CANCELED);
    ctx_end(ctx);
    ctx = ctx_with_cancel(NULL);
    ck_assert(ctx_cancel_error(ctx, ROTA_FULL, "%ls", not_to_be_written));
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_FULL);
    ck_assert_str_eq(ctx_cause(ctx), rota_strerror(ROTA_FULL));
    ctx_end(ctx);
}
END_TEST

START_TEST(every_error_has_its_words)
{
    ck_assert_str_eq(rota_strerror(ROTA_OK), "ok");
    ck_assert_str_eq(rota_strerror(ROTA_CANCELED), CANCELED);
    ck_assert_str_eq(rota_strerror(ROTA_DEADLINE), DEADLINE);
    ck_assert_str_eq(rota_strerror(ROTA_LOST), "this worker lost the job");
    ck_assert_ptr_nonnull(rota_strerror((enum rota_error)15));
    ck_assert_ptr_nonnull(rota_strerror((enum rota_error) - 1));
}
END_TEST

/* -- Values -----------------------------------------------------------------
 */

START_TEST(nearest_value_of_a_key_wins_and_null_hides)
{
    static char a, b;
    struct ctx *outer = ctx_with_value(NULL, &one_key, &a, NULL);
    struct ctx *other = ctx_with_value(outer, &other_key, &b, NULL);
    struct ctx *between = ctx_with_timeout(other, ROTA_SEC(3600));
    struct ctx *inner = ctx_with_value(between, &one_key, &b, NULL);
    struct ctx *hidden = ctx_with_value(inner, &one_key, NULL, NULL);

    ck_assert_ptr_eq(ctx_value(outer, &one_key), &a);
    ck_assert_ptr_null(ctx_value(outer, &other_key));
    ck_assert_ptr_eq(ctx_value(between, &one_key), &a);
    ck_assert_ptr_eq(ctx_value(between, &other_key), &b);
    ck_assert_ptr_eq(ctx_value(inner, &one_key), &b);
    ck_assert_ptr_null(ctx_value(hidden, &one_key));
    ck_assert_ptr_eq(ctx_value(hidden, &other_key), &b);
    ctx_end(outer);
    ck_assert_ptr_eq(ctx_value(inner, &other_key), &b);
    ctx_end(other);
    ctx_end(between);
    ctx_end(inner);
    ctx_end(hidden);
}
END_TEST

START_TEST(value_is_destroyed_once_when_the_last_below_is_gone)
{
    atomic_int destroyed = 0;
    struct ctx *ctx = ctx_with_value(NULL, &one_key, &destroyed, count_up);
    struct ctx *child = ctx_with_cancel(ctx);
    struct ctx *shield = ctx_without_cancel(child);

    ctx_end(ctx);
    ctx_end(child);
    ck_assert_ptr_eq(ctx_value(shield, &one_key), &destroyed);
    ck_assert_int_eq(destroyed, 0);
    ctx_end(shield);
    ck_assert_int_eq(destroyed, 1);
}
END_TEST

START_TEST(without_cancel_keeps_values_and_no_end)
{
    struct ctx *value = ctx_with_value(NULL, &one_key, &value, NULL);
    struct ctx *parent = ctx_with_timeout(value, ROTA_SEC(3600));
    struct ctx *shield, *born;

    shield = ctx_without_cancel(parent);
    ctx_cancel_cause(parent, "the end");
    born = ctx_without_cancel(parent);
    ck_assert(!ctx_done(shield) && !ctx_done(born));
    ck_assert_ptr_null(ctx_cause(born));
    ck_assert_int_eq(ctx_deadline(shield), ROTA_FOREVER);
    ck_assert_ptr_eq(ctx_value(shield, &one_key), &value);
    ck_assert_ptr_eq(ctx_value(born, &one_key), &value);
    ctx_end(parent);
    ctx_end(value);
    ck_assert(!ctx_done(shield));
    ck_assert(ctx_cancel(shield)); /* a context as any other */
    ck_assert_int_eq(ctx_err(shield), ROTA_CANCELED);
    ctx_end(shield);
    ctx_end(born);
}
END_TEST

static Suite *
life_suite(void)
{
    Suite *suite = suite_create("ctx life");
    TCase *root = tcase_create("roots");
    TCase *kinds = tcase_create("every kind");
    TCase *tree = tcase_create("trees");

    tcase_add_loop_test(root, root_is_never_done_and_has_nothing, 0, 2);
    tcase_add_loop_test(root, ending_a_root_does_nothing, 0, 2);
    tcase_add_test(root, null_is_ignored_by_end_and_unref);
    suite_add_tcase(suite, root);
#define EVERY_KIND(test) tcase_add_loop_test(kinds, test, 0, DERIVATIONS)
    EVERY_KIND(null_as_a_parent_means_background);
    EVERY_KIND(cancel_ends_a_context_at_once_and_says_so);
    EVERY_KIND(cancel_is_true_once_and_the_first_end_is_final);
    EVERY_KIND(end_of_a_parent_ends_every_kind_of_child);
    EVERY_KIND(child_of_a_done_parent_is_born_done);
    EVERY_KIND(end_of_a_child_leaves_its_parent_live);
    EVERY_KIND(dropping_the_last_handle_cancels_nobody);
    EVERY_KIND(reference_keeps_a_context);
#undef EVERY_KIND
    suite_add_tcase(suite, kinds);
    tcase_set_timeout(tree, 60);
    tcase_add_loop_test(tree, cancel_ends_exactly_the_subtree, 0, HEAP);
    tcase_add_loop_test(tree, deadline_ends_exactly_the_subtree, 1, HEAP);
    tcase_add_loop_test(
        tree, cancelling_any_layer_ends_the_leaf_and_keeps_the_values, 0, 20);
    tcase_add_loop_test(
        tree, timeouts_in_layers_end_the_leaf_and_keep_the_values, 1, 20);
    tcase_add_test(tree, chain_of_a_million_ends_and_is_freed);
    tcase_add_test(tree, fan_out_of_a_million_ends_and_is_freed);
    suite_add_tcase(suite, tree);
    return suite;
}

static Suite *
facts_suite(void)
{
    Suite *suite = suite_create("ctx facts");
    TCase *causes = tcase_create("causes");
    TCase *values = tcase_create("values");

    tcase_add_loop_test(causes, first_end_decides_error_and_cause, 0,
                        sizeof(cause_cases) / sizeof(cause_cases[0]));
    tcase_add_test(causes, error_behind_an_end_is_kept);
    tcase_add_test(causes,
                   long_cause_is_kept_whole_and_outlives_its_first_context);
    tcase_add_test(causes, error_that_is_none_of_ours_is_canceled_in_words);
    tcase_add_test(
        causes,
        cause_without_words_or_that_cannot_be_written_has_the_usual_ones);
    tcase_add_test(causes, every_error_has_its_words);
    suite_add_tcase(suite, causes);
    tcase_add_test(values, nearest_value_of_a_key_wins_and_null_hides);
    tcase_add_test(values, value_is_destroyed_once_when_the_last_below_is_gone);
    tcase_add_test(values, without_cancel_keeps_values_and_no_end);
    suite_add_tcase(suite, values);
    return suite;
}

int
main(void)
{
    SRunner *runner = srunner_create(life_suite());
    int failures;

    srunner_add_suite(runner, facts_suite());
    srunner_run_all(runner, CK_ENV);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
