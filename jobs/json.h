/* Rows and bytes as JSON, for the command and for jobs. Any thread; no lock. */
#ifndef JSON_H
#define JSON_H

#include <jansson.h>
#include <stdio.h>

#include <rota/job.h>
#include <rota/scheduler.h>

/* One row as an object. A value that is no text is in base64, under a name
 * that ends in _b64. NULL without memory. */
json_t *json_row(int n, const char *const *names,
                 const struct rota_value *values);

/* Put size bytes into object in the same way. 0, or -1 without memory. */
int json_put_bytes(json_t *object, const char *name, const char *data,
                   size_t size);

/* Make object the job's result, and let go of it. NULL stands for no memory:
 * ROTA_NOMEM. */
enum rota_error json_result(struct rota_job *job, json_t *object);

/* An object on one line, without its end; malloc'd. NULL without memory. */
char *json_text_of(const json_t *object);

/* Print an object on one line, and end it. 0, or -1. */
int json_print(const json_t *object, FILE *file);

#endif
