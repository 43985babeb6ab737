/*
 * The order in which `each -k` prints (cli/spool.h). A job can begin and end
 * before who submits it knows its id, and nothing of that moment may depend on
 * which is first: so here the ends come before they are expected, and after.
 *
 * One thread makes the calls of all three.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "cli/spool.h"
#include "support.h"

static struct spool spool;

static void
begin(void)
{
    spool_init(&spool, true);
}

static void
end(void)
{
    spool_fini(&spool);
}

static void
expect(int64_t first, int64_t last)
{
    for (int64_t id = first; id <= last; id++)
        spool_expect(&spool, &id, 1);
}

/* A job has written its number, and led there. */
static void
ends(int64_t job, enum rota_state state)
{
    struct written *written = written_new(job);
    char text[8];

    ck_assert_ptr_nonnull(written);
    (void)snprintf(text, sizeof(text), "%d", (int)job);
    written_add(written, 1, text, strlen(text));
    spool_keep(&spool, written);
    spool_settle(&spool, job, state);
}

/* Those whose turn it is by now. */
static const char *
printed(bool is_last)
{
    static char ids[64];
    struct written *written;
    size_t used = 0;

    ids[0] = '\0';
    while ((written = spool_next(&spool, is_last)) != NULL) {
        used += (size_t)snprintf(ids + used, sizeof(ids) - used, " %d%s",
                                 (int)written->job,
                                 written->state < ROTA_SUCCEEDED ? "?" : "");
        written_free(written);
    }
    return ids;
}

START_TEST(what_ends_before_it_is_expected_waits_until_it_is)
{
    ends(2, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), "");
    expect(1, 3);
    ck_assert_str_eq(printed(false), "");
    ends(3, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), "");
    ends(1, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), " 1 2 3");
}
END_TEST

START_TEST(the_first_to_be_expected_later_waits_for_that_too)
{
    expect(1, 1);
    ends(1, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), " 1");
    ends(3, ROTA_SUCCEEDED);
    ends(2, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), "");
    expect(2, 3);
    ck_assert_str_eq(printed(false), " 2 3");
}
END_TEST

START_TEST(once_all_is_expected_nothing_waits_for_what_nobody_gave)
{
    ends(7, ROTA_SUCCEEDED);
    expect(1, 2);
    ends(1, ROTA_JOB_FAILED);
    ck_assert_str_eq(printed(false), " 1");
    spool_expect_no_more(&spool);
    ck_assert_str_eq(printed(false), "");
    ends(2, ROTA_CANCELLED);
    ck_assert_str_eq(printed(false), " 2 7");
}
END_TEST

START_TEST(a_run_that_is_to_be_repeated_is_in_nobodys_way)
{
    ends(2, ROTA_SCHEDULED);
    ends(1, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), " 2?");
    expect(1, 2);
    ck_assert_str_eq(printed(false), " 1");
    ends(2, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(false), " 2");
    ends(1, ROTA_SUCCEEDED); /* retried by hand: its turn is over */
    ck_assert_str_eq(printed(false), " 1");
}
END_TEST

START_TEST(at_the_end_what_was_never_expected_is_printed_in_order)
{
    ends(3, ROTA_SUCCEEDED);
    ends(2, ROTA_SUCCEEDED);
    ck_assert_str_eq(printed(true), " 2 3");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("spool");
    TCase *t = case_new(suite, "order");

    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, what_ends_before_it_is_expected_waits_until_it_is);
    tcase_add_test(t, the_first_to_be_expected_later_waits_for_that_too);
    tcase_add_test(t, once_all_is_expected_nothing_waits_for_what_nobody_gave);
    tcase_add_test(t, a_run_that_is_to_be_repeated_is_in_nobodys_way);
    tcase_add_test(t, at_the_end_what_was_never_expected_is_printed_in_order);
    return suite_run(suite);
}
