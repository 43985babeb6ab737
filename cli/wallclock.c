/*
 * See wallclock.h. The hard case is a change of the clocks, at which some times
 * are skipped and others come twice. mktime() hides both: it moves a time that
 * is skipped, and picks one of two. So it is not asked. A zone is taken for
 * nothing but what localtime_r() says of a moment, and the moments that show a
 * time are looked for.
 */
#define _GNU_SOURCE /* strptime, timegm, tm_gmtoff */
#include "cli/wallclock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* No clock differs by more from UTC: POSIX allows a TZ of 24:59:59, and summer
 * adds to it. */
#define REACH (26 * 3600)

/* Before whatever can be meant: the first of two is then the next one. */
#define LONG_AGO ((time_t)INT64_MIN / 4)

static bool
shows(time_t time, const struct tm *wanted)
{
    struct tm tm;

    return localtime_r(&time, &tm) != NULL && tm.tm_year == wanted->tm_year &&
           tm.tm_mon == wanted->tm_mon && tm.tm_mday == wanted->tm_mday &&
           tm.tm_hour == wanted->tm_hour && tm.tm_min == wanted->tm_min &&
           tm.tm_sec == wanted->tm_sec;
}

/* The first moment after that one at which the clock shows what is wanted, or
 * else the last. Its difference from UTC is one of those that are in force at
 * about that time: each is tried, the earlier first. False: it never does. */
static bool
find(struct tm wanted, time_t after, time_t *ret_time)
{
    time_t utc = timegm(&wanted); /* which makes 24:00 of it what it is */
    bool is_found = false;

    for (time_t near = utc - REACH; near <= utc + REACH; near += 3600) {
        struct tm tm;
        time_t time;

        if (localtime_r(&near, &tm) == NULL)
            continue;
        time = utc - tm.tm_gmtoff;
        if (!shows(time, &wanted))
            continue;
        *ret_time = time;
        is_found = true;
        if (time > after)
            break;
    }
    return is_found;
}

/* The first moment of a day. Where the clocks are put forward at midnight it is
 * not 00:00. False: the zone has left out the day, as Samoa did when it changed
 * sides of the date line. */
static bool
find_day(struct tm day, time_t *ret_time)
{
    day.tm_sec = 0;
    for (int minute = 0; minute < 24 * 60; minute++) {
        day.tm_hour = minute / 60;
        day.tm_min = minute % 60;
        if (find(day, LONG_AGO, ret_time))
            return true;
    }
    return false;
}

/* The time that clock shows, today if it has not passed and otherwise the next
 * day that there is. A day that skips it is not passed over: who means tonight
 * would be a day late. */
static enum wallclock
find_next(const struct tm *clock, time_t now, time_t *ret_time)
{
    struct tm today, wanted;
    time_t unused;

    (void)localtime_r(&now, &today);
    for (int days = 0; days < 3; days++) {
        wanted = today;
        wanted.tm_mday += days;
        wanted.tm_hour = clock->tm_hour;
        wanted.tm_min = clock->tm_min;
        wanted.tm_sec = 0;
        if (find(wanted, now, ret_time)) {
            if (*ret_time > now)
                return WALLCLOCK_OK;
        } else if ((days > 0 || clock->tm_hour * 60 + clock->tm_min >
                                    today.tm_hour * 60 + today.tm_min) &&
                   find_day(wanted, &unused)) {
            return WALLCLOCK_NO_TIME;
        }
    }
    return WALLCLOCK_NO_TIME;
}

/* timegm() takes February 30 for March 2. */
static bool
is_day(int year, int month, int day)
{
    struct tm tm = {.tm_year = year, .tm_mon = month, .tm_mday = day};

    return timegm(&tm) != -1 && tm.tm_mon == month && tm.tm_mday == day;
}

static enum wallclock
find_dated(struct tm wanted, time_t now, time_t *ret_time)
{
    time_t unused;

    if (find(wanted, now, ret_time))
        return WALLCLOCK_OK;
    return find_day(wanted, &unused) ? WALLCLOCK_NO_TIME : WALLCLOCK_NO_DAY;
}

enum wallclock
wallclock_read(const char *text, time_t now, time_t *ret_time)
{
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M",
                                          "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M",
                                          "%Y-%m-%d",          "%H:%M"};
    enum { DAY = 4, TIME = 5 };

    tzset(); /* which localtime_r() need not call */
    for (int i = 0; i <= TIME; i++) {
        struct tm tm = {.tm_mday = 0};
        const char *end = strptime(text, formats[i], &tm);

        if (end == NULL)
            continue;
        if (i != TIME && !is_day(tm.tm_year, tm.tm_mon, tm.tm_mday))
            return WALLCLOCK_NO_DAY;
        if (i != TIME && strcmp(end, "Z") == 0) {
            *ret_time = timegm(&tm);
            return WALLCLOCK_OK;
        }
        if (*end != '\0')
            continue;
        if (i == TIME)
            return find_next(&tm, now, ret_time);
        if (i == DAY)
            return find_day(tm, ret_time) ? WALLCLOCK_OK : WALLCLOCK_NO_DAY;
        return find_dated(tm, now, ret_time);
    }
    return WALLCLOCK_UNREADABLE;
}
