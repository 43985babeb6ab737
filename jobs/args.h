/*
 * A job's arguments: a JSON object of texts, held against the kind's keys. For
 * the kinds import and sql, on the thread that runs the job; no lock.
 */
#ifndef ARGS_H
#define ARGS_H

#include <stdint.h>

#include "jobs/jobs.h"

struct args;

/* Read job's arguments. Unknown keys, missing ones and values that are neither
 * text nor integer fail the job for good, and the code to return comes back. */
enum rota_error args_open(struct rota_job *job, const struct job_key *keys,
                          struct args **ret_args);
void args_close(struct args *args);

/* The value of key; NULL if it was not given. Valid until args_close(). */
const char *args_text(const struct args *args, const char *key);

/* The same as a number from min to max, or fallback. What is no such number
 * fails the job for good. */
enum rota_error args_number(const struct args *args, const char *key,
                            int64_t min, int64_t max, int64_t fallback,
                            int64_t *ret_number);

#endif
