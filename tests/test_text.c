/*
 * What is cut of a message that is too long is its middle: the reason at its
 * end stays, whatever name or argument stands before it. The library has this
 * for its messages, and the jobs and the command have it for theirs; both are
 * tried. One thread, and the scheduler's.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota.h>

#include "base/base.h"
#include "base/text.h"
#include "jobs/excerpt.h"
#include "scratch.h"
#include "support.h"

typedef void cut_fn(char *text, size_t max);
typedef void print_fn(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static const struct {
    cut_fn *cut;
    print_fn *print;
} ways[] = {{text_cut, text_print}, {excerpt_cut, excerpt_print}};

/* A name of size bytes, and a NUL. */
static char *
long_name(size_t size)
{
    char *name = malloc(size + 1);

    ck_assert_ptr_nonnull(name);
    memset(name, 'x', size);
    name[size] = '\0';
    return name;
}

static void
assert_ends(const char *text, const char *end)
{
    ck_assert_uint_ge(strlen(text), strlen(end));
    ck_assert_str_eq(text + strlen(text) - strlen(end), end);
}

/* -- Cutting --------------------------------------------------------------- */

START_TEST(what_fits_is_whole)
{
    char text[32];

    ways[_i].print(text, sizeof(text), "%s", "");
    ck_assert_str_eq(text, "");
    ways[_i].print(text, sizeof(text), "%031d", 7);
    ck_assert_uint_eq(strlen(text), 31);
    ck_assert_ptr_null(strstr(text, "\u2026"));
    ways[_i].cut(text, 31);
    ck_assert_uint_eq(strlen(text), 31);
}
END_TEST

START_TEST(what_does_not_fit_loses_its_middle)
{
    char text[32];

    ways[_i].print(text, sizeof(text), "%s: no such file",
                   "/a/path/that/is/longer/than/all/of/this");
    ck_assert_str_eq(text, "/a/path/th\u2026this: no such file");
}
END_TEST

/* Whatever the lengths of the characters, and wherever the cuts are. */
START_TEST(a_cut_goes_between_characters)
{
    static const char *const characters[] = {"x", "\u00e9", "\u20ac",
                                             "\U0001f600"};
    char whole[512], text[512];

    for (size_t length = 1; length <= 4; length++)
        for (size_t lead = 0; lead < 4; lead++)
            for (size_t max = 16; max < 120; max++) {
                size_t size = (size_t)sprintf(whole, "%.*s", (int)lead, "abc");

                while (size < 200)
                    size += (size_t)sprintf(whole + size, "%s",
                                            characters[length - 1]);
                memcpy(text, whole, size + 1);
                ways[_i].cut(text, max);
                ck_assert(text_is_utf8(text, strlen(text)));
                ck_assert_uint_le(strlen(text), max);
                ck_assert_uint_gt(strlen(text) + 8, max);
                ck_assert_ptr_nonnull(strstr(text, "\u2026"));
            }
}
END_TEST

/* It is only a byte that stands where a character would go on. */
START_TEST(what_is_no_text_is_cut_to_its_size_too)
{
    char text[256];

    memset(text, '\x80', 255);
    text[255] = '\0';
    ways[_i].cut(text, 100);
    ck_assert_uint_le(strlen(text), 100);
}
END_TEST

/* -- Where it is used ------------------------------------------------------ */

START_TEST(a_message_keeps_its_reason_whatever_name_it_begins_with)
{
    char *name = long_name(100000);

    message_set("cannot open %s: %s", name, "File name too long");
    assert_ends(message_get(), "x: File name too long");
    ck_assert_int_eq(memcmp(message_get(), "cannot open xxx", 15), 0);
    ck_assert_uint_eq(strlen(message_get()), 511);
    free(name);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_said_to_be_why)
{
    char *name = long_name(3000);
    struct rota *other = NULL;

    ck_assert_int_ne(rota_open(name, NULL, &other), ROTA_OK);
    assert_ends(rota_errmsg(NULL), ": File name too long");
    free(name);
}
END_TEST

static enum rota_error
fails_with_a_name(struct ctx *ctx, struct rota_job *job)
{
    char *name = long_name(100000);
    enum rota_error error =
        rota_job_fail(job, ROTA_FATAL, "%s: the reason", name);

    (void)ctx;
    rota_job_log(job, "%s: the news", name);
    free(name);
    return error;
}

static char logged[4096];

static void
keep_log(void *arg, int64_t job, const char *line)
{
    (void)arg, (void)job;
    (void)snprintf(logged, sizeof(logged), "%s", line);
}

START_TEST(a_failure_and_a_log_line_keep_their_ends)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota_submission submission = ROTA_SUBMISSION_INIT("name");
    struct rota_outcome ended = ROTA_OUTCOME_INIT;
    struct rota *queue;
    int64_t id;

    options.log = keep_log;
    ck_assert_int_eq(rota_open(in_scratch("queue"), &options, &queue), ROTA_OK);
    ck_assert_int_eq(rota_handle(queue, "name", fails_with_a_name, NULL, NULL),
                     ROTA_OK);
    ck_assert_int_eq(rota_start(ctx_background(), queue), ROTA_OK);
    ck_assert_int_eq(rota_submit(queue, &submission, &id), ROTA_OK);
    ck_assert_int_eq(rota_wait(NULL, queue, id, &ended), ROTA_OK);
    assert_ends(ended.message, "x: the reason");
    assert_ends(
        sql_text(in_scratch("queue"), "SELECT substr(cause, -200) FROM jobs"),
        "x: the reason");
    ck_assert_int_eq(rota_close(queue), ROTA_OK);
    assert_ends(logged, "x: the news");
}
END_TEST

START_TEST(a_refusal_keeps_its_end_whatever_the_key)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("kind");
    struct rota *queue;
    char *key = long_name(255);
    int64_t id;

    ck_assert_int_eq(rota_open(in_scratch("queue"), NULL, &queue), ROTA_OK);
    submission.unique_key = key;
    ck_assert_int_eq(rota_submit(queue, &submission, &id), ROTA_OK);
    ck_assert_int_eq(rota_submit(queue, &submission, &id), ROTA_EXISTS);
    assert_ends(rota_errmsg(queue), "x and has not ended");
    ck_assert_int_eq(rota_close(queue), ROTA_OK);
    free(key);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("text");
    TCase *cuts = case_new(suite, "cuts"), *uses = case_new(suite, "uses");
    const int n = sizeof(ways) / sizeof(ways[0]);

    tcase_add_loop_test(cuts, what_fits_is_whole, 0, n);
    tcase_add_loop_test(cuts, what_does_not_fit_loses_its_middle, 0, n);
    tcase_add_loop_test(cuts, a_cut_goes_between_characters, 0, n);
    tcase_add_loop_test(cuts, what_is_no_text_is_cut_to_its_size_too, 0, n);
    tcase_add_checked_fixture(uses, scratch_make, scratch_remove);
    tcase_add_test(uses,
                   a_message_keeps_its_reason_whatever_name_it_begins_with);
    tcase_add_test(uses, a_file_that_cannot_be_opened_is_said_to_be_why);
    tcase_add_test(uses, a_failure_and_a_log_line_keep_their_ends);
    tcase_add_test(uses, a_refusal_keeps_its_end_whatever_the_key);
    return suite_run(suite);
}
