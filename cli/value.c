/* See value.h. */
#define _GNU_SOURCE /* clock_gettime */
#include "cli/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/say.h"
#include "cli/wallclock.h"

/* Times that the file takes, in Unix seconds: what is less looks like another
 * unit, or like a year of two digits. */
#define TIME_MIN INT64_C(100000000)
#define TIME_MAX INT64_C(99999999999)

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
        if (n == 0 && at != text) /* the 30 of 1h30 are no seconds */
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

/* Of the times that have passed, 0 is as good as any. */
static int
check_time(const char *text, int64_t seconds, int64_t *ret_unix_ms)
{
    if (seconds != 0 && (seconds < TIME_MIN || seconds > TIME_MAX))
        return say_usage("--at %s: a time from 1974 to 5138 is needed", text);
    *ret_unix_ms = seconds * 1000;
    return CLI_OK;
}

int
value_time(const char *text, int64_t *ret_unix_ms)
{
    int64_t seconds;
    time_t time = 0;

    if (text[0] == '@') {
        if (value_number("at", text + 1, 0, TIME_MAX, &seconds) != CLI_OK)
            return CLI_USAGE;
        return check_time(text, seconds, ret_unix_ms);
    }
    switch (wallclock_read(text, (time_t)(value_now() / 1000), &time)) {
    case WALLCLOCK_OK:
        return check_time(text, time, ret_unix_ms);
    case WALLCLOCK_NO_DAY:
        return say_usage("--at %s: there is no such day", text);
    case WALLCLOCK_NO_TIME:
        return say_usage("--at %s: there is no such time that day: the clocks "
                         "are put forward past it",
                         text);
    case WALLCLOCK_UNREADABLE:
        break;
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
