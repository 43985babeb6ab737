/*
 * "kill -9 loses no job": what becomes of the jobs of a process that dies, that
 * is stopped and goes on, or that forks; and of a job that kills its process.
 * Every row that was done and no row twice: test_crash.c.
 *
 * Processes die or stop when the log says that their jobs have begun (cast.h).
 */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/clock.h"
#include "cast.h"
#include "scratch.h"

/* -- Dying ---------------------------------------------------------------- */

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

    (void)submit_kind("gate");
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

/* Where a search for what dead processes left begins, if it is to be held up.
 * Release in the test, acquire where any thread opens a file. */
static struct gate *_Atomic searching;

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int
__wrap_open(const char *path, int flags, ...)
{
    struct gate *gate;
    va_list args;
    int mode;

    va_start(args, flags);
    mode = va_arg(args, int); /* if there is none, it is not looked at */
    va_end(args);
    gate = atomic_load_explicit(&searching, memory_order_acquire);
    if (gate != NULL && strcmp(path, "/proc") == 0)
        gate_pass(gate);
    return __real_open(path, flags, mode);
}

START_TEST(a_cancel_is_heard_while_a_rescue_searches)
{
    static struct gate gate = GATE_INIT;
    pid_t pid = worker_with("gate", 1);

    work_here();
    (void)submit_kind("gate");
    EVENTUALLY(noted("gate", getpid()) == 1);
    atomic_store_explicit(&searching, &gate, memory_order_release);
    child_kill(pid);
    gate_await(&gate, 1);
    sql_run(queue, "INSERT INTO cancel(job) VALUES(2)");
    WITHIN(A_SECOND, noted("told", getpid()) == 1);
    ck_assert(stands(1, "running|1"));
    gate_open(&gate);
    WITHIN(A_SECOND, noted("gate", getpid()) == 2);
    open_gate();
    wait_for(1);
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
    (void)submit_kind("poison");
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
    (void)submit_kind("crawl");
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
    (void)submit_kind("bully");
    (void)submit_kind("gate");
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

/* So often: another process runs the n jobs of the kind that wait, and dies. */
static void
die_with(const char *kind, int n, int times)
{
    for (int i = 0; i < times; i++) {
        pid_t pid = worker_start("4");

        EVENTUALLY(noted(kind, pid) == n);
        child_kill(pid);
    }
}

START_TEST(others_start_and_end_while_a_suspect_runs)
{
    (void)submit_kind("gate");
    die_with("gate", 1, 2);
    work_here();
    EVENTUALLY(noted("gate", getpid()) == 1);
    for (int i = 0; i < 20; i++)
        wait_for(submit_kind("quick"));
    ck_assert(stands(1, "running|3"));
}
END_TEST

START_TEST(two_suspects_never_run_at_once_in_a_process)
{
    (void)submit_kind("gate");
    (void)submit_kind("gate");
    die_with("gate", 2, 2);
    work_here();
    EVENTUALLY(noted("gate", getpid()) == 1);
    wait_for(submit_kind("quick")); /* whatever may be claimed was */
    ck_assert(stands(2, "ready|2"));
    ck_assert_str_eq(
        job_says(2, "why"),
        "suspect of 2 deaths of its process: waits for job 1, a suspect too");
    open_gate();
    wait_for(1);
    wait_for(2);
    ck_assert_int_eq(
        sql_int(queue, "SELECT started_at >= (SELECT finished_at FROM jobs"
                       " WHERE id = 1) FROM jobs WHERE id = 2"),
        1);
}
END_TEST

START_TEST(two_suspects_run_at_once_in_two_processes)
{
    pid_t pid;

    (void)submit_kind("gate");
    (void)submit_kind("gate");
    die_with("gate", 2, 2);
    pid = worker_start("2");
    work_here();
    EVENTUALLY(noted("gate", pid) == 1 && noted("gate", getpid()) == 1);
}
END_TEST

/* Job 1 kills its process a third time beside one that is new there. */
START_TEST(the_company_of_a_suspect_that_kills_is_not_blamed)
{
    (void)submit_kind("brute");
    (void)submit_kind("gate");
    workers_die(2);
    (void)submit_kind("gate");
    workers_die(1);
    ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
    ck_assert_str_eq(sql_text(queue, "SELECT state, crashes FROM jobs"
                                     " ORDER BY id"),
                     "ready|3\nready|2\nready|1");
    workers_die(1);
    ck_assert_int_eq(noted("gate", 0), 3); /* the fourth time it was alone */
    open_gate();
    work_here();
    wait_for(1);
    ck_assert_str_eq(outcome.message, "poison: its process died four times "
                                      "before the job got any further");
    for (int64_t id = 2; id <= 3; id++) {
        wait_for(id);
        ck_assert_msg(outcome.state == ROTA_SUCCEEDED, "%s", outcome.message);
    }
}
END_TEST

/* Submit one that was there at three deaths. */
static void
submit_loner(const char *kind)
{
    ck_assert_int_eq(rota_pause(rota, NULL), ROTA_OK);
    sql_run(queue, "UPDATE _job SET crashes = 3 WHERE id = %jd",
            (intmax_t)submit_kind(kind));
    ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
}

START_TEST(who_was_there_at_three_deaths_waits_for_its_company_and_none_for_it)
{
    work_here();
    (void)submit_kind("gate");
    EVENTUALLY(noted("gate", getpid()) == 1);
    submit_loner("gate");
    wait_for(submit_kind("quick"));
    ck_assert(stands(2, "ready|0"));
    ck_assert_str_eq(
        job_says(2, "why"),
        "suspect of 3 deaths of its process: runs alone, waits for job 1");
    open_gate();
    wait_for(2);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(
        sql_int(queue, "SELECT started_at >= (SELECT finished_at FROM jobs"
                       " WHERE id = 1) FROM jobs WHERE id = 2"),
        1);
}
END_TEST

START_TEST(a_job_that_gets_further_is_no_suspect_any_more)
{
    submit_loner("climb");
    work_here();
    EVENTUALLY(noted("climb", getpid()) == 1);
    (void)submit_kind("quick");
    ck_assert(stands(2, "ready|0"));
    ck_assert_str_eq(job_says(2, "why"),
                     "waits for job 1, a suspect that runs alone");
    scratch_write_text("go", "");
    wait_for(2);
    ck_assert(stands(1, "running|1"));
}
END_TEST

START_TEST(what_runs_in_a_process_of_its_own_is_no_suspect_nor_company)
{
    for (int i = 0; i < 3; i++)
        (void)submit_kind("apart");
    die_with("apart", 3, 3);
    submit_loner("climb");
    work_here();
    EVENTUALLY(noted("climb", getpid()) == 1);
    EVENTUALLY(noted("apart", getpid()) == 3);
}
END_TEST

/* -- Being stopped -------------------------------------------------------- */

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
        wait_for(submit_kind("quick")); /* whatever may be claimed was */
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
    (void)submit_kind("gate");
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

/* The parent of the command of a job: what keeps it. */
static pid_t
command_keeper(void)
{
    char path[64];
    int pid = 0, parent = 0;
    FILE *file = fopen(beside("command").text, "re");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%d", &pid), 1);
    MUST(fclose(file));
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%*d %*s %*c %d", &parent), 1);
    MUST(fclose(file));
    return parent;
}

START_TEST(nobody_runs_a_job_again_before_its_command_has_ended)
{
    pid_t pid = worker_with("spawn", 1), keeper;

    EVENTUALLY(command_lives());
    keeper = command_keeper();
    work_here();
    ck_assert_int_eq(kill(keeper, SIGSTOP), 0);
    child_kill(pid);
    check_kept(ROTA_MS(700));
    ck_assert(command_lives());
    ck_assert_int_eq(kill(keeper, SIGCONT), 0);
    WITHIN(A_SECOND, noted("spawn", getpid()) == 1);
    ck_assert(!command_lives());
    wait_for(1);
    ck_assert(stands(1, "succeeded|2"));
}
END_TEST

/* Whether processes in a namespace of their own may be made here. */
static bool
may_unshare(void)
{
    return system("unshare -p -f true 2>/dev/null") == 0;
}

START_TEST(who_cannot_see_the_command_waits_for_its_end_too)
{
    pid_t pid, keeper;

    if (!may_unshare()) {
        (void)puts("no namespace may be made here");
        return;
    }
    pid = worker_with("spawn", 1);
    EVENTUALLY(command_lives());
    keeper = command_keeper();
    (void)child_start("--exec", "/usr/bin/unshare", "-p", "-f", "--kill-child",
                      self, "--work", queue, "1", NULL);
    EVENTUALLY(sql_int(queue, "SELECT count(*) FROM workers"
                              " WHERE ended_at IS NULL") == 2);
    ck_assert_int_eq(kill(keeper, SIGSTOP), 0);
    child_kill(pid);
    check_kept(ROTA_MS(700));
    ck_assert(command_lives());
    ck_assert_int_eq(kill(keeper, SIGCONT), 0);
    WITHIN(A_SECOND, noted("spawn", 0) == 2);
    ck_assert(!command_lives());
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_die(TCase *t)
{
    tcase_add_test(
        t, the_jobs_of_a_killed_process_go_on_in_another_within_a_second);
    tcase_add_test(
        t, a_process_that_only_waits_makes_the_jobs_of_a_dead_one_ready_again);
    tcase_add_test(t,
                   when_all_are_dead_the_next_to_start_has_their_jobs_at_once);
    tcase_add_test(t, a_cancel_is_heard_while_a_rescue_searches);
    tcase_add_test(t, a_job_whose_process_died_after_a_cancel_is_cancelled);
    tcase_add_test(t, a_job_whose_process_died_after_its_deadline_has_failed);
    tcase_add_test(t, a_job_that_kills_its_process_three_times_is_poison);
    tcase_add_test(
        t, a_job_that_gets_further_before_it_kills_its_process_is_not_poison);
    tcase_add_test(t, a_neighbour_of_poison_is_not_blamed);
}

static void
add_suspects(TCase *t)
{
    tcase_add_test(t, others_start_and_end_while_a_suspect_runs);
    tcase_add_test(t, two_suspects_never_run_at_once_in_a_process);
    tcase_add_test(t, two_suspects_run_at_once_in_two_processes);
    tcase_add_test(t, the_company_of_a_suspect_that_kills_is_not_blamed);
    tcase_add_test(
        t, who_was_there_at_three_deaths_waits_for_its_company_and_none_for_it);
    tcase_add_test(t, a_job_that_gets_further_is_no_suspect_any_more);
    tcase_add_test(t,
                   what_runs_in_a_process_of_its_own_is_no_suspect_nor_company);
}

static void
add_still(TCase *t)
{
    tcase_add_test(t, a_stopped_process_keeps_its_jobs_and_goes_on_with_them);
    tcase_add_test(t, the_death_of_a_stopped_process_is_noticed);
    tcase_add_test(
        t, a_key_is_its_holders_while_that_is_stopped_and_the_clock_jumps);
}

static void
add_fork(TCase *t)
{
    tcase_add_test(t, a_forked_child_that_exits_leaves_its_parent_alive);
    tcase_add_test(t, a_forked_child_does_not_keep_its_dead_parent_alive);
    tcase_add_test(
        t, a_job_that_forks_keeps_its_process_alive_and_then_nobodys_lock);
    tcase_add_test(
        t, the_command_of_a_job_keeps_no_lock_and_ends_before_the_job_goes_on);
    tcase_add_test(t, nobody_runs_a_job_again_before_its_command_has_ended);
    tcase_add_test(t, who_cannot_see_the_command_waits_for_its_end_too);
}

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("rescue");

    add_die(cast_case(suite, "die"));
    add_suspects(cast_case(suite, "suspects"));
    add_still(cast_case(suite, "still"));
    add_fork(cast_case(suite, "fork"));
    return cast_main(argc, argv, suite);
}
