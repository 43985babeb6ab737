/* See value.h. */
#define _GNU_SOURCE /* strptime, timegm */
#include "cli/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/say.h"

int
value_number(const char *option, const char *text, int64_t min, int64_t max,
             int64_t *ret_number)
{
    char *end;
    long long number;

    errno = 0;
    number = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0 || number < min ||
        number > max)
        return say_usage("--%s %s: a number from %lld to %lld is needed",
                         option, text, (long long)min, (long long)max);
    *ret_number = number;
    return CLI_OK;
}

int
value_duration(const char *option, const char *text, int64_t *ret_duration)
{
    static const struct {
        const char *name;
        int64_t unit;
    } units[] = {{"ms", ROTA_MS(1)},     {"s", ROTA_SEC(1)},
                 {"m", ROTA_SEC(60)},    {"h", ROTA_SEC(3600)},
                 {"d", ROTA_SEC(86400)}, {"", ROTA_SEC(1)}};
    const int64_t max = ROTA_SEC(86400) * 36500;
    int64_t duration = 0;
    const char *at = text;

    do {
        char *end;
        size_t n, i = 0;
        long long number;

        errno = 0;
        number = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : -1;
        if (number < 0 || errno != 0)
            goto out;
        n = strcspn(end, "0123456789");
        while (i < 6 && !(strlen(units[i].name) == n &&
                          strncmp(units[i].name, end, n) == 0))
            i++;
        if (i == 6 || number > (max - duration) / units[i].unit)
            goto out;
        duration += number * units[i].unit;
        at = end + n;
    } while (*at != '\0');
    *ret_duration = duration;
    return CLI_OK;
out:
    return say_usage("--%s %s: a time like 250ms, 30s, 5m, 1h30m or 2d is "
                     "needed",
                     option, text);
}

/* mktime() takes February 30 for March 2. */
static bool
is_day(int year, int month, int day)
{
    struct tm tm = {.tm_year = year, .tm_mon = month, .tm_mday = day};

    return timegm(&tm) != -1 && tm.tm_mon == month && tm.tm_mday == day;
}

/* The next time that the clock shows hh:mm. */
static time_t
next_clock_time(const struct tm *clock)
{
    time_t now = time(NULL), then;
    struct tm tm;

    (void)localtime_r(&now, &tm);
    tm.tm_hour = clock->tm_hour;
    tm.tm_min = clock->tm_min;
    tm.tm_sec = 0;
    tm.tm_isdst = -1;
    then = mktime(&tm);
    if (then > now)
        return then;
    tm.tm_mday++;
    tm.tm_isdst = -1;
    return mktime(&tm);
}

int
value_time(const char *text, int64_t *ret_unix_ms)
{
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M",
                                          "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M",
                                          "%Y-%m-%d",          "%H:%M"};
    int64_t seconds;

    if (text[0] == '@') {
        if (value_number("at", text + 1, 0, 99999999999, &seconds) != CLI_OK)
            return CLI_USAGE;
        *ret_unix_ms = seconds * 1000;
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct tm tm = {.tm_isdst = -1};
        const char *end = strptime(text, formats[i], &tm);

        if (end != NULL && i < 5 && !is_day(tm.tm_year, tm.tm_mon, tm.tm_mday))
            return say_usage("--at %s: there is no such day", text);
        if (end != NULL && *end == '\0' && i == 5)
            seconds = next_clock_time(&tm);
        else if (end != NULL && *end == '\0')
            seconds = mktime(&tm);
        else if (end != NULL && strcmp(end, "Z") == 0 && i < 5)
            seconds = timegm(&tm);
        else
            continue;
        *ret_unix_ms = seconds * 1000;
        return CLI_OK;
    }
    return say_usage("--at %s: a time like 2026-01-31T14:00, 14:00 or "
                     "@1770000000 is needed",
                     text);
}

int64_t
value_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
value_id(const char *word, int64_t *ret_id)
{
    char *end;
    long long id;

    errno = 0;
    id = strtoll(word, &end, 10);
    if (*word < '0' || *word > '9' || *end != '\0' || errno != 0 || id < 1)
        return say_usage("%s is not a job's id: they are numbers from 1", word);
    *ret_id = id;
    return CLI_OK;
}
