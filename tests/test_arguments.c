/*
 * Arguments and results that are larger than the memory, or than what SQLite
 * takes: they are one job's matter. It is that job that fails, or is blamed for
 * the death of its process; those beside it and behind it run.
 *
 * A process that dies, or has little memory, is a child of its own. What SQLite
 * reads is watched by vfs.c, on whichever thread; what a job saw is recorded in
 * act (stage.h), and main asserts.
 */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.h"
#include "stage.h"
#include "support.h"
#include "vfs.h"

#define MIB (INT64_C(1) << 20)

/* Jobs with so many bytes of arguments, by a client whose memory is its own. */
static void
submit_sizes(int64_t first, int64_t second, int64_t third)
{
    sql_run(queue,
            "INSERT INTO submit(kind, args, max_attempts) VALUES"
            " ('k', zeroblob(%jd), 1), ('k', zeroblob(%jd), 1),"
            " ('k', zeroblob(%jd), 1)",
            (intmax_t)first, (intmax_t)second, (intmax_t)third);
}

/* -- Too large for the memory ---------------------------------------------- */

/* From here on this process has so much more memory, and no more. */
static void
limit_memory(int64_t more)
{
    struct rlimit limit = {.rlim_cur = 0};
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");

    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, "VmData:", 7) == 0)
            limit.rlim_cur = strtoul(line + 7, NULL, 10) * 1024;
    (void)fclose(status);
    ck_assert_uint_gt(limit.rlim_cur, 0);
    limit.rlim_cur += (rlim_t)more;
    limit.rlim_max = limit.rlim_cur;
    ck_assert_int_eq(setrlimit(RLIMIT_DATA, &limit), 0);
}

START_TEST(arguments_that_do_not_fit_into_memory_fail_their_own_job)
{
    if (IS_SANITIZED)
        return; /* it has its own idea of memory */
    open_queue(1);
    close_queue();
    submit_sizes(10, 400 * MIB, 10);
    sql_run(queue, "INSERT INTO pause VALUES('default')");
    sql_keep(NULL);
    begin(2, at_once);
    limit_memory(100 * MIB);
    ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
    wait_for(1);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    wait_for(3);
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    wait_for(2);
    ck_assert_int_eq(outcome.state, ROTA_JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(
        outcome.message, "its arguments, 419430400 bytes, do not fit into"));
    ck_assert_int_eq(atomic_load(&act.runs), 2);
}
END_TEST

static enum rota_error
see_args(struct ctx *ctx, struct rota_job *job)
{
    const char *args;
    size_t size, i = 0;

    (void)ctx;
    args = rota_job_args(job, &size);
    while (i < size && args[i] == 0)
        i++;
    act.number = i == size && args[size] == '\0' ? (int64_t)size : -1;
    return ROTA_OK;
}

static const int64_t sizes[] = {
    0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7, 70 * MIB,
};

START_TEST(arguments_of_any_size_come_as_they_were_given)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    begin(1, see_args);
    sql_run(queue, "INSERT INTO submit(kind, args) VALUES('k', zeroblob(%jd))",
            (intmax_t)sizes[_i]);
    wait_for(1);
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(act.number, sizes[_i]);
    /* and when it is claimed as it comes */
    s.args_size = (size_t)sizes[_i];
    s.args = calloc(1, s.args_size + 1);
    s.args_blob = true;
    wait_for(submit_as(&s));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(act.number, sizes[_i]);
    free((void *)(uintptr_t)s.args);
}
END_TEST

/* -- The death of who reads them ------------------------------------------- */

static atomic_int reads;

/* The kernel has killed it for what it had read by then. */
static void
die_reading(enum vfs_call call)
{
    if (call == VFS_READ && atomic_fetch_add(&reads, 1) > 1000)
        _exit(9);
}

static void
work_and_die(void)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        begin(1, at_once);
        vfs_watch(die_reading);
        if (rota_resume(rota, NULL) == ROTA_OK)
            drain();
        _exit(1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 9);
}

START_TEST(a_job_whose_arguments_kill_who_reads_them_is_blamed_for_it)
{
    open_queue(1);
    close_queue();
    submit_sizes(16 * MIB, 1, 1);
    sql_keep(NULL);
    for (int deaths = 1; deaths <= 3; deaths++) {
        sql_run(queue, "INSERT INTO pause VALUES('default')");
        sql_run(queue, "PRAGMA wal_checkpoint(TRUNCATE)");
        work_and_die();
        open_queue(1);
        ck_assert_int_eq(rota_rescue(rota), ROTA_OK);
        close_queue();
        if (deaths < 3)
            ck_assert_int_eq(
                sql_int(queue, "SELECT crashes FROM jobs WHERE id = 1"),
                deaths);
    }
    ck_assert_str_eq(job_says(1, "state"), "failed");
    ck_assert_ptr_nonnull(strstr(job_says(1, "cause"), "poison"));
    begin(1, at_once);
    ck_assert_int_eq(rota_resume(rota, NULL), ROTA_OK);
    drain();
    ck_assert_str_eq(job_says(2, "state"), "succeeded");
    ck_assert_str_eq(job_says(3, "state"), "succeeded");
}
END_TEST

/* -- Too large for the queue ----------------------------------------------- */

static enum rota_error
leave_too_much(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    /* it is not looked at */
    act.error = rota_job_result(job, "x", (size_t)1000000000);
    (void)snprintf(act.words, sizeof(act.words), "%s", rota_errmsg(NULL));
    return rota_job_result(job, "less", 4);
}

START_TEST(a_result_that_no_queue_keeps_is_refused_and_the_job_goes_on)
{
    begin(1, leave_too_much);
    wait_for(submit());
    assert_outcome(ROTA_SUCCEEDED, ROTA_OK, 1, "");
    ck_assert_int_eq(act.error, ROTA_INVALID);
    ck_assert_ptr_nonnull(
        strstr(act.words, "a result of 1000000000 bytes is more than"));
    ck_assert_str_eq(job_says(1, "result"), "less");
}
END_TEST

static Suite *
arguments_suite(void)
{
    Suite *suite = suite_create("arguments");
    TCase *memory = stage_case(suite, "memory");
    TCase *death = stage_case(suite, "death");
    TCase *results = stage_case(suite, "results");

    tcase_add_test(memory,
                   arguments_that_do_not_fit_into_memory_fail_their_own_job);
    tcase_add_loop_test(memory, arguments_of_any_size_come_as_they_were_given,
                        0, (int)(sizeof(sizes) / sizeof(*sizes)));
    tcase_add_test(death,
                   a_job_whose_arguments_kill_who_reads_them_is_blamed_for_it);
    tcase_add_test(results,
                   a_result_that_no_queue_keeps_is_refused_and_the_job_goes_on);
    return suite;
}

int
main(void)
{
    vfs_install();
    return suite_run(arguments_suite());
}
