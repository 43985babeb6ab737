/*
 * What happens between processes that share a queue: submitting to each other,
 * stopping each other's jobs, dying, being stopped, and sharing the work.
 *
 * The other processes are the rota command, and this program executed again in
 * a role (see the end). Nobody waits for a guessed time: who has got where is
 * seen in the file, in a log to which jobs add a line when they begin, and in
 * the byte locks of <db>-lock. All children die with the test.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "jobs/jobs.h"
#include "scratch.h"
#include "store/sqlite/schema.h"
#include "support.h"

/* What is promised within a second, on a machine that has other things to do
 * as well. */
#define A_SECOND    ROTA_SEC(IS_SANITIZED ? 20 : 5)
#define LONG_ENOUGH ROTA_SEC(60)

#define WITHIN(time, condition)                                         \
    do {                                                                \
        const int64_t limit_ = ctx_now() + (time);                      \
                                                                        \
        while (!(condition)) {                                          \
            ck_assert_msg(ctx_now() < limit_, "never: %s", #condition); \
            (void)ctx_sleep(ctx_background(), ROTA_MS(5));              \
        }                                                               \
    } while (0)
#define EVENTUALLY(condition) WITHIN(LONG_ENOUGH, condition)

extern char **environ;
static char self[4096];         /* this program */
static char rota_command[4128]; /* the other one */
static char queue[256];         /* the path by which this process knows it */
static char target[128];
static struct rota *rota;
static struct rota_outcome outcome;

/* -- A log that jobs of all processes write ------------------------------- */

struct path {
    char text[300];
};

/* A file in the folder of the queue: beside("log").text. Any thread. */
static struct path
beside(const char *name)
{
    struct path path;
    int folder = (int)(strrchr(queue, '/') - queue);

    (void)snprintf(path.text, sizeof(path.text), "%.*s/%s", folder, queue,
                   name);
    return path;
}

static void
note(const char *word, int64_t id, int64_t lease)
{
    int fd = open(beside("log").text, O_WRONLY | O_CREAT | O_APPEND, 0600);

    MUST_BE(fd >= 0);
    MUST_BE(dprintf(fd, "%s %" PRId64 " %" PRId64 " %d\n", word, id, lease,
                    (int)getpid()) > 0);
    MUST(close(fd));
}

struct noted {
    char word[16];
    int64_t id, lease;
    pid_t pid;
};

/* The next line of the log. */
static bool
noted_next(FILE *log, struct noted *noted)
{
    return fscanf(log, "%15s %" SCNd64 " %" SCNd64 " %d\n", noted->word,
                  &noted->id, &noted->lease, &noted->pid) == 4;
}

/* How many lines have the word and are of process pid; of any if it is 0. */
static int
noted(const char *word, pid_t pid)
{
    FILE *log = fopen(beside("log").text, "re");
    struct noted noted;
    int n = 0;

    if (log == NULL)
        return 0;
    while (noted_next(log, &noted))
        n += strcmp(noted.word, word) == 0 && (pid == 0 || noted.pid == pid);
    MUST(fclose(log));
    return n;
}

/* The process of the latest line with the word. */
static pid_t
noted_last(const char *word)
{
    FILE *log = fopen(beside("log").text, "re");
    struct noted noted;
    pid_t pid = 0;

    MUST_BE(log != NULL);
    while (noted_next(log, &noted))
        if (strcmp(noted.word, word) == 0)
            pid = noted.pid;
    MUST(fclose(log));
    return pid;
}

/* -- Kinds of jobs -------------------------------------------------------- */

static void
note_job(struct rota_job *job)
{
    note(rota_job_kind(job), rota_job_id(job), rota_job_lease(job));
}

static enum rota_error
run_quick(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    note_job(job);
    return ROTA_OK;
}

/* Makes no progress until somebody makes the file "open". */
static enum rota_error
run_gate(struct ctx *ctx, struct rota_job *job)
{
    note_job(job);
    while (access(beside("open").text, F_OK) != 0)
        if (ctx_sleep(ctx, ROTA_MS(1)) != ROTA_OK) {
            note("told", rota_job_id(job), rota_job_lease(job));
            return ctx_err(ctx);
        }
    return ROTA_OK;
}

/* Does not listen to its context. */
static enum rota_error
run_deaf(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    note_job(job);
    while (access(beside("open").text, F_OK) != 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    return ROTA_CANCELED;
}

/* The first of a process waits until another process has begun one too. */
static enum rota_error
run_share(struct ctx *ctx, struct rota_job *job)
{
    static _Atomic bool met;

    note_job(job);
    while (!met && ctx_sleep(ctx, ROTA_MS(1)) == ROTA_OK)
        met = noted("share", 0) > noted("share", getpid());
    return ROTA_OK;
}

static enum rota_error
run_poison(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    note_job(job);
    (void)raise(SIGKILL);
    return ROTA_OK;
}

/* The same, but the first two times with a neighbour in its process. */
static enum rota_error
run_bully(struct ctx *ctx, struct rota_job *job)
{
    while (rota_job_lease(job) < 3 && noted("gate", getpid()) == 0)
        (void)ctx_sleep(ctx, ROTA_MS(1));
    return run_poison(ctx, job);
}

/* Makes no progress until somebody makes the file "go". */
static enum rota_error
run_climb(struct ctx *ctx, struct rota_job *job)
{
    note_job(job);
    while (access(beside("go").text, F_OK) != 0)
        if (ctx_sleep(ctx, ROTA_MS(1)) != ROTA_OK)
            return ctx_err(ctx);
    rota_job_advance(job, 1);
    return run_gate(ctx, job);
}

/* Gets further each time before it kills its process. */
static enum rota_error
run_crawl(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    note_job(job);
    if (rota_job_cursor(job) == 5)
        return ROTA_OK;
    MUST(rota_job_commit(job, rota_job_cursor(job) + 1));
    (void)raise(SIGKILL);
    return ROTA_OK;
}

/* Has a child that outlives it. */
static enum rota_error
run_fork(struct ctx *ctx, struct rota_job *job)
{
    if (noted("child", 0) == 0 && fork() == 0) {
        (void)alarm(100);
        note("child", 0, 0);
        (void)pause();
        _exit(0);
    }
    return run_gate(ctx, job);
}

/* Has a child that ends at once, as a library might. */
static enum rota_error
run_forks(struct ctx *ctx, struct rota_job *job)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    MUST_BE(waitpid(pid, NULL, 0) == pid);
    return run_gate(ctx, job);
}

/* Has a command that never ends, the first time. */
static enum rota_error
run_spawn(struct ctx *ctx, struct rota_job *job)
{
    static const char script[] = "echo $$ > command; exec sleep 1000";
    const char *argv[] = {"sh", "-c", script, NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;
    struct path folder = beside("");
    enum rota_error error = ROTA_OK;

    (void)ctx;
    note_job(job);
    process.dir = folder.text;
    if (rota_job_lease(job) == 1)
        error = rota_job_process(job, &process, &result);
    rota_process_result_fini(&result);
    return error;
}

static bool
handle_kinds(void)
{
    static const struct {
        const char *name;
        rota_job_fn *fn;
    } kinds[] = {
        {"quick", run_quick}, {"gate", run_gate},   {"deaf", run_deaf},
        {"share", run_share}, {"crawl", run_crawl}, {"poison", run_poison},
        {"climb", run_climb}, {"bully", run_bully}, {"fork", run_fork},
        {"forks", run_forks}, {"spawn", run_spawn}};
    bool ok = rota_handle(rota, "import", job_import.fn, NULL, NULL) == ROTA_OK;

    for (size_t i = 0; ok && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        ok = rota_handle(rota, kinds[i].name, kinds[i].fn, NULL, NULL) ==
             ROTA_OK;
    return ok;
}

/* -- Children ------------------------------------------------------------- */

static pid_t children[32];
static int n_children;
static int child_input = -1; /* what they read, if not nothing */

static pid_t
child_spawn(char *const *argv)
{
    posix_spawn_file_actions_t files;
    pid_t pid;

    MUST(posix_spawn_file_actions_init(&files));
    if (child_input >= 0)
        MUST(posix_spawn_file_actions_adddup2(&files, child_input, 0));
    else
        MUST(posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY,
                                              0));
    MUST(posix_spawn_file_actions_addopen(&files, 1, beside("output").text,
                                          O_WRONLY | O_CREAT | O_APPEND, 0600));
    MUST(posix_spawn_file_actions_adddup2(&files, 1, 2));
    ck_assert_int_eq(posix_spawn(&pid, self, &files, NULL, argv, environ), 0);
    MUST(posix_spawn_file_actions_destroy(&files));
    ck_assert_int_lt(n_children, 32);
    children[n_children++] = pid;
    return pid;
}

/* This program in a role, with the words that follow up to NULL. */
static pid_t
child_start(const char *role, ...)
{
    char *argv[24] = {self, (char *)role};
    va_list args;
    int n = 2;

    va_start(args, role);
    while (n < 23 && (argv[n] = va_arg(args, char *)) != NULL)
        n++;
    va_end(args);
    return child_spawn(argv);
}
#define ROTA_START(...) \
    child_start("--exec", rota_command, __VA_ARGS__, "--db", queue, NULL)

/* Its exit code, or the signal that ended it, negative. */
static int
child_await(pid_t pid)
{
    int status, i = 0;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    while (children[i] != pid)
        i++;
    children[i] = children[--n_children];
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *
child_output(void)
{
    static char text[4096];
    FILE *file = fopen(beside("output").text, "re");
    size_t n = file == NULL ? 0 : fread(text, 1, sizeof(text) - 1, file);

    text[n] = '\0';
    if (file != NULL)
        MUST(fclose(file));
    return text;
}

static void
child_ends_with(pid_t pid, int code)
{
    int ended = child_await(pid);

    ck_assert_msg(ended == code, "ended with %d instead of %d: %s", ended, code,
                  child_output());
}
#define ROTA_ENDS_WITH(code, ...) child_ends_with(ROTA_START(__VA_ARGS__), code)

static void
child_kill(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(child_await(pid), -SIGKILL);
}

/* Whether a process is between the transactions' gate and its end. */
static bool
somebody_writes(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    char path[300];
    int fd;

    (void)snprintf(path, sizeof(path), "%s-lock", queue);
    fd = open(path, O_RDWR | O_CLOEXEC);
    MUST_BE(fd >= 0);
    MUST(fcntl(fd, F_OFD_GETLK, &lock));
    MUST(close(fd));
    return lock.l_type != F_UNLCK;
}

/* Stop it, but not while all others must wait for it. */
static void
child_stop(pid_t pid)
{
    int status;

    for (;;) {
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
        ck_assert(WIFSTOPPED(status));
        if (!somebody_writes())
            return;
        ck_assert_int_eq(kill(pid, SIGCONT), 0);
    }
}

static void
children_kill(void)
{
    while (n_children > 0) {
        (void)kill(children[0], SIGKILL);
        (void)child_await(children[0]);
    }
}

static bool
works(pid_t pid)
{
    return sql_int(queue,
                   "SELECT count(*) FROM workers"
                   " WHERE pid = %d AND state = 'working'",
                   (int)pid) == 1;
}

/* A process with so many workers for all kinds, idle. */
static pid_t
worker_start(const char *threads)
{
    pid_t pid = child_start("--work", queue, threads, NULL);

    EVENTUALLY(works(pid));
    return pid;
}

static pid_t
rota_work_start(void)
{
    pid_t pid = ROTA_START("work", "-j", "1", "--grace", "10ms");

    EVENTUALLY(works(pid));
    return pid;
}

/* -- The stage ------------------------------------------------------------ */

static void
setup(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    scratch_make();
    (void)snprintf(queue, sizeof(queue), "%s", in_scratch("queue.db"));
    (void)snprintf(target, sizeof(target), "%s", in_scratch("target.db"));
    options.workers = 4;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert(handle_kinds());
}

static void
teardown(void)
{
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    children_kill();
    scratch_remove();
}

static void
work_here(void)
{
    ck_assert_int_eq(rota_start(ctx_background(), rota), ROTA_OK);
}

static int64_t
submit_with(const char *kind, const char *args, const char *batch,
            int64_t deadline)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT(kind);
    int64_t id = 0;

    s.args = args;
    s.args_size = strlen(args);
    s.batch = batch;
    s.deadline = deadline;
    ck_assert_int_eq(rota_submit(rota, &s, &id), ROTA_OK);
    return id;
}

static int64_t
submit(const char *kind)
{
    return submit_with(kind, "", NULL, 0);
}

/* Until the job has ended, wherever; outcome says how. */
static void
wait_for(int64_t id)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, LONG_ENOUGH);

    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_wait(ctx, rota, id, &outcome), ROTA_OK);
}

/* What the view says of the job: state, lease. */
static bool
stands(int64_t id, const char *where)
{
    return strcmp(sql_text(queue,
                           "SELECT state, lease FROM jobs WHERE id = %" PRId64,
                           id),
                  where) == 0;
}

static void
open_gate(void)
{
    scratch_write_text("open", "");
}

static int
running(void)
{
    return (int)sql_int(queue,
                        "SELECT count(*) FROM jobs WHERE state = 'running'");
}

/* -- An import that is stopped -------------------------------------------- */

#define ROWS 1000

static char file_word[160], into_word[160]; /* for the rota command */

/* A first run takes its time at each row: it is in the middle for long. */
static void
import_prepare(void)
{
    scratch_write_rows("list.csv", ROWS);
    sql_run(target,
            "CREATE TABLE t(id INTEGER, text TEXT); CREATE TABLE n(x);"
            "INSERT INTO n WITH c(i) AS (SELECT 1 UNION ALL SELECT i + 1"
            " FROM c WHERE i < 600) SELECT i FROM c;"
            "CREATE TRIGGER slow AFTER INSERT ON t WHEN (SELECT lease"
            " FROM _rota_cursor ORDER BY job DESC LIMIT 1) = 1"
            " BEGIN SELECT count(*) FROM n a, n b; END");
    (void)snprintf(file_word, sizeof(file_word), "file=%s",
                   in_scratch("list.csv"));
    (void)snprintf(into_word, sizeof(into_word), "into=%s", target);
}

static int64_t
import_submit(int64_t deadline)
{
    char args[512];

    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"t\","
                   "\"group\":\"2\"}",
                   in_scratch("list.csv"), target);
    return submit_with("import", args, NULL, deadline);
}

static void
import_await_middle(void)
{
    EVENTUALLY(sql_int(queue, "SELECT coalesce(max(done), 0) FROM jobs") > 0);
}

static int64_t
import_midway(void)
{
    int64_t id = import_submit(0);

    import_await_middle();
    return id;
}

/* The rows up to the cursor are there, each once, and no others. */
static void
check_rows(int64_t id)
{
    int cursor = (int)sql_int(
        target, "SELECT cursor FROM _rota_cursor WHERE job = %" PRId64, id);
    char expected[64];

    ck_assert_int_gt(cursor, 0);
    ck_assert_int_lt(cursor, ROWS);
    (void)snprintf(expected, sizeof(expected), "%d|%d|%d", cursor, cursor,
                   cursor);
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id), max(id) FROM t"),
        expected);
    ck_assert_int_eq(
        sql_int(queue, "SELECT done FROM jobs WHERE id = %" PRId64, id),
        cursor);
}

/* It has ended so, in the middle, for good. */
static void
check_stopped(int64_t id, const char *how)
{
    wait_for(id);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(sql_text(queue,
                                  "SELECT state, error, cause, cancel_reason,"
                                  " lease FROM jobs WHERE id = %" PRId64,
                                  id),
                         how);
        check_rows(id);
        ck_assert_int_eq(running(), 0);
        ROTA_ENDS_WITH(0, "resume");
    }
}

/* It was given back in the middle, uncharged; another process ends it. */
static void
check_given_back(int64_t id)
{
    EVENTUALLY(stands(id, "ready|1"));
    ck_assert_str_eq(sql_text(queue,
                              "SELECT status, attempt, failures, crashes,"
                              " error FROM jobs WHERE id = %" PRId64,
                              id),
                     "resumable|0|0|0|NULL");
    check_rows(id);
    ck_assert_int_eq(running(), 0);
    ROTA_ENDS_WITH(0, "resume");
    ck_assert_str_eq(sql_text(queue, "SELECT lease, outcome, error"
                                     " FROM attempts ORDER BY lease"),
                     "1|interrupted|NULL\n2|succeeded|NULL");
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id), max(id) FROM t"),
        "1000|1000|1000");
    ck_assert(stands(id, "succeeded|2"));
}

static void
stop_by_sql(int64_t id)
{
    sql_run(queue,
            "INSERT INTO cancel(job, reason) VALUES(%" PRId64
            ", 'not this one')",
            id);
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

static void
stop_by_command(int64_t id)
{
    char word[24];

    (void)snprintf(word, sizeof(word), "%" PRId64, id);
    ROTA_ENDS_WITH(0, "cancel", word, "not this one");
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

static void
stop_by_call(int64_t id)
{
    enum rota_cancel_answer answer;

    ck_assert_int_eq(rota_cancel(rota, id, "not this one", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_REQUESTED);
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

/* On a machine that was too slow to begin in time, once more with more. */
static void
stop_by_deadline(void)
{
    int64_t id, time = 500;

    do {
        id = import_submit(machine_clock(NULL) + time);
        wait_for(id);
        time *= 4;
    } while (outcome.cursor == 0 && time < 100000);
    check_stopped(id, "failed|DEADLINE|its deadline passed|NULL|1");
}

START_TEST(plain_sql_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_sql(import_midway());
}
END_TEST

START_TEST(the_command_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_command(import_midway());
}
END_TEST

START_TEST(a_call_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_call(import_midway());
}
END_TEST

START_TEST(its_deadline_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_deadline();
}
END_TEST

START_TEST(sigint_to_rota_run_gives_the_import_back)
{
    pid_t pid;

    import_prepare();
    pid =
        ROTA_START("run", "import", file_word, into_word, "table=t", "group=2");
    import_await_middle();
    ck_assert_int_eq(kill(pid, SIGINT), 0);
    child_ends_with(pid, 130);
    check_given_back(1);
}
END_TEST

START_TEST(sigterm_to_rota_work_gives_the_import_back)
{
    pid_t pid;
    int64_t id;

    import_prepare();
    pid = rota_work_start();
    id = import_midway();
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    child_ends_with(pid, 0);
    check_given_back(id);
}
END_TEST

START_TEST(plain_sql_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_sql(import_midway());
}
END_TEST

START_TEST(the_command_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_command(import_midway());
}
END_TEST

START_TEST(a_call_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_call(import_midway());
}
END_TEST

START_TEST(its_deadline_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_deadline();
}
END_TEST

static struct ctx *
ctx_with_signal(int number)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, number);
    return ctx_with_signals(NULL, &signals);
}

START_TEST(ctrl_c_gives_an_import_here_back)
{
    CTX_AUTO struct ctx *ctx = NULL;
    int64_t id;

    (void)signal(SIGINT, SIG_DFL); /* a shell's background has it ignored */
    ctx = ctx_with_signal(SIGINT);
    import_prepare();
    ck_assert_int_eq(rota_start(ctx, rota), ROTA_OK);
    id = import_midway();
    (void)raise(SIGINT);
    check_given_back(id);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
}
END_TEST

/* -- Submitting ----------------------------------------------------------- */

/* Work here until it is idle. */
static void
be_idle_here(void)
{
    work_here();
    wait_for(submit("quick"));
    EVENTUALLY(running() == 0);
}

START_TEST(what_another_process_submits_is_taken_up_by_an_idle_worker)
{
    be_idle_here();
    child_ends_with(child_start("--submit", queue, "quick", NULL), 0);
    WITHIN(A_SECOND, noted("quick", getpid()) == 2);
    EVENTUALLY(stands(2, "succeeded|1"));
}
END_TEST

START_TEST(what_plain_sql_submits_is_taken_up_by_an_idle_worker)
{
    be_idle_here();
    ck_assert_int_eq(
        sql_int(queue, "INSERT INTO submit(kind) VALUES('quick') RETURNING id"),
        2);
    WITHIN(A_SECOND, noted("quick", getpid()) == 2);
    EVENTUALLY(stands(2, "succeeded|1"));
}
END_TEST

START_TEST(what_the_command_adds_is_taken_up_by_an_idle_worker)
{
    import_prepare();
    be_idle_here();
    ROTA_ENDS_WITH(0, "add", "import", file_word, into_word, "table=quick");
    WITHIN(A_SECOND, stands(2, "succeeded|1"));
    ck_assert_int_eq(sql_int(target, "SELECT count(*) FROM quick"), ROWS);
}
END_TEST

START_TEST(what_another_process_schedules_is_taken_up_when_it_is_due)
{
    be_idle_here();
    sql_run(queue,
            "INSERT INTO submit(kind, run_at) VALUES('quick', %" PRId64 ")",
            machine_clock(NULL) + 200);
    WITHIN(A_SECOND, stands(2, "succeeded|1"));
    ck_assert_int_eq(sql_int(queue, "SELECT started_at >= run_at FROM jobs"
                                    " WHERE id = 2"),
                     1);
}
END_TEST

START_TEST(a_submit_in_a_transaction_that_dies_leaves_no_job)
{
    pid_t pid;

    be_idle_here();
    pid = child_start("--half", queue, NULL);
    EVENTUALLY(noted("half", pid) == 1);
    child_kill(pid);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
    wait_for(submit("quick"));
    ck_assert_str_eq(sql_text(queue, "SELECT id, state FROM jobs"),
                     "1|succeeded\n2|succeeded");
    ck_assert_int_eq(noted("quick", 0), 2);
}
END_TEST

/* -- Waiting without working ---------------------------------------------- */

/* A call that waits, in a thread of its own. */
struct sitting {
    struct ctx *ctx;
    int64_t id;
    const char *kind;
    enum rota_error error;
    struct rota_outcome outcome;
};

static void *
wait_in_thread(void *arg)
{
    struct sitting *waiting = arg;

    waiting->error =
        rota_wait(waiting->ctx, rota, waiting->id, &waiting->outcome);
    return NULL;
}

static void *
run_in_thread(void *arg)
{
    struct sitting *waiting = arg;
    struct rota_submission s = ROTA_SUBMISSION_INIT(waiting->kind);

    waiting->error = rota_run(waiting->ctx, rota, &s, &waiting->outcome);
    return NULL;
}

static bool
somebody_waits(void)
{
    bool waits;

    lock_take(&rota->lock);
    waits = !list_is_empty(&rota->waiters);
    lock_drop(&rota->lock);
    return waits;
}

START_TEST(a_wait_without_a_worker_ends_with_the_job_of_another_process)
{
    struct sitting waiting = {.outcome = ROTA_OUTCOME_INIT};
    pthread_t thread;

    (void)worker_start("1");
    waiting.id = submit("gate");
    thread = thread_new(wait_in_thread, &waiting);
    AWAIT(somebody_waits());
    EVENTUALLY(noted("gate", 0) == 1);
    open_gate();
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.outcome.state, ROTA_SUCCEEDED);
}
END_TEST

START_TEST(a_run_without_a_worker_is_run_by_another_process)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("quick");
    pid_t pid = worker_start("1");

    outcome = (struct rota_outcome)ROTA_OUTCOME_INIT;
    ck_assert_int_eq(rota_run(NULL, rota, &s, &outcome), ROTA_OK);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(noted("quick", pid), 1);
}
END_TEST

START_TEST(when_the_caller_of_a_run_is_done_so_is_the_job_in_another_process)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct sitting waiting = {
        .ctx = ctx, .kind = "gate", .outcome = ROTA_OUTCOME_INIT};
    pid_t pid = worker_start("1");
    pthread_t thread = thread_new(run_in_thread, &waiting);

    EVENTUALLY(noted("gate", pid) == 1);
    ck_assert(ctx_cancel_cause(ctx, "changed my mind"));
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(waiting.outcome.message, "changed my mind");
    ck_assert_int_eq(noted("told", pid), 1);
}
END_TEST

/* -- Dying ---------------------------------------------------------------- */

/* Another process with n jobs that have begun. */
static pid_t
worker_with(const char *kind, int n)
{
    char threads[12];
    pid_t pid;

    (void)snprintf(threads, sizeof(threads), "%d", n);
    pid = worker_start(threads);
    for (int i = 0; i < n; i++)
        (void)submit(kind);
    EVENTUALLY(noted(kind, pid) == n);
    return pid;
}

START_TEST(the_jobs_of_a_killed_process_go_on_in_another_within_a_second)
{
    pid_t pid = worker_with("gate", 4);

    work_here();
    ck_assert_int_eq(kill(pid, SIGKILL), 0); /* and is not waited for yet */
    WITHIN(A_SECOND, noted("gate", getpid()) == 4);
    ck_assert_str_eq(sql_text(queue,
                              "SELECT DISTINCT state, lease, crashes, failures"
                              " FROM jobs"),
                     "running|2|1|0");
    ck_assert_str_eq(sql_text(queue,
                              "SELECT count(*), w.pid = %d FROM attempts a"
                              " JOIN workers w ON w.id = a.worker"
                              " WHERE a.outcome = 'crashed' AND a.lease = 1"
                              " GROUP BY 2",
                              (int)pid),
                     "4|1");
    open_gate();
    for (int64_t id = 1; id <= 4; id++)
        wait_for(id);
    ck_assert_int_eq(noted("gate", 0), 8);
    ck_assert_int_eq(child_await(pid), -SIGKILL);
}
END_TEST

START_TEST(a_process_that_only_waits_makes_the_jobs_of_a_dead_one_ready_again)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, ROTA_MS(1));
    pid_t pid = worker_with("gate", 1);

    ck_assert_int_eq(rota_wait(ctx, rota, 1, NULL), ROTA_DEADLINE);
    child_kill(pid);
    WITHIN(A_SECOND, stands(1, "ready|1"));
}
END_TEST

START_TEST(when_all_are_dead_the_next_to_start_has_their_jobs_at_once)
{
    pid_t one = worker_with("gate", 2), other = worker_start("1");

    (void)submit("gate");
    EVENTUALLY(noted("gate", other) == 1);
    child_stop(other); /* it would take over what the first leaves */
    child_kill(one);
    child_kill(other);
    ck_assert_int_eq(running(), 3);
    work_here();
    ck_assert_int_eq(sql_int(queue,
                             "SELECT count(*) FROM jobs j JOIN workers w"
                             " ON w.id = j.worker WHERE w.pid <> %d",
                             (int)getpid()),
                     0);
    EVENTUALLY(noted("gate", getpid()) == 3);
}
END_TEST

START_TEST(a_job_whose_process_died_after_a_cancel_is_cancelled)
{
    pid_t pid = worker_with("deaf", 1);

    ck_assert_int_eq(rota_cancel(rota, 1, "enough", NULL), ROTA_OK);
    child_kill(pid);
    work_here();
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "enough");
    ck_assert_int_eq(noted("deaf", 0), 1);
}
END_TEST

START_TEST(a_job_whose_process_died_after_its_deadline_has_failed)
{
    pid_t pid = worker_with("deaf", 1);

    sql_run(queue, "UPDATE _job SET deadline_at = 1"); /* as if it had been */
    child_kill(pid);
    work_here();
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, ROTA_DEADLINE);
    ck_assert_str_eq(outcome.message, "its deadline passed");
    ck_assert_int_eq(noted("deaf", 0), 1);
}
END_TEST

/* Let workers of two threads come and die so often. */
static void
workers_die(int times)
{
    for (int i = 0; i < times; i++)
        ck_assert_int_eq(child_await(child_start("--work", queue, "2", NULL)),
                         -SIGKILL);
}

START_TEST(a_job_that_kills_its_process_three_times_is_poison)
{
    (void)submit("poison");
    workers_die(3);
    work_here();
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_int_eq(outcome.error, ROTA_FATAL);
    ck_assert_int_eq(strncmp(outcome.message, "poison", 6), 0);
    ck_assert_str_eq(sql_text(queue, "SELECT lease, outcome, error"
                                     " FROM attempts ORDER BY lease"),
                     "1|crashed|LOST\n2|crashed|LOST\n3|failed|FATAL");
    ck_assert_int_eq(noted("poison", 0), 3);
}
END_TEST

START_TEST(a_job_that_gets_further_before_it_kills_its_process_is_not_poison)
{
    (void)submit("crawl");
    workers_die(5);
    work_here();
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(outcome.cursor, 5);
    ck_assert_int_eq(noted("crawl", 0), 6);
    ck_assert_int_eq(sql_int(queue, "SELECT crashes FROM jobs"), 1);
}
END_TEST

START_TEST(a_neighbour_of_poison_is_not_blamed)
{
    (void)submit("bully");
    (void)submit("gate");
    workers_die(3);
    ck_assert_int_eq(noted("gate", 0), 2); /* the third time it was alone */
    open_gate();
    work_here();
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    wait_for(2);
    ck_assert_msg(outcome.state == ROTA_SUCCEEDED, "%s", outcome.message);
}
END_TEST

/* Another process, in which the job that waits has begun. */
static pid_t
worker_begins(const char *kind)
{
    pid_t pid = worker_start("1");

    EVENTUALLY(noted(kind, pid) == 1);
    return pid;
}

START_TEST(a_job_that_was_there_at_two_deaths_runs_alone_from_then_on)
{
    (void)submit("gate");
    child_kill(worker_begins("gate"));
    child_kill(worker_begins("gate"));
    work_here();
    EVENTUALLY(noted("gate", getpid()) == 1);
    for (int i = 0; i < 3; i++)
        (void)submit("gate"); /* and claim what may be, before it returns */
    ck_assert_int_eq(running(), 1);
    open_gate();
    for (int64_t id = 1; id <= 4; id++)
        wait_for(id);
    ck_assert_int_eq(
        sql_int(queue, "SELECT min(started_at) >= (SELECT finished_at FROM jobs"
                       " WHERE id = 1) FROM jobs WHERE id > 1"),
        1);
}
END_TEST

START_TEST(a_job_that_gets_further_is_alone_no_more)
{
    (void)submit("climb");
    child_kill(worker_begins("climb"));
    child_kill(worker_begins("climb"));
    work_here();
    EVENTUALLY(noted("climb", getpid()) == 1);
    (void)submit("quick");
    ck_assert(stands(2, "ready|0"));
    scratch_write_text("go", "");
    wait_for(2);
    ck_assert(stands(1, "running|3"));
}
END_TEST

START_TEST(a_job_that_must_run_alone_waits_until_its_process_has_no_other)
{
    pid_t pid;

    (void)submit("gate");
    child_kill(worker_begins("gate"));
    pid = worker_begins("gate");
    work_here();
    (void)submit("gate");
    EVENTUALLY(noted("gate", getpid()) == 1);
    child_kill(pid);
    EVENTUALLY(stands(1, "ready|2"));
    (void)submit("quick"); /* and claim what may be, before it returns */
    ck_assert(stands(1, "ready|2"));
    open_gate();
    wait_for(1);
    ck_assert(stands(1, "succeeded|3"));
    ck_assert_int_eq(
        sql_int(queue, "SELECT started_at >= (SELECT finished_at FROM jobs"
                       " WHERE id = 2) FROM jobs WHERE id = 1"),
        1);
}
END_TEST

/* -- Being stopped -------------------------------------------------------- */

/* For so long, and twice at least, have others look for dead processes: job 1
 * stays whose it is. */
static void
check_kept(int64_t time)
{
    const char *const whose = "SELECT state, lease, worker FROM jobs"
                              " WHERE id = 1";
    int64_t until = ctx_now() + time;
    char before[64];

    (void)snprintf(before, sizeof(before), "%s", sql_text(queue, "%s", whose));
    ck_assert(stands(1, "running|1"));
    for (int i = 0; i < 2 || ctx_now() < until; i++) {
        ROTA_ENDS_WITH(0, "resume");
        ck_assert_str_eq(sql_text(queue, "%s", whose), before);
    }
}

START_TEST(a_stopped_process_keeps_its_jobs_and_goes_on_with_them)
{
    pid_t pid = worker_with("gate", 1);

    child_stop(pid);
    work_here();
    check_kept(ROTA_MS(1500));
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    open_gate();
    wait_for(1);
    ck_assert(stands(1, "succeeded|1"));
    ck_assert_int_eq(noted("gate", 0), 1);
}
END_TEST

START_TEST(the_death_of_a_stopped_process_is_noticed)
{
    pid_t pid = worker_with("gate", 1);

    child_stop(pid);
    work_here();
    child_kill(pid);
    WITHIN(A_SECOND, noted("gate", getpid()) == 1);
}
END_TEST

static _Atomic int64_t jump; /* of the wall clock, in milliseconds */

static int64_t
jumping_clock(void *arg)
{
    return machine_clock(arg) + jump;
}

/* Have this process begin anew, under a clock that jumps. */
static void
reopen_under_jumps(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    options.workers = 4;
    options.clock = jumping_clock;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert(handle_kinds());
    work_here();
}

/* As when a machine sleeps, or its time is set. */
START_TEST(a_key_is_its_holders_while_that_is_stopped_and_the_clock_jumps)
{
    static const int64_t jumps[] = {0, 3600000, -3600000, 0};
    struct rota_submission s = ROTA_SUBMISSION_INIT("gate");
    pid_t pid = worker_start("1");

    s.limit_key = "one at a time";
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    EVENTUALLY(noted("gate", pid) == 1);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_OK);
    child_stop(pid);
    reopen_under_jumps();
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        jump = jumps[i];
        check_kept(0);
        ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
        wait_for(submit("quick")); /* whatever may be claimed was */
        ck_assert_int_eq(noted("gate", 0), 1);
        ck_assert(stands(2, "ready|0"));
    }
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    open_gate();
    wait_for(1);
    wait_for(2);
    ck_assert(stands(1, "succeeded|1"));
    ck_assert(stands(2, "succeeded|1"));
}
END_TEST

/* -- Forking -------------------------------------------------------------- */

START_TEST(a_forked_child_that_exits_leaves_its_parent_alive)
{
    pid_t pid;

    work_here();
    (void)submit("gate");
    EVENTUALLY(noted("gate", 0) == 1);
    pid = fork();
    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    check_kept(0);
    open_gate();
    wait_for(1);
    ck_assert(stands(1, "succeeded|1"));
}
END_TEST

START_TEST(a_forked_child_does_not_keep_its_dead_parent_alive)
{
    pid_t pid = worker_with("fork", 1);

    EVENTUALLY(noted("child", 0) == 1);
    work_here();
    child_kill(pid);
    ck_assert_int_eq(kill(noted_last("child"), 0), 0);
    WITHIN(A_SECOND, noted("fork", getpid()) == 1);
    ck_assert_int_eq(kill(noted_last("child"), SIGKILL), 0);
}
END_TEST

START_TEST(a_job_that_forks_keeps_its_process_alive_and_then_nobodys_lock)
{
    pid_t pid = worker_with("forks", 1);

    work_here();
    check_kept(0);
    child_kill(pid);
    WITHIN(A_SECOND, noted("forks", getpid()) == 1);
    open_gate();
    wait_for(1);
    ck_assert(stands(1, "succeeded|2"));
}
END_TEST

/* Whether the command of a job runs: not whether anybody has buried it. */
static bool
command_lives(void)
{
    FILE *file = fopen(beside("command").text, "re");
    char path[64], state = 'Z';
    int pid = 0;

    if (file == NULL)
        return false;
    (void)!fscanf(file, "%d", &pid);
    MUST(fclose(file));
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    file = fopen(path, "re");
    if (pid == 0 || file == NULL)
        return false;
    (void)!fscanf(file, "%*d %*s %c", &state);
    MUST(fclose(file));
    return state != 'Z' && state != 'X';
}

START_TEST(the_command_of_a_job_keeps_no_lock_and_ends_before_the_job_goes_on)
{
    pid_t pid = worker_with("spawn", 1);

    EVENTUALLY(command_lives());
    work_here();
    check_kept(0);
    ck_assert(command_lives());
    child_kill(pid);
    WITHIN(A_SECOND, noted("spawn", getpid()) == 1);
    EVENTUALLY(!command_lives());
    wait_for(1);
    ck_assert(stands(1, "succeeded|2"));
}
END_TEST

/* -- Sharing -------------------------------------------------------------- */

/* Each of n jobs was begun once, in its first run, by one of the two. */
static void
check_shared(int n, pid_t one, pid_t other)
{
    char *begun = calloc((size_t)n + 1, 1);
    FILE *log = fopen(beside("log").text, "re");
    struct noted noted;
    int lines = 0;

    ck_assert(begun != NULL && log != NULL);
    for (; noted_next(log, &noted); lines++) {
        ck_assert(noted.id >= 1 && noted.id <= n);
        ck_assert_int_eq(begun[noted.id]++, 0);
        ck_assert_int_eq(noted.lease, 1);
        ck_assert(noted.pid == one || noted.pid == other);
    }
    ck_assert_int_eq(lines, n);
    ck_assert_int_eq(fclose(log), 0);
    free(begun);
}

START_TEST(two_processes_share_the_work_and_run_each_job_once)
{
    enum { N = MANY(2000) };
    struct rota_submission *all = calloc(N, sizeof(*all));
    pid_t one = worker_start("1"), other = worker_start("2");

    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < N; i++)
        all[i] = (struct rota_submission)ROTA_SUBMISSION_INIT("share");
    ck_assert_int_eq(rota_submit_many(rota, all, N, NULL), ROTA_OK);
    free(all);
    EVENTUALLY(
        sql_int(queue, "SELECT count(*) FROM jobs WHERE state = 'succeeded'") ==
        N);
    check_shared(N, one, other);
    ck_assert_int_gt(noted("share", one), 0);
    ck_assert_int_gt(noted("share", other), 0);
    ck_assert_int_eq(kill(one, SIGTERM), 0);
    child_ends_with(one, 0);
}
END_TEST

START_TEST(the_view_workers_says_who_lives_and_what_became_of_the_others)
{
    const char *const view = "SELECT state, threads, running, ended_at IS NULL"
                             " FROM workers ORDER BY id";
    pid_t one = worker_with("gate", 2), other = worker_start("3");

    work_here();
    ck_assert_str_eq(sql_text(queue, "%s", view),
                     "working|2|2|1\nworking|3|0|1\nworking|4|0|1");
    ck_assert_int_eq(kill(other, SIGTERM), 0);
    child_ends_with(other, 0);
    child_kill(one);
    WITHIN(A_SECOND, !works(one));
    EVENTUALLY(noted("gate", getpid()) == 2);
    ck_assert_str_eq(sql_text(queue, "%s", view),
                     "died|2|0|0\nleft|3|0|0\nworking|4|2|1");
}
END_TEST

START_TEST(the_view_batches_counts_what_other_processes_do)
{
    const char *const view =
        "SELECT batch, jobs, scheduled, ready, running, succeeded, failed,"
        " cancelled FROM batches ORDER BY batch";

    (void)submit_with("quick", "", "a", 0);
    (void)submit_with("quick", "", "a", 0);
    (void)submit_with("gate", "", "a", 0);
    (void)submit_with("import", "no arguments", "a", 0);
    (void)submit_with("gate", "", "b", 0);
    sql_run(queue, "INSERT INTO submit(kind, batch, run_at)"
                   " VALUES('quick', 'b', 99999999999999)");
    ck_assert_str_eq(sql_text(queue, "%s", view),
                     "a|4|0|4|0|0|0|0\nb|2|1|1|0|0|0|0");
    (void)worker_start("2");
    EVENTUALLY(noted("gate", 0) == 2);
    ck_assert_int_eq(rota_cancel(rota, 5, NULL, NULL), ROTA_OK);
    wait_for(5);
    wait_for(4);
    ck_assert_str_eq(sql_text(queue, "%s", view),
                     "a|4|0|0|1|2|1|0\nb|2|1|0|0|0|0|1");
}
END_TEST

/* -- The same file -------------------------------------------------------- */

/* Start two that open a new queue at the same moment. */
static void
open_together(const char *path)
{
    int gate[2];
    pid_t pids[2];

    ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
    child_input = gate[0];
    (void)unlink(beside("log").text);
    for (int i = 0; i < 2; i++)
        pids[i] = child_start("--open", path, NULL);
    child_input = -1;
    EVENTUALLY(noted("here", 0) == 2);
    ck_assert_int_eq(close(gate[0]) + close(gate[1]), 0);
    for (int i = 0; i < 2; i++)
        child_ends_with(pids[i], 0);
}

START_TEST(two_processes_that_make_a_queue_at_once_make_one_that_is_whole)
{
    char name[24];

    for (int round = 0; round < (IS_SANITIZED ? 5 : 20); round++) {
        const char *path;

        (void)snprintf(name, sizeof(name), "new%d.db", round);
        path = in_scratch(name);
        open_together(path);
        ck_assert_str_eq(sql_text(path, "PRAGMA integrity_check"), "ok");
        ck_assert_int_eq(sql_int(path, "PRAGMA user_version"), SCHEMA_VERSION);
        ck_assert_str_eq(sql_text(path, "SELECT id, kind, state FROM jobs"),
                         "1|quick|ready\n2|quick|ready");
        ck_assert_int_eq(
            sql_int(path, "SELECT count(*) FROM _meta WHERE key = 'instance'"),
            1);
    }
}
END_TEST

/* The path from where we are. */
static void
make_relative(char *text, size_t size, const char *path)
{
    char folder[4096];
    size_t used = 0;

    ck_assert_ptr_nonnull(getcwd(folder, sizeof(folder)));
    for (const char *at = folder; (at = strchr(at, '/')) != NULL; at++)
        used += (size_t)snprintf(text + used, size - used, "../");
    (void)snprintf(text + used - 1, size - used + 1, "%s", path);
}

START_TEST(a_queue_is_the_same_by_all_of_its_names)
{
    char real[300];
    pid_t pid;

    (void)snprintf(real, sizeof(real), "%s", queue);
    ck_assert_int_eq(symlink(real, in_scratch("link")), 0);
    (void)snprintf(queue, sizeof(queue), "%s", in_scratch("link"));
    pid = worker_with("gate", 1);
    make_relative(queue, sizeof(queue), real);
    work_here();
    check_kept(0); /* others look for dead ones by the relative name */
    ck_assert_int_ne(access(in_scratch("link-lock"), F_OK), 0);
    ck_assert_int_eq(access(in_scratch("queue.db-lock"), F_OK), 0);
    child_kill(pid);
    WITHIN(A_SECOND, noted("gate", getpid()) == 1);
}
END_TEST

START_TEST(a_queue_whose_lock_file_was_removed_loses_no_row_and_doubles_none)
{
    pid_t pid;
    int64_t id;

    import_prepare();
    pid = rota_work_start();
    id = import_midway();
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    ck_assert_int_eq(unlink(in_scratch("queue.db-lock")), 0);
    ck_assert_int_eq(rota_open(queue, NULL, &rota), ROTA_OK); /* a new one */
    child_ends_with(pid, 125);
    ROTA_ENDS_WITH(0, "resume");
    wait_for(id);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id), max(id) FROM t"),
        "1000|1000|1000");
}
END_TEST

/* -- A foreign client that has the lock ----------------------------------- */

static sqlite3 *
foreign_lock(void)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(queue, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_busy_timeout(db, 20000), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    return db;
}

static void
foreign_unlock(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static void *
submit_in_thread(void *arg)
{
    struct sitting *waiting = arg;
    struct rota_submission s = ROTA_SUBMISSION_INIT(waiting->kind);

    waiting->error = rota_submit(rota, &s, &waiting->id);
    return NULL;
}

static void *
cancel_in_thread(void *arg)
{
    struct sitting *waiting = arg;

    waiting->error = rota_cancel(rota, waiting->id, "now", NULL);
    return NULL;
}

START_TEST(a_submit_waits_for_a_foreign_client_and_then_succeeds)
{
    struct sitting waiting = {.kind = "quick"};
    sqlite3 *db = foreign_lock();
    pthread_t thread = thread_new(submit_in_thread, &waiting);

    AWAIT(somebody_writes());
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.id, 1);
    ck_assert(stands(1, "ready|0"));
}
END_TEST

START_TEST(a_cancel_reaches_a_job_here_while_a_foreign_client_has_the_lock)
{
    struct sitting waiting = {.id = 1};
    pthread_t thread;
    sqlite3 *db;

    work_here();
    (void)submit("gate");
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    thread = thread_new(cancel_in_thread, &waiting);
    EVENTUALLY(noted("told", 0) == 1);
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "now");
}
END_TEST

START_TEST(so_does_the_end_of_the_context_that_it_is_run_under)
{
    CTX_AUTO struct ctx *ctx = ctx_with_cancel(NULL);
    struct sitting waiting = {
        .ctx = ctx, .kind = "gate", .outcome = ROTA_OUTCOME_INIT};
    pthread_t thread;
    sqlite3 *db;

    work_here();
    thread = thread_new(run_in_thread, &waiting);
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    (void)ctx_cancel_cause(ctx, "enough");
    EVENTUALLY(noted("told", 0) == 1);
    foreign_unlock(db);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_OK);
    ck_assert_int_eq(waiting.outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(waiting.outcome.message, "enough");
}
END_TEST

/* Whether a request of this kind waits for whoever has the writer's role. */
static bool
is_asked(enum request_kind kind)
{
    bool asked = false;

    lock_take(&rota->lock);
    for (struct link *l = rota->requests.next; l != &rota->requests;
         l = l->next)
        asked |= OWNER_OF(l, struct request, on_requests)->kind == kind;
    lock_drop(&rota->lock);
    return asked;
}

static bool
role_is_taken(void)
{
    bool is_free;

    lock_take(&rota->lock);
    is_free = !rota->writing;
    rota->writing = true;
    lock_drop(&rota->lock);
    return is_free;
}

static void
role_give_back(void)
{
    lock_take(&rota->lock);
    rota->writing = false;
    rota->poked = true;
    MUST(pthread_cond_signal(&rota->work));
    lock_drop(&rota->lock);
}

/* Both in one transaction, which would claim it. */
START_TEST(a_cancel_right_behind_a_submit_is_in_time)
{
    struct sitting calls[] = {{.kind = "gate"}, {.id = 1}};
    pthread_t threads[2];

    work_here();
    AWAIT(role_is_taken());
    threads[0] = thread_new(submit_in_thread, &calls[0]);
    AWAIT(is_asked(REQUEST_SUBMIT));
    threads[1] = thread_new(cancel_in_thread, &calls[1]);
    AWAIT(is_asked(REQUEST_CANCEL));
    role_give_back();
    for (int i = 0; i < 2; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(calls[i].error, ROTA_OK);
    }
    ck_assert_int_eq(calls[0].id, 1);
    ck_assert(stands(1, "cancelled|0"));
    ck_assert_int_eq(noted("gate", 0), 0);
}
END_TEST

/* Each request waits for five seconds, one after the other. */
START_TEST(what_a_foreign_client_does_not_let_through_is_refused)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("quick");
    struct sitting waiting = {.id = 1};
    int64_t id = 77;
    pthread_t thread;
    sqlite3 *db;

    work_here();
    (void)submit("gate");
    EVENTUALLY(noted("gate", 0) == 1);
    db = foreign_lock();
    thread = thread_new(cancel_in_thread, &waiting);
    EVENTUALLY(noted("told", 0) == 1);
    ck_assert_int_eq(rota_submit(rota, &s, &id), ROTA_BUSY);
    ck_assert_int_eq(id, 77);
    (void)thread_join(thread);
    ck_assert_int_eq(waiting.error, ROTA_BUSY);
    foreign_unlock(db);
    /* the cancel was not recorded, but told; what became of the job waited */
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_CANCELLED);
    ck_assert_str_eq(outcome.message, "now");
    ck_assert_int_eq(submit("quick"), 2);
    wait_for(2);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 2);
}
END_TEST

/* -- Roles of this program ------------------------------------------------ */

/* --work QUEUE THREADS: run what comes until SIGTERM. */
static bool
role_work(char *const *words)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    CTX_AUTO struct ctx *ctx = ctx_with_signal(SIGTERM);

    options.workers = atoi(words[0]);
    if (rota_open(queue, &options, &rota) != ROTA_OK || !handle_kinds() ||
        rota_start(ctx_background(), rota) != ROTA_OK)
        return false;
    /* ThreadSanitizer gives signals to nobody who sleeps for good */
    while (ctx_wait(ctx, ctx_now() + ROTA_MS(50)) == ROTA_TIMEOUT)
        continue;
    return rota_close(rota) == ROTA_OK;
}

/* --submit QUEUE KIND */
static bool
role_submit(char *const *words)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT(words[0]);

    return rota_open(queue, NULL, &rota) == ROTA_OK &&
           rota_submit(rota, &s, NULL) == ROTA_OK &&
           rota_close(rota) == ROTA_OK;
}

/* --open QUEUE: when the standard input ends. */
static bool
role_open(char *const *words)
{
    char *const kind[] = {(char *)"quick"};
    char byte;

    (void)words;
    note("here", 0, 0);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return role_submit(kind);
}

/* --half QUEUE: submit, and never commit. */
static bool
role_half(char *const *words)
{
    sqlite3 *db;

    (void)words;
    if (sqlite3_open(queue, &db) != SQLITE_OK ||
        sqlite3_busy_timeout(db, 20000) != SQLITE_OK ||
        sqlite3_exec(db,
                     "BEGIN IMMEDIATE;"
                     "INSERT INTO submit(kind) VALUES('quick')",
                     NULL, NULL, NULL) != SQLITE_OK)
        return false;
    note("half", 0, 0);
    (void)pause();
    return false;
}

/* --exec PROGRAM WORD...: become it. */
static bool
role_exec(char *const *words)
{
    (void)execv(words[-1], words - 1);
    return false;
}

static bool
play(const char *role, char *const *words)
{
    static const struct {
        const char *name;
        bool (*play)(char *const *words);
    } roles[] = {{"--work", role_work},
                 {"--submit", role_submit},
                 {"--open", role_open},
                 {"--half", role_half},
                 {"--exec", role_exec}};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL); /* a shell's background has them ignored */
    (void)signal(SIGTERM, SIG_DFL);
    (void)snprintf(queue, sizeof(queue), "%s", words[0]);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(roles[i].name, role) == 0)
            return roles[i].play(words + 1);
    return false;
}

/* -- Suite ---------------------------------------------------------------- */

static TCase *
add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static void
add_stop(TCase *tcase)
{
    tcase_add_test(tcase, plain_sql_stops_an_import_in_another_process);
    tcase_add_test(tcase, the_command_stops_an_import_in_another_process);
    tcase_add_test(tcase, a_call_stops_an_import_in_another_process);
    tcase_add_test(tcase, its_deadline_stops_an_import_in_another_process);
    tcase_add_test(tcase, sigint_to_rota_run_gives_the_import_back);
    tcase_add_test(tcase, sigterm_to_rota_work_gives_the_import_back);
    tcase_add_test(tcase, plain_sql_stops_an_import_here);
    tcase_add_test(tcase, the_command_stops_an_import_here);
    tcase_add_test(tcase, a_call_stops_an_import_here);
    tcase_add_test(tcase, its_deadline_stops_an_import_here);
    tcase_add_test(tcase, ctrl_c_gives_an_import_here_back);
}

static void
add_submit(TCase *tcase)
{
    tcase_add_test(tcase,
                   what_another_process_submits_is_taken_up_by_an_idle_worker);
    tcase_add_test(tcase, what_plain_sql_submits_is_taken_up_by_an_idle_worker);
    tcase_add_test(tcase, what_the_command_adds_is_taken_up_by_an_idle_worker);
    tcase_add_test(tcase,
                   what_another_process_schedules_is_taken_up_when_it_is_due);
    tcase_add_test(tcase, a_submit_in_a_transaction_that_dies_leaves_no_job);
}

static void
add_wait(TCase *tcase)
{
    tcase_add_test(
        tcase, a_wait_without_a_worker_ends_with_the_job_of_another_process);
    tcase_add_test(tcase, a_run_without_a_worker_is_run_by_another_process);
    tcase_add_test(
        tcase,
        when_the_caller_of_a_run_is_done_so_is_the_job_in_another_process);
}

static void
add_die(TCase *tcase)
{
    tcase_add_test(
        tcase, the_jobs_of_a_killed_process_go_on_in_another_within_a_second);
    tcase_add_test(
        tcase,
        a_process_that_only_waits_makes_the_jobs_of_a_dead_one_ready_again);
    tcase_add_test(tcase,
                   when_all_are_dead_the_next_to_start_has_their_jobs_at_once);
    tcase_add_test(tcase, a_job_whose_process_died_after_a_cancel_is_cancelled);
    tcase_add_test(tcase,
                   a_job_whose_process_died_after_its_deadline_has_failed);
    tcase_add_test(tcase, a_job_that_kills_its_process_three_times_is_poison);
    tcase_add_test(
        tcase,
        a_job_that_gets_further_before_it_kills_its_process_is_not_poison);
    tcase_add_test(tcase, a_neighbour_of_poison_is_not_blamed);
    tcase_add_test(tcase,
                   a_job_that_was_there_at_two_deaths_runs_alone_from_then_on);
    tcase_add_test(tcase, a_job_that_gets_further_is_alone_no_more);
    tcase_add_test(
        tcase, a_job_that_must_run_alone_waits_until_its_process_has_no_other);
}

static void
add_still(TCase *tcase)
{
    tcase_add_test(tcase,
                   a_stopped_process_keeps_its_jobs_and_goes_on_with_them);
    tcase_add_test(tcase, the_death_of_a_stopped_process_is_noticed);
    tcase_add_test(
        tcase, a_key_is_its_holders_while_that_is_stopped_and_the_clock_jumps);
}

static void
add_fork(TCase *tcase)
{
    tcase_add_test(tcase, a_forked_child_that_exits_leaves_its_parent_alive);
    tcase_add_test(tcase, a_forked_child_does_not_keep_its_dead_parent_alive);
    tcase_add_test(
        tcase, a_job_that_forks_keeps_its_process_alive_and_then_nobodys_lock);
    tcase_add_test(
        tcase,
        the_command_of_a_job_keeps_no_lock_and_ends_before_the_job_goes_on);
}

static void
add_share(TCase *tcase)
{
    tcase_add_test(tcase, two_processes_share_the_work_and_run_each_job_once);
    tcase_add_test(
        tcase, the_view_workers_says_who_lives_and_what_became_of_the_others);
    tcase_add_test(tcase, the_view_batches_counts_what_other_processes_do);
}

static void
add_file(TCase *tcase)
{
    tcase_add_test(
        tcase, two_processes_that_make_a_queue_at_once_make_one_that_is_whole);
    tcase_add_test(tcase, a_queue_is_the_same_by_all_of_its_names);
    tcase_add_test(
        tcase,
        a_queue_whose_lock_file_was_removed_loses_no_row_and_doubles_none);
}

static void
add_foreign(TCase *tcase)
{
    tcase_add_test(tcase,
                   a_submit_waits_for_a_foreign_client_and_then_succeeds);
    tcase_add_test(
        tcase, a_cancel_reaches_a_job_here_while_a_foreign_client_has_the_lock);
    tcase_add_test(tcase, so_does_the_end_of_the_context_that_it_is_run_under);
    tcase_add_test(tcase, a_cancel_right_behind_a_submit_is_in_time);
    tcase_add_test(tcase,
                   what_a_foreign_client_does_not_let_through_is_refused);
}

static Suite *
peers_suite(void)
{
    Suite *suite = suite_create("peers");

    add_stop(add_case(suite, "stop"));
    add_submit(add_case(suite, "submit"));
    add_wait(add_case(suite, "wait"));
    add_die(add_case(suite, "die"));
    add_still(add_case(suite, "still"));
    add_fork(add_case(suite, "fork"));
    add_share(add_case(suite, "share"));
    add_file(add_case(suite, "file"));
    add_foreign(add_case(suite, "foreign"));
    return suite;
}

/* Where this program is, and the rota command beside it. */
static bool
find_programs(void)
{
    const char *command = getenv("ROTA");
    char folder[4096];
    char *built;

    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return false;
    (void)snprintf(folder, sizeof(folder), "%s", self);
    built = dirname(dirname(folder));
    if (strcmp(basename(built), "tests") == 0) /* it was in tests/.libs */
        built = dirname(built);
    if (command != NULL)
        (void)snprintf(rota_command, sizeof(rota_command), "%s", command);
    else
        (void)snprintf(rota_command, sizeof(rota_command), "%s/rota", built);
    return access(rota_command, X_OK) == 0;
}

int
main(int argc, char **argv)
{
    if (argc > 2 && play(argv[1], argv + 2))
        return EXIT_SUCCESS;
    if (argc > 2) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], rota_errmsg(NULL));
        return EXIT_FAILURE;
    }
    if (!find_programs()) {
        (void)fprintf(stderr, "no rota command: %s\n", rota_command);
        return EXIT_FAILURE;
    }
    return suite_run(peers_suite());
}
