/* See importing.h. */
#define _GNU_SOURCE
#include "importing.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "jobs/jobs.h"
#include "scratch.h"

struct rota *rota;
struct ctx *run;
struct rota_outcome outcome;
char result[512];

/* -- The stage ----------------------------------------------------------- */

void
open_queue(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.workers = 2;
    options.flags = ROTA_NORMAL;
    ck_assert_int_eq(rota_open(in_scratch("queue.db"), &options, &rota),
                     ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "import", job_import.fn, NULL, NULL),
                     ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "sql", job_sql.fn, NULL, NULL), ROTA_OK);
    ctx_end(run);
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
}

void
importing_setup(void)
{
    scratch_make();
    open_queue();
}

void
importing_teardown(void)
{
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    ctx_end(run);
    scratch_remove();
}

/* -- Jobs ---------------------------------------------------------------- */

/* Arguments for in.csv into out.db, and what else is given. */
const char *
args_with(const char *more)
{
    static char args[1024];

    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"t\"%s%s}",
                   in_scratch("in.csv"), in_scratch("out.db"),
                   more[0] != '\0' ? "," : "", more);
    return args;
}

int64_t
submit(const char *args)
{
    return submit_to("import", args);
}

int64_t
submit_to(const char *kind, const char *args)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT(kind);
    int64_t id = 0;

    submission.args = args;
    submission.args_size = strlen(args);
    ck_assert_int_eq(rota_submit(rota, &submission, &id), ROTA_OK);
    return id;
}

static bool
keep_result(void *arg, int n, const char *const *names,
            const struct rota_value *values)
{
    (void)arg;
    (void)names;
    ck_assert_int_eq(n, 1);
    if (values != NULL)
        (void)snprintf(result, sizeof(result), "%s",
                       values[0].type == ROTA_TEXT ? values[0].data : "");
    return true;
}

/* Wait until the job has ended: outcome and result say how. */
void
wait_for(int64_t id)
{
    struct rota_value param = {.type = ROTA_INTEGER, .integer = id};

    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_wait(ctx_background(), rota, id, &outcome), ROTA_OK);
    ck_assert_int_eq(rota_query(ctx_background(), rota,
                                "SELECT result FROM jobs WHERE id = ?1", &param,
                                1, keep_result, NULL),
                     ROTA_OK);
}

void
import_args(const char *args)
{
    wait_for(submit(args));
}

/* Import text, and more than the usual arguments. */
void
import(const char *text, const char *more)
{
    scratch_write_text("in.csv", text);
    import_args(args_with(more));
}

void
import_file(const char *name, const char *more)
{
    char args[1024];

    (void)snprintf(args, sizeof(args), "{\"file\":\"%s\",\"into\":\"%s\"%s%s}",
                   in_scratch(name), in_scratch("out.db"),
                   more[0] != '\0' ? "," : "", more);
    import_args(args);
}

void
assert_succeeded(void)
{
    ck_assert_msg(outcome.state == ROTA_SUCCEEDED, "%s", outcome.message);
}

void
assert_failed(enum rota_error error, const char *part)
{
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, error);
    ck_assert_msg(strstr(outcome.message, part) != NULL, "%s: %s",
                  outcome.message, part);
    ck_assert_ptr_null(strchr(outcome.message, '\n'));
}

/* -- The target ---------------------------------------------------------- */

const char *
ask(const char *sql)
{
    return sql_text(in_scratch("out.db"), "%s", sql);
}

void
prepare(const char *sql)
{
    sql_run(in_scratch("out.db"), "%s", sql);
}
