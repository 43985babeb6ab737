/*
 * Processes that share a queue: what one submits another takes up, who does not
 * work waits for those who do, the work is shared, the views count all of it,
 * and all have the same file, by whatever name.
 *
 * Who has got where is seen in the log and in the file (cast.h); "within a
 * second" is measured.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cast.h"
#include "engine/engine.h"
#include "scratch.h"
#include "store/sqlite/lockfile.h"
#include "store/sqlite/schema.h"

/* -- Submitting ----------------------------------------------------------- */

/* Work here until it is idle. */
static void
be_idle_here(void)
{
    work_here();
    wait_for(submit_kind("quick"));
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
    wait_for(submit_kind("quick"));
    ck_assert_str_eq(sql_text(queue, "SELECT id, state FROM jobs"),
                     "1|succeeded\n2|succeeded");
    ck_assert_int_eq(noted("quick", 0), 2);
}
END_TEST

/* -- Waiting without working ---------------------------------------------- */

static bool
somebody_waits(void)
{
    bool waits;

    lock_take(&rota->lock);
    waits = !list_is_empty(&rota->sleepers);
    lock_drop(&rota->lock);
    return waits;
}

START_TEST(a_wait_without_a_worker_ends_with_the_job_of_another_process)
{
    struct sitting waiting = {.outcome = ROTA_OUTCOME_INIT};
    pthread_t thread;

    (void)worker_start("1");
    waiting.id = submit_kind("gate");
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

/* -- Whose turn it is ------------------------------------------------------ */

/* A submit, which is refused because of that process. */
static void
check_blamed(pid_t pid)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("quick");
    char name[64];

    (void)snprintf(name, sizeof(name), "process %d (", (int)pid);
    ck_assert_int_eq(rota_submit(rota, &s, NULL), ROTA_BUSY);
    ck_assert_msg(strstr(rota_errmsg(rota), name) != NULL &&
                      strstr(rota_errmsg(rota), ", stopped)") != NULL,
                  "%s", rota_errmsg(rota));
}

START_TEST(who_is_stopped_when_it_is_his_turn_is_named_and_others_give_up)
{
    const char *const kept = "has kept all others from writing";
    pid_t pid;

    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    open_queue(2); /* so that what it logs is kept */
    ck_assert(handle_kinds());
    be_idle_here();
    pid = child_start("--halt", queue, NULL);
    child_await_stop(pid);
    check_blamed(pid);
    check_blamed(pid);
    ck_assert_int_eq(times_logged(0, kept), 1);
    ck_assert_int_eq(sql_int(queue, "SELECT count(*) FROM jobs"), 1);
    ROTA_ENDS_WITH(75, "add", "exec", "true");
    ROTA_ENDS_WITH(0, "ls"); /* who only looks does not wait */
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    child_ends_with(pid, 0);
    wait_for(submit_kind("quick"));
    ck_assert_int_eq(outcome.state, ROTA_SUCCEEDED);
    ck_assert_int_eq(times_logged(0, kept), 1);
    ck_assert_int_eq(times_logged(0, "can be written to again"), 1);
}
END_TEST

START_TEST(so_is_who_is_stopped_while_he_waits_and_he_goes_on_in_the_end)
{
    pid_t writes = child_start("--halt", queue, NULL), waits;

    child_await_stop(writes);
    waits = ROTA_START("add", "exec", "true");
    EVENTUALLY(somebody_is_next());
    ck_assert_int_eq(kill(waits, SIGSTOP), 0);
    child_await_stop(waits);
    ck_assert_int_eq(kill(writes, SIGCONT), 0);
    child_ends_with(writes, 0);
    check_blamed(waits);
    ck_assert_int_eq(kill(waits, SIGCONT), 0);
    child_ends_with(waits, 0);
    ck_assert_int_eq(submit_kind("quick"), 2);
}
END_TEST

static bool
has_ended(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid;
}

static void
looks_at_once(const char *word)
{
    pid_t pid = ROTA_START(word, strcmp(word, "show") == 0 ? "1" : "--json");

    WITHIN(A_SECOND, has_ended(pid));
    child_ends_with(pid, 0);
}

START_TEST(who_looks_waits_for_nobody_who_writes_not_even_when_one_has_died)
{
    struct lockfile *lockfile;
    pid_t pid = worker_with("gate", 1);

    work_here();
    ck_assert_int_eq(lockfile_open(in_scratch("queue.db-lock"), &lockfile),
                     ROTA_OK);
    ck_assert_int_eq(lockfile_enter(lockfile, ROTA_FOREVER), ROTA_OK);
    looks_at_once("ls");
    looks_at_once("show");
    child_kill(pid);
    looks_at_once("ls");
    looks_at_once("show");
    ck_assert(stands(1, "running|1"));
    lockfile_leave(lockfile);
    WITHIN(A_SECOND, noted("gate", getpid()) == 1);
    lockfile_close(lockfile);
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

/* -- Copies --------------------------------------------------------------- */

static char copy[300];

/* As rota(5) advises. */
static void
copy_queue(void)
{
    (void)snprintf(copy, sizeof(copy), "%s", in_scratch("copy.db"));
    sql_run(queue, "VACUUM INTO '%s'", copy);
}

/* Run all that is left of the queue at path, by the command. */
static void
resume_at(const char *path, int code)
{
    child_ends_with(
        child_start("--exec", rota_command, "resume", "--db", path, NULL),
        code);
}

static const char *
imported(void)
{
    return sql_text(target, "SELECT count(*), count(DISTINCT id) FROM t");
}

START_TEST(what_was_ready_when_a_queue_was_copied_is_imported_once_by_both)
{
    import_prepare();
    (void)import_submit(0);
    copy_queue();
    resume_at(queue, 0);
    ck_assert_str_eq(imported(), "1000|1000");
    resume_at(copy, 0);
    ck_assert_str_eq(imported(), "1000|1000");
    ck_assert_int_eq(sql_int(queue, "SELECT lease FROM jobs"), 1);
    ck_assert_int_gt(sql_int(copy, "SELECT lease FROM jobs"), 1000000);
}
END_TEST

START_TEST(of_two_copies_at_work_at_once_the_target_takes_rows_from_one)
{
    pid_t pid;

    import_prepare();
    (void)import_submit(0);
    copy_queue();
    pid = rota_work_start();
    import_await_middle();
    resume_at(copy, 0);
    ck_assert_str_eq(imported(), "1000|1000");
    EVENTUALLY(sql_int(queue, "SELECT count(*) FROM jobs"
                              " WHERE state NOT IN ('ready', 'running')") == 1);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    child_ends_with(pid, 0);
    ck_assert_str_eq(imported(), "1000|1000");
}
END_TEST

static const char *
instance_of(const char *path)
{
    return sql_text(path, "SELECT value FROM _meta WHERE key = 'instance'");
}

START_TEST(what_is_submitted_to_a_copy_is_not_taken_for_a_job_of_the_original)
{
    char before[64];

    import_prepare();
    (void)import_submit(0);
    copy_queue();
    (void)snprintf(before, sizeof(before), "%s", instance_of(copy));
    resume_at(copy, 0);
    ck_assert_str_ne(instance_of(copy), before);
    ck_assert_str_eq(instance_of(queue), before);
    resume_at(queue, 1); /* whose run comes too late */
    ck_assert_str_eq(imported(), "1000|1000");
    ck_assert_str_eq(sql_text(queue, "SELECT cause FROM jobs"),
                     "a later run of job 1 has taken over in the target");
    for (int i = 0; i < 2; i++) { /* job 2 here, and job 2 there */
        child_ends_with(child_start("--exec", rota_command, "run", "import",
                                    file_word, into_word, "table=u", "--db",
                                    i == 0 ? queue : copy, NULL),
                        0);
        ck_assert_int_eq(sql_int(target, "SELECT count(*) FROM u"),
                         (i + 1) * ROWS);
    }
}
END_TEST

/* It looks like a copy, and it is no matter. */
START_TEST(a_queue_that_was_moved_to_another_disk_goes_on_where_it_was)
{
    char before[64];
    pid_t pid;

    import_prepare();
    pid = rota_work_start();
    (void)import_midway();
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    child_ends_with(pid, 0);
    ck_assert_int_eq(rota_close(rota), ROTA_OK);
    rota = NULL;
    copy_queue();
    ck_assert_int_eq(unlink(queue), 0);
    for (int i = 0; i < 3; i++) { /* and by name, it is none */
        const char *moved = i == 0 ? copy : in_scratch("moved.db");

        if (i == 1) {
            (void)snprintf(before, sizeof(before), "%s", instance_of(copy));
            sql_run(copy, "PRAGMA journal_mode = DELETE");
            ck_assert_int_eq(rename(copy, moved), 0);
        }
        resume_at(moved, 0);
        ck_assert_str_eq(imported(), "1000|1000");
        if (i > 0)
            ck_assert_str_eq(instance_of(moved), before);
    }
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_submit(TCase *t)
{
    tcase_add_test(t,
                   what_another_process_submits_is_taken_up_by_an_idle_worker);
    tcase_add_test(t, what_plain_sql_submits_is_taken_up_by_an_idle_worker);
    tcase_add_test(t, what_the_command_adds_is_taken_up_by_an_idle_worker);
    tcase_add_test(t,
                   what_another_process_schedules_is_taken_up_when_it_is_due);
    tcase_add_test(t, a_submit_in_a_transaction_that_dies_leaves_no_job);
}

static void
add_wait(TCase *t)
{
    tcase_add_test(
        t, a_wait_without_a_worker_ends_with_the_job_of_another_process);
    tcase_add_test(t, a_run_without_a_worker_is_run_by_another_process);
    tcase_add_test(
        t, when_the_caller_of_a_run_is_done_so_is_the_job_in_another_process);
}

static void
add_work(TCase *t)
{
    tcase_add_test(t, two_processes_share_the_work_and_run_each_job_once);
    tcase_add_test(
        t, the_view_workers_says_who_lives_and_what_became_of_the_others);
    tcase_add_test(t, the_view_batches_counts_what_other_processes_do);
}

static void
add_turn(TCase *t)
{
    tcase_add_test(
        t, who_is_stopped_when_it_is_his_turn_is_named_and_others_give_up);
    tcase_add_test(
        t, so_is_who_is_stopped_while_he_waits_and_he_goes_on_in_the_end);
    tcase_add_test(
        t, who_looks_waits_for_nobody_who_writes_not_even_when_one_has_died);
}

static void
add_copies(TCase *t)
{
    tcase_add_test(
        t, what_was_ready_when_a_queue_was_copied_is_imported_once_by_both);
    tcase_add_test(
        t, of_two_copies_at_work_at_once_the_target_takes_rows_from_one);
    tcase_add_test(
        t, what_is_submitted_to_a_copy_is_not_taken_for_a_job_of_the_original);
    tcase_add_test(t,
                   a_queue_that_was_moved_to_another_disk_goes_on_where_it_was);
}

static void
add_file(TCase *t)
{
    tcase_add_test(
        t, two_processes_that_make_a_queue_at_once_make_one_that_is_whole);
    tcase_add_test(t, a_queue_is_the_same_by_all_of_its_names);
    tcase_add_test(
        t, a_queue_whose_lock_file_was_removed_loses_no_row_and_doubles_none);
}

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("share");

    add_submit(cast_case(suite, "submit"));
    add_wait(cast_case(suite, "wait"));
    add_work(cast_case(suite, "work"));
    add_turn(cast_case(suite, "turn"));
    add_file(cast_case(suite, "file"));
    add_copies(cast_case(suite, "copies"));
    return cast_main(argc, argv, suite);
}
