#define _GNU_SOURCE
#include "scenes.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#include "scratch.h"

/* -- What files there are -------------------------------------------------- */

static void
set_batch(void)
{
    struct rota_submission s = of_kind("k");

    s.batch = "b";
    for (int i = 0; i < 4; i++)
        (void)submit_as(&s);
    (void)submit();
}

static void
set_ended(void)
{
    set_batch();
    body = first_is_fatal;
    (void)submit_behind(1);
    step_until_none();
    body = succeeds;
}

static void
set_no_file(void)
{
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
    for (int i = 0; i < 2; i++)
        (void)unlink(in_scratch(i == 0 ? "queue.db" : "queue.db-wal"));
}

static void
set_version_1(void)
{
    set_no_file();
    scratch_make_version(queue, 1);
}

static void
set_paused(void)
{
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
}

/* -- What is asked while the world refuses --------------------------------- */

static enum rota_error
act_submit_many(void)
{
    static const char *const names[] = {"x", "y", "z"};
    struct rota_submission s[20];

    for (int i = 0; i < 20; i++) {
        s[i] = of_kind("k");
        s[i].queue = names[i % 3];
        s[i].batch = names[i / 7];
    }
    return rota_submit_many(rota, s, 20, NULL);
}

static enum rota_error
act_submit_tied(void)
{
    static const int64_t first = 1;
    struct rota_submission s = of_kind("k");

    s.unique_key = "u";
    s.limit_key = "l";
    s.after = &first;
    s.n_after = 1;
    s.parent = 1;
    s.deadline = START + 100 * HOUR;
    return rota_submit(rota, &s, NULL);
}

/* The second is refused for its key, and the first with it. */
static enum rota_error
act_submit_taken(void)
{
    struct rota_submission s[] = {of_kind("new"), of_kind("k")};
    int64_t ids[2] = {0};
    enum rota_error error;

    s[0].queue = s[0].batch = "new";
    s[1].unique_key = "b";
    error = rota_submit_many(rota, s, 2, ids);
    was_lied_to |= error == ROTA_OK || (error == ROTA_EXISTS && ids[0] != 2);
    return error == ROTA_EXISTS ? ROTA_OK : error;
}

static enum rota_error
act_cancel(void)
{
    enum rota_cancel_answer answer = ROTA_CANCEL_AGAIN;
    enum rota_error error = rota_cancel(rota, 1, "no more", &answer);

    was_lied_to |= error == ROTA_OK && answer != ROTA_CANCEL_DONE;
    return error;
}

static enum rota_error
act_cancel_where(void)
{
    int64_t counts[ROTA_CANCEL_TOO_LATE + 1];
    enum rota_error error =
        rota_cancel_where(patience, rota, "batch = 'b'", NULL, 0, NULL, counts);

    was_lied_to |= counts[ROTA_CANCEL_DONE] != (error == ROTA_OK ? 4 : 0);
    return error;
}

static enum rota_error
act_retry(void)
{
    return rota_retry(rota, 1, true);
}

static enum rota_error
act_reschedule(void)
{
    static const int64_t later = START + HOUR, priority = 3;

    return rota_reschedule(rota, 1, &priority, &later);
}

enum rota_error
act_pause(void)
{
    return rota_pause(rota, "default");
}

enum rota_error
act_resume(void)
{
    return rota_resume(rota, "default");
}

static enum rota_error
act_limit_queue(void)
{
    return rota_limit_queue(rota, "new", 3);
}

static enum rota_error
act_limit_key(void)
{
    return rota_limit_key(rota, "a", 3);
}

static enum rota_error
act_retain(void)
{
    return rota_retain(rota, "new", ROTA_SEC(5));
}

static enum rota_error
act_prune(void)
{
    int64_t count = -1;
    enum rota_error error =
        rota_prune(patience, rota, "state = 'succeeded'", NULL, 0, &count);

    was_lied_to |= count != (error == ROTA_OK ? 4 : 0);
    return error;
}

static enum rota_error
act_rescue(void)
{
    return rota_rescue(rota);
}

static enum rota_error
act_wait(void)
{
    struct rota_outcome seen = ROTA_OUTCOME_INIT;
    enum rota_error error = rota_wait(patience, rota, 1, &seen);

    was_lied_to |= error == ROTA_OK &&
                   (seen.state != ROTA_JOB_FAILED || seen.error != ROTA_FATAL ||
                    strcmp(seen.message, rota_strerror(ROTA_FATAL)) != 0);
    return error;
}

static enum rota_error
act_open(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    options.clock = says_now;
    options.workers = 2;
    return rota_open(queue, &options, &rota);
}

/* -- With workers ---------------------------------------------------------- */

static enum rota_error
act_start_queue(void)
{
    return rota_start_queue(NULL, rota, "own");
}

/* A start that failed keeps nobody out: neither others nor itself. */
static void
end_start_queue(enum rota_error answer)
{
    struct rota_submission s = of_kind("k");

    if (answer != ROTA_OK) {
        open_other();
        ck_assert_msg(rota_start_queue(NULL, other, "own") == ROTA_OK, "%s",
                      rota_errmsg(other));
        close_other();
        ck_assert_msg(act_start_queue() == ROTA_OK, "%s", rota_errmsg(rota));
    }
    s.queue = "own";
    wait_for(submit_as(&s));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}

/* -- All of them ----------------------------------------------------------- */

#define LIMITS                                         \
    "SELECT queue, max_running, retain_ms FROM queues" \
    " WHERE queue = 'new'"
#define PAUSED "SELECT paused FROM queues WHERE queue = 'default'"

const struct scene call_scenes[] = {
    {.name = "submit",
     .set = set_nothing,
     .act = act_submit,
     .query = STATES,
     .before = "NULL",
     .after = "ready"},
    {.name = "submit many",
     .set = set_nothing,
     .act = act_submit_many,
     .query = "SELECT count(*), count(batch) FROM jobs",
     .before = "0|0",
     .after = "20|20"},
    {.name = "submit with ties",
     .set = set_one,
     .act = act_submit_tied,
     .query = "SELECT count(*), (SELECT count(*) FROM _unique),"
              " (SELECT count(*) FROM _deadline), (SELECT count(*) FROM _dep) "
              "FROM jobs",
     .before = "1|0|0|0",
     .after = "2|1|1|1"},
    {.name = "submit with a key that is taken",
     .set = set_key,
     .act = act_submit_taken,
     .query = "SELECT count(*), (SELECT count(*) FROM _batch) FROM jobs",
     .before = "3|0",
     .after = "3|0",
     .in_the_end = "3|0"},
    {.name = "cancel",
     .set = set_family,
     .act = act_cancel,
     .query = STATES,
     .before = "ready,ready,blocked,blocked",
     .after = "cancelled,cancelled,cancelled,cancelled"},
    {.name = "cancel many",
     .set = set_batch,
     .act = act_cancel_where,
     .query = STATES,
     .before = "ready,ready,ready,ready,ready",
     .after = "cancelled,cancelled,cancelled,cancelled,ready"},
    {.name = "retry",
     .set = set_ended,
     .act = act_retry,
     .query = STATES,
     .before = "failed,succeeded,succeeded,succeeded,succeeded,cancelled",
     .after = "ready,succeeded,succeeded,succeeded,succeeded,blocked"},
    {.name = "reschedule",
     .set = set_one,
     .act = act_reschedule,
     .query = "SELECT state, priority FROM jobs",
     .before = "ready|0",
     .after = "scheduled|3"},
    {.name = "pause",
     .set = set_one,
     .act = act_pause,
     .query = PAUSED,
     .before = "0",
     .after = "1"},
    {.name = "resume",
     .set = set_paused,
     .act = act_resume,
     .query = PAUSED,
     .before = "1",
     .after = "0"},
    {.name = "limit a queue",
     .set = set_nothing,
     .act = act_limit_queue,
     .query = LIMITS,
     .before = "",
     .after = "new|3|NULL"},
    {.name = "limit a key",
     .set = set_nothing,
     .act = act_limit_key,
     .query = "SELECT max_running FROM _limit",
     .before = "",
     .after = "3"},
    {.name = "retain",
     .set = set_nothing,
     .act = act_retain,
     .query = LIMITS,
     .before = "",
     .after = "new|NULL|5000"},
    {.name = "prune",
     .set = set_ended,
     .act = act_prune,
     .query = STATES,
     .before = "failed,succeeded,succeeded,succeeded,succeeded,cancelled",
     .after = "failed,cancelled"},
    {.name = "rescue",
     .set = set_orphan,
     .act = act_rescue,
     .query = "SELECT state, crashes, done FROM jobs",
     .before = "running|0|3",
     .after = "ready|1|3",
     .in_the_end = "succeeded|1|3"},
    {.name = "wait",
     .set = set_ended,
     .act = act_wait,
     .query = STATES,
     .before = "failed,succeeded,succeeded,succeeded,succeeded,cancelled",
     .after = "failed,succeeded,succeeded,succeeded,succeeded,cancelled"},
    {.name = "open",
     .set = set_one,
     .act = act_open,
     .query = STATES,
     .before = "ready",
     .after = "ready",
     .in_the_end = "succeeded",
     .is_unopened = true},
    {.name = "open what somebody left in the log",
     .set = set_orphan,
     .act = act_open,
     .query = STATES,
     .before = "running",
     .after = "running",
     .in_the_end = "succeeded",
     .is_unopened = true},
    {.name = "make a file",
     .set = set_no_file,
     .act = act_open,
     .is_unopened = true},
    {.name = "bring a file up to date",
     .set = set_version_1,
     .act = act_open,
     .query = STATES,
     .before = "succeeded,failed,ready,scheduled,ready,cancelled,ready,running",
     .after = "succeeded,failed,ready,scheduled,ready,cancelled,ready,running",
     .in_the_end = "succeeded,failed,succeeded,scheduled,ready,cancelled,"
                   "succeeded,ready",
     .is_unopened = true},
    {.name = "start on a queue",
     .set = set_nothing,
     .act = act_start_queue,
     .end = end_start_queue,
     .is_slow = true},
};
const int n_call_scenes = (int)(sizeof(call_scenes) / sizeof(call_scenes[0]));
