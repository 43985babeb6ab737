/*
 * Values of the command line. All that return int give CLI_OK, or CLI_USAGE
 * after saying what is wrong. Called by options.c, and by the commands that
 * take a job's id. One thread; nothing is kept.
 */
#ifndef VALUE_H
#define VALUE_H

#include <stdint.h>

int value_number(const char *option, const char *text, int64_t min, int64_t max,
                 int64_t *ret_number);

/* A duration as people write it, 90, 90s, 1h30m, 250ms, 2d: nanoseconds. */
int value_duration(const char *option, const char *text, int64_t *ret_duration);

/* A point in time, 2026-01-31T14:00, 14:00, @1770000000: Unix milliseconds. */
int value_time(const char *text, int64_t *ret_unix_ms);

/* The present time, in Unix milliseconds likewise. */
int64_t value_now(void);

/* A job's id. */
int value_id(const char *word, int64_t *ret_id);

#endif
