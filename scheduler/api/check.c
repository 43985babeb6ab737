#include "api/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/abi.h"
#include "base/text.h"
#include "engine/state.h"

/* -- Values --------------------------------------------------------------- */

bool
name_is_valid(const char *name, const char *what)
{
    size_t length = name == NULL ? 0 : strlen(name);

    if (length >= 1 && length <= 255 && text_is_utf8(name, length))
        return true;
    message_set("%s must be a text (UTF-8) of 1 to 255 bytes", what);
    return false;
}

/* One that the queue could not keep would keep it from recording the job's end.
 */
bool
reason_is_valid(const struct rota *rota, const char *reason)
{
    size_t most = store_value_max(rota->store);

    if (reason == NULL || strlen(reason) <= most)
        return true;
    message_set("a reason must not be longer than %zu bytes", most);
    return false;
}

bool
priority_is_valid(int64_t priority)
{
    if (priority >= -1000000 && priority <= 1000000)
        return true;
    message_set("priority must be from -1000000 to 1000000");
    return false;
}

bool
time_is_valid(const struct rota *rota, int64_t time, const char *what)
{
    if (time == 0 || (time >= FIRST_TIME && time <= LAST_TIME) ||
        (time > 0 && time < FIRST_TIME && rota_now(rota) < FIRST_TIME))
        return true;
    message_set("%s must be Unix milliseconds%s", what,
                time > 0 && time < FIRST_TIME ? ", and looks like seconds"
                                              : "");
    return false;
}

bool
limit_is_valid(int64_t max_running)
{
    if (max_running >= 0 && max_running <= 1000000)
        return true;
    message_set("max_running must be from 1 to 1000000, or 0");
    return false;
}

/* -- Options and defaults -------------------------------------------------- */

/* Sizes of each struct that were released and are not the present one. To add a
 * field, add here what the struct was, before the 0, as
 * SIZE_UP_TO(struct rota_options, log_max). */
static const size_t options_sizes[] = {0},
                    defaults_sizes[] = {SIZE_UP_TO(struct rota_defaults, grace),
                                        0},
                    submission_sizes[] = {0}, outcome_sizes[] = {0};

enum rota_error
options_take(struct rota_options *ours, const struct rota_options *given)
{
    if (given == NULL)
        return ROTA_OK;
    if (abi_take(ours, sizeof(*ours), given, options_sizes) &&
        ours->workers >= 0 && ours->log_max >= 0 &&
        (ours->flags &
         ~(unsigned)(ROTA_NORMAL | ROTA_READONLY | ROTA_NOWAIT)) == 0)
        return ROTA_OK;
    message_set("options start as ROTA_OPTIONS_INIT; workers and log_max must "
                "not be negative");
    return ROTA_INVALID;
}

enum rota_error
defaults_take(struct rota_defaults *ours, const struct rota_defaults *given)
{
    if (given == NULL)
        return ROTA_OK;
    if (abi_take(ours, sizeof(*ours), given, defaults_sizes) &&
        ours->max_attempts >= 0 && ours->timeout >= 0 && ours->grace >= 0)
        return ROTA_OK;
    message_set(
        "defaults start as ROTA_DEFAULTS_INIT and must not be negative");
    return ROTA_INVALID;
}

/* -- Submissions ----------------------------------------------------------- */

static bool
texts_are_valid(const struct rota_submission *s)
{
    return name_is_valid(s->kind, "kind") &&
           (s->queue == NULL || name_is_valid(s->queue, "queue")) &&
           (s->batch == NULL || name_is_valid(s->batch, "batch")) &&
           (s->unique_key == NULL ||
            name_is_valid(s->unique_key, "unique_key")) &&
           (s->limit_key == NULL || name_is_valid(s->limit_key, "limit_key"));
}

static bool
arrays_are_valid(const struct rota_submission *s)
{
    if (s->after == NULL && s->n_after > 0)
        message_set("after is missing, but not n_after");
    else if (s->args == NULL && s->args_size > 0)
        message_set("args are missing, but not their size");
    else if (s->args_size > 500000000)
        message_set("args must not be longer than 500,000,000 bytes; put what "
                    "is larger into a file and submit its name");
    else
        return true;
    return false;
}

/* The rules of the SQL command's trigger, said in C. */
static bool
submission_is_valid(const struct rota *rota, const struct rota_submission *s)
{
    if (!texts_are_valid(s) || !arrays_are_valid(s) ||
        !priority_is_valid(s->priority) ||
        !time_is_valid(rota, s->run_at, "run_at") ||
        !time_is_valid(rota, s->deadline, "deadline"))
        return false;
    if (s->timeout >= 0 && s->max_attempts >= 0 && s->max_attempts <= 1000000)
        return true;
    message_set("timeout must not be negative, max_attempts be from 1 to "
                "1000000");
    return false;
}

/* Copies of them, each of our size. NULL and *error if one is no submission. */
static struct rota_submission *
submissions_copy(const struct rota_submission *submissions, size_t n,
                 enum rota_error *error)
{
    struct rota_submission *copy = calloc(n, sizeof(*copy));
    const char *given = (const char *)submissions;

    *error = copy == NULL ? no_memory() : ROTA_OK;
    for (size_t i = 0; copy != NULL && i < n; i++) {
        if (abi_take(&copy[i], sizeof(*copy), given, submission_sizes)) {
            given += submissions->size;
            continue;
        }
        *error = ROTA_INVALID;
        free(copy);
        copy = NULL;
    }
    return copy;
}

static bool
are_ours(const struct rota_submission *submissions, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (submissions[i].size != sizeof(*submissions))
            return false;
    return true;
}

enum rota_error
submissions_take(const struct rota *rota,
                 const struct rota_submission *submissions, size_t n,
                 const struct rota_submission **ret_taken,
                 struct rota_submission **ret_copy)
{
    enum rota_error error = submissions == NULL ? ROTA_INVALID : ROTA_OK;

    *ret_copy = NULL;
    *ret_taken = submissions;
    if (error == ROTA_OK && !are_ours(submissions, n))
        *ret_taken = *ret_copy = submissions_copy(submissions, n, &error);
    if (error == ROTA_INVALID)
        message_set("a submission starts as ROTA_SUBMISSION_INIT(kind)");
    for (size_t i = 0; error == ROTA_OK && i < n; i++)
        if (!submission_is_valid(rota, &(*ret_taken)[i]))
            error = ROTA_INVALID;
    if (error != ROTA_OK) {
        free(*ret_copy);
        *ret_copy = NULL;
    }
    return error;
}

/* -- Outcomes ------------------------------------------------------------- */

/* In 0.1 nobody looked at an outcome's size: a caller who left it 0, or not set
 * at all, has room for what the struct was then. */
void
outcome_give(struct rota_outcome *ret_outcome,
             const struct rota_outcome *outcome)
{
    size_t first = SIZE_UP_TO(struct rota_outcome, message);
    size_t size = sizeof(*outcome);

    if (ret_outcome == NULL)
        return;
    if (!abi_knows(ret_outcome->size, size, outcome_sizes) ||
        ret_outcome->size > 1U << 16)
        size = first;
    memcpy(ret_outcome, outcome, size);
    ret_outcome->size = size;
}
