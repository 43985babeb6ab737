/*
 * Programs that were compiled against another version of the headers: the
 * structs that callers fill as version 0.1 laid them out, written down here by
 * hand, and as a later one might. One thread asserts.
 */
#define _GNU_SOURCE
#include <check.h>
#include <stddef.h>
#include <string.h>

#include <rota.h>

#include "base/abi.h"
#include "scratch.h"
#include "stage.h"

/* -- The structs of 0.1 -----------------------------------------------------
 */

struct options_0_1 {
    size_t size;
    unsigned flags;
    int workers;
    void (*log)(void *arg, int64_t job, const char *line);
    void *log_arg;
    void (*ended)(void *arg, int64_t job, int state);
    void *ended_arg;
    int64_t (*clock)(void *arg);
    void *clock_arg;
    int64_t log_max;
};

struct defaults_0_1 {
    size_t size;
    int max_attempts;
    int64_t timeout, grace;
};

struct submission_0_1 {
    size_t size;
    const char *kind;
    const void *args;
    size_t args_size;
    bool args_blob;
    const char *queue, *batch;
    int64_t priority, run_at, deadline, timeout;
    int max_attempts;
    const char *unique_key, *limit_key;
    const int64_t *after;
    size_t n_after;
    int64_t parent;
};

struct outcome_0_1 {
    size_t size;
    int state, error;
    int64_t attempts, cursor;
    char message[512];
};

struct process_0_1 {
    size_t size;
    const char *const *argv, *const *env;
    const char *dir;
    const void *input;
    size_t input_size;
    int64_t grace;
    size_t output_max;
    int out_fd, err_fd;
    int64_t max_cpu, max_memory, max_file, max_files;
    void (*progress)(void *arg, int64_t done, int64_t total);
    void (*log)(void *arg, const char *line);
    void (*output)(void *arg, int fd, const char *data, size_t size);
    void *arg;
    const char *tag;
};

/* The calls, as a program of 0.1 sees them. */
static const struct rota_submission *
as_now(const struct submission_0_1 *submission)
{
    return (const struct rota_submission *)(const void *)submission;
}

static enum rota_error
fails(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    return rota_job_fail(job, ROTA_FATAL, "on purpose");
}

static void
open_0_1(rota_job_fn *fn)
{
    struct options_0_1 options = {.size = sizeof(options), .workers = 1};
    struct defaults_0_1 defaults = {.size = sizeof(defaults),
                                    .max_attempts = 2};

    ck_assert_int_eq(
        rota_open(queue, (const struct rota_options *)(const void *)&options,
                  &rota),
        ROTA_OK);
    ck_assert_int_eq(
        rota_handle(rota, "k", fn, NULL,
                    (const struct rota_defaults *)(const void *)&defaults),
        ROTA_OK);
}

START_TEST(a_program_of_version_0_1_opens_submits_and_waits)
{
    struct submission_0_1 submission[2] = {
        {.size = sizeof(*submission), .kind = "k", .args = "a", .args_size = 1},
        {.size = sizeof(*submission), .kind = "k", .priority = 1}};
    struct {
        struct outcome_0_1 outcome;
        char behind[8];
    } mine = {.outcome = {.size = sizeof(struct outcome_0_1)},
              .behind = "intact"};
    int64_t ids[2];

    open_0_1(fails);
    start_workers();
    ck_assert_int_eq(rota_submit_many(rota, as_now(submission), 2, ids),
                     ROTA_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            rota_wait(NULL, rota, ids[i],
                      (struct rota_outcome *)(void *)&mine.outcome),
            ROTA_OK);
        ck_assert_int_eq(mine.outcome.state, ROTA_JOB_FAILED);
        ck_assert_int_eq(mine.outcome.error, ROTA_FATAL);
        ck_assert_str_eq(mine.outcome.message, "on purpose");
        ck_assert_str_eq(mine.behind, "intact");
    }
    ck_assert_int_eq(rota_run(NULL, rota, as_now(&submission[0]), NULL),
                     ROTA_OK);
}
END_TEST

START_TEST(a_program_of_version_0_1_runs_a_child_process)
{
    const char *argv[] = {"sh", "-c", "exit 3", NULL};
    struct {
        struct process_0_1 process;
        char behind[16]; /* is no limit of open files */
    } mine = {.process = {.size = sizeof(struct process_0_1), .argv = argv},
              .behind = "not to be read"};
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;

    ck_assert_int_eq(
        rota_process_run(
            NULL, (const struct rota_process *)(const void *)&mine.process,
            &result),
        ROTA_OK);
    ck_assert_int_eq(result.exit_code, 3);
    rota_process_result_fini(&result);
}
END_TEST

/* -- Those of a later version -----------------------------------------------
 */

struct submission_later {
    struct rota_submission now;
    int64_t more, still_more;
};

START_TEST(a_newer_struct_is_taken_if_what_it_has_more_is_not_asked_for)
{
    struct submission_later later[3] = {{.now = ROTA_SUBMISSION_INIT("k")},
                                        {.now = ROTA_SUBMISSION_INIT("k")},
                                        {.now = ROTA_SUBMISSION_INIT("k")}};
    int64_t ids[3] = {0};

    for (int i = 0; i < 3; i++) {
        later[i].now.size = sizeof(*later);
        later[i].now.priority = i;
    }
    open_queue(1);
    ck_assert_int_eq(rota_submit_many(rota, &later[0].now, 3, ids), ROTA_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(sql_int(queue,
                                 "SELECT priority FROM jobs"
                                 " WHERE id = %jd",
                                 (intmax_t)ids[i]),
                         i);
    later[2].still_more = 1;
    ck_assert_int_eq(rota_submit_many(rota, &later[0].now, 3, ids),
                     ROTA_INVALID);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 3);
}
END_TEST

START_TEST(a_struct_of_no_size_that_was_ever_released_is_refused)
{
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    struct rota_options options = ROTA_OPTIONS_INIT;
    struct rota *other = NULL;

    open_queue(1);
    submission.size = (size_t)_i;
    ck_assert_int_eq(rota_submit(rota, &submission, NULL), ROTA_INVALID);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(rota), "ROTA_SUBMISSION_INIT"));
    options.size = (size_t)_i;
    ck_assert_int_eq(rota_open(queue, &options, &other), ROTA_INVALID);
    ck_assert_ptr_null(other);
}
END_TEST

/* As it will be once a struct has grown: what it was is on the list. */
START_TEST(an_older_struct_that_was_released_has_the_defaults_for_what_it_lacks)
{
    struct grown {
        size_t size;
        int64_t first, second, third;
    } ours = {0}, given = {.first = 1, .second = 2, .third = 3};
    const size_t released[] = {SIZE_UP_TO(struct grown, first),
                               SIZE_UP_TO(struct grown, second), 0};

    given.size = released[1];
    ck_assert(abi_take(&ours, sizeof(ours), &given, released));
    ck_assert_uint_eq(ours.size, sizeof(ours));
    ck_assert_int_eq(ours.first, 1);
    ck_assert_int_eq(ours.second, 2);
    ck_assert_int_eq(ours.third, 0);
    given.size = released[1] + 1; /* never released */
    ours.first = 7;
    ck_assert(!abi_take(&ours, sizeof(ours), &given, released));
    ck_assert_int_eq(ours.first, 7);
    ck_assert(!abi_take(&ours, sizeof(ours), NULL, released));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("abi");
    TCase *t = stage_case(suite, "structs");

    tcase_add_test(t, a_program_of_version_0_1_opens_submits_and_waits);
    tcase_add_test(t, a_program_of_version_0_1_runs_a_child_process);
    tcase_add_test(
        t, a_newer_struct_is_taken_if_what_it_has_more_is_not_asked_for);
    tcase_add_loop_test(
        t, a_struct_of_no_size_that_was_ever_released_is_refused, 0, 10);
    tcase_add_test(
        t,
        an_older_struct_that_was_released_has_the_defaults_for_what_it_lacks);
    return suite_run(suite);
}
