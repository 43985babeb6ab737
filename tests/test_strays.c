/*
 * The search for what a killed keeper left: it finds what bears the tag, and
 * strangers, of which a machine has many, cost it one look each.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt/strays.h"
#include "support.h"

static char watched[64]; /* the path whose openings are counted */
static int openings;
static int refusals; /* so many are refused first, wherever they lead */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int
__wrap_open(const char *path, int flags, ...)
{
    va_list args;
    int mode;

    va_start(args, flags);
    mode = va_arg(args, int); /* if there is none, it is not looked at */
    va_end(args);
    openings += strcmp(path, watched) == 0;
    if (refusals > 0) {
        refusals--;
        errno = EMFILE;
        return -1;
    }
    return __real_open(path, flags, mode);
}

static void
watch(pid_t pid)
{
    (void)snprintf(watched, sizeof(watched), "/proc/%d/environ", (int)pid);
    openings = 0;
}

/* A process with that environment, which never ends by itself. */
static pid_t
sleeper(const char *const *env)
{
    int ready[2];
    pid_t pid;
    char byte;

    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void)execle("/bin/sleep", "sleep", "60", NULL, env);
        _exit(1);
    }
    (void)close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 0); /* it has come to its exec */
    (void)close(ready[0]);
    return pid;
}

static bool
ends(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

START_TEST(who_bears_the_tag_is_killed_and_nobody_else)
{
    static const char *const tagged[] = {"A=1", "ROTA_TAG=mine.7", NULL};
    static const char *const other[] = {"A=ROTA_TAG=mine.7", NULL};
    pid_t stray = sleeper(tagged), stranger = sleeper(other);

    ck_assert_int_eq(strays_kill("ROTA_TAG=mine."), 1);
    ck_assert(ends(stray));
    ck_assert_int_eq(waitpid(stranger, NULL, WNOHANG), 0);
    ck_assert_int_eq(kill(stranger, SIGKILL), 0);
    ck_assert(ends(stranger));
}
END_TEST

/* First the folder of all processes, then whatever is in it. */
START_TEST(who_could_not_look_for_want_of_descriptors_looks_again)
{
    static const char *const env[] = {"ROTA_TAG=mine.7", NULL};
    pid_t stray = sleeper(env);

    refusals = _i;
    (void)strays_kill("ROTA_TAG=mine.");
    ck_assert(ends(stray));
}
END_TEST

START_TEST(a_process_of_another_user_is_looked_at_once)
{
    pid_t other = getuid() == 0 ? getppid() : 1;

    /* the parent is root's, and we are not any more */
    if (getuid() == 0)
        ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
    watch(other);
    ck_assert_int_eq(strays_kill("ROTA_TAG=nobody's"), 0);
    ck_assert_int_le(openings, 1);
}
END_TEST

START_TEST(a_process_that_is_not_ours_is_read_once)
{
    static const char *const env[] = {"A=1", NULL};
    pid_t pid = sleeper(env);

    watch(pid);
    ck_assert_int_eq(strays_kill("ROTA_TAG=nobody's"), 0);
    ck_assert_int_eq(openings, 1);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert(ends(pid));
}
END_TEST

/* It looks as if it were in the middle of exec(). */
START_TEST(a_process_without_an_environment_is_given_up_on)
{
    static const char *const env[] = {NULL};
    pid_t pid = sleeper(env);

    watch(pid);
    ck_assert_int_eq(strays_kill("ROTA_TAG=nobody's"), 0);
    ck_assert_int_le(openings, 12);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert(ends(pid));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("strays");
    TCase *tcase = case_new(suite, "search");

    tcase_add_test(tcase, who_bears_the_tag_is_killed_and_nobody_else);
    tcase_add_loop_test(
        tcase, who_could_not_look_for_want_of_descriptors_looks_again, 3, 9);
    tcase_add_test(tcase, a_process_of_another_user_is_looked_at_once);
    tcase_add_test(tcase, a_process_that_is_not_ours_is_read_once);
    tcase_add_test(tcase, a_process_without_an_environment_is_given_up_on);
    return suite_run(suite);
}
