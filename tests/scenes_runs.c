#define _GNU_SOURCE
#include "scenes.h"

#include <check.h>

#include "countdown.h"
#include "scratch.h"
#include "vfs.h"

/* -- What files there are -------------------------------------------------- */

static void
set_two_attempts(void)
{
    (void)submit_attempts(2);
}

static void
set_due(void)
{
    struct rota_submission s = of_kind("k");

    s.run_at = START + HOUR;
    (void)submit_as(&s);
    s = of_kind("nobody knows this");
    s.deadline = START + HOUR;
    (void)submit_as(&s);
}

/* -- What jobs do ---------------------------------------------------------- */

static enum rota_error
fails(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_fail(job, ROTA_FAILED, "so it is");
}

static enum rota_error
snoozes_once(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_lease(job) == 1 ? rota_job_snooze(job, ROTA_SEC(90))
                                    : ROTA_OK;
}

/* Of the calls that a job makes, what they answered. */
static enum rota_error asked;

static void
look(enum rota_error error, const char *sql, int64_t expected)
{
    asked = error;
    if (error != ROTA_OK)
        return;
    countdowns_hold(true);
    was_lied_to |= sql_int(queue, "%s", sql) != expected || !vfs_is_synced();
    countdowns_hold(false);
}

static enum rota_error
commits(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    look(rota_job_commit(job, 5), "SELECT cursor FROM _progress", 5);
    return ROTA_OK;
}

static enum rota_error
has_a_child(struct ctx *ctx, struct rota_job *job)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    (void)ctx;
    if (rota_job_id(job) > 1)
        return ROTA_OK;
    rota_job_advance(job, 4);
    s.parent = 1;
    look(rota_submit(rota, &s, NULL), "SELECT count(*) FROM jobs", 2);
    return ROTA_OK;
}

static enum rota_error
cancels_itself(struct ctx *ctx, struct rota_job *job)
{
    look(rota_cancel(rota, rota_job_id(job), "enough", NULL),
         "SELECT cancel_at FROM _running", now);
    return ctx_err(ctx);
}

/* While it runs others with its key are held. */
static enum rota_error
keeps_others_out(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    if (rota_job_id(job) == 1)
        asked = rota_step(NULL, other, NULL);
    return ROTA_OK;
}

static enum rota_error
act_step_an_hour_later(void)
{
    now += HOUR;
    return act_step();
}

/* -- With workers ---------------------------------------------------------- */

static void
begin_next(void)
{
    ck_assert_int_eq(rota_start_job(NULL, rota, 0), ROTA_OK);
}

/* The next job is the one that was acknowledged, not one that somebody else
 * submits in its place, nor one more. */
static void
end_next(enum rota_error answer)
{
    struct rota_submission s = of_kind("k");
    int64_t theirs = 0, mine = 1, more;

    open_other();
    if (answer != ROTA_OK) {
        ck_assert_int_eq(rota_submit(other, &s, &theirs), ROTA_OK);
        mine = submit();
    } else if (!is_without_memory) /* it was claimed as it was submitted */
        ck_assert_int_eq(rota_step(NULL, other, NULL), ROTA_NOTFOUND);
    wait_for(mine);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    more = submit();
    close_other();
    close_queue();
    ck_assert_str_eq(job_says(more, "state"), "ready");
    if (theirs != 0)
        ck_assert_str_eq(job_says(theirs, "state"), "ready");
}

static int64_t ids[4]; /* 0: it was refused */

static void
begin_workers(void)
{
    ck_assert_int_eq(rota_start(NULL, rota), ROTA_OK);
}

/* Long enough for some to come to their end meanwhile. */
static enum rota_error
act_submit_to_workers(void)
{
    struct rota_submission s = of_kind("k");
    struct ctx *a_while = ctx_with_timeout(NULL, ROTA_MS(20));

    for (int i = 0; i < 4; i++) {
        ids[i] = 0;
        (void)!rota_submit(rota, &s, &ids[i]);
    }
    for (int i = 0; i < 4; i++)
        if (ids[i] != 0)
            (void)!rota_wait(a_while, rota, ids[i], NULL);
    ctx_end(a_while);
    return ROTA_OK;
}

static void
end_workers(enum rota_error answer)
{
    (void)answer;
    for (int i = 0; i < 4; i++) {
        if (ids[i] == 0)
            ids[i] = submit();
        wait_for(ids[i]);
        ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
        ck_assert_int_eq(outcome.attempts, 1);
    }
    drain();
    assert_runs_recorded();
}

/* -- All of them ----------------------------------------------------------- */

const struct scene run_scenes[] = {
    {.name = "succeed",
     .set = set_one,
     .body = gets_through,
     .act = act_step,
     .query = "SELECT state, result, done, attempt FROM jobs",
     .after = "succeeded|\"yes\"|10|1",
     .in_the_end = "succeeded|\"yes\"|10|1"},
    {.name = "fail and try again",
     .set = set_two_attempts,
     .body = fails,
     .act = act_step,
     .query = "SELECT state, attempt, error, cause FROM jobs",
     .after = "scheduled|1|NULL|NULL",
     .in_the_end = "failed|2|FAILED|so it is"},
    {.name = "fail for good",
     .set = set_family,
     .body = first_is_fatal,
     .act = act_step,
     .query = STATES,
     .after = "failed,ready,cancelled,cancelled",
     .in_the_end = "failed,succeeded,cancelled,cancelled"},
    {.name = "let others go on",
     .set = set_family,
     .act = act_step,
     .query = STATES,
     .after = "succeeded,ready,ready,blocked",
     .in_the_end = "succeeded,succeeded,succeeded,succeeded"},
    {.name = "snooze",
     .set = set_one,
     .body = snoozes_once,
     .act = act_step,
     .query = "SELECT state, attempt, lease FROM jobs",
     .after = "scheduled|0|1",
     .in_the_end = "succeeded|1|2"},
    {.name = "commit",
     .set = set_one,
     .body = commits,
     .act = act_step,
     .query = "SELECT state, done FROM jobs",
     .after = "succeeded|5",
     .in_the_end = "succeeded|5"},
    {.name = "submit from a job",
     .set = set_one,
     .body = has_a_child,
     .act = act_step,
     .query = "SELECT state, done FROM jobs WHERE id = 1",
     .after = "succeeded|4",
     .in_the_end = "succeeded|4"},
    {.name = "cancel what runs",
     .set = set_one,
     .body = cancels_itself,
     .act = act_step,
     .query = "SELECT state, cause FROM jobs",
     .after = "cancelled|enough",
     .in_the_end = "cancelled|enough"},
    {.name = "hold and release",
     .set = set_key,
     .body = keeps_others_out,
     .act = act_step,
     .query = STATES,
     .after = "succeeded,ready,ready",
     .in_the_end = "succeeded,succeeded,succeeded",
     .begin = open_other},
    {.name = "promote and expire",
     .set = set_due,
     .act = act_step_an_hour_later,
     .query = "SELECT state, error FROM jobs ORDER BY id",
     .after = "succeeded|NULL\nfailed|DEADLINE",
     .in_the_end = "succeeded|NULL\nfailed|DEADLINE"},
    {.name = "rescue and run",
     .set = set_orphan,
     .act = act_step,
     .query = "SELECT state, crashes, done FROM jobs",
     .after = "succeeded|1|3",
     .in_the_end = "succeeded|1|3"},
    {.name = "close",
     .set = set_one,
     .body = gets_through,
     .act = act_step_and_close,
     .query = STATES,
     .after = "succeeded",
     .in_the_end = "succeeded"},
    {.name = "start for the next",
     .set = set_nothing,
     .act = act_submit,
     .begin = begin_next,
     .end = end_next,
     .is_slow = true},
    {.name = "work",
     .set = set_nothing,
     .act = act_submit_to_workers,
     .begin = begin_workers,
     .end = end_workers,
     .is_slow = true},
};
const int n_run_scenes = (int)(sizeof(run_scenes) / sizeof(run_scenes[0]));
