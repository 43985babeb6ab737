/*
 * The file, held against the model: what the public views show of each job, and
 * what must be true of the private tables whatever has happened. On a
 * connection of its own. Differences are noted, not asserted: each assertion of
 * Check is a write to a file.
 */
#ifndef STATELOOK_H
#define STATELOOK_H

#include <stdint.h>

struct model;

void statelook_open(const char *file);
void statelook_close(void);

/* Forget every job, limit and pause, and every process but the n alive. */
void statelook_empty(const int64_t *alive, int n);

/* Note how they differ. A time that the model knows roughly it is told. */
void statelook_compare(struct model *model);

/* Note a difference between the store and the model; the first one counts. */
void differ(const char *format, ...) __attribute__((format(printf, 1, 2)));
void same(const char *what, int64_t real, int64_t ideal);

/* What was noted since the last call; NULL: nothing. */
const char *difference(void);

#endif
