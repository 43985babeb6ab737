/*
 * How numbers, times and texts are printed for people: nothing that came from a
 * file may control their terminal, and columns line up whatever the language.
 *
 * Called by all that prints: out.c, say.c, progress.c, the commands. Any
 * thread; no lock, for nothing is kept.
 */
#ifndef FORMAT_H
#define FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum format_style {
    FORMAT_SCREEN, /* for eyes: control characters and broken bytes escaped */
    FORMAT_FIELD   /* the same, and backslashes too: it can be undone */
};

/* Write size bytes of data to out, safely. */
void format_text(FILE *out, const char *data, size_t size,
                 enum format_style style);

/* Write JSON, and spell out those characters in the way of JSON: its value is
 * the same. */
void format_json(FILE *out, const char *text);

/* How many columns of a terminal the text takes. */
int format_width(const char *text);

/* How many bytes of text fit into width columns; *ret_width is what they
 * take. */
size_t format_fit(const char *text, int width, int *ret_width);

/* A number with its thousands apart: 4,123. */
void format_number(char *text, size_t size, int64_t number);

/* A time in one or two units: 41s, 3m12s, 2h05m, 3d. */
void format_duration(char *text, size_t size, double seconds);

/* A moment, Unix milliseconds, in local time: 2026-01-31T14:00:00+01:00. */
void format_time(char *text, size_t size, int64_t unix_ms);

struct format_count {
    int64_t n;
    const char *what;
};

/* "4,111 succeeded, 12 failed": those of n counts that are above 0. "" if none
 * is. */
void format_counts(char *text, size_t size, const struct format_count *counts,
                   size_t n);

#endif
