/*
 * Nothing that a command starts survives it: shapes of processes that try to,
 * by daemons' ways and by attackers', each when the command ends by itself,
 * when its context ends, and when the process that runs it is killed.
 *
 * The command is this program again or a shell; who is to die has the text of
 * the environment's NAP among its arguments, by which it is looked for. A shape
 * makes the file "ready" once it has got away, and only then the command, or
 * who runs it, comes to its end.
 */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota.h>

#include "scratch.h"
#include "support.h"

/* No shape lasts longer by itself, so that a failed test leaves none behind. */
#define LASTS 60

extern char **environ;

static char self[4096]; /* this program */

/* -- Shapes ---------------------------------------------------------------- */

static const struct shape {
    const char *name;
    const char *script; /* for bash */
} shapes[] = {
    {"a daemon that its environment tells of",
     "(setsid sh -c '>ready; exec sleep $NAP' <&- >&- 2>&- 3>&- &)"},
    {"an orphan's orphan", "(( sh -c '>ready; exec sleep $NAP' & ) & )"},
    {"a session of its own", "setsid sh -c '>ready; exec sleep $NAP' &"},
    {"a session of its own without an environment",
     "env -i PATH=$PATH setsid sh -c '>ready; exec sleep '$NAP &"},
    {"the same group without an environment",
     "env -i PATH=$PATH sh -c '>ready; exec sleep '$NAP &"},
    {"an environment that was written over", "$SELF --wiped $NAP &"},
    {"a command of a command's", "$SELF --inner $NAP &"},
    {"deaf to every request",
     "trap '' HUP INT TERM; setsid sh -c '>ready; sleep $NAP; sleep $NAP' &"},
    {"stopped",
     "setsid sh -c '(sleep 0.05; >ready) & kill -STOP $$; exec sleep $NAP' &"},
    {"a chain of forks", "$SELF --chain $NAP &"},
    {"a chain of programs", "$SELF --programs $NAP &"},
    {"no descriptors",
     "sh -c '>ready; exec sleep $NAP' <&- >&- 2>&- 3>&- & true"},
    {"a namespace of its own",
     "unshare -p -f --kill-child=TERM true 2>&- || echo none >&3;"
     "unshare -p -f sh -c '>ready; exec sleep $NAP' || >ready &"},
    {"left in the background",
     "nohup sh -c '>ready; exec sleep $NAP' >&- 2>&- &"},
    {"a group for each",
     "set -m; for i in 1 2 3; do sleep $NAP & done; >ready"},
    {"a crowd that grows",
     "crowd() { sleep $NAP & (crowd & exec sleep $NAP) & }; trap '' TERM;"
     "ulimit -u 3000; crowd 2>&-; >ready"},
};
#define SHAPES (int)(sizeof(shapes) / sizeof(shapes[0]))

/* Make the file "ready" in the folder where we are. */
static void
be_ready(void)
{
    FILE *file = fopen("ready", "w");

    if (file != NULL)
        (void)fclose(file);
}

/* --wiped: nothing of what it was given is left to be read. */
static void
play_wiped(void)
{
    char *end = environ[0];

    for (char **entry = environ; *entry != NULL; entry++)
        end = *entry + strlen(*entry);
    memset(environ[0], 0, (size_t)(end - environ[0]));
    be_ready();
    (void)sleep(LASTS);
}

/* --inner: a worker within the command. */
static void
play_inner(void)
{
    const char *argv[] = {"sh", "-c", "setsid sh -c '>ready; exec sleep $NAP'",
                          NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;

    (void)!rota_process_run(NULL, &process, &result);
    rota_process_result_fini(&result);
}

/* --chain: it goes on in a child, in a session of its own, and ends. */
static void
play_chain(void)
{
    int64_t end = ctx_now() + ROTA_SEC(LASTS);

    for (int i = 0; ctx_now() < end; i++) {
        pid_t pid = fork();

        if (pid > 0)
            _exit(0);
        if (pid == 0)
            (void)setsid();
        if (i == 100)
            be_ready();
    }
}

/* --programs NAP [LINK]: the same, with this program executed anew. */
static void
play_programs(char **argv)
{
    int link = argv[3] == NULL ? 0 : atoi(argv[3]);
    char next[16];
    char *words[] = {self, argv[1], argv[2], next, NULL};

    (void)snprintf(next, sizeof(next), "%d", link + 1);
    if (link == 20)
        be_ready();
    if (link < 100000 && vfork() == 0) {
        (void)execv(self, words);
        _exit(1);
    }
}

/* -- Running them ---------------------------------------------------------- */

static struct ctx *ctx;
static struct rota_process_result result;
static bool is_impossible; /* here */

static void
on_line(void *arg, const char *line)
{
    (void)arg;
    is_impossible |= strcmp(line, "none") == 0;
}

/* The shape, and when it has got away, the end. */
static enum rota_error
run_shape(const struct shape *shape, const char *end)
{
    char script[1024];
    const char *argv[] = {"bash", "-c", script, NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);

    (void)snprintf(script, sizeof(script),
                   "%s\nuntil [ -e ready ]; do sleep 0.01; done\n>away\n%s",
                   shape->script, end);
    process.log = on_line;
    process.grace = ROTA_SEC(1);
    return rota_process_run(ctx, &process, &result);
}

/* --host N: be who is killed. */
static void
play_host(char **argv)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!run_shape(&shapes[atoi(argv[2])], "exec sleep $NAP");
}

/* Whether one lives. The brackets keep pgrep from finding itself, and what is
 * dead and not yet buried has no arguments. */
static bool
one_lives(void)
{
    return system("pgrep -f \"[ ]$NAP\" >/dev/null") == 0;
}

static void
setup(void)
{
    char nap[32];

    /* each test's own, and so long that nobody else's is as long */
    (void)snprintf(nap, sizeof(nap), "%d.98764%d", LASTS, (int)getpid());
    (void)setenv("NAP", nap, 1);
    scratch_make();
    ck_assert_int_eq(chdir(in_scratch(".")), 0);
    ctx = ctx_with_cancel(NULL);
    result = (struct rota_process_result)ROTA_PROCESS_RESULT_INIT;
}

static void
teardown(void)
{
    rota_process_result_fini(&result);
    ctx_end(ctx);
    ck_assert_int_eq(chdir("/"), 0);
    scratch_remove();
}

/* -- Their ends ------------------------------------------------------------ */

START_TEST(nothing_survives_a_command_that_ended_by_itself)
{
    ck_assert_int_eq(run_shape(&shapes[_i], "exit 7"), ROTA_OK);
    ck_assert_int_eq(result.exit_code, 7);
    ck_assert_msg(!one_lives(), "%s", shapes[_i].name);
    if (is_impossible)
        (void)printf("%s: not permitted here\n", shapes[_i].name);
    else
        ck_assert_int_ge(result.strays, 1);
}
END_TEST

static void *
cancel_when_away(void *arg)
{
    (void)arg;
    while (access("away", F_OK) != 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    (void)ctx_cancel(ctx);
    return NULL;
}

START_TEST(nothing_survives_a_command_whose_context_ended)
{
    pthread_t thread = thread_new(cancel_when_away, NULL);

    ck_assert_int_eq(run_shape(&shapes[_i], "exec sleep $NAP"), ROTA_CANCELED);
    (void)thread_join(thread);
    ck_assert(result.told);
    ck_assert_msg(!one_lives(), "%s", shapes[_i].name);
}
END_TEST

START_TEST(nothing_survives_a_command_whose_worker_was_killed)
{
    char number[16];
    pid_t pid;

    (void)snprintf(number, sizeof(number), "%d", _i);
    pid = fork();
    if (pid == 0) {
        (void)execl(self, self, "--host", number, NULL);
        _exit(1);
    }
    while (access("away", F_OK) != 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    while (one_lives()) /* until the test's time is over */
        (void)ctx_sleep(ctx_background(), ROTA_MS(5));
}
END_TEST

static Suite *
survivors_suite(void)
{
    Suite *suite = suite_create("survivors");
    TCase *tcase = case_new(suite, "shapes");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, LASTS / 2);
    tcase_add_loop_test(tcase, nothing_survives_a_command_that_ended_by_itself,
                        0, SHAPES);
    tcase_add_loop_test(tcase, nothing_survives_a_command_whose_context_ended,
                        0, SHAPES);
    tcase_add_loop_test(
        tcase, nothing_survives_a_command_whose_worker_was_killed, 0, SHAPES);
    return suite;
}

static bool
play(char **argv)
{
    if (strcmp(argv[1], "--host") == 0)
        play_host(argv);
    else if (strcmp(argv[1], "--wiped") == 0)
        play_wiped();
    else if (strcmp(argv[1], "--inner") == 0)
        play_inner();
    else if (strcmp(argv[1], "--chain") == 0)
        play_chain();
    else if (strcmp(argv[1], "--programs") == 0)
        play_programs(argv);
    else
        return false;
    return true;
}

int
main(int argc, char **argv)
{
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return EXIT_FAILURE;
    if (argc > 2 && play(argv))
        return EXIT_SUCCESS;
    (void)setenv("SELF", self, 1);
    return suite_run(survivors_suite());
}
