/*
 * Where the statements of a SQL script end, as jobs/script.c finds them.
 */
#define _GNU_SOURCE
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota/ctx.h>

#include "jobs/script.h"
#include "scratch.h"
#include "support.h"

/* Whether text ends a statement and no shorter beginning of it does, for
 * SQLite. */
static bool
is_first_end(char *text)
{
    size_t size = strlen(text);

    for (size_t i = 1; i < size; i++) {
        char next = text[i];
        bool is_end;

        text[i] = '\0';
        is_end = text[i - 1] == ';' && sqlite3_complete(text);
        text[i] = next;
        if (is_end)
            return false;
    }
    return sqlite3_complete(text);
}

START_TEST(a_statement_ends_where_sqlite_says_that_it_does)
{
    static const char *const tokens[] = {
        "CREATE",  "TEMP", "temporary", "TRIGGER", "END",  ";",   ";",
        "EXPLAIN", "x",    "'a;b'",     "\"c;\"",  "[;]",  "`;`", "-- ;\n",
        "/* ; */", "- 1",  "/",         "END;",    "begin"};
    static const char *const begins[] = {
        "x ", "CREATE TRIGGER ", "CREATE TEMP TRIGGER ",
        "explain CREATE TRIGGER ",
        "EXPLAIN QUERY PLAN CREATE TEMPORARY TRIGGER "};
    struct script script;
    char text[512];

    srand(3);
    for (int round = 0; round < 20000; round++) {
        text[0] = '\0';
        (void)strcat(
            text,
            begins[(unsigned)rand() % (sizeof(begins) / sizeof(begins[0]))]);
        for (int n = rand() % 14; n >= 0; n--) {
            (void)strcat(text, tokens[(unsigned)rand() %
                                      (sizeof(tokens) / sizeof(tokens[0]))]);
            (void)strcat(text, " ");
        }
        script_init(&script, ctx_background(),
                    fmemopen(text, strlen(text), "r"));
        if (script_next(&script) == SCRIPT_STATEMENT &&
            script.text[script.size - 1] == ';')
            ck_assert_msg(is_first_end(script.text), "%s", script.text);
        else
            ck_assert_msg(strchr(text, ';') == NULL ||
                              !sqlite3_complete(script.text),
                          "%s", text);
        script_fini(&script);
    }
}
END_TEST

/* A trigger without an end takes the rest of the script, which was read anew
 * at each of its semicolons. */
START_TEST(a_trigger_that_does_not_end_is_read_in_time)
{
    FILE *file = fopen(in_scratch("q.sql"), "w+");
    struct script script;

    ck_assert_ptr_nonnull(file);
    (void)fputs("CREATE TRIGGER t AFTER INSERT ON x BEGIN\n", file);
    for (int i = 0; i < 300000; i++)
        (void)fputs("INSERT INTO x VALUES(CASE 1 WHEN 1 THEN 2 END);\n", file);
    rewind(file);
    script_init(&script, ctx_background(), file);
    ck_assert_int_eq(script_next(&script), SCRIPT_STATEMENT);
    ck_assert_int_eq(script.line, 300002);
    ck_assert_int_eq(script_next(&script), SCRIPT_END);
    script_fini(&script);
}
END_TEST

START_TEST(a_context_stops_the_reading_of_a_statement_that_does_not_end)
{
    FILE *file = fopen(in_scratch("q.sql"), "w+");
    struct ctx *ctx = ctx_with_cancel(NULL);
    struct script script;

    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 100000; i++)
        (void)fputs("x ", file);
    rewind(file);
    script_init(&script, ctx, file);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(script_next(&script), SCRIPT_STOPPED);
    script_fini(&script);
    ctx_end(ctx);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("script");
    TCase *cases = tcase_create("script");

    tcase_add_checked_fixture(cases, scratch_make, scratch_remove);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    tcase_add_test(cases, a_statement_ends_where_sqlite_says_that_it_does);
    tcase_add_test(cases, a_trigger_that_does_not_end_is_read_in_time);
    tcase_add_test(
        cases, a_context_stops_the_reading_of_a_statement_that_does_not_end);
    return suite_run(suite);
}
