/* See args.h. */
#include "jobs/args.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
    struct rota_job *job;
    json_t *object;
};

/* Numbers are as good as texts: {"group":100} is what people write in SQL. */
static bool
value_to_text(json_t *object, const char *key, json_t *value)
{
    char number[32];

    if (json_is_string(value))
        return true;
    if (!json_is_integer(value))
        return false;
    (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
                   json_integer_value(value));
    return json_object_set_new(object, key, json_string(number)) == 0;
}

static bool
key_is_known(const struct job_key *keys, const char *name)
{
    for (; keys->name != NULL; keys++)
        if (strcmp(keys->name, name) == 0)
            return true;
    return false;
}

static enum rota_error
check(struct rota_job *job, json_t *object, const struct job_key *keys)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, name, value)
    {
        if (!key_is_known(keys, name))
            return rota_job_fail(job, ROTA_FATAL, "unknown argument %s", name);
        if (!value_to_text(object, name, value))
            return rota_job_fail(job, ROTA_FATAL,
                                 "argument %s must be a text or an integer",
                                 name);
    }
    for (; keys->name != NULL; keys++)
        if ((keys->flags & JOB_KEY_REQUIRED) != 0 &&
            json_object_get(object, keys->name) == NULL)
            return rota_job_fail(job, ROTA_FATAL, "argument %s is missing",
                                 keys->name);
    return ROTA_OK;
}

enum rota_error
args_open(struct rota_job *job, const struct job_key *keys,
          struct args **ret_args)
{
    struct args *args = NULL;
    json_t *object = NULL;
    json_error_t json_error;
    enum rota_error error;
    const char *text;
    size_t size;

    text = rota_job_args(job, &size);
    object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_error);
    if (!json_is_object(object)) {
        error = rota_job_fail(
            job, ROTA_FATAL, "the arguments are not a JSON object%s%s",
            object == NULL ? ": " : "", object == NULL ? json_error.text : "");
        goto out;
    }
    error = check(job, object, keys);
    if (error != ROTA_OK)
        goto out;
    error = ROTA_NOMEM;
    args = malloc(sizeof(*args));
    if (args == NULL)
        goto out;
    args->job = job;
    args->object = object;
    object = NULL;
    *ret_args = args;
    error = ROTA_OK;
out:
    json_decref(object);
    return error;
}

void
args_close(struct args *args)
{
    if (args == NULL)
        return;
    json_decref(args->object);
    free(args);
}

const char *
args_text(const struct args *args, const char *key)
{
    return json_string_value(json_object_get(args->object, key));
}

enum rota_error
args_number(const struct args *args, const char *key, int64_t min, int64_t max,
            int64_t fallback, int64_t *ret_number)
{
    const char *text = args_text(args, key);
    char *end;
    long long number;

    if (text == NULL) {
        *ret_number = fallback;
        return ROTA_OK;
    }
    errno = 0;
    number = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0 || number < min ||
        number > max)
        return rota_job_fail(args->job, ROTA_FATAL,
                             "%s=%s: must be a number from %" PRId64
                             " to %" PRId64,
                             key, text, min, max);
    *ret_number = number;
    return ROTA_OK;
}
