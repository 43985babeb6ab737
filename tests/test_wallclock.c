/*
 * Local times of the command line, around changes of the clocks (wallclock.h).
 * The zones are spelled out, so that none needs to be installed. One thread.
 */
#define _GNU_SOURCE /* timegm, strptime */
#include <check.h>
#include <stdlib.h>
#include <time.h>

#include "cli/wallclock.h"
#include "support.h"

/* Berlin; Lord Howe, by half an hour; Beirut, at midnight; Dublin, whose summer
 * is the standard and whose winter is put back; Havana, where 00:00 comes
 * twice. And an island that leaves out 30 December, and has 9 January twice. */
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define HOWE   "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"
#define BEIRUT "EET-2EEST,M3.5.0/0,M10.5.0/0"
#define DUBLIN "IST-1GMT0,M10.5.0,M3.5.0/1"
#define HAVANA "CST5CDT,M3.2.0/0,M11.1.0/1"
#define ISLAND "<-10>10<+14>-14,J364/0,J10/0"

static const char *const zones[] = {BERLIN, HOWE,   BEIRUT, DUBLIN,
                                    HAVANA, ISLAND, "UTC0"};
enum { ZONES = sizeof(zones) / sizeof(zones[0]) };

static void
move_to(const char *zone)
{
    ck_assert_int_eq(setenv("TZ", zone, 1), 0);
    tzset();
}

/* 2026-03-29T01:00 in UTC. */
static time_t
utc(const char *text)
{
    struct tm tm = {.tm_mday = 0};

    ck_assert_ptr_nonnull(strptime(text, "%Y-%m-%dT%H:%M", &tm));
    return timegm(&tm);
}

struct row {
    const char *zone, *now, *text;
    enum wallclock answer;
    const char *time; /* in UTC, as now is; NULL: none */
};

static void
assert_row(const struct row *row)
{
    time_t time = 0;

    move_to(row->zone);
    ck_assert_msg(wallclock_read(row->text, utc(row->now), &time) ==
                      row->answer,
                  "%s at %s in %s", row->text, row->now, row->zone);
    if (row->time != NULL)
        ck_assert_msg(time == utc(row->time), "%s at %s in %s: %lld", row->text,
                      row->now, row->zone, (long long)time);
}

/* -- A time ---------------------------------------------------------------- */

static const struct row next[] = {
    /* the day before, of, and after the change in spring */
    {BERLIN, "2026-03-27T23:00", "02:30", WALLCLOCK_OK, "2026-03-28T01:30"},
    {BERLIN, "2026-03-29T10:00", "02:30", WALLCLOCK_OK, "2026-03-30T00:30"},
    {BERLIN, "2026-03-29T10:00", "13:00", WALLCLOCK_OK, "2026-03-29T11:00"},
    {BERLIN, "2026-03-28T22:00", "03:00", WALLCLOCK_OK, "2026-03-29T01:00"},
    {BERLIN, "2026-03-28T22:00", "01:59", WALLCLOCK_OK, "2026-03-29T00:59"},
    /* in winter */
    {BERLIN, "2026-10-24T20:00", "03:00", WALLCLOCK_OK, "2026-10-25T02:00"},
    {BERLIN, "2026-10-25T10:00", "02:30", WALLCLOCK_OK, "2026-10-26T01:30"},
    {HOWE, "2026-10-03T20:00", "02:15", WALLCLOCK_OK, "2026-10-04T15:15"},
    {DUBLIN, "2026-03-29T10:00", "01:30", WALLCLOCK_OK, "2026-03-30T00:30"},
    {BEIRUT, "2026-03-29T10:00", "00:30", WALLCLOCK_OK, "2026-03-29T21:30"},
    {HAVANA, "2026-03-08T10:00", "00:30", WALLCLOCK_OK, "2026-03-09T04:30"},
    /* the day that is left out is not the next one */
    {ISLAND, "2027-12-30T09:00", "22:00", WALLCLOCK_OK, "2027-12-31T08:00"},
    /* the very moment has passed */
    {BERLIN, "2026-06-01T10:00", "12:00", WALLCLOCK_OK, "2026-06-02T10:00"},
    {BERLIN, "2026-12-31T22:59", "00:00", WALLCLOCK_OK, "2026-12-31T23:00"},
    {BERLIN, "2038-01-19T03:14", "04:15", WALLCLOCK_OK, "2038-01-19T03:15"}};

START_TEST(a_time_is_the_next_that_the_clock_shows)
{
    assert_row(&next[_i]);
}
END_TEST

static const struct row skipped[] = {
    {BERLIN, "2026-03-28T22:00", "02:30", WALLCLOCK_NO_TIME, NULL},
    {BERLIN, "2026-03-29T00:59", "02:00", WALLCLOCK_NO_TIME, NULL},
    {BERLIN, "2026-01-25T10:00", "2026-03-29T02:30", WALLCLOCK_NO_TIME, NULL},
    {BERLIN, "2026-01-25T10:00", "2050-03-27 02:00:30", WALLCLOCK_NO_TIME,
     NULL},
    {HOWE, "2026-10-03T10:00", "02:15", WALLCLOCK_NO_TIME, NULL},
    {HOWE, "2026-10-03T10:00", "2026-10-04T02:29", WALLCLOCK_NO_TIME, NULL},
    {BEIRUT, "2026-03-28T10:00", "00:00", WALLCLOCK_NO_TIME, NULL},
    {BEIRUT, "2026-03-28T10:00", "2026-03-29T00:59", WALLCLOCK_NO_TIME, NULL},
    {DUBLIN, "2026-03-28T10:00", "2026-03-29T01:30", WALLCLOCK_NO_TIME, NULL}};

START_TEST(a_time_that_the_clocks_are_put_forward_past_is_none)
{
    assert_row(&skipped[_i]);
}
END_TEST

static const struct row twice[] = {
    {BERLIN, "2026-10-24T20:00", "02:30", WALLCLOCK_OK, "2026-10-25T00:30"},
    {BERLIN, "2026-10-25T00:15", "02:30", WALLCLOCK_OK, "2026-10-25T00:30"},
    {BERLIN, "2026-10-25T00:45", "02:30", WALLCLOCK_OK, "2026-10-25T01:30"},
    {BERLIN, "2026-10-25T01:45", "02:30", WALLCLOCK_OK, "2026-10-26T01:30"},
    {BERLIN, "2026-01-01T00:00", "2026-10-25T02:30", WALLCLOCK_OK,
     "2026-10-25T00:30"},
    {BERLIN, "2026-10-25T00:45", "2026-10-25T02:30", WALLCLOCK_OK,
     "2026-10-25T01:30"},
    {BERLIN, "2026-12-01T00:00", "2026-10-25T02:30", WALLCLOCK_OK,
     "2026-10-25T01:30"},
    {HOWE, "2026-04-04T14:50", "01:45", WALLCLOCK_OK, "2026-04-04T15:15"},
    {DUBLIN, "2026-10-24T20:00", "01:30", WALLCLOCK_OK, "2026-10-25T00:30"},
    {DUBLIN, "2026-10-25T00:40", "01:30", WALLCLOCK_OK, "2026-10-25T01:30"},
    {HAVANA, "2026-11-01T04:30", "00:15", WALLCLOCK_OK, "2026-11-01T05:15"},
    {ISLAND, "2027-01-09T00:00", "2027-01-09T12:00", WALLCLOCK_OK,
     "2027-01-09T22:00"}};

START_TEST(a_time_that_comes_twice_is_the_next_that_has_not_passed)
{
    assert_row(&twice[_i]);
}
END_TEST

/* -- A day ----------------------------------------------------------------- */

static const struct row days[] = {{BERLIN, "2026-01-01T00:00", "2026-03-29",
                                   WALLCLOCK_OK, "2026-03-28T23:00"},
                                  {BERLIN, "2026-01-01T00:00", "2038-01-20",
                                   WALLCLOCK_OK, "2038-01-19T23:00"},
                                  {BERLIN, "2026-01-01T00:00", "2900-07-01",
                                   WALLCLOCK_OK, "2900-06-30T22:00"},
                                  {BEIRUT, "2026-01-01T00:00", "2026-03-29",
                                   WALLCLOCK_OK, "2026-03-28T22:00"},
                                  {HAVANA, "2026-11-01T04:30", "2026-11-01",
                                   WALLCLOCK_OK, "2026-11-01T04:00"},
                                  {ISLAND, "2027-01-01T00:00", "2027-12-31",
                                   WALLCLOCK_OK, "2027-12-30T10:00"}};

START_TEST(a_day_is_its_first_moment)
{
    assert_row(&days[_i]);
}
END_TEST

static const struct row no_days[] = {
    {BERLIN, "2026-01-01T00:00", "2027-02-29", WALLCLOCK_NO_DAY, NULL},
    {BERLIN, "2026-01-01T00:00", "2027-04-31T12:00Z", WALLCLOCK_NO_DAY, NULL},
    {ISLAND, "2027-01-01T00:00", "2027-12-30", WALLCLOCK_NO_DAY, NULL},
    {ISLAND, "2027-01-01T00:00", "2027-12-30T12:00", WALLCLOCK_NO_DAY, NULL}};

START_TEST(a_day_that_there_is_not_is_none)
{
    assert_row(&no_days[_i]);
}
END_TEST

/* -- All of them ----------------------------------------------------------- */

/* What a walk through the quarters of an hour after now finds. */
static time_t
walk(time_t now, int hour, int minute)
{
    time_t time = now - now % 900;
    struct tm tm;

    do {
        time += 900;
        (void)localtime_r(&time, &tm);
    } while (tm.tm_hour != hour || tm.tm_min != minute);
    return time;
}

/* From two days before a change of the clocks to two days after it. */
static void
walk_around(time_t change)
{
    for (time_t now = change - 172800; now < change + 172800; now += 15300)
        for (int quarter = 0; quarter < 96; quarter++) {
            char text[16];
            time_t time = 0, walked = walk(now, quarter / 4, quarter % 4 * 15);
            enum wallclock answer;

            (void)snprintf(text, sizeof(text), "%02d:%02d", quarter / 4,
                           quarter % 4 * 15);
            answer = wallclock_read(text, now, &time);
            if (answer == WALLCLOCK_OK)
                ck_assert_int_eq(time, walked);
            else /* who means the next would be a day of 23 hours late */
                ck_assert_int_gt(walked - now, 82800);
        }
}

START_TEST(what_is_found_is_what_a_walk_through_the_hours_finds)
{
    time_t begin = utc("2026-01-05T00:00"), end = utc("2027-01-05T00:00");
    struct tm tm;
    long before;
    int changes = 0;

    move_to(zones[_i]);
    (void)localtime_r(&begin, &tm);
    before = tm.tm_gmtoff;
    for (time_t time = begin; time < end; time += 900) {
        (void)localtime_r(&time, &tm);
        if (tm.tm_gmtoff == before)
            continue;
        before = tm.tm_gmtoff;
        walk_around(time);
        changes++;
    }
    ck_assert_int_eq(changes, _i == ZONES - 1 ? 0 : 2);
    if (changes == 0)
        walk_around(end);
}
END_TEST

/* -- What is no time ------------------------------------------------------- */

START_TEST(what_is_no_time_is_not_read)
{
    static const char *const texts[] = {
        "",       "noon",       "2026",        "25:00",    "12:60", "12:00Z",
        "12:00 ", "2026-13-01", "2026-01-01T", "12:00:00", "-1:00", "Z"};
    time_t time = 7;

    move_to(BERLIN);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert_msg(wallclock_read(texts[i], 0, &time) ==
                          WALLCLOCK_UNREADABLE,
                      "%s", texts[i]);
        ck_assert_int_eq(time, 7);
    }
}
END_TEST

START_TEST(a_z_is_utc_in_every_zone)
{
    time_t time = 0;

    for (int i = 0; i < ZONES; i++) {
        move_to(zones[i]);
        ck_assert_int_eq(wallclock_read("2026-03-29T02:30Z", 0, &time),
                         WALLCLOCK_OK);
        ck_assert_int_eq(time, utc("2026-03-29T02:30"));
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wallclock");
    TCase *times = case_new(suite, "times"), *all = case_new(suite, "days");

#define EACH(name, rows) \
    tcase_add_loop_test(times, name, 0, sizeof(rows) / sizeof((rows)[0]))
    EACH(a_time_is_the_next_that_the_clock_shows, next);
    EACH(a_time_that_the_clocks_are_put_forward_past_is_none, skipped);
    EACH(a_time_that_comes_twice_is_the_next_that_has_not_passed, twice);
    EACH(a_day_is_its_first_moment, days);
    EACH(a_day_that_there_is_not_is_none, no_days);
#undef EACH
    tcase_add_loop_test(
        all, what_is_found_is_what_a_walk_through_the_hours_finds, 0, ZONES);
    tcase_add_test(all, what_is_no_time_is_not_read);
    tcase_add_test(all, a_z_is_utc_in_every_zone);
    return suite_run(suite);
}
