#define _GNU_SOURCE
#include "cast.h"

#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "scratch.h"
#include "store/sqlite/turn.h"

extern char **environ;
char self[4096];
char rota_command[4128];
char target[128];

/* -- A log that jobs of all processes write ------------------------------- */

struct path
beside(const char *name)
{
    struct path path;
    int folder = (int)(strrchr(queue, '/') - queue);

    (void)snprintf(path.text, sizeof(path.text), "%.*s/%s", folder, queue,
                   name);
    return path;
}

void
note(const char *word, int64_t id, int64_t lease)
{
    int fd = open(beside("log").text, O_WRONLY | O_CREAT | O_APPEND, 0600);

    MUST_BE(fd >= 0);
    MUST_BE(dprintf(fd, "%s %" PRId64 " %" PRId64 " %d\n", word, id, lease,
                    (int)getpid()) > 0);
    MUST(close(fd));
}

bool
noted_next(FILE *log, struct noted *noted)
{
    return fscanf(log, "%15s %" SCNd64 " %" SCNd64 " %d\n", noted->word,
                  &noted->id, &noted->lease, &noted->pid) == 4;
}

int
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

pid_t
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

/* -- Children ------------------------------------------------------------- */

static pid_t children[32];
static int n_children;
int child_input = -1;

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

pid_t
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

int
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

void
child_ends_with(pid_t pid, int code)
{
    int ended = child_await(pid);

    ck_assert_msg(ended == code, "ended with %d instead of %d: %s", ended, code,
                  child_output());
}

void
child_kill(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(child_await(pid), -SIGKILL);
}

/* Whether bytes of the lock file are locked. */
static bool
is_locked(off_t first, off_t n)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = n};
    char path[300];
    int fd;

    (void)snprintf(path, sizeof(path), "%s-lock", queue);
    fd = open(path, O_RDWR | O_CLOEXEC);
    MUST_BE(fd >= 0);
    MUST(fcntl(fd, F_OFD_GETLK, &lock));
    MUST(close(fd));
    return lock.l_type != F_UNLCK;
}

bool
somebody_writes(void)
{
    return is_locked(TURNSTILE, 2);
}

bool
somebody_is_next(void)
{
    return is_locked(TURNSTILE, 1);
}

void
child_await_stop(pid_t pid)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert(WIFSTOPPED(status));
}

void
child_stop(pid_t pid)
{
    for (;;) {
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        child_await_stop(pid);
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

bool
works(pid_t pid)
{
    return sql_int(queue,
                   "SELECT count(*) FROM workers"
                   " WHERE pid = %d AND state = 'working'",
                   (int)pid) == 1;
}

pid_t
worker_start(const char *threads)
{
    pid_t pid = child_start("--work", queue, threads, NULL);

    EVENTUALLY(works(pid));
    return pid;
}

pid_t
worker_with(const char *kind, int n)
{
    char threads[12];
    pid_t pid;

    (void)snprintf(threads, sizeof(threads), "%d", n);
    pid = worker_start(threads);
    for (int i = 0; i < n; i++)
        (void)submit_kind(kind);
    EVENTUALLY(noted(kind, pid) == n);
    return pid;
}

pid_t
rota_work_start(void)
{
    pid_t pid = ROTA_START("work", "-j", "1", "--grace", "10ms");

    EVENTUALLY(works(pid));
    return pid;
}

/* -- The stage ------------------------------------------------------------ */

void
cast_set(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;

    stage_set();
    (void)snprintf(target, sizeof(target), "%s", in_scratch("target.db"));
    options.workers = 4;
    ck_assert_int_eq(rota_open(queue, &options, &rota), ROTA_OK);
    ck_assert(handle_kinds());
}

void
cast_clear(void)
{
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
    children_kill();
    scratch_remove();
}

TCase *
cast_case(Suite *suite, const char *name)
{
    TCase *tcase = case_new(suite, name);

    tcase_add_checked_fixture(tcase, cast_set, cast_clear);
    tcase_set_timeout(tcase, 120);
    return tcase;
}

void
work_here(void)
{
    ck_assert_int_eq(rota_start(ctx_background(), rota), ROTA_OK);
}

int64_t
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

int64_t
submit_kind(const char *kind)
{
    return submit_with(kind, "", NULL, 0);
}

bool
stands(int64_t id, const char *where)
{
    return strcmp(sql_text(queue,
                           "SELECT state, lease FROM jobs WHERE id = %" PRId64,
                           id),
                  where) == 0;
}

void
open_gate(void)
{
    scratch_write_text("open", "");
}

int
running(void)
{
    return (int)sql_int(queue,
                        "SELECT count(*) FROM jobs WHERE state = 'running'");
}

void
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

/* -- An import that is stopped -------------------------------------------- */

char file_word[160], into_word[160];

void
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

int64_t
import_submit(int64_t deadline)
{
    char args[512];

    (void)snprintf(args, sizeof(args),
                   "{\"file\":\"%s\",\"into\":\"%s\",\"table\":\"t\","
                   "\"group\":\"2\"}",
                   in_scratch("list.csv"), target);
    return submit_with("import", args, NULL, deadline);
}

void
import_await_middle(void)
{
    EVENTUALLY(sql_int(queue, "SELECT coalesce(max(done), 0) FROM jobs") > 0);
}

int64_t
import_midway(void)
{
    int64_t id = import_submit(0);

    import_await_middle();
    return id;
}

/* -- Calls in threads ----------------------------------------------------- */

void *
wait_in_thread(void *arg)
{
    struct sitting *waiting = arg;

    waiting->error =
        rota_wait(waiting->ctx, rota, waiting->id, &waiting->outcome);
    return NULL;
}

void *
run_in_thread(void *arg)
{
    struct sitting *waiting = arg;
    struct rota_submission s = ROTA_SUBMISSION_INIT(waiting->kind);

    waiting->error = rota_run(waiting->ctx, rota, &s, &waiting->outcome);
    return NULL;
}

void *
submit_in_thread(void *arg)
{
    struct sitting *waiting = arg;
    struct rota_submission s = ROTA_SUBMISSION_INIT(waiting->kind);

    waiting->error = rota_submit(rota, &s, &waiting->id);
    return NULL;
}

void *
cancel_in_thread(void *arg)
{
    struct sitting *waiting = arg;

    waiting->error = rota_cancel(rota, waiting->id, "now", NULL);
    return NULL;
}
