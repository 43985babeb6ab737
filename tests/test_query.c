/*
 * rota_query(): names, values and parameters, what does not only look is
 * refused, and a query ends with its context and holds nobody up.
 *
 * A thread that asks for ever is waited for until it has had its first row.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"
#include "stage.h"

#define FOREVER \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"

/* What a query told. */
static struct rows {
    atomic_int calls;
    int names, rows, stop_at; /* stop_at 0: at the end */
    char text[256];
    struct rota_value values[5];
} rows;

static bool
keep_row(void *arg, int n, const char *const *names,
         const struct rota_value *values)
{
    struct rows *all = arg;
    size_t used = strlen(all->text);

    if (values == NULL) {
        all->names++;
        for (int i = 0; i < n; i++)
            used += (size_t)snprintf(all->text + used, sizeof(all->text) - used,
                                     "%s,", names[i]);
    } else {
        all->rows++;
        for (int i = 0; i < n && i < 5; i++)
            all->values[i] = values[i];
        if (n > 0 && values[0].type == ROTA_TEXT)
            (void)snprintf(all->text + used, sizeof(all->text) - used, "%s;",
                           values[0].data);
    }
    atomic_fetch_add(&all->calls, 1);
    return atomic_load(&all->calls) != all->stop_at;
}

static enum rota_error
query_with(const char *sql, const struct rota_value *params, int n)
{
    memset(rows.text, 0, sizeof(rows.text));
    rows.names = rows.rows = 0;
    atomic_store(&rows.calls, 0);
    return rota_query(NULL, rota, sql, params, n, keep_row, &rows);
}

static enum rota_error
query(const char *sql)
{
    return query_with(sql, NULL, 0);
}

START_TEST(names_come_first_and_once)
{
    open_queue(1);
    ck_assert_int_eq(query("SELECT 1 AS a, 2 AS \"b c\" WHERE 0"), ROTA_OK);
    ck_assert_str_eq(rows.text, "a,b c,");
    ck_assert_int_eq(rows.names, 1);
    ck_assert_int_eq(rows.rows, 0);
    ck_assert_int_eq(query("SELECT 'x' AS a UNION ALL SELECT 'y'"), ROTA_OK);
    ck_assert_str_eq(rows.text, "a,x;y;");
    ck_assert_int_eq(rows.names, 1);
}
END_TEST

static bool
check_values(void *arg, int n, const char *const *names,
             const struct rota_value *v)
{
    (void)names;
    if (v == NULL)
        return true;
    *(bool *)arg =
        n == 5 && v[0].type == ROTA_INTEGER && v[0].integer == INT64_MIN &&
        v[1].type == ROTA_REAL && v[1].real < -0.2499 && v[1].real > -0.2501 &&
        v[2].type == ROTA_TEXT && v[2].size == 3 &&
        memcmp(v[2].data, "a\0b", 4) == 0 && v[3].type == ROTA_BLOB &&
        v[3].size == 2 && memcmp(v[3].data, "\0\xff", 2) == 0 &&
        v[4].type == ROTA_NULL;
    return true;
}

START_TEST(values_of_each_type_go_in_and_come_out)
{
    const struct rota_value params[] = {
        {.type = ROTA_INTEGER, .integer = INT64_MIN},
        {.type = ROTA_REAL, .real = -0.25},
        {.type = ROTA_TEXT, .data = "a\0b", .size = 3},
        {.type = ROTA_BLOB, .data = "\0\xff", .size = 2},
        {.type = ROTA_NULL}};
    bool right = false;

    open_queue(1);
    ck_assert_int_eq(rota_query(NULL, rota,
                                "SELECT -9223372036854775808, -0.25,"
                                " 'a' || char(0) || 'b', x'00ff', NULL",
                                NULL, 0, check_values, &right),
                     ROTA_OK);
    ck_assert(right);
    right = false;
    ck_assert_int_eq(rota_query(NULL, rota, "SELECT ?1, ?2, ?3, ?4, ?5", params,
                                5, check_values, &right),
                     ROTA_OK);
    ck_assert(right);
}
END_TEST

START_TEST(a_query_ends_when_its_function_has_had_enough)
{
    open_queue(1);
    rows.stop_at = 1; /* the names */
    ck_assert_int_eq(query(FOREVER " SELECT i FROM n"), ROTA_OK);
    ck_assert_int_eq(rows.rows, 0);
    rows.stop_at = 4;
    ck_assert_int_eq(query(FOREVER " SELECT i FROM n"), ROTA_OK);
    ck_assert_int_eq(rows.rows, 3);
    ck_assert_int_eq(rows.values[0].integer, 3);
}
END_TEST

static const struct {
    const char *sql, *says;
} refused[] = {
    {"SELEC 1", "syntax error"},
    {"SELECT nought FROM jobs", "no such column: nought"},
    {"SELECT json('{')", "malformed JSON"},
    {"INSERT INTO submit(kind) VALUES('k')", "only reads"},
    {"UPDATE _job SET run_at = 0", "only reads"},
    {"DROP VIEW jobs", "only reads"},
    {"BEGIN", "only reads"},
    {"ATTACH '/tmp/x' AS x", "only reads"},
    {"PRAGMA query_only = 0", "only reads"},
    {"SELECT 1; SELECT 2", "one SQL statement"},
    {"", "one SQL statement"},
};

START_TEST(what_does_not_only_look_is_refused_in_words)
{
    open_queue(1);
    ck_assert_int_eq(query(refused[_i].sql), ROTA_INVALID);
    ck_assert_msg(strstr(rota_errmsg(rota), refused[_i].says) != NULL, "%s",
                  rota_errmsg(rota));
    ck_assert_int_eq(rows.rows, 0);
    ck_assert_int_eq(query("SELECT 1"), ROTA_OK);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 0);
}
END_TEST

struct asker {
    struct ctx *ctx;
    enum rota_error error;
    char words[64];
};

static void *
asker_body(void *arg)
{
    struct asker *asker = arg;

    /* one row, and then on and on without any */
    asker->error =
        rota_query(asker->ctx, rota, FOREVER " SELECT i FROM n WHERE i < 2",
                   NULL, 0, keep_row, &rows);
    (void)snprintf(asker->words, sizeof(asker->words), "%s", rota_errmsg(rota));
    return NULL;
}

START_TEST(a_query_ends_with_its_context)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct asker asker = {.ctx = ctx};
    pthread_t thread;

    open_queue(1);
    thread = thread_new(asker_body, &asker);
    AWAIT(atomic_load(&rows.calls) == 2);
    (void)ctx_cancel_cause(ctx, "too long");
    (void)thread_join(thread);
    ck_assert_int_eq(asker.error, ROTA_CANCELED);
    ck_assert_str_eq(asker.words, "too long");
    ck_assert_int_eq(rows.rows, 1);
    (void)asker_body(&asker); /* ended before */
    ck_assert_int_eq(asker.error, ROTA_CANCELED);
    ck_assert_int_eq(rows.rows, 1);
    ck_assert_int_eq(query("SELECT 1"), ROTA_OK);
}
END_TEST

/* Cancels the context once as much of the reader's work is done as was said. */
static void *
cancel_after(void *arg)
{
    struct ctx *ctx = arg;
    int64_t end = ctx_now() + act.number;

    while (ctx_now() < end)
        continue;
    (void)ctx_cancel(ctx);
    return NULL;
}

/* Virtual tables, as they are made, make another error of an interrupt. */
START_TEST(a_query_that_was_cancelled_is_never_called_senseless)
{
    enum rota_error error;
    pthread_t thread;
    struct ctx *ctx;

    for (int i = 0; i < MANY(200); i++) {
        close_queue();
        open_queue(1);
        ctx = ctx_with_cancel(NULL);
        act.number = i % 200 * 1000;
        thread = thread_new(cancel_after, ctx);
        error = rota_query(ctx, rota,
                           "SELECT count(*) FROM json_each('[1]'),"
                           " json_tree('[1]'), pragma_table_info('jobs')",
                           NULL, 0, keep_row, &rows);
        ck_assert_msg(error == ROTA_OK || error == ROTA_CANCELED, "%d: %s",
                      error, rota_errmsg(rota));
        (void)thread_join(thread);
        ctx_end(ctx);
    }
}
END_TEST

START_TEST(a_query_ends_with_a_deadline)
{
    CTX_AUTO struct ctx *ctx = NULL;
    struct asker asker = {0};

    open_queue(1);
    ctx = asker.ctx = ctx_with_timeout(NULL, ROTA_MS(5));
    (void)asker_body(&asker);
    ck_assert_int_eq(asker.error, ROTA_DEADLINE);
    ck_assert_str_eq(asker.words, rota_strerror(ROTA_DEADLINE));
}
END_TEST

START_TEST(a_query_that_lasts_holds_nobody_up)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct asker asker = {.ctx = ctx};
    pthread_t thread;

    begin(1, at_once);
    thread = thread_new(asker_body, &asker);
    AWAIT(atomic_load(&rows.calls) == 2);
    wait_for(submit());
    drain();
    ck_assert_int_eq(query("SELECT 1"), ROTA_OK);
    (void)ctx_cancel(ctx);
    (void)thread_join(thread);
    ck_assert_int_eq(asker.error, ROTA_CANCELED);
}
END_TEST

START_TEST(a_call_without_what_it_is_about_is_refused)
{
    int64_t id = -1;

    begin(1, at_once);
    ck_assert_int_eq(rota_submit(rota, NULL, &id), ROTA_INVALID);
    ck_assert_int_eq(rota_submit_many(rota, NULL, 1, &id), ROTA_INVALID);
    ck_assert_int_eq(rota_run(NULL, rota, NULL, NULL), ROTA_INVALID);
    ck_assert_int_eq(rota_limit_key(rota, NULL, 1), ROTA_INVALID);
    ck_assert_int_eq(rota_query(NULL, rota, NULL, NULL, 0, keep_row, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_query(NULL, rota, "SELECT 1", NULL, 0, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(id, -1);
    ck_assert_int_eq(submit(), 1);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void
add_query(TCase *t)
{
    tcase_add_test(t, names_come_first_and_once);
    tcase_add_test(t, values_of_each_type_go_in_and_come_out);
    tcase_add_test(t, a_query_ends_when_its_function_has_had_enough);
    tcase_add_loop_test(t, what_does_not_only_look_is_refused_in_words, 0,
                        COUNT(refused));
    tcase_add_test(t, a_query_ends_with_its_context);
    tcase_add_test(t, a_query_that_was_cancelled_is_never_called_senseless);
    tcase_add_test(t, a_query_ends_with_a_deadline);
    tcase_add_test(t, a_query_that_lasts_holds_nobody_up);
    tcase_add_test(t, a_call_without_what_it_is_about_is_refused);
}

int
main(void)
{
    Suite *suite = suite_create("query");

    add_query(stage_case(suite, "rota_query()"));
    return suite_run(suite);
}
