/* Values of options. All give CLI_OK, or CLI_USAGE after saying what is wrong
 * with the option's. */
#ifndef VALUE_H
#define VALUE_H

#include <stdint.h>

int value_number(const char *option, const char *text, int64_t min, int64_t max,
                 int64_t *ret_number);

/* A duration as people write it, 90, 90s, 1h30m, 250ms, 2d: nanoseconds. */
int value_duration(const char *option, const char *text, int64_t *ret_duration);

/* A point in time, 2026-01-31T14:00, 14:00, @1770000000: Unix milliseconds. */
int value_time(const char *text, int64_t *ret_unix_ms);

#endif
