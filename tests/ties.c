#include "ties.h"

#include <check.h>
#include <string.h>

#include "stage.h"

int
step_all(void)
{
    int n = 0;

    while (step() != 0)
        n++;
    return n;
}

enum rota_error
fails_if_told(struct ctx *ctx, struct rota_job *job)
{
    const char *args = rota_job_args(job, NULL);

    (void)ctx;
    atomic_fetch_add(&act.runs, 1);
    if (strncmp(args, "fail", 4) == 0 && act.number == 0)
        return rota_job_fail(job, ROTA_FATAL, "broken");
    return ROTA_OK;
}

struct rota_submission
submission_of(const char *args)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.args = args;
    submission.args_size = args == NULL ? 0 : strlen(args);
    return submission;
}

int64_t
submit_text(const char *args)
{
    struct rota_submission submission = submission_of(args);

    return submit_as(&submission);
}

int64_t
submit_after(int64_t a, int64_t b)
{
    struct rota_submission submission = submission_of(NULL);
    int64_t after[] = {a, b};

    submission.after = after;
    submission.n_after = b == 0 ? 1 : 2;
    return submit_as(&submission);
}

int64_t
submit_child(int64_t parent)
{
    struct rota_submission submission = submission_of(NULL);

    submission.parent = parent;
    return submit_as(&submission);
}

void
submit_limited(int n, const char *key, const char *name)
{
    struct rota_submission submission = submission_of(NULL);

    submission.limit_key = key;
    submission.queue = name;
    for (int i = 0; i < n; i++)
        (void)submit_as(&submission);
}

void
assert_says(int64_t id, const char *columns, const char *expected)
{
    ck_assert_str_eq(job_says(id, columns), expected);
}
