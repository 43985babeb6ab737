/*
 * Local times, as people write them: a day and a time, a day, or a time of
 * whichever day comes. Which moment is meant depends on the zone of TZ and, for
 * a time without a day, on the present; nothing else is asked, and nothing is
 * kept. One thread.
 */
#ifndef WALLCLOCK_H
#define WALLCLOCK_H

#include <time.h>

enum wallclock {
    WALLCLOCK_OK,
    WALLCLOCK_UNREADABLE,
    WALLCLOCK_NO_DAY, /* February 30, or a day that the zone has left out */
    WALLCLOCK_NO_TIME /* the clocks are put forward past it */
};

/* Read one of these, and give its moment in Unix time:
 *
 *   2026-01-31T14:00  2026-01-31T14:00:30   T may be a space; with a Z behind
 *                                           it, it is UTC
 *   2026-01-31                              that day's first moment
 *   14:00                                   the next that there is
 *
 * A time that the clock shows twice, because it is put back, is the next one
 * that has not passed; the second, if both have. */
enum wallclock wallclock_read(const char *text, time_t now, time_t *ret_time);

#endif
