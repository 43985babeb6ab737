/*
 * On the stage, jobs of the kind "k" that have to do with one another: how the
 * tests of keys, limits, order and forgetting make and run them.
 */
#ifndef TIES_H
#define TIES_H

#include <stdint.h>

#include <rota/scheduler.h>

/* Run what is ready until nothing is; how many ran. */
int step_all(void);

/* A job. Those whose arguments begin with "fail" fail for good, unless
 * act.number says that they do not any more. */
enum rota_error fails_if_told(struct ctx *ctx, struct rota_job *job);

struct rota_submission submission_of(const char *args);
int64_t submit_text(const char *args);

/* After a, and after b unless that is 0. */
int64_t submit_after(int64_t a, int64_t b);

int64_t submit_child(int64_t parent);

/* n of them, into the queue name, with that key. */
void submit_limited(int n, const char *key, const char *name);

/* What the view jobs says of a job. */
void assert_says(int64_t id, const char *columns, const char *expected);

#endif
