#define _GNU_SOURCE
#include "stage.h"
#include "base/clock.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "scratch.h"
#include "store/ops.h"

struct rota *rota;
struct ctx *run;
struct rota_outcome outcome;
char queue[256];
struct act act;

/* -- The log -------------------------------------------------------------- */

#define LINES_MAX 64

static struct {
    pthread_mutex_t lock;
    size_t n;
    struct {
        int64_t job;
        char text[1280];
    } lines[LINES_MAX];
} logged = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
keep_line(void *arg, int64_t job, const char *line)
{
    (void)arg;
    lock_take(&logged.lock);
    if (logged.n < LINES_MAX) {
        logged.lines[logged.n].job = job;
        (void)snprintf(logged.lines[logged.n].text,
                       sizeof(logged.lines[0].text), "%s", line);
        logged.n++;
    }
    lock_drop(&logged.lock);
}

int
times_logged(int64_t id, const char *part)
{
    int times = 0;

    lock_take(&logged.lock);
    for (size_t i = 0; i < logged.n; i++)
        times += logged.lines[i].job == id &&
                 strstr(logged.lines[i].text, part) != NULL;
    lock_drop(&logged.lock);
    return times;
}

bool
was_logged(int64_t id, const char *part)
{
    return times_logged(id, part) > 0;
}

TCase *
stage_case(Suite *suite, const char *name)
{
    TCase *tcase = case_new(suite, name);

    tcase_add_checked_fixture(tcase, stage_set, stage_clear);
    return tcase;
}

/* -- The scheduler -------------------------------------------------------- */

void
stage_set(void)
{
    scratch_make();
    (void)snprintf(queue, sizeof(queue), "%s", in_scratch("queue.db"));
    act = (struct act){.gate = GATE_INIT};
    logged.n = 0;
}

void
stage_clear(void)
{
    if (rota != NULL)
        close_queue();
    scratch_remove();
}

void
open_as(struct rota_options options)
{
    options.flags = ROTA_NORMAL;
    options.log = keep_line;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
}

void
open_queue(int workers)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.workers = workers;
    open_as(options);
}

void
open_with(int workers, rota_job_fn *fn)
{
    open_queue(workers);
    ck_assert_int_eq(rota_handle(rota, "k", fn, NULL, NULL), ROTA_OK);
}

void
start_workers(void)
{
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
}

void
begin(int workers, rota_job_fn *fn)
{
    open_with(workers, fn);
    start_workers();
}

void
close_queue(void)
{
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
    ctx_end(run);
    run = NULL;
}

static size_t
count_on(const struct link *list)
{
    size_t n = 0;

    lock_take(&rota->lock);
    for (struct link *l = list->next; l != list; l = l->next)
        n++;
    lock_drop(&rota->lock);
    return n;
}

size_t
sleepers(void)
{
    return count_on(&rota->sleepers);
}

size_t
requests(void)
{
    return count_on(&rota->requests);
}

static const struct store_ops *real_ops;

void cycles_by(enum rota_error (*fn)(struct store *store, struct work *work))
{
    static struct store_ops ops;

    real_ops = rota->store->ops;
    ops = *real_ops;
    ops.cycle = fn;
    rota->store->ops = &ops;
}

enum rota_error
cycle_for_real(struct store *store, struct work *work)
{
    return real_ops->cycle(store, work);
}

/* -- What jobs do --------------------------------------------------------- */

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

enum rota_error
at_once(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx, (void)job;
    atomic_fetch_add(&act.runs, 1);
    return act.answer;
}

enum rota_error
held(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    atomic_fetch_add(&act.runs, 1);
    gate_pass(&act.gate);
    lock_take(&seen_lock);
    act.was_done = ctx_done(ctx);
    lock_drop(&seen_lock);
    atomic_fetch_add(&act.ends, 1);
    return act.answer;
}

void
note_end(struct ctx *ctx, struct rota_job *job)
{
    lock_take(&seen_lock);
    act.stop = rota_job_stop_reason(job);
    act.code = ctx_cause_code(ctx);
    act.was_done = ctx_done(ctx);
    (void)snprintf(act.words, sizeof(act.words), "%s", ctx_cause(ctx));
    lock_drop(&seen_lock);
}

enum rota_error
until_stopped(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;

    atomic_fetch_add(&act.runs, 1);
    error = ctx_wait(ctx, ROTA_FOREVER);
    note_end(ctx, job);
    return act.answer != ROTA_OK ? act.answer : error;
}

enum rota_error
in_two_runs(struct ctx *ctx, struct rota_job *job)
{
    act.number = rota_job_cursor(job);
    if (act.number == 0) {
        rota_job_total(job, 10);
        rota_job_advance(job, 4);
        return until_stopped(ctx, job);
    }
    rota_job_advance(job, 10);
    return ROTA_OK;
}

/* -- Jobs ----------------------------------------------------------------- */

int64_t
submit_as(const struct rota_submission *submission)
{
    int64_t id = 0;

    ck_assert_msg(rota_submit(rota, submission, &id) == ROTA_OK, "%s",
                  rota_errmsg(rota));
    return id;
}

int64_t
submit_attempts(int max_attempts)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.max_attempts = max_attempts;
    return submit_as(&submission);
}

int64_t
submit(void)
{
    return submit_attempts(0);
}

int64_t
submit_later(void)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");

    submission.run_at = machine_clock(NULL) + 3600000;
    return submit_as(&submission);
}

int64_t
submit_running(int max_attempts)
{
    int before = atomic_load(&act.runs);
    int64_t id = submit_attempts(max_attempts);

    AWAIT(atomic_load(&act.runs) > before);
    return id;
}

int64_t
submit_claimed(void)
{
    int64_t id;

    do {
        lock_take(&rota->lock);
        rota->prefetch = rota->active; /* until the next flush */
        lock_drop(&rota->lock);
        id = submit();
    } while (strcmp(job_says(id, "lease"), "0") == 0);
    return id;
}

void
hurry(int64_t id)
{
    await_state(id, "scheduled");
    sql_run(queue,
            "BEGIN IMMEDIATE; UPDATE _scheduled SET run_at = 1 WHERE id = %jd;"
            " UPDATE _job SET run_at = 1 WHERE id = %jd; COMMIT",
            (intmax_t)id, (intmax_t)id);
}

void
cancel(int64_t id, const char *reason, enum rota_cancel_answer expected)
{
    enum rota_cancel_answer answer;

    ck_assert_int_eq(rota_cancel(rota, id, reason, &answer), ROTA_OK);
    ck_assert_int_eq(answer, expected);
}

void
wait_for(int64_t id)
{
    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_wait(NULL, rota, id, &outcome), ROTA_OK);
}

void
drain(void)
{
    ck_assert_int_eq(rota_drain(NULL, rota), ROTA_OK);
}

void
assert_outcome(enum rota_state state, enum rota_error error, int attempts,
               const char *message)
{
    ck_assert_str_eq(rota_state_name(outcome.state), rota_state_name(state));
    ck_assert_str_eq(rota_strerror(outcome.error), rota_strerror(error));
    ck_assert_int_eq(outcome.attempts, attempts);
    ck_assert_str_eq(outcome.message, message);
}

const char *
job_says(int64_t id, const char *columns)
{
    return sql_text(queue, "SELECT %s FROM jobs WHERE id = %" PRId64, columns,
                    id);
}

const char *
runs_of(int64_t id)
{
    return sql_text(queue,
                    "SELECT lease, outcome, error, message FROM attempts"
                    " WHERE job = %" PRId64 " ORDER BY lease",
                    id);
}

void
await_state(int64_t id, const char *state)
{
    AWAIT(strcmp(job_says(id, "state"), state) == 0);
}

int64_t
step(void)
{
    int64_t id = 0;
    enum rota_error error = rota_step(NULL, rota, &id);

    ck_assert_int_eq(error, id == 0 ? ROTA_NOTFOUND : ROTA_OK);
    return id;
}
