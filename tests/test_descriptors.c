/*
 * A program that was started with a standard descriptor closed, in each of the
 * combinations: nothing of the library's takes its place.
 *
 * Each of these programs is a child of the test's, as the descriptors are the
 * process's; how far it came is what it ends with.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota.h>
#include <rota/io.h>

#include "base/descriptor.h"
#include "scratch.h"
#include "support.h"

/* End the program with the number of the line, unless condition holds. */
#define NEED(condition)                \
    do {                               \
        if (!(condition))              \
            _exit(__LINE__ % 255 + 1); \
    } while (0)

static int closed; /* a bit for each of 0, 1 and 2 */

/* Whether what stands at fd, which was closed, is not ours: it is free, or
 * SQLite keeps others from it with /dev/null, as its way is. */
static bool
is_left_alone(int fd)
{
    char path[32], target[64];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return errno == ENOENT;
    target[n] = '\0';
    return strcmp(target, "/dev/null") == 0;
}

/* What is opened is there for a moment, before it is moved: so another thread
 * may be in the middle of that. */
static bool
are_left_alone(void)
{
    for (int fd = 0; fd < DESCRIPTOR_FIRST; fd++) {
        int looks = 0;

        while ((closed & 1 << fd) != 0 && !is_left_alone(fd))
            if (looks++ < 100000)
                (void)sched_yield();
            else
                return false;
    }
    return true;
}

static void
close_some(void)
{
    for (int fd = 0; fd < DESCRIPTOR_FIRST; fd++)
        if ((closed & 1 << fd) != 0)
            NEED(close(fd) == 0);
}

/* A program that starts with those closed, and does body. */
static void
assert_program(int without, void (*body)(void))
{
    int status = 0;
    pid_t child;

    closed = without;
    child = fork();
    if (child == 0) {
        close_some();
        body();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "status %d: line %d", status,
                  WEXITSTATUS(status) - 1);
}

/* -- A queue --------------------------------------------------------------- */

/* A command of the job's, with all that it is given. */
static enum rota_error
run_cat(struct ctx *ctx, struct rota_job *job)
{
    const char *argv[] = {"sh", "-c", "cat; echo error >&2", NULL};
    struct rota_process process = ROTA_PROCESS_INIT(argv);
    struct rota_process_result result = ROTA_PROCESS_RESULT_INIT;

    (void)ctx;
    NEED(are_left_alone());
    for (int i = 0; i < 2; i++) {
        process.input = i == 0 ? "input" : NULL;
        process.input_size = i == 0 ? 5 : 0;
        NEED(rota_job_process(job, &process, &result) == ROTA_OK);
        NEED(result.exit_code == 0);
        NEED(result.out.size == (i == 0 ? 5 : 0));
        NEED(i == 1 || memcmp(result.out.head, "input", 5) == 0);
        NEED(result.err.size == 6);
        NEED(memcmp(result.err.head, "error\n", 6) == 0);
        rota_process_result_fini(&result);
    }
    NEED(are_left_alone());
    return ROTA_OK;
}

static void
use_a_queue(void)
{
    const char *path = in_scratch("queue");
    struct rota_submission submission = ROTA_SUBMISSION_INIT("cat");
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    struct rota *rota, *other;
    int64_t id;

    NEED(rota_open(path, NULL, &rota) == ROTA_OK);
    NEED(are_left_alone());
    NEED(rota_handle(rota, "cat", run_cat, NULL, NULL) == ROTA_OK);
    NEED(rota_start(ctx_background(), rota) == ROTA_OK);
    NEED(rota_open(path, NULL, &other) == ROTA_OK);
    NEED(rota_submit(other, &submission, &id) == ROTA_OK);
    NEED(rota_wait(ctx_background(), other, id, &outcome) == ROTA_OK);
    NEED(outcome.state == ROTA_SUCCEEDED);
    NEED(are_left_alone());
    NEED(rota_close(other) == ROTA_OK);
    NEED(rota_close(rota) == ROTA_OK);
    NEED(are_left_alone());
}

START_TEST(a_queue_leaves_closed_standard_descriptors_alone)
{
    assert_program(_i, use_a_queue);
}
END_TEST

/* -- Contexts -------------------------------------------------------------- */

static void
use_contexts(void)
{
    struct ctx *ctx = ctx_with_cancel(NULL), *peer, *signals;
    sigset_t set;
    int pair[2], status;
    pid_t child;

    NEED(ctx_fd(ctx) >= DESCRIPTOR_FIRST);
    NEED(ctx_fd(ctx_background()) >= DESCRIPTOR_FIRST);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    signals = ctx_with_signals(ctx, &set);
    NEED(signals != NULL && ctx_err(signals) == ROTA_OK);
    NEED(are_left_alone());
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    NEED(descriptor_pair_above(pair));
    peer = ctx_with_peer(ctx, pair[0]);
    NEED(peer != NULL && ctx_err(peer) == ROTA_OK);
    NEED(are_left_alone());
    child = fork();
    if (child == 0)
        _exit(0);
    NEED(ctx_waitpid(ctx, child, ROTA_FOREVER, &status) == ROTA_OK);
    NEED(are_left_alone());
    ctx_end(signals);
    ctx_end(peer);
    ctx_end(ctx);
}

START_TEST(contexts_leave_closed_standard_descriptors_alone)
{
    assert_program(_i, use_contexts);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("descriptors");
    TCase *tcase = case_new(suite, "closed");

    tcase_add_checked_fixture(tcase, scratch_make, scratch_remove);
    tcase_add_loop_test(tcase, a_queue_leaves_closed_standard_descriptors_alone,
                        0, 8);
    tcase_add_loop_test(tcase, contexts_leave_closed_standard_descriptors_alone,
                        0, 8);
    return suite_run(suite);
}
