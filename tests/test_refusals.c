/*
 * The world refuses: the disk is full, a read, a write, a sync or a lock fails,
 * memory is short, at every call that each of rota's own makes, one after
 * another, once or until the test relents. Then what was acknowledged is there,
 * what was refused is not, a job's end is kept until it can be written, no run
 * is recorded twice, and all goes on.
 *
 * Scenes are played on one thread by rota_step(), but for the last ones.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "faults.h"
#include "scratch.h"
#include "stage.h"
#include "vfs.h"

#define START INT64_C(2000000000000)
#define HOUR  INT64_C(3600000)

static _Atomic int64_t now;  /* what the clock says, to the listener too */
static rota_job_fn *body;    /* what jobs do */
static struct rota *other;   /* a second scheduler on the file */
static struct ctx *patience; /* of who waits for locks as long as it lasts */

/* -- What jobs do --------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    int n;
    int64_t ids[64], leases[64];
} ran = {.lock = PTHREAD_MUTEX_INITIALIZER};

static enum rota_error
noted(struct ctx *ctx, struct rota_job *job)
{
    lock_take(&ran.lock);
    ran.ids[ran.n] = rota_job_id(job);
    ran.leases[ran.n++] = rota_job_lease(job);
    lock_drop(&ran.lock);
    return body(ctx, job);
}

static enum rota_error
succeeds(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx, (void)job;
    return ROTA_OK;
}

/* Let the test have what is refused. */
static void
hold(bool held)
{
    refusals_hold(held);
    faults_hold(held);
}

static enum rota_error
gets_through(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;

    (void)ctx;
    rota_job_total(job, 10);
    rota_job_advance(job, 10);
    hold(true); /* it is the job that runs out of memory */
    error = rota_job_result(job, "\"yes\"", 5);
    hold(false);
    return error;
}

static enum rota_error
fails(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_fail(job, ROTA_FAILED, "so it is");
}

static enum rota_error
first_is_fatal(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_id(job) == 1 ? ROTA_FATAL : ROTA_OK;
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

/* Nothing is asserted while memory is short: the checking needs some. */
static bool was_lied_to;

static void
look(enum rota_error error, const char *sql, int64_t expected)
{
    asked = error;
    if (error != ROTA_OK)
        return;
    hold(true);
    was_lied_to |= sql_int(queue, "%s", sql) != expected || !vfs_is_synced();
    hold(false);
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
dies(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    _exit(rota_job_commit(job, 3) == ROTA_OK ? 0 : 1);
}

/* -- Files ---------------------------------------------------------------- */

static const char *const endings[] = {"", "-wal"};
static struct {
    char *data;
    size_t size;
} kept[2];

/* Keep the queue's file as it is, for each play to begin with. */
static void
file_keep(void)
{
    char path[300];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", queue, endings[i]);
        if (access(path, F_OK) == 0)
            kept[i].data = file_read(path, &kept[i].size);
    }
}

static void
file_lay_out(void)
{
    char name[64];

    (void)unlink(in_scratch("queue.db-shm"));
    (void)unlink(in_scratch("queue.db-lock"));
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "queue.db%s", endings[i]);
        if (kept[i].size > 0)
            scratch_write(name, kept[i].data, kept[i].size);
        else
            (void)unlink(in_scratch(name));
    }
}

/* What must hold of every file, whatever was refused. */
static void
assert_sound(void)
{
    static const char places[] =
        "(SELECT id FROM _ready UNION ALL SELECT id FROM _held"
        " UNION ALL SELECT id FROM _scheduled UNION ALL SELECT id FROM _blocked"
        " UNION ALL SELECT id FROM _running UNION ALL SELECT id FROM _done)";

    ck_assert_str_eq(sql_text(queue, "PRAGMA integrity_check"), "ok");
    /* each job is in one place, and each place has its job */
    ck_assert_str_eq(
        sql_text(queue,
                 "SELECT j.id FROM _job j WHERE (SELECT count(*) FROM %s p"
                 " WHERE p.id = j.id) <> 1"
                 " UNION ALL SELECT p.id FROM %s p"
                 " WHERE p.id NOT IN (SELECT id FROM _job)",
                 places, places),
        "");
    ck_assert_str_eq(
        sql_text(queue,
                 /* no run twice, no key of what has ended, no job without its
                  * key, nobody held or blocked without a reason, no id that
                  * could come again, no command left */
                 "SELECT 'run', job FROM attempts GROUP BY job, lease"
                 "  HAVING count(*) > 1"
                 " UNION ALL SELECT 'key', job FROM _unique"
                 "  WHERE job IN (SELECT id FROM _done)"
                 " UNION ALL SELECT 'keyless', id FROM _job"
                 "  WHERE unique_key IS NOT NULL"
                 "  AND unique_key NOT IN (SELECT key FROM _unique)"
                 "  AND id NOT IN (SELECT id FROM _done)"
                 " UNION ALL SELECT 'held', limit_key FROM limits"
                 "  WHERE held > 0 AND running + (SELECT count(*)"
                 "   FROM _ready r JOIN _job j ON j.id = r.id"
                 "   WHERE j.limit_key = limits.limit_key) < max_running"
                 " UNION ALL SELECT 'blocked', id FROM _blocked"
                 "  WHERE id NOT IN (SELECT child FROM _dep WHERE met = 0)"
                 " UNION ALL SELECT 'id', max(id) FROM _job HAVING max(id) >"
                 "  (SELECT seq FROM sqlite_sequence WHERE name = 'submit')"
                 " UNION ALL SELECT 'ended', job FROM _ended"
                 " UNION ALL SELECT 'submit', 0 FROM submit"
                 " UNION ALL SELECT 'cancel', 0 FROM cancel"),
        "");
}

/* Each run of this play is in the file, once. */
static void
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

/* -- Scenes --------------------------------------------------------------- */

struct scene {
    const char *name;
    void (*set)(void);            /* makes the file, with rota open */
    rota_job_fn *body;            /* NULL: they succeed */
    enum rota_error (*act)(void); /* while the world refuses */
    const char *query;
    const char *before; /* what it gives when act is refused; NULL: whatever */
    const char *after;  /* and when it is not; NULL: whatever */
    const char *in_the_end;              /* when all has run; NULL: whatever */
    bool is_unopened;                    /* act opens */
    bool is_slow;                        /* for it waits */
    void (*begin)(void);                 /* NULL, or what comes before act */
    void (*end)(enum rota_error answer); /* and behind it; NULL: step on */
};

#define STATES \
    "SELECT group_concat(state) FROM (SELECT state FROM jobs ORDER BY id)"

static int64_t
says_now(void *arg)
{
    (void)arg;
    return now;
}

static enum rota_error
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

static struct rota_submission
of_kind(const char *kind)
{
    return (struct rota_submission)ROTA_SUBMISSION_INIT(kind);
}

/* One that waits for the job first, with so many attempts and that key. */
static int64_t
submit_after(int64_t first)
{
    struct rota_submission s = of_kind("k");

    s.after = &first;
    s.n_after = 1;
    return submit_as(&s);
}

static int64_t
submit_child(int64_t parent)
{
    struct rota_submission s = of_kind("k");

    s.parent = parent;
    return submit_as(&s);
}

static void
set_nothing(void)
{
}

static void
set_one(void)
{
    (void)submit();
}

static void
set_two_attempts(void)
{
    (void)submit_attempts(2);
}

static void
set_family(void)
{
    (void)submit();
    (void)submit_child(1);
    (void)submit_after(1);
    (void)submit_after(3);
}

static void
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
step_all(void)
{
    int64_t id;
    enum rota_error error;

    do {
        id = 0;
        error = rota_step(NULL, rota, &id);
    } while (error == ROTA_OK);
    ck_assert_msg(error == ROTA_NOTFOUND, "%s", rota_errmsg(rota));
}

static void
set_ended(void)
{
    set_batch();
    body = first_is_fatal;
    (void)submit_after(1);
    step_all();
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

/* Another process dies in its job; what it wrote is still in the log. */
static void
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

/* -- What is asked while the world refuses --------------------------------- */

static enum rota_error
act_submit(void)
{
    struct rota_submission s = of_kind("k");

    s.args = "{}";
    s.args_size = 2;
    return rota_submit(rota, &s, NULL);
}

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
act_step(void)
{
    return rota_step(NULL, rota, NULL);
}

static enum rota_error
act_step_an_hour_later(void)
{
    now += HOUR;
    return act_step();
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

static enum rota_error
act_pause(void)
{
    return rota_pause(rota, "default");
}

static enum rota_error
act_resume(void)
{
    return rota_resume(rota, "default");
}

static void
set_paused(void)
{
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
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

/* Whatever keeps it from closing is told, and it can be closed later. */
static enum rota_error
act_step_and_close(void)
{
    enum rota_error error, stepped = act_step();

    error = rota_close(rota);
    if (error == ROTA_OK)
        rota = NULL;
    return error != ROTA_OK ? error : stepped;
}

static void
open_other(void)
{
    ck_assert_int_eq(try_open(&other), ROTA_OK);
}

static void
close_other(void)
{
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    other = NULL;
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

static bool is_without_memory; /* jobs that it is short for are given back */

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

#define LIMITS                                         \
    "SELECT queue, max_running, retain_ms FROM queues" \
    " WHERE queue = 'new'"
#define PAUSED "SELECT paused FROM queues WHERE queue = 'default'"

static const struct scene scenes[] = {
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
    {.name = "rescue and run",
     .set = set_orphan,
     .act = act_step,
     .query = "SELECT state, crashes, done FROM jobs",
     .after = "succeeded|1|3",
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
    {.name = "close",
     .set = set_one,
     .body = gets_through,
     .act = act_step_and_close,
     .query = STATES,
     .after = "succeeded",
     .in_the_end = "succeeded"},
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
#define SCENES ((int)(sizeof(scenes) / sizeof(scenes[0])))

/* -- Playing -------------------------------------------------------------- */

struct world {
    void (*refuse)(int n, bool goes_on);
    bool (*relent)(void);
    int (*let_through)(void);
    int points;     /* of a scene at which it refuses, about */
    bool is_locked; /* who can wait waits until it relents */
    bool is_warm;   /* statements have been prepared */
};

static void
assert_told(enum rota_error error, const char *words)
{
    switch ((int)error) {
    case ROTA_OK:
        return;
    case ROTA_NOMEM:
        ck_assert_msg(strstr(words, "memory") != NULL, "%s", words);
        return;
    case ROTA_STORE:
    case ROTA_FULL:
    case ROTA_BUSY:
        ck_assert_msg(strstr(words, queue) != NULL, "%d: %s", (int)error,
                      words);
        return;
    case ROTA_DEADLINE:
        ck_assert_ptr_nonnull(patience);
        return;
    case ROTA_SYSTEM:
        ck_assert_str_ne(words, "");
        return;
    default:
        ck_abort_msg("not what the world did: %d: %s", (int)error, words);
    }
}

static void
assert_says(const struct scene *scene, const char *expected)
{
    if (expected != NULL)
        ck_assert_str_eq(sql_text(queue, "%s", scene->query), expected);
}

static void
open_anew(void)
{
    if (rota != NULL)
        close_queue();
    ck_assert_msg(try_open(&rota) == ROTA_OK, "%s", rota_errmsg(NULL));
}

/* Nobody needs to do anything: the next call finds what was left. */
static void
step_on(const struct scene *scene)
{
    int64_t id;

    if (scene->act == act_step_and_close)
        open_anew();
    if (scene->act == act_pause || scene->act == act_resume)
        ck_assert_int_eq(rota_resume(rota, "default"), ROTA_OK);
    for (int i = 0; i < 3; i++, now += HOUR)
        step_all();
    assert_says(scene, scene->in_the_end);
    assert_runs_recorded();
    body = succeeds;
    id = submit();
    ck_assert(vfs_is_synced());
    step_all();
    ck_assert_str_eq(job_says(id, "state"), "succeeded");
}

/* Have most statements prepared, which takes most of the memory, and leave no
 * trace. */
static void
warm_up(void)
{
    struct rota_submission s = of_kind("k");
    int64_t id, ran_id = 0;

    s.queue = "warm";
    s.priority = -1000;
    body = gets_through;
    id = submit_as(&s);
    ck_assert_int_eq(rota_step(NULL, rota, &ran_id), ROTA_OK);
    ck_assert_int_eq(ran_id, id);
    ck_assert_int_eq(rota_prune(NULL, rota, "queue = 'warm'", NULL, 0, NULL),
                     ROTA_OK);
}

static void
play_begin(const struct scene *scene, const struct world *world)
{
    file_lay_out();
    now = START;
    if (!scene->is_unopened)
        ck_assert_int_eq(try_open(&rota), ROTA_OK);
    if (world->is_warm)
        warm_up();
    ran.n = 0;
    was_lied_to = false;
    is_without_memory = world->relent == faults_disarm;
    body = scene->body != NULL ? scene->body : succeeds;
    if (scene->begin != NULL)
        scene->begin();
}

/* What comes of it, now that nothing is refused any more. */
static void
play_end(const struct scene *scene, enum rota_error answer)
{
    if (scene->is_unopened)
        open_anew();
    sql_keep(queue);
    /* nobody is shut out by a transaction that nobody ended */
    sql_run(queue, "BEGIN IMMEDIATE; ROLLBACK");
    assert_says(scene, answer == ROTA_OK ? scene->after : scene->before);
    assert_sound();
    if (scene->end != NULL)
        scene->end(answer);
    else
        step_on(scene);
    close_other();
    if (rota != NULL)
        close_queue();
    assert_sound();
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM _running"), 0);
    sql_keep(NULL);
}

/* The scene with the n-th call refused; false if there are fewer. */
static bool
play(const struct scene *scene, const struct world *world, int n, bool goes_on)
{
    enum rota_error answer;
    char words[512];
    bool refused;

    play_begin(scene, world);
    if (world->is_locked && goes_on)
        patience = ctx_with_timeout(NULL, ROTA_MS(50));
    world->refuse(n, goes_on);
    answer = scene->act();
    refused = world->relent();
    (void)snprintf(words, sizeof(words), "%s", rota_errmsg(rota));
    if (getenv("ROTA_TEST_LOUD") != NULL)
        fprintf(stderr, "%s %d%s: %d %s\n", scene->name, n,
                goes_on ? "..." : "", (int)answer, answer ? words : "");
    ck_assert_msg(refused || answer == ROTA_OK, "%s", words);
    ck_assert(answer != ROTA_OK || rota == NULL || scene->end != NULL ||
              vfs_is_synced());
    assert_told(answer, words);
    ctx_end(patience);
    patience = NULL;
    play_end(scene, answer);
    return refused;
}

/* Whether the scene is about what comes before any statement is prepared. */
static bool
is_cold(const struct scene *scene)
{
    return scene->is_unopened || scene->end != NULL || scene->set == set_orphan;
}

static void
play_all(const struct scene *scene, const struct world *world)
{
    int points = number_from("ROTA_TEST_POINTS", world->points), stride;

    if (world->is_warm && is_cold(scene))
        return;
    now = START;
    body = succeeds;
    ck_assert_int_eq(try_open(&rota), ROTA_OK);
    scene->set();
    if (rota != NULL)
        close_queue();
    file_keep();
    ck_assert(!play(scene, world, INT_MAX, false));
    if (IS_SANITIZED || scene->is_slow)
        points = points / 4 + 1;
    stride = world->let_through() / points + 1;
    for (int n = 0; play(scene, world, n, false);)
        n += stride;
    for (int n = stride / 2; play(scene, world, n, true);)
        n += stride;
    for (int i = 0; i < 2; i++) {
        free(kept[i].data);
        kept[i].data = NULL;
        kept[i].size = 0;
    }
}

static void
refuse_io(int n, bool goes_on)
{
    vfs_refuse(VFS_ALL, 0, n, goes_on);
}

static void
refuse_room(int n, bool goes_on)
{
    vfs_refuse(VFS_WRITES, SQLITE_FULL, n, goes_on);
}

static void
refuse_locks(int n, bool goes_on)
{
    vfs_refuse(VFS_LOCKS, SQLITE_BUSY, n, goes_on);
}

static void
refuse_ours(int n, bool goes_on)
{
    if (goes_on)
        faults_arm_from(n);
    else
        faults_arm(n);
}

static const struct world
    broken = {refuse_io, vfs_relent, vfs_let_through, .points = 5},
    full = {refuse_room, vfs_relent, vfs_let_through, .points = 4},
    locked = {refuse_locks, vfs_relent, vfs_let_through, .points = 4,
              .is_locked = true},
    cold = {memory_refuse, memory_relent, memory_let_through, .points = 2},
    warm = {memory_refuse, memory_relent, memory_let_through, .points = 4,
            .is_warm = true},
    own = {refuse_ours, faults_disarm, faults_let_through, .points = 4};

START_TEST(when_a_call_to_the_disk_fails_nothing_is_lost_and_it_is_told)
{
    play_all(&scenes[_i], &broken);
}
END_TEST

START_TEST(when_the_disk_is_full_nothing_is_lost_and_it_is_told)
{
    play_all(&scenes[_i], &full);
}
END_TEST

START_TEST(when_a_lock_is_not_to_be_had_nothing_is_lost_and_it_is_told)
{
    play_all(&scenes[_i], &locked);
}
END_TEST

START_TEST(when_sqlite_is_short_of_memory_nothing_is_lost_and_it_is_told)
{
    play_all(&scenes[_i], &cold);
}
END_TEST

START_TEST(when_memory_is_short_for_prepared_statements_nothing_is_lost)
{
    play_all(&scenes[_i], &warm);
}
END_TEST

START_TEST(when_rota_is_short_of_memory_nothing_is_lost_and_it_is_told)
{
    play_all(&scenes[_i], &own);
}
END_TEST

/* -- A disk that takes no more, with workers ------------------------------ */

static void
limit_files(rlim_t size)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Have the disk take nothing more. */
static void
refuse_to_write(void)
{
    struct stat log;

    ck_assert_int_eq(stat(in_scratch("queue.db-wal"), &log), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    limit_files((rlim_t)log.st_size);
}

START_TEST(what_the_disk_refuses_is_told_or_kept_until_it_takes_it)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t id, none = 4711;

    begin(1, held);
    id = submit_running(1);
    refuse_to_write();
    gate_open(&act.gate);
    AWAIT(was_logged(id, "its end cannot be recorded yet"));
    ck_assert_int_eq(rota_submit(rota, &submission, &none), ROTA_STORE);
    ck_assert_int_eq(none, 4711);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), queue));
    ck_assert_str_eq(job_says(id, "state"), "running");
    limit_files(RLIM_INFINITY);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 2);
}
END_TEST

/* Have job 1 be run by a process that has died. */
static void
give_to_the_dead(void)
{
    sql_run(queue, "BEGIN IMMEDIATE;"
                   "INSERT INTO _process(id, pid, threads, started_at)"
                   " VALUES(9, 1, 1, 1);"
                   "INSERT INTO _running(id, lease, process, claimed_at, queue)"
                   " SELECT id, 1, 9, 1, queue FROM _job;"
                   "DELETE FROM _ready; COMMIT");
}

START_TEST(a_rescue_that_the_disk_refuses_says_so_and_is_made_the_next_time)
{
    open_with(1, at_once);
    (void)submit();
    give_to_the_dead();
    refuse_to_write();
    ck_assert_int_eq(rota_rescue(rota), ROTA_STORE);
    ck_assert_str_eq(job_says(1, "state, worker, crashes"), "running|9|0");
    limit_files(RLIM_INFINITY);
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(job_says(1, "state, lease, crashes"), "ready|1|1");
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(runs_of(1), "1|crashed|LOST|its process died");
}
END_TEST

START_TEST(a_cancel_that_the_disk_refuses_reaches_the_job_all_the_same)
{
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(1);
    refuse_to_write();
    ck_assert_int_eq(rota_cancel(rota, id, "enough", NULL), ROTA_STORE);
    AWAIT(was_logged(id, "its end cannot be recorded yet"));
    ck_assert_str_eq(act.words, "enough");
    limit_files(RLIM_INFINITY);
    wait_for(id);
    assert_outcome(ROTA_CANCELLED, ROTA_CANCELED, 1, "enough");
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
set_up(void)
{
    stage_set();
    vfs_install();
}

static TCase *
world_case(Suite *suite, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_add_checked_fixture(t, set_up, stage_clear);
    tcase_set_timeout(t, 60);
    suite_add_tcase(suite, t);
    return t;
}

static void
add_limits(TCase *t)
{
    tcase_add_test(t, what_the_disk_refuses_is_told_or_kept_until_it_takes_it);
    tcase_add_test(
        t, a_rescue_that_the_disk_refuses_says_so_and_is_made_the_next_time);
    tcase_add_test(t,
                   a_cancel_that_the_disk_refuses_reaches_the_job_all_the_same);
}

int
main(void)
{
    Suite *suite = suite_create("refusals");

    memory_install();
    tcase_add_loop_test(
        world_case(suite, "disk"),
        when_a_call_to_the_disk_fails_nothing_is_lost_and_it_is_told, 0,
        SCENES);
    tcase_add_loop_test(world_case(suite, "room"),
                        when_the_disk_is_full_nothing_is_lost_and_it_is_told, 0,
                        SCENES);
    tcase_add_loop_test(
        world_case(suite, "locks"),
        when_a_lock_is_not_to_be_had_nothing_is_lost_and_it_is_told, 0, SCENES);
    tcase_add_loop_test(
        world_case(suite, "memory of sqlite"),
        when_sqlite_is_short_of_memory_nothing_is_lost_and_it_is_told, 0,
        SCENES);
    tcase_add_loop_test(
        world_case(suite, "memory of statements"),
        when_memory_is_short_for_prepared_statements_nothing_is_lost, 0,
        SCENES);
    tcase_add_loop_test(
        world_case(suite, "memory of rota"),
        when_rota_is_short_of_memory_nothing_is_lost_and_it_is_told, 0, SCENES);
    add_limits(stage_case(suite, "limits"));
    return suite_run(suite);
}
