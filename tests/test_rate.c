/*
 * How fast items are done, and how long the rest takes (rate.h): right within a
 * fifth, for items of every length and however many at a time. The clock is
 * made up. One thread.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include <rota/ctx.h>

#include "cli/rate.h"
#include "support.h"

enum { PLACES = 64 };

/* A batch: items of some lengths, so many at a time, looked at as the command
 * looks. */
struct batch {
    size_t at_a_time;
    int items;
    double (*length)(int item, double now); /* in seconds */
    double blind; /* until when nothing need be known */
    double slack; /* seconds by which the last items may be mistaken */
};

static double
half_a_millisecond(int item, double now)
{
    (void)item, (void)now;
    return 0.0005;
}

static double
three_seconds(int item, double now)
{
    (void)item, (void)now;
    return 3;
}

static double
a_minute(int item, double now)
{
    (void)item, (void)now;
    return 60;
}

/* From 1 to 5 seconds, in no order. */
static double
some_seconds(int item, double now)
{
    (void)now;
    return 1 + 4 * (double)(item * 7919 % 1009) / 1009;
}

/* Each takes twice as long from the hundredth second on. */
static double
slower(int item, double now)
{
    (void)item;
    return now < 100 ? 0.02 : 0.04;
}

static const struct batch batches[] = {{8, 40000, half_a_millisecond, 0.3, 0.1},
                                       {1, 8000, half_a_millisecond, 0.3, 0.1},
                                       {8, 80, three_seconds, 3.2, 0.1},
                                       {8, 83, three_seconds, 3.2, 0.1},
                                       {1, 10, three_seconds, 3.2, 0.1},
                                       {64, 640, three_seconds, 3.2, 0.1},
                                       {8, 80, a_minute, 60.2, 0.1},
                                       {8, 800, some_seconds, 20, 4},
                                       {1, 300, some_seconds, 60, 4}};

struct run {
    const struct batch *batch;
    struct rate rate;
    int64_t ages[PLACES];
    double began[PLACES], ends[PLACES]; /* below 0: free */
    int next, done;
    double now, spent;
};

/* Let everything happen until then. */
static void
go_on(struct run *run, double until)
{
    for (;;) {
        size_t first = 0;

        for (size_t i = 0; i < run->batch->at_a_time; i++)
            if (run->ends[i] < run->ends[first])
                first = i;
        if (run->ends[first] > until)
            break;
        run->now = run->ends[first];
        if (run->began[first] >= 0) {
            run->done++;
            run->spent += run->ends[first] - run->began[first];
        }
        run->began[first] = -1;
        run->ends[first] = INFINITY;
        if (run->next == run->batch->items)
            continue;
        run->began[first] = run->now;
        run->ends[first] = run->now + run->batch->length(run->next++, run->now);
    }
    run->now = until;
}

static int64_t
nanoseconds(double time)
{
    return (int64_t)(time * 1e9);
}

static size_t
ages_of(struct run *run)
{
    size_t n = 0;

    for (size_t i = 0; i < run->batch->at_a_time; i++)
        if (run->began[i] >= 0)
            run->ages[n++] = nanoseconds(run->now - run->began[i]);
    return n;
}

static size_t
look(struct run *run)
{
    size_t n = ages_of(run);
    struct rate_look look = {.at = nanoseconds(run->now),
                             .done = run->done,
                             .runs = run->done,
                             .spent = nanoseconds(run->spent),
                             .ages = run->ages,
                             .n = n};

    rate_note(&run->rate, &look);
    return n;
}

static void
begin(struct run *run, const struct batch *batch)
{
    *run = (struct run){.batch = batch};
    for (size_t i = 0; i < PLACES; i++)
        run->began[i] = -1;
    rate_begin(&run->rate, 0, 0);
}

/* When all of a batch has ended. */
static double
end_of(const struct batch *batch)
{
    struct run run;
    double end = 0;

    begin(&run, batch);
    while (run.done < batch->items) {
        end = INFINITY;
        for (size_t i = 0; i < batch->at_a_time; i++)
            end = fmin(end, run.ends[i]);
        go_on(&run, end);
    }
    return end;
}

static double
left_of(struct run *run, size_t n)
{
    return rate_left(&run->rate, run->batch->items - run->done - (int64_t)n,
                     run->batch->at_a_time, run->ages, n);
}

START_TEST(rate_and_time_left_are_right_within_a_fifth_after_two_seconds)
{
    const struct batch *batch = &batches[_i];
    double end = end_of(batch), mean = batch->items / end;
    struct run run;

    begin(&run, batch);
    for (double now = 0; now < end - 0.2; now += 0.1) {
        double left;
        size_t n;

        go_on(&run, now);
        n = look(&run);
        if (now < 2 || now < batch->blind)
            continue;
        left = left_of(&run, n);
        ck_assert_msg(fabs(rate_of(&run.rate) / mean - 1) < 0.2,
                      "at %.1f: %f a second and not %f", now,
                      rate_of(&run.rate), mean);
        ck_assert_msg(fabs(left - (end - now)) <
                          0.2 * (end - now) + batch->slack,
                      "at %.1f: %.1f s left, not %.1f", now, left, end - now);
    }
}
END_TEST

START_TEST(as_long_as_nothing_has_ended_nothing_is_known)
{
    const struct batch batch = {8, 80, a_minute, 0, 0};
    struct run run;

    begin(&run, &batch);
    for (double now = 0; now < 59; now += 1) {
        go_on(&run, now);
        ck_assert(left_of(&run, look(&run)) < 0);
        ck_assert(rate_of(&run.rate) < 0);
    }
}
END_TEST

START_TEST(what_becomes_slower_is_seen_to)
{
    const struct batch batch = {4, 40000, slower, 0, 0};
    struct run run;

    begin(&run, &batch);
    for (double now = 0; now < 130; now += 0.1) {
        go_on(&run, now);
        (void)look(&run);
        if (now > 98 && now < 100)
            ck_assert(fabs(rate_of(&run.rate) / 200 - 1) < 0.05);
    }
    ck_assert(fabs(rate_of(&run.rate) / 100 - 1) < 0.1);
}
END_TEST

/* As a file of rows is, whose count is in the file once a second. */
START_TEST(what_is_counted_in_leaps_is_measured_over_them)
{
    struct rate rate;
    int64_t begun = ROTA_SEC(1000);

    rate_begin(&rate, begun, 500000);
    for (int second = 1; second < 20; second++) {
        struct rate_look at = {.at = begun + ROTA_SEC(second),
                               .done = 500000 + 120000 * second};

        rate_note(&rate, &at);
        ck_assert(fabs(rate_of(&rate) / 120000 - 1) < 0.01);
    }
}
END_TEST

START_TEST(the_last_ones_take_what_they_have_left)
{
    const int64_t ages[] = {ROTA_SEC(1), ROTA_SEC(2)};
    struct rate rate;
    struct rate_look look = {.at = ROTA_SEC(30), .done = 20};

    rate_begin(&rate, 0, 0);
    rate_note(&rate, &look); /* two at a time: 3 seconds each */
    ck_assert_double_eq_tol(rate_left(&rate, 0, 2, ages, 2), 2, 1e-6);
    ck_assert_double_eq_tol(rate_left(&rate, 1, 2, ages, 2), 4, 1e-6);
    ck_assert_double_eq_tol(rate_left(&rate, 2, 2, ages, 2), 5, 1e-6);
    ck_assert_double_eq_tol(rate_left(&rate, 0, 2, ages, 1), 2, 1e-6);
    ck_assert_double_eq_tol(rate_left(&rate, 1, 2, ages + 1, 1), 3, 1e-6);
    ck_assert(rate_left(&rate, 0, 2, NULL, 0) < 0);
    ck_assert(rate_left(&rate, -3, 2, ages, 2) > 0);
    ck_assert(rate_left(&rate, 5, 0, NULL, 0) < 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("rate");
    TCase *tcase = case_new(suite, "rate");

    tcase_add_loop_test(
        tcase, rate_and_time_left_are_right_within_a_fifth_after_two_seconds, 0,
        (int)(sizeof(batches) / sizeof(batches[0])));
    tcase_add_test(tcase, as_long_as_nothing_has_ended_nothing_is_known);
    tcase_add_test(tcase, what_becomes_slower_is_seen_to);
    tcase_add_test(tcase, what_is_counted_in_leaps_is_measured_over_them);
    tcase_add_test(tcase, the_last_ones_take_what_they_have_left);
    return suite_run(suite);
}
