/*
 * A scheduler's life (rota/scheduler.h): open, handle, start, wait, drain,
 * stop, close, and a disk that refuses; in one process. How jobs end is in
 * test_outcome.c, what they say and ask in test_jobs.c.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "scratch.h"
#include "stage.h"

/* -- Stopping ------------------------------------------------------------- */

START_TEST(stop_gives_back_all_that_runs_and_all_that_is_claimed)
{
    begin(1, until_stopped);
    (void)submit_running(1);
    for (int i = 0; i < 3; i++)
        (void)submit_claimed();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(act.runs, 1);
    ck_assert_str_eq(act.words, "shutdown");
    ck_assert_int_eq(sql_int(queue,
                             "SELECT count(*) FROM jobs WHERE state <> 'ready'"
                             " OR failures > 0 OR error IS NOT NULL"),
                     0);
    ck_assert_str_eq(sql_text(queue, "SELECT outcome FROM attempts"),
                     "interrupted");
    ck_assert_str_eq(sql_text(queue, "SELECT state, running FROM workers"),
                     "left|0");
}
END_TEST

START_TEST(claims_that_no_worker_comes_to_are_given_back)
{
    int64_t id;

    begin(1, held);
    (void)submit_running(1);
    id = submit_claimed();
    await_state(id, "ready");
    ck_assert_str_eq(job_says(id, "failures"), "0");
    gate_open(&act.gate);
    wait_for(id);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    drain();
    ck_assert_int_eq(act.runs, sql_int(queue, "SELECT count(*) FROM jobs"));
}
END_TEST

struct stopper {
    int64_t grace;
    enum rota_error error;
    int64_t active; /* jobs, when it had returned */
};

static void *
stop_body(void *arg)
{
    struct stopper *stopper = arg;

    stopper->error = rota_stop(rota, stopper->grace);
    lock_take(&rota->lock);
    stopper->active = rota->active;
    lock_drop(&rota->lock);
    return NULL;
}

static bool
is_stopping(void)
{
    bool stopping;

    lock_take(&rota->lock);
    stopping = rota->stopping;
    lock_drop(&rota->lock);
    return stopping;
}

/* The writer is about to claim, and cannot, for somebody holds the lock. */
static bool
is_claiming(void)
{
    bool claiming;

    lock_take(&rota->lock);
    claiming = rota->writing && rota->claiming;
    lock_drop(&rota->lock);
    return claiming;
}

/* A foreign client that has the lock, and has done this. */
static sqlite3 *
shell_begin(const char *sql)
{
    sqlite3 *shell;

    ck_assert_int_eq(sqlite3_open(queue, &shell), SQLITE_OK);
    (void)sqlite3_busy_timeout(shell, 20000);
    ck_assert_int_eq(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(shell, sql, NULL, NULL, NULL), SQLITE_OK);
    return shell;
}

static void
shell_commit(sqlite3 *shell)
{
    ck_assert_int_eq(sqlite3_exec(shell, "COMMIT", NULL, NULL, NULL),
                     SQLITE_OK);
}

START_TEST(nothing_runs_any_more_when_stop_has_returned)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    sqlite3 *shell;

    begin(2, at_once);
    shell = shell_begin(
        "INSERT INTO submit(kind) WITH RECURSIVE n(i) AS (SELECT 1"
        " UNION ALL SELECT i + 1 FROM n) SELECT 'k' FROM n LIMIT 1000");
    lock_take(&rota->lock);
    rota->prefetch = PREFETCH_MAX; /* so that it takes a while to give back */
    rota->maybe_ready = true;
    lock_drop(&rota->lock);
    writer_poke(rota);
    AWAIT(is_claiming());
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping());
    shell_commit(shell);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(stopper.active, 0);
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY state"),
                     "ready|1000");
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_int_eq(act.runs, 0);
}
END_TEST

START_TEST(grace_lets_a_job_finish)
{
    struct stopper stopper = {.grace = ROTA_SEC(3600)};
    pthread_t thread;
    int64_t id;

    begin(1, held);
    id = submit_running(1);
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping() && sleepers() == 1);
    ck_assert_str_eq(job_says(submit(), "state"), "ready"); /* none claimed */
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert(!act.was_done);
    ck_assert_str_eq(job_says(id, "state"), "succeeded");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

START_TEST(after_a_grace_the_job_is_told)
{
    begin(1, until_stopped);
    (void)submit_running(1);
    ck_assert_int_eq(rota_stop(rota, ROTA_MS(5)), ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
}
END_TEST

/* Comes to the gate when it is told to stop, and is told more there. */
static enum rota_error
told_twice(struct ctx *ctx, struct rota_job *job)
{
    enum rota_error error;

    atomic_fetch_add(&act.runs, 1);
    error = ctx_wait(ctx, ROTA_FOREVER);
    gate_pass(&act.gate);
    note_end(ctx, job);
    return error;
}

/* Either first; what the job sees of the first end stays. */
START_TEST(a_job_that_is_cancelled_and_shut_down_at_once_is_cancelled)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    int64_t id;

    begin(1, told_twice);
    id = submit_running(3);
    if (_i == 0)
        ck_assert_int_eq(rota_cancel(rota, id, "not this", NULL), ROTA_OK);
    thread = thread_new(stop_body, &stopper);
    AWAIT(is_stopping());
    gate_await(&act.gate, 1);
    if (_i == 1)
        ck_assert_int_eq(rota_cancel(rota, id, "not this", NULL), ROTA_OK);
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_CANCEL);
    ck_assert_str_eq(act.words, _i == 0 ? "not this" : "shutdown");
    ck_assert_str_eq(job_says(id, "state, cause, lease, failures"),
                     "cancelled|not this|1|0");
    ck_assert_str_eq(runs_of(id), "1|cancelled|CANCELED|not this");
}
END_TEST

static bool
has_returned(int64_t id)
{
    struct rota_job *job;
    bool returned;

    lock_take(&rota->lock);
    job = job_find(rota, id);
    returned = job != NULL && job->place == JOB_ENDED;
    lock_drop(&rota->lock);
    return returned;
}

START_TEST(a_cancel_that_only_the_file_knows_of_goes_before_a_shutdown)
{
    struct stopper stopper = {.grace = 0};
    pthread_t thread;
    sqlite3 *shell;
    int64_t id;

    begin(1, until_stopped);
    id = submit_running(3);
    shell = shell_begin("INSERT INTO cancel VALUES(1, 'not this')");
    thread = thread_new(stop_body, &stopper);
    AWAIT(has_returned(id));
    shell_commit(shell);
    (void)thread_join(thread);
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_int_eq(stopper.error, ROTA_OK);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, cause, lease, failures"),
                     "cancelled|not this|1|0");
}
END_TEST

START_TEST(stop_may_be_called_at_any_time_and_again)
{
    int64_t id;

    open_with(1, at_once);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    start_workers();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(rota_stop(rota, ROTA_FOREVER), ROTA_OK);
    id = submit();
    ck_assert_int_eq(rota_start(run, rota), ROTA_BUSY);
    close_queue();
    ck_assert_str_eq(job_says(id, "state, lease"), "ready|0");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM workers"), 1);
}
END_TEST

START_TEST(the_end_of_the_workers_context_is_a_stop)
{
    int64_t id, next;

    begin(1, until_stopped);
    id = submit_running(1);
    (void)ctx_cancel_cause(run, "power");
    await_state(id, "ready");
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(act.words, "power");
    next = submit();
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
    ck_assert_int_eq(act.runs, 1);
    ck_assert_str_eq(job_says(next, "state, lease"), "ready|0");
}
END_TEST

START_TEST(the_workers_deadline_is_a_shutdown_to_the_job)
{
    int64_t id = 0;

    for (int64_t time = ROTA_MS(20); atomic_load(&act.runs) == 0; time *= 2) {
        open_with(1, until_stopped);
        id = submit();
        run = ctx_with_timeout(NULL, time);
        ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
        (void)ctx_wait(run, ROTA_FOREVER);
        close_queue();
    }
    ck_assert_int_eq(act.code, ROTA_DEADLINE);
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, failures"), "ready|0");
}
END_TEST

START_TEST(workers_that_start_under_an_ended_context_run_nothing)
{
    int64_t id;

    open_with(1, at_once);
    id = submit();
    run = ctx_with_cancel(NULL);
    (void)ctx_cancel(run);
    ck_assert_int_eq(rota_start(run, rota), ROTA_OK);
    close_queue();
    ck_assert_str_eq(job_says(id, "state, lease"), "ready|0");
}
END_TEST

/* -- Closing -------------------------------------------------------------- */

static enum rota_error
closes_its_scheduler(struct ctx *ctx, struct rota_job *job)
{
    act.error = rota_close(rota_job_rota(job));
    if (act.error == ROTA_INVALID)
        act.error = rota_stop(rota_job_rota(job), 0);
    if (act.error == ROTA_INVALID)
        act.error = rota_drain(ctx, rota_job_rota(job));
    (void)snprintf(act.words, sizeof(act.words), "%s", rota_errmsg(NULL));
    return ROTA_OK;
}

START_TEST(a_job_can_neither_close_nor_stop_nor_drain_the_scheduler_it_runs_on)
{
    begin(1, closes_its_scheduler);
    wait_for(submit());
    ck_assert_int_eq(act.error, ROTA_INVALID);
    ck_assert_str_eq(act.words, "a job cannot drain the scheduler it runs on");
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(close_stops_what_runs_first)
{
    int64_t id;

    begin(1, in_two_runs);
    id = submit_running(1);
    close_queue();
    ck_assert_int_eq(act.stop, ROTA_STOP_SHUTDOWN);
    ck_assert_str_eq(job_says(id, "state, done, failures"), "ready|4|0");
    ck_assert_int_eq(rota_close(NULL), ROTA_OK);
}
END_TEST

static int
descriptors(void)
{
    DIR *fds = opendir("/proc/self/fd");
    int n = 0;

    ck_assert_ptr_nonnull(fds);
    while (readdir(fds) != NULL)
        n++;
    closedir(fds);
    return n;
}

START_TEST(opening_and_closing_leaks_neither_threads_nor_descriptors)
{
    int fds = 0, threads = 0;

    for (int round = 0; round <= 50; round++) {
        begin(2, at_once);
        wait_for(submit());
        close_queue();
        if (round == 0) {
            AWAIT(threads_named("rota-w") + threads_named("rota-l") == 0);
            AWAIT(threads_named("rota-0") + threads_named("rota-1") == 0);
            fds = descriptors();
            threads = threads_named("");
        }
    }
    ck_assert_int_eq(descriptors(), fds);
    AWAIT(threads_named("") == threads); /* joined, and gone in a moment */
}
END_TEST

/* -- Waiting -------------------------------------------------------------- */

struct sleeper {
    struct ctx *ctx;
    int64_t id; /* 0: drains */
    enum rota_error error;
    struct rota_outcome outcome;
    int ends;
    char words[64];
};

static void *
sleeper_body(void *arg)
{
    struct sleeper *sleeper = arg;

    sleeper->outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    sleeper->error =
        sleeper->id == 0
            ? rota_drain(sleeper->ctx, rota)
            : rota_wait(sleeper->ctx, rota, sleeper->id, &sleeper->outcome);
    sleeper->ends = atomic_load(&act.ends);
    (void)snprintf(sleeper->words, sizeof(sleeper->words), "%s",
                   rota_errmsg(rota));
    return NULL;
}

START_TEST(many_threads_may_wait_for_one_job)
{
    enum { THREADS = 8 };
    struct sleeper sleepers_of[THREADS];
    pthread_t threads[THREADS];
    int64_t id;

    begin(1, held);
    id = submit_running(1);
    for (int i = 0; i < THREADS; i++) {
        sleepers_of[i] = (struct sleeper){.id = id};
        threads[i] = thread_new(sleeper_body, &sleepers_of[i]);
    }
    AWAIT(sleepers() == THREADS);
    gate_open(&act.gate);
    for (int i = 0; i < THREADS; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(sleepers_of[i].error, ROTA_OK);
        ck_assert_int_eq(sleepers_of[i].outcome.state, ROTA_SUCCEEDED);
        ck_assert_int_eq(sleepers_of[i].ends, 1);
    }
}
END_TEST

START_TEST(drain_waits_for_all_that_is_ready_and_runs)
{
    struct sleeper sleeper = {.ctx = NULL};
    pthread_t thread;

    begin(2, held);
    for (int i = 0; i < 5; i++)
        (void)submit();
    (void)submit_later(); /* not for this one */
    thread = thread_new(sleeper_body, &sleeper);
    AWAIT(sleepers() == 1 && atomic_load(&act.runs) == 2);
    gate_open(&act.gate);
    (void)thread_join(thread);
    ck_assert_int_eq(sleeper.error, ROTA_OK);
    ck_assert_int_eq(sleeper.ends, 5);
    ck_assert_str_eq(sql_text(queue, "SELECT state, count(*) FROM jobs"
                                     " GROUP BY state ORDER BY state"),
                     "scheduled|1\nsucceeded|5");
}
END_TEST

START_TEST(a_wait_and_a_drain_end_with_their_context)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct sleeper sleeper = {.ctx = ctx};
    pthread_t thread;

    begin(1, held);
    sleeper.id = submit_running(1) * _i;
    thread = thread_new(sleeper_body, &sleeper);
    AWAIT(ctx_waiters(ctx) == 1);
    (void)ctx_cancel_cause(ctx, "no time");
    (void)thread_join(thread);
    ck_assert_int_eq(sleeper.error, ROTA_CANCELED);
    ck_assert_str_eq(sleeper.words, "no time");
    ck_assert_int_eq(sleeper.ends, 0);
    ck_assert_uint_eq(sleepers(), 0);
    gate_open(&act.gate);
}
END_TEST

START_TEST(a_wait_under_an_ended_context_looks_once)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, 0);
    int64_t id, ended;

    begin(1, held);
    gate_open(&act.gate);
    ended = submit();
    wait_for(ended);
    id = submit_later();
    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_wait(ctx, rota, ended, &outcome), ROTA_OK);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    outcome.attempts = 4711;
    ck_assert_int_eq(rota_wait(ctx, rota, id, &outcome), ROTA_DEADLINE);
    ck_assert_int_eq(rota_wait(ctx, rota, 99, &outcome), ROTA_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "99"));
    ck_assert_int_eq(outcome.attempts, 4711);
    ck_assert_int_eq(rota_wait(NULL, rota, ended, NULL), ROTA_OK);
}
END_TEST

START_TEST(drain_comes_after_start)
{
    open_with(1, at_once);
    ck_assert_int_eq(rota_drain(NULL, rota), ROTA_INVALID);
    ck_assert_str_eq(rota_errmsg(rota),
                     "rota_start() comes before rota_drain()");
}
END_TEST

/* -- Opening -------------------------------------------------------------- */

static void
make_directory(const char *path)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void
make_text(const char *path)
{
    (void)path;
    scratch_write_text("other", "This is a text, and not a short one, for a"
                                " page of SQLite is longer than a line.\n");
}

static void
make_foreign(const char *path)
{
    sql_run(path, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
}

static void
make_newer(const char *path)
{
    struct rota *other = NULL;

    ck_assert_int_eq(rota_open(path, NULL, &other), ROTA_OK);
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    sql_run(path, "PRAGMA user_version = 1000");
}

static void
make_hard_link(const char *path)
{
    make_newer(in_scratch("first"));
    ck_assert_int_eq(link(in_scratch("first"), path), 0);
}

static void
make_nothing(const char *path)
{
    (void)path;
}

static const struct {
    void (*make)(const char *path);
    unsigned flags;
    enum rota_error error;
    const char *says;
} strangers[] = {
    {make_directory, 0, ROTA_INVALID, "is not a regular file"},
    {make_text, 0, ROTA_CORRUPT, "not a database"},
    {make_foreign, 0, ROTA_CORRUPT, "a SQLite file of something else"},
    {make_newer, 0, ROTA_VERSION, "upgrade rota"},
    {make_hard_link, 0, ROTA_INVALID, "hard links"},
    {make_text, ROTA_READONLY, ROTA_CORRUPT, "not a database"},
    {make_nothing, ROTA_READONLY, ROTA_NOTFOUND, "No such file"},
    {make_nothing, 64, ROTA_INVALID, "ROTA_OPTIONS_INIT"},
};

/* All that is in the folder, and how it looks. */
static const char *
folder_in_words(void)
{
    static char words[2][4096];
    static int turn;
    char command[256];
    FILE *pipe;
    size_t n;

    turn = !turn;
    (void)snprintf(command, sizeof(command),
                   "cd '%s' && ls -A && cksum * 2>/dev/null", in_scratch("."));
    pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    n = fread(words[turn], 1, sizeof(words[turn]) - 1, pipe);
    words[turn][n] = '\0';
    (void)pclose(pipe);
    return words[turn];
}

START_TEST(what_is_no_queue_is_refused_and_left_as_it_is)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *before = (struct rota *)(void *)&options, *other = before;
    const char *path = in_scratch("other"), *folder;

    strangers[_i].make(path);
    folder = folder_in_words();
    options.flags = strangers[_i].flags;
    ck_assert_int_eq(rota_open(path, &options, &other), strangers[_i].error);
    ck_assert_ptr_eq(other, before);
    ck_assert_msg(strstr(rota_errmsg(NULL), strangers[_i].says) != NULL, "%s",
                  rota_errmsg(NULL));
    ck_assert_str_eq(folder_in_words(), folder);
}
END_TEST

START_TEST(what_is_no_path_is_refused)
{
    const char *const paths[] = {NULL, "", ":memory:", "file:x"};
    struct rota *other = NULL;

    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(rota_open(paths[i], NULL, &other), ROTA_INVALID);
    ck_assert_int_eq(rota_open("/no/such/folder/q.db", NULL, &other),
                     ROTA_SYSTEM);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "/no/such/folder"));
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(options_that_were_not_initialised_are_refused)
{
    struct rota_options zero = {0}, negative = ROTA_OPTIONS_INIT;
    struct rota *other = NULL;

    negative.workers = -1;
    ck_assert_int_eq(rota_open(queue, &zero, &other), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "ROTA_OPTIONS_INIT"));
    ck_assert_int_eq(rota_open(queue, &negative, &other), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "negative"));
    ck_assert_ptr_null(other);
    ck_assert_int_ne(access(queue, F_OK), 0);
}
END_TEST

START_TEST(a_queue_keeps_its_name_for_life)
{
    struct rota *other = NULL;
    char instance[64];

    open_queue(1);
    (void)snprintf(instance, sizeof(instance), "%s", rota_instance(rota));
    ck_assert_uint_ge(strlen(instance), 16);
    ck_assert_int_eq(rota_open(in_scratch("other"), NULL, &other), ROTA_OK);
    ck_assert_str_ne(rota_instance(other), instance);
    ck_assert_int_eq(rota_close(other), ROTA_OK);
    close_queue();
    open_queue(1);
    ck_assert_str_eq(rota_instance(rota), instance);
}
END_TEST

static bool
keep_integer(void *arg, int n, const char *const *names,
             const struct rota_value *values)
{
    (void)n, (void)names;
    if (values != NULL)
        *(int64_t *)arg = values[0].integer;
    return true;
}

START_TEST(who_opened_to_look_can_look_and_nothing_else)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    struct rota_options options = ROTA_OPTIONS_INIT;
    int64_t id, jobs = 0;
    struct rota *look;

    begin(1, at_once);
    id = submit();
    wait_for(id);
    options.flags = ROTA_READONLY;
    ck_assert_int_eq(rota_open(queue, &options, &look), ROTA_OK);
    ck_assert_int_eq(rota_handle(look, "k", at_once, NULL, NULL), ROTA_OK);
    ck_assert_int_eq(rota_submit(look, &submission, NULL), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(look), "look only"));
    ck_assert_int_eq(rota_cancel(look, id, NULL, NULL), ROTA_INVALID);
    ck_assert_int_eq(rota_start(NULL, look), ROTA_INVALID);
    ck_assert_int_eq(rota_wait(NULL, look, id, NULL), ROTA_OK);
    ck_assert_int_eq(rota_query(NULL, look, "SELECT count(*) FROM jobs", NULL,
                                0, keep_integer, &jobs),
                     ROTA_OK);
    ck_assert_int_eq(jobs, 1);
    ck_assert_int_eq(rota_close(look), ROTA_OK);
}
END_TEST

/* -- Handling and starting ------------------------------------------------ */

START_TEST(kinds_that_make_no_sense_are_refused)
{
    struct rota_defaults defaults = ROTA_DEFAULTS_INIT, zero = {0};
    char name[257];

    memset(name, 'x', sizeof(name) - 1);
    name[256] = '\0';
    open_queue(1);
    ck_assert_int_eq(rota_start(NULL, rota), ROTA_INVALID); /* no kind */
    ck_assert_int_eq(rota_handle(rota, NULL, at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "", at_once, NULL, NULL), ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, name, at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "\xff", at_once, NULL, NULL),
                     ROTA_INVALID);
    ck_assert_int_eq(rota_handle(rota, "k", NULL, NULL, NULL), ROTA_INVALID);
    ck_assert(!rota_handles(rota, "k"));
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, &zero),
                     ROTA_INVALID);
    defaults.max_attempts = -1;
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, &defaults),
                     ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "negative"));
    name[255] = '\0';
    ck_assert_int_eq(rota_handle(rota, name, at_once, NULL, NULL), ROTA_OK);
}
END_TEST

START_TEST(a_kind_is_handled_once_and_before_the_start_which_comes_once)
{
    open_with(1, at_once);
    ck_assert_int_eq(rota_handle(rota, "k", held, NULL, NULL), ROTA_EXISTS);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "k has a function"));
    start_workers();
    ck_assert_int_eq(rota_handle(rota, "j", held, NULL, NULL), ROTA_BUSY);
    ck_assert_int_eq(rota_start(run, rota), ROTA_BUSY);
    ck_assert_int_eq(rota_start_job(run, rota, 1), ROTA_BUSY);
    wait_for(submit());
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(as_many_jobs_run_at_once_as_there_are_workers)
{
    begin(5, held);
    for (int i = 0; i < 6; i++)
        (void)submit();
    gate_await(&act.gate, 5);
    ck_assert_str_eq(sql_text(queue, "SELECT threads, running FROM workers"),
                     "5|5");
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.ends, 6);
}
END_TEST

START_TEST(workers_for_one_job_run_no_other)
{
    int64_t other, id;

    open_with(2, at_once);
    other = submit();
    id = submit();
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, id), ROTA_OK);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    close_queue();
    ck_assert_str_eq(job_says(other, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

START_TEST(a_job_that_workers_are_started_for_waits_for_its_queue_too)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id, running, process;

    open_with(2, held);
    sql_run(queue, "INSERT INTO set_limit(queue, max_running)"
                   " VALUES('one', 1)");
    ck_assert_int_eq(rota_pause(rota, "one"), ROTA_OK);
    s.queue = "one";
    running = submit_as(&s);
    id = submit_as(&s);
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_job(run, rota, id), ROTA_OK);
    (void)submit(); /* a cycle that could claim */
    ck_assert_str_eq(job_says(id, "state, why"), "ready|its queue is paused");
    process = sql_int(queue, "SELECT max(id) FROM workers");
    sql_run(queue,
            "INSERT INTO _running(id, lease, process, claimed_at, queue)"
            " SELECT id, 1, %jd, 0, queue FROM _job WHERE id = %jd;"
            " DELETE FROM _ready WHERE id = %jd",
            (intmax_t)process, (intmax_t)running, (intmax_t)running);
    ck_assert_int_eq(rota_resume(rota, "one"), ROTA_OK);
    ck_assert_str_eq(job_says(id, "state, why"),
                     "ready|its queue runs 1 at a time");
    ck_assert_int_eq(rota_limit_queue(rota, "one", 2), ROTA_OK);
    gate_open(&act.gate);
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    sql_run(queue, "DELETE FROM _running");
}
END_TEST

/* Jobs are kept ahead of the workers, but not by the GiB. */
START_TEST(of_large_jobs_no_more_are_claimed_than_64_mib_and_the_workers_need)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    size_t most = 0;

    s.args_size = 16 << 20;
    s.args = calloc(1, s.args_size);
    s.args_blob = true;
    ck_assert_ptr_nonnull(s.args);
    begin(1, held);
    (void)submit_running(1);
    lock_take(&rota->lock);
    rota->prefetch = 100; /* as behind many short ones */
    lock_drop(&rota->lock);
    for (int i = 0; i < 12; i++) {
        (void)submit_as(&s);
        lock_take(&rota->lock);
        most = rota->args_bytes > most ? rota->args_bytes : most;
        lock_drop(&rota->lock);
    }
    ck_assert_uint_ge(most, s.args_size);
    ck_assert_uint_le(most, (64 << 20) + s.args_size);
    gate_open(&act.gate);
    drain();
    ck_assert_int_eq(act.ends, 13);
    ck_assert_uint_eq(rota->args_bytes, 0);
    free((void *)(uintptr_t)s.args);
}
END_TEST

static int64_t
submit_into(const char *name)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.queue = name;
    return submit_as(&s);
}

START_TEST(workers_for_a_queue_run_and_drain_that_one_only)
{
    int64_t first, mine, last;

    open_with(2, at_once);
    first = submit_into("first");
    mine = submit_into("mine");
    last = submit_into("last");
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_queue(run, rota, "mine"), ROTA_OK);
    wait_for(mine);
    mine = submit_into("mine");
    drain();
    ck_assert_str_eq(job_says(mine, "state"), "succeeded");
    close_queue();
    ck_assert_str_eq(job_says(first, "state, lease"), "ready|0");
    ck_assert_str_eq(job_says(last, "state, lease"), "ready|0");
    ck_assert_int_eq(act.runs, 2);
}
END_TEST

START_TEST(workers_for_a_queue_may_come_before_its_first_job)
{
    open_with(1, at_once);
    run = ctx_with_cancel(NULL);
    ck_assert_int_eq(rota_start_queue(run, rota, ""), ROTA_INVALID);
    ck_assert_int_eq(rota_start_queue(run, rota, "\xff"), ROTA_INVALID);
    ck_assert_int_eq(rota_start_queue(run, rota, "new"), ROTA_OK);
    (void)submit_into("other");
    wait_for(submit_into("new"));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(act.runs, 1);
}
END_TEST

/* What the option ended was told, in order: job * 10 + state. */
static int64_t told[8];
static atomic_int n_told;

static void
note_told(void *arg, int64_t job, enum rota_state state)
{
    ck_assert_ptr_eq(arg, told);
    told[atomic_load(&n_told)] = job * 10 + (int64_t)state;
    /* it is in the file, and still counted as running here */
    ck_assert_str_eq(job_says(job, "state"), rota_state_name(state));
    lock_take(&rota->lock); /* none is held */
    ck_assert(!engine_is_quiet(rota));
    lock_drop(&rota->lock);
    atomic_fetch_add(&n_told, 1);
}

START_TEST(who_wants_to_know_is_told_where_each_run_led)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    int64_t id;

    atomic_store(&n_told, 0);
    options.workers = 1;
    options.ended = note_told;
    options.ended_arg = told;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert_int_eq(rota_handle(rota, "k", at_once, NULL, NULL), ROTA_OK);
    start_workers();
    wait_for(submit());
    act.answer = ROTA_FAILED;
    id = submit_attempts(2);
    AWAIT(atomic_load(&n_told) == 2);
    hurry(id);
    wait_for(id);
    AWAIT(atomic_load(&n_told) == 3);
    ck_assert_int_eq(told[0], 10 + ROTA_SUCCEEDED);
    ck_assert_int_eq(told[1], 20 + ROTA_SCHEDULED);
    ck_assert_int_eq(told[2], 20 + ROTA_JOB_FAILED);
}
END_TEST

/* -- Bad days ------------------------------------------------------------- */

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

START_TEST(who_waits_for_a_foreign_lock_in_vain_is_told_so)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    sqlite3 *shell;
    int64_t id = 4711;

    open_with(1, at_once);
    ck_assert_int_eq(sqlite3_open(queue, &shell), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(rota_submit(rota, &submission, &id), ROTA_BUSY);
    ck_assert_int_eq(id, 4711);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "locked"));
    ck_assert_int_eq(sqlite3_close(shell), SQLITE_OK);
    ck_assert_str_eq(job_says(submit(), "state"), "ready");
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_stopping(TCase *t)
{
    tcase_add_test(t, stop_gives_back_all_that_runs_and_all_that_is_claimed);
    tcase_add_test(t, claims_that_no_worker_comes_to_are_given_back);
    tcase_add_test(t, nothing_runs_any_more_when_stop_has_returned);
    tcase_add_test(t, grace_lets_a_job_finish);
    tcase_add_test(t, after_a_grace_the_job_is_told);
    tcase_add_loop_test(
        t, a_job_that_is_cancelled_and_shut_down_at_once_is_cancelled, 0, 2);
    tcase_add_test(t,
                   a_cancel_that_only_the_file_knows_of_goes_before_a_shutdown);
    tcase_add_test(t, stop_may_be_called_at_any_time_and_again);
    tcase_add_test(t, the_end_of_the_workers_context_is_a_stop);
    tcase_add_test(t, the_workers_deadline_is_a_shutdown_to_the_job);
    tcase_add_test(t, workers_that_start_under_an_ended_context_run_nothing);
    tcase_add_test(
        t, a_job_can_neither_close_nor_stop_nor_drain_the_scheduler_it_runs_on);
    tcase_add_test(t, close_stops_what_runs_first);
    tcase_add_test(t,
                   opening_and_closing_leaks_neither_threads_nor_descriptors);
    tcase_add_test(t, what_the_disk_refuses_is_told_or_kept_until_it_takes_it);
    tcase_add_test(t,
                   a_cancel_that_the_disk_refuses_reaches_the_job_all_the_same);
    tcase_add_test(
        t, a_rescue_that_the_disk_refuses_says_so_and_is_made_the_next_time);
    tcase_add_test(t, who_waits_for_a_foreign_lock_in_vain_is_told_so);
}

static void
add_waiting(TCase *t)
{
    tcase_add_test(t, many_threads_may_wait_for_one_job);
    tcase_add_test(t, drain_waits_for_all_that_is_ready_and_runs);
    tcase_add_loop_test(t, a_wait_and_a_drain_end_with_their_context, 0, 2);
    tcase_add_test(t, a_wait_under_an_ended_context_looks_once);
    tcase_add_test(t, drain_comes_after_start);
}

static void
add_opening(TCase *t)
{
    tcase_add_loop_test(t, what_is_no_queue_is_refused_and_left_as_it_is, 0,
                        (int)(sizeof(strangers) / sizeof(strangers[0])));
    tcase_add_test(t, what_is_no_path_is_refused);
    tcase_add_test(t, options_that_were_not_initialised_are_refused);
    tcase_add_test(t, a_queue_keeps_its_name_for_life);
    tcase_add_test(t, who_opened_to_look_can_look_and_nothing_else);
    tcase_add_test(t, kinds_that_make_no_sense_are_refused);
    tcase_add_test(
        t, a_kind_is_handled_once_and_before_the_start_which_comes_once);
    tcase_add_test(t, as_many_jobs_run_at_once_as_there_are_workers);
    tcase_add_test(t, workers_for_one_job_run_no_other);
    tcase_add_test(
        t, of_large_jobs_no_more_are_claimed_than_64_mib_and_the_workers_need);
    tcase_add_test(t,
                   a_job_that_workers_are_started_for_waits_for_its_queue_too);
    tcase_add_test(t, workers_for_a_queue_run_and_drain_that_one_only);
    tcase_add_test(t, workers_for_a_queue_may_come_before_its_first_job);
    tcase_add_test(t, who_wants_to_know_is_told_where_each_run_led);
}

int
main(void)
{
    Suite *suite = suite_create("engine");

    add_stopping(stage_case(suite, "stopping"));
    add_waiting(stage_case(suite, "waiting"));
    add_opening(stage_case(suite, "opening"));
    return suite_run(suite);
}
