#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "cast.h"
#include "jobs/jobs.h"
#include "store/sqlite/lockfile.h"

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

/* The same, but the first three times. */
static enum rota_error
run_brute(struct ctx *ctx, struct rota_job *job)
{
    while (rota_job_lease(job) < 4 && noted("gate", getpid()) == 0)
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

bool
handle_kinds(void)
{
    static const struct {
        const char *name;
        rota_job_fn *fn;
    } kinds[] = {
        {"quick", run_quick}, {"gate", run_gate},   {"deaf", run_deaf},
        {"share", run_share}, {"crawl", run_crawl}, {"poison", run_poison},
        {"climb", run_climb}, {"bully", run_bully}, {"brute", run_brute},
        {"fork", run_fork},   {"forks", run_forks}, {"spawn", run_spawn}};
    struct rota_defaults isolated = ROTA_DEFAULTS_INIT;
    bool ok = rota_handle(rota, "import", job_import.fn, NULL, NULL) == ROTA_OK;

    isolated.is_isolated = true;
    ok = ok && rota_handle(rota, "apart", run_gate, NULL, &isolated) == ROTA_OK;

    for (size_t i = 0; ok && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        ok = rota_handle(rota, kinds[i].name, kinds[i].fn, NULL, NULL) ==
             ROTA_OK;
    return ok;
}

/* -- Roles of this program ------------------------------------------------ */

struct ctx *
ctx_with_signal(int number)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, number);
    return ctx_with_signals(NULL, &signals);
}

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

/* --halt QUEUE: be stopped while it is our turn to write. */
static bool
role_halt(char *const *words)
{
    struct lockfile *lockfile;
    char lock[300];

    (void)words;
    (void)snprintf(lock, sizeof(lock), "%s-lock", queue);
    if (lockfile_open(lock, &lockfile) != ROTA_OK ||
        lockfile_enter(lockfile, ROTA_FOREVER) != ROTA_OK)
        return false;
    (void)raise(SIGSTOP);
    lockfile_leave(lockfile);
    lockfile_close(lockfile);
    return true;
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
    } roles[] = {{"--work", role_work}, {"--submit", role_submit},
                 {"--open", role_open}, {"--half", role_half},
                 {"--halt", role_halt}, {"--exec", role_exec}};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL); /* a shell's background has them ignored */
    (void)signal(SIGTERM, SIG_DFL);
    (void)snprintf(queue, sizeof(queue), "%s", words[0]);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(roles[i].name, role) == 0)
            return roles[i].play(words + 1);
    return false;
}

/* -- The program ---------------------------------------------------------- */

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
cast_main(int argc, char **argv, Suite *suite)
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
    return suite_run(suite);
}
