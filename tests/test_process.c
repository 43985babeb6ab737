/*
 * A child process ends with its context, whatever it is made of, and nothing
 * of it is left; what it was given arrives, and what it wrote is kept.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota.h>

#include "scratch.h"
#include "support.h"

static struct ctx *ctx;
static struct rota_process_result result;
static struct gate started;

static int
descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n;
}

/* The context keeps a descriptor, if it was asked for one: drop it. */
static void
renew_ctx(void)
{
    ctx_end(ctx);
    ctx = ctx_with_cancel(NULL);
}

static void
setup(void)
{
    scratch_make();
    ctx = ctx_with_cancel(NULL);
    result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
}

/* Of our children none is left, not even as a zombie. */
static void
teardown(void)
{
    rota_process_result_fini(&result);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    ctx_end(ctx);
    scratch_remove();
}

static enum rota_error
run_argv(const char *const *argv)
{
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    process.dir = in_scratch(".");
    rota_process_result_fini(&result);
    return rota_process_run(ctx, &process, &result);
}

static enum rota_error
run_shell(const char *shell, const char *script)
{
    const char *argv[] = {shell, "-c", script, NULL};

    return run_argv(argv);
}

/* All that was kept of the output, as a text. */
static const char *
text_of(const struct rota_process_output *output)
{
    static char text[4096];

    (void)snprintf(text, sizeof(text), "%.*s%.*s", (int)output->head_size,
                   output->head == NULL ? "" : output->head,
                   (int)output->tail_size,
                   output->tail == NULL ? "" : output->tail);
    return text;
}

/* -- By itself ------------------------------------------------------------ */

START_TEST(how_a_child_ended_is_told_exactly)
{
    ck_assert_int_eq(run_shell("sh", "echo out; echo err >&2; exit 3"),
                     ROTA_OK);
    ck_assert_int_eq(result.exit_code, 3);
    ck_assert_int_eq(result.signal, 0);
    ck_assert_str_eq(text_of(&result.out), "out\n");
    ck_assert_str_eq(text_of(&result.err), "err\n");
    ck_assert(!result.told && !result.killed);
    ck_assert_int_eq(result.strays, 0);
    ck_assert_int_gt(result.max_rss, 0);
    ck_assert_int_eq(run_shell("sh", "kill -USR1 $$"), ROTA_OK);
    ck_assert_int_eq(result.exit_code, -1);
    ck_assert_int_eq(result.signal, SIGUSR1);
    ck_assert_int_eq(run_shell("sh", "sh -c 'kill -9 $$'; exit $?"), ROTA_OK);
    ck_assert_int_eq(result.exit_code, 137);
    ck_assert_int_eq(result.signal, 0);
}
END_TEST

START_TEST(what_cannot_be_started_says_why)
{
    const char *missing[] = {"no-such-program", NULL};
    const char *folder[] = {"/tmp", NULL};
    const char *nothing[] = {NULL};
    struct rota_process process = ROTA_PROCESS_INIT(missing);

    ck_assert_int_eq(run_argv(missing), ROTA_SYSTEM);
    ck_assert_int_eq(result.error, ENOENT);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "no-such-program"));
    ck_assert_int_eq(run_argv(folder), ROTA_SYSTEM);
    ck_assert_int_eq(result.error, EACCES);
    ck_assert_int_eq(run_argv(nothing), ROTA_INVALID);
    process.dir = "/no/such/folder";
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_SYSTEM);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "/no/such/folder"));
}
END_TEST

START_TEST(without_descriptors_it_fails_and_leaks_none)
{
    const char *argv[] = {"true", NULL};
    struct rlimit limit;
    int before = descriptors();
    enum rota_error error = ROTA_SYSTEM;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int more = 0; error != ROTA_OK; more++) {
        struct rlimit small = {(rlim_t)(before - 1 + more), limit.rlim_max};

        ck_assert_int_lt(more, 20);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &small), 0);
        error = run_argv(argv);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        renew_ctx();
        ck_assert_int_eq(descriptors(), before);
        if (error != ROTA_OK)
            ck_assert_int_eq(result.error, EMFILE);
    }
}
END_TEST

START_TEST(arguments_and_input_arrive_byte_for_byte)
{
    static char big[100 * 1024 + 1];
    const char *items[] = {
        "a b",      "it's \"so\"", "two\nlines", "$(touch x)", "-rf",
        "\xff\xfe", "`id`; ls",    "*",          "\\n",        big};
    struct rota_process process;

    memset(big, 'x', sizeof(big) - 1);
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        const char *argv[] = {"printf", "%s", items[i], NULL};

        process = (struct rota_process)ROTA_PROCESS_INIT(argv);
        process.output_max = 2 * sizeof(big);
        rota_process_result_fini(&result);
        ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
        ck_assert_int_eq(result.out.size, (int64_t)strlen(items[i]));
        ck_assert_mem_eq(result.out.head, items[i], result.out.head_size);
    }
    {
        const char *argv[] = {"cat", NULL};

        process = (struct rota_process)ROTA_PROCESS_INIT(argv);
        process.input = "a\0b\xff";
        process.input_size = 4;
        rota_process_result_fini(&result);
        ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
        ck_assert_int_eq(result.out.size, 4);
        ck_assert_mem_eq(result.out.head, "a\0b\xff", 4);
    }
}
END_TEST

START_TEST(of_much_output_the_head_and_the_tail_are_kept)
{
    const char *argv[] = {"seq", "100000", NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    process.output_max = 24;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
    ck_assert_int_eq(result.out.size, 588895);
    ck_assert_mem_eq(result.out.head, "1\n2\n3\n4\n5\n6\n", 12);
    ck_assert_int_eq((int)result.out.tail_size, 12);
    ck_assert_mem_eq(result.out.tail, "9999\n100000\n", 12);
}
END_TEST

static void
hear(void *arg, int fd, const char *data, size_t size)
{
    int64_t *heard = arg;

    ck_assert_int_eq(data[0], fd == 1 ? 'o' : 'e');
    heard[fd] += (int64_t)size;
}

START_TEST(who_listens_hears_all_of_the_output)
{
    const char *argv[] = {"sh", "-c",
                          "head -c 300000 /dev/zero | tr '\\0' o;"
                          "head -c 200000 /dev/zero | tr '\\0' e >&2",
                          NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    int64_t heard[3] = {0};

    process.output = hear;
    process.output_max = 100;
    process.arg = heard;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
    ck_assert_int_eq(heard[1], 300000);
    ck_assert_int_eq(heard[2], 200000);
    ck_assert_uint_eq(result.out.head_size + result.out.tail_size, 100);
}
END_TEST

START_TEST(output_may_go_to_a_descriptor_instead)
{
    const char *argv[] = {"echo", "hello", NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    char text[16] = "";
    int fd = open(in_scratch("out"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    process.out_fd = fd;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
    ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 6);
    ck_assert_str_eq(text, "hello\n");
    ck_assert_int_eq(result.out.size, 0);
    (void)close(fd);
}
END_TEST

START_TEST(a_child_has_its_signals_descriptors_and_session_to_itself)
{
    sigset_t set;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    ck_assert_int_ge(open("/dev/null", O_RDONLY), 0); /* without CLOEXEC */
    ck_assert_int_eq(run_shell("sh",
                               "ls /proc/self/fd | wc -l;"
                               "[ $(ps -o sid= $$) = $$ ] && echo own;"
                               "grep SigBlk /proc/self/status;"
                               "grep -c 'SigIgn.*0...$' /proc/self/status"),
                     ROTA_OK);
    /* 0 to 3, and the one that ls has open; SIGPIPE is not ignored */
    ck_assert_str_eq(text_of(&result.out),
                     "5\nown\nSigBlk:\t0000000000000000\n1\n");
}
END_TEST

START_TEST(a_program_may_ignore_that_children_end)
{
    (void)signal(SIGCHLD, SIG_IGN);
    ck_assert_int_eq(run_shell("sh", "sleep 0.01 & wait $!; exit 3"), ROTA_OK);
    ck_assert_int_eq(result.exit_code, 3);
    (void)signal(SIGCHLD, SIG_DFL);
}
END_TEST

START_TEST(limits_hold)
{
    const char *argv[] = {"sh", "-c",
                          "sleep 0.1; ulimit -n; ulimit -v;"
                          "head -c 9000 /dev/zero >big; echo $?; wc -c <big",
                          NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    process.dir = in_scratch(".");
    process.max_files = 50;
    process.max_memory = INT64_C(4) << 30;
    process.max_file = 4096;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
    ck_assert_str_eq(text_of(&result.out), "50\n4194304\n153\n4096\n");
}
END_TEST

/* -- The channel ---------------------------------------------------------- */

static char said[512];

static void
on_progress(void *arg, int64_t done, int64_t total)
{
    size_t n = strlen(said);

    (void)arg;
    (void)snprintf(said + n, sizeof(said) - n, "%" PRId64 "/%" PRId64 " ", done,
                   total);
    if (done == 7)
        (void)ctx_cancel_cause(ctx, "enough of it");
}

static void
on_line(void *arg, const char *line)
{
    size_t n = strlen(said);

    (void)arg;
    (void)snprintf(said + n, sizeof(said) - n, "[%s] ", line);
}

START_TEST(a_script_reports_progress_and_learns_that_it_is_cancelled)
{
    const char *argv[] = {"bash", "-c",
                          "trap : TERM; echo progress 3 10 >&$ROTA_FD;"
                          "echo hello >&3; echo progress 7 >&3;"
                          "until read -r line <&3; do :; done;"
                          "echo \"heard $line\" >&3",
                          NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    process.progress = on_progress;
    process.log = on_line;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_CANCELED);
    ck_assert_str_eq(said, "3/10 [hello] 7/-1 [heard cancel enough of it] ");
    ck_assert_int_eq(result.exit_code, 0);
    ck_assert(result.told && !result.killed);
}
END_TEST

START_TEST(what_counts_nothing_is_no_progress)
{
    const char *argv[] = {
        "sh", "-c",
        "echo progress 0 0 >&3; echo progress -1 10 >&3;"
        "echo progress 5 -1 >&3; echo progress 9223372036854775807 1 >&3;"
        "echo progress 9223372036854775808 1 >&3;"
        "echo progress 6 9223372036854775808 >&3; echo progress >&3;"
        "echo progress x >&3; echo progressing >&3; echo 'progress 8 9 %' >&3",
        NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    said[0] = '\0';
    process.progress = on_progress;
    process.log = on_line;
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_OK);
    ck_assert_str_eq(said, "0/0 [progress -1 10] 5/-1 9223372036854775807/1 "
                           "[progress 9223372036854775808 1] 6/-1 [progress] "
                           "[progress x] [progressing] 8/9 ");
}
END_TEST

/* -- Ended ---------------------------------------------------------------- */

static void *
cancel_when_ready(void *arg)
{
    (void)arg;
    while (access(in_scratch("ready"), F_OK) != 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    (void)ctx_cancel(ctx);
    return NULL;
}

/* Cancel what the script runs once it has made the file ready. */
static enum rota_error
run_until_ready(const char *shell, const char *script, int64_t grace)
{
    const char *argv[] = {shell, "-c", script, NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    pthread_t thread = thread_new(cancel_when_ready, NULL);
    char folder[128];
    enum rota_error error;

    (void)snprintf(folder, sizeof(folder), "%s", in_scratch("."));
    process.dir = folder;
    process.grace = grace;
    error = rota_process_run(ctx, &process, &result);
    (void)thread_join(thread);
    return error;
}

/* So long that who sleeps so long is ours, and this run's: see main(). */
#define SLEEP "sleep $NAP"

/* Whether one of those lives. The brackets keep pgrep from finding itself. */
static bool
sleeper_lives(void)
{
    return system("pgrep -f \"[s]leep $NAP\" >/dev/null") == 0;
}

static const char *const shapes[] = {
    ">ready; " SLEEP,           ">ready; " SLEEP "; true",
    ">ready; " SLEEP " & wait", ">ready; (" SLEEP ")",
    ">ready; " SLEEP " | cat",
};
#define SHAPES (int)(sizeof(shapes) / sizeof(shapes[0]))

START_TEST(every_shape_of_shell_script_ends_at_once)
{
    ck_assert_int_eq(run_until_ready(_i < SHAPES ? "sh" : "bash",
                                     shapes[_i % SHAPES], ROTA_SEC(60)),
                     ROTA_CANCELED);
    ck_assert(result.told && !result.killed);
    ck_assert_int_eq(result.signal, SIGTERM);
    ck_assert(!sleeper_lives());
}
END_TEST

/* Each makes the file ready once it has got away. */
static const char *const evasive[] = {
    "setsid sh -c '>ready; " SLEEP "' & wait",
    "setsid sh -c '>ready; " SLEEP "' <&- >&- 2>&- 3>&- & wait",
    ("(setsid sh -c '" SLEEP " & exit' &) ; >ready; " SLEEP),
    "(kill -STOP $$; >ready) & " SLEEP,
};

START_TEST(what_evades_is_found_and_ended)
{
    ck_assert_int_eq(run_until_ready("bash", evasive[_i], ROTA_SEC(60)),
                     ROTA_CANCELED);
    ck_assert(!sleeper_lives());
    if (_i < 2)
        ck_assert_int_ge(result.strays, 1);
}
END_TEST

START_TEST(what_ignores_the_request_is_killed_after_its_grace)
{
    int64_t began = ctx_now();

    ck_assert_int_eq(run_until_ready("bash",
                                     "trap '' TERM; >ready; " SLEEP "; " SLEEP
                                     "; " SLEEP,
                                     ROTA_MS(200)),
                     ROTA_CANCELED);
    ck_assert(result.told && result.killed);
    ck_assert_int_eq(result.signal, SIGKILL);
    ck_assert_int_ge(ctx_now() - began, ROTA_MS(200));
    ck_assert(!sleeper_lives());
}
END_TEST

START_TEST(a_grandchild_that_holds_the_output_does_not_hold_us)
{
    int64_t began = ctx_now();

    ck_assert_int_eq(run_shell("sh", SLEEP " & echo done"), ROTA_OK);
    ck_assert_int_eq(result.exit_code, 0);
    ck_assert_str_eq(text_of(&result.out), "done\n");
    ck_assert_int_lt(ctx_now() - began, ROTA_SEC(20));
    ck_assert(!sleeper_lives());
    ck_assert_int_eq(run_shell("sh", "trap '' TERM; setsid " SLEEP " & true"),
                     ROTA_OK);
    ck_assert_int_eq(result.strays, 1);
    ck_assert(!sleeper_lives());
}
END_TEST

START_TEST(who_kills_the_keeper_of_a_child_ends_the_child)
{
    ck_assert_int_eq(run_shell("sh", "setsid " SLEEP "& kill -9 $PPID; " SLEEP),
                     ROTA_SYSTEM);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "sh"));
    ck_assert_int_ge(result.strays, 1);
    ck_assert(!sleeper_lives());
}
END_TEST

START_TEST(under_a_context_that_is_done_nothing_starts)
{
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(run_shell("sh", ">here"), ROTA_CANCELED);
    ck_assert_int_ne(access(in_scratch("here"), F_OK), 0);
    ck_assert(!result.told);
}
END_TEST

START_TEST(a_deadline_ends_it_too)
{
    ctx_end(ctx);
    ctx = ctx_with_timeout_cause(NULL, ROTA_MS(50), "too slow");
    ck_assert_int_eq(run_shell("sh", SLEEP), ROTA_DEADLINE);
    ck_assert_str_eq(rota_errmsg(NULL), "too slow");
}
END_TEST

/* Whose call always finds more to read, as if the child wrote without pause and
 * faster than we read, until it is told that it is cancelled. NULL: nobody's.
 */
static const char *flooded;
static size_t late; /* how much came after the context had ended */

static bool
is_flooded(const char *call, int fd, void *data, size_t size)
{
    struct stat st;

    if (flooded == NULL || strcmp(flooded, call) != 0 || fstat(fd, &st) != 0 ||
        !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
        return false;
    memset(data, '\n', size);
    late += ctx_done(ctx) ? size : 0;
    ck_assert_uint_lt(late, 1 << 24); /* it was not told, and never will be */
    return true;
}

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t
__wrap_read(int fd, void *data, size_t size)
{
    return is_flooded("read", fd, data, size) ? (ssize_t)size
                                              : __real_read(fd, data, size);
}

ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t
__wrap_recv(int fd, void *data, size_t size, int flags)
{
    return is_flooded("recv", fd, data, size)
               ? (ssize_t)size
               : __real_recv(fd, data, size, flags);
}

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t
__wrap_send(int fd, const void *data, size_t size, int flags)
{
    flooded = NULL;
    return __real_send(fd, data, size, flags);
}

static void
cancel_at_line(void *arg, const char *line)
{
    (void)arg, (void)line;
    (void)ctx_cancel(ctx);
}

static void
cancel_at_output(void *arg, int fd, const char *data, size_t size)
{
    (void)arg, (void)fd, (void)data, (void)size;
    (void)ctx_cancel(ctx);
}

START_TEST(who_writes_without_pause_is_told_all_the_same)
{
    const char *argv[] = {"sh", "-c", "echo here >&3; echo here; exec " SLEEP,
                          NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    process.log = _i == 0 ? cancel_at_line : NULL;
    process.output = _i == 1 ? cancel_at_output : NULL;
    flooded = _i == 0 ? "recv" : "read";
    ck_assert_int_eq(rota_process_run(ctx, &process, &result), ROTA_CANCELED);
    ck_assert(result.told && !result.killed);
    ck_assert_int_eq(result.signal, SIGTERM);
}
END_TEST

static void *
run_many(void *arg)
{
    const char *argv[] = {"true", NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    (void)arg;
    gate_pass(&started);
    for (int i = 0; i < 25; i++) {
        struct rota_process_result own = ROTA_PROCESS_RESULT_INIT;

        ck_assert_int_eq(rota_process_run(ctx, &process, &own), ROTA_OK);
        ck_assert_int_eq(own.exit_code, 0);
        ck_assert_int_eq(own.strays, 0);
        rota_process_result_fini(&own);
    }
    return NULL;
}

START_TEST(many_run_at_once_and_nothing_leaks)
{
    static struct gate fresh = GATE_INIT;
    int before = descriptors();
    pthread_t threads[8];

    started = fresh;
    for (int i = 0; i < 8; i++)
        threads[i] = thread_new(run_many, NULL);
    gate_await(&started, 8);
    gate_open(&started);
    for (int i = 0; i < 8; i++)
        (void)thread_join(threads[i]);
    renew_ctx();
    ck_assert_int_eq(descriptors(), before);
}
END_TEST

static Suite *
process_suite(void)
{
    Suite *suite = suite_create("process");
    TCase *self = tcase_create("by itself"), *ended = tcase_create("ended");

    tcase_add_checked_fixture(self, setup, teardown);
    tcase_set_timeout(self, 60);
    tcase_add_test(self, how_a_child_ended_is_told_exactly);
    tcase_add_test(self, what_cannot_be_started_says_why);
    tcase_add_test(self, without_descriptors_it_fails_and_leaks_none);
    tcase_add_test(self, arguments_and_input_arrive_byte_for_byte);
    tcase_add_test(self, of_much_output_the_head_and_the_tail_are_kept);
    tcase_add_test(self, who_listens_hears_all_of_the_output);
    tcase_add_test(self, output_may_go_to_a_descriptor_instead);
    tcase_add_test(self,
                   a_child_has_its_signals_descriptors_and_session_to_itself);
    tcase_add_test(self, a_program_may_ignore_that_children_end);
    tcase_add_test(self, limits_hold);
    suite_add_tcase(suite, self);
    tcase_add_checked_fixture(ended, setup, teardown);
    tcase_set_timeout(ended, 60);
    tcase_add_test(ended,
                   a_script_reports_progress_and_learns_that_it_is_cancelled);
    tcase_add_test(ended, what_counts_nothing_is_no_progress);
    tcase_add_loop_test(ended, every_shape_of_shell_script_ends_at_once, 0,
                        2 * SHAPES);
    tcase_add_loop_test(ended, what_evades_is_found_and_ended, 0,
                        (int)(sizeof(evasive) / sizeof(evasive[0])));
    tcase_add_test(ended, what_ignores_the_request_is_killed_after_its_grace);
    tcase_add_test(ended, a_grandchild_that_holds_the_output_does_not_hold_us);
    tcase_add_test(ended, who_kills_the_keeper_of_a_child_ends_the_child);
    tcase_add_test(ended, under_a_context_that_is_done_nothing_starts);
    tcase_add_test(ended, a_deadline_ends_it_too);
    tcase_add_loop_test(ended, who_writes_without_pause_is_told_all_the_same, 0,
                        2);
    tcase_add_test(ended, many_run_at_once_and_nothing_leaks);
    suite_add_tcase(suite, ended);
    return suite;
}

int
main(void)
{
    char nap[32];

    (void)snprintf(nap, sizeof(nap), "98765%d", (int)getpid());
    (void)setenv("NAP", nap, 1);
    return suite_run(process_suite());
}
