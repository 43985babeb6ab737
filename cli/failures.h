/*
 * Jobs that failed for good, to be listed when all is over. For work.c and
 * each.c; the owner sees to it that one thread at a time adds or says. No lock.
 */
#ifndef FAILURES_H
#define FAILURES_H

#include "cli/cli.h"

struct failures {
    int64_t n;
    int64_t ids[20]; /* the first of them */
};

void failures_add(struct failures *failures, int64_t job);

/* Those of more behind those of failures. */
void failures_append(struct failures *failures, const struct failures *more);

/* Say a line for each: its item, or its number and kind, and why it failed.
 * batch is where the rest may be looked for; NULL: anywhere. */
void failures_say(const struct failures *failures, struct rota *rota,
                  const char *batch);

#endif
