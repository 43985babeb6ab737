#define _GNU_SOURCE
#include "scenes.h"

#include <check.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "countdown.h"
#include "scratch.h"

_Atomic int64_t now;
rota_job_fn *body;
struct rota *other;
struct ctx *patience;
bool was_lied_to, is_without_memory;
struct ran ran = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* -- What jobs do --------------------------------------------------------- */

static enum rota_error
noted(struct ctx *ctx, struct rota_job *job)
{
    lock_take(&ran.lock);
    ran.ids[ran.n] = rota_job_id(job);
    ran.leases[ran.n++] = rota_job_lease(job);
    lock_drop(&ran.lock);
    return body(ctx, job);
}

enum rota_error
succeeds(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx, (void)job;
    return ROTA_OK;
}

enum rota_error
gets_through(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;

    (void)ctx;
    rota_job_total(job, 10);
    rota_job_advance(job, 10);
    countdowns_hold(true); /* it is the job that runs out of memory */
    error = rota_job_result(job, "\"yes\"", 5);
    countdowns_hold(false);
    return error;
}

enum rota_error
first_is_fatal(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_id(job) == 1 ? ROTA_FATAL : ROTA_OK;
}

static enum rota_error
dies(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    _exit(rota_job_commit(job, 3) == ROTA_OK ? 0 : 1);
}

void
assert_runs_recorded(void)
{
    for (int i = 0; i < ran.n; i++)
        ck_assert_int_eq(sql_int(queue,
                                 "SELECT count(*) FROM attempts WHERE job = %jd"
                                 " AND lease = %jd AND outcome <> 'running'",
                                 (intmax_t)ran.ids[i], (intmax_t)ran.leases[i]),
                         1);
    ck_assert(!was_lied_to);
}

/* -- Opening and running --------------------------------------------------- */

int64_t
says_now(void *arg)
{
    (void)arg;
    return now;
}

enum rota_error
try_open(struct rota **ret_rota)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    enum rota_error error;

    options.workers = 2;
    options.clock = says_now;
    error = rota_open(queue, &options, ret_rota);
    if (error == ROTA_OK)
        ck_assert_int_eq(rota_handle(*ret_rota, "k", noted, NULL, NULL),
                         ROTA_OK);
    return error;
}

void
open_other(void)
{
    ck_assert_int_eq(try_open(&other), ROTA_OK);
}

void
close_other(void)
{
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    other = NULL;
}

struct rota_submission
of_kind(const char *kind)
{
    return (struct rota_submission)ROTA_SUBMISSION_INIT(kind);
}

void
step_until_none(void)
{
    int64_t id;
    enum rota_error error;

    do {
        id = 0;
        error = rota_step(NULL, rota, &id);
    } while (error == ROTA_OK);
    ck_assert_msg(error == ROTA_NOTFOUND, "%s", rota_errmsg(rota));
}

/* -- What files there are -------------------------------------------------- */

int64_t
submit_behind(int64_t first)
{
    struct rota_submission s = of_kind("k");

    s.after = &first;
    s.n_after = 1;
    return submit_as(&s);
}

static int64_t
submit_below(int64_t parent)
{
    struct rota_submission s = of_kind("k");

    s.parent = parent;
    return submit_as(&s);
}

void
set_nothing(void)
{
}

void
set_one(void)
{
    (void)submit();
}

void
set_family(void)
{
    (void)submit();
    (void)submit_below(1);
    (void)submit_behind(1);
    (void)submit_behind(3);
}

void
set_key(void)
{
    struct rota_submission s = of_kind("k");

    s.unique_key = s.limit_key = "a";
    (void)submit_as(&s);
    s.unique_key = "b";
    (void)submit_as(&s);
    s.unique_key = "c";
    (void)submit_as(&s);
}

void
set_orphan(void)
{
    int status;
    pid_t pid;

    (void)submit();
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    pid = fork();
    if (pid == 0) {
        body = dies;
        if (try_open(&rota) != ROTA_OK)
            _exit(2);
        _exit(rota_step(NULL, rota, NULL) == ROTA_OK ? 3 : 4);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    rota = NULL;
}

/* -- What is asked, by more than one scene --------------------------------- */

enum rota_error
act_submit(void)
{
    struct rota_submission s = of_kind("k");

    s.args = "{}";
    s.args_size = 2;
    return rota_submit(rota, &s, NULL);
}

enum rota_error
act_step(void)
{
    return rota_step(NULL, rota, NULL);
}

enum rota_error
act_step_and_close(void)
{
    enum rota_error error, stepped = act_step();

    error = rota_close(rota);
    if (error == ROTA_OK)
        rota = NULL;
    return error != ROTA_OK ? error : stepped;
}
