/*
 * "A cancel reaches the running job, from the C call, rota cancel, plain SQL, a
 * deadline or Ctrl-C, in this process or another": here an import in its
 * middle, which has then done what it says, for good, or is given back and goes
 * on; and a cancel that comes right behind its submit.
 *
 * The import is seen to be in its middle in the file (cast.h).
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "cast.h"
#include "engine/engine.h"
#include "scratch.h"

/* -- An import that is stopped -------------------------------------------- */

/* The rows up to the cursor are there, each once, and no others. */
static void
check_rows(int64_t id)
{
    int cursor = (int)sql_int(
        target, "SELECT cursor FROM _rota_cursor WHERE job = %" PRId64, id);
    char expected[64];

    ck_assert_int_gt(cursor, 0);
    ck_assert_int_lt(cursor, ROWS);
    (void)snprintf(expected, sizeof(expected), "%d|%d|%d", cursor, cursor,
                   cursor);
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id), max(id) FROM t"),
        expected);
    ck_assert_int_eq(
        sql_int(queue, "SELECT done FROM jobs WHERE id = %" PRId64, id),
        cursor);
}

/* It has ended so, in the middle, for good. */
static void
check_stopped(int64_t id, const char *how)
{
    wait_for(id);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(sql_text(queue,
                                  "SELECT state, error, cause, cancel_reason,"
                                  " lease FROM jobs WHERE id = %" PRId64,
                                  id),
                         how);
        check_rows(id);
        ck_assert_int_eq(running(), 0);
        ROTA_ENDS_WITH(0, "resume");
    }
}

/* It was given back in the middle, uncharged; another process ends it. */
static void
check_given_back(int64_t id)
{
    EVENTUALLY(stands(id, "ready|1"));
    ck_assert_str_eq(sql_text(queue,
                              "SELECT status, attempt, failures, crashes,"
                              " error FROM jobs WHERE id = %" PRId64,
                              id),
                     "resumable|0|0|0|NULL");
    check_rows(id);
    ck_assert_int_eq(running(), 0);
    ROTA_ENDS_WITH(0, "resume");
    ck_assert_str_eq(sql_text(queue, "SELECT lease, outcome, error"
                                     " FROM attempts ORDER BY lease"),
                     "1|interrupted|NULL\n2|succeeded|NULL");
    ck_assert_str_eq(
        sql_text(target, "SELECT count(*), count(DISTINCT id), max(id) FROM t"),
        "1000|1000|1000");
    ck_assert(stands(id, "succeeded|2"));
}

static void
stop_by_sql(int64_t id)
{
    sql_run(queue,
            "INSERT INTO cancel(job, reason) VALUES(%" PRId64
            ", 'not this one')",
            id);
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

static void
stop_by_command(int64_t id)
{
    char word[24];

    (void)snprintf(word, sizeof(word), "%" PRId64, id);
    ROTA_ENDS_WITH(0, "cancel", word, "not this one");
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

static void
stop_by_call(int64_t id)
{
    enum rota_cancel_answer answer;

    ck_assert_int_eq(rota_cancel(rota, id, "not this one", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_REQUESTED);
    check_stopped(id, "cancelled|CANCELED|not this one|not this one|1");
}

/* On a machine that was too slow to begin in time, once more with more. */
static void
stop_by_deadline(void)
{
    int64_t id, time = 500;

    do {
        id = import_submit(machine_clock(NULL) + time);
        wait_for(id);
        time *= 4;
    } while (outcome.cursor == 0 && time < 100000);
    check_stopped(id, "failed|DEADLINE|its deadline passed|NULL|1");
}

START_TEST(plain_sql_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_sql(import_midway());
}
END_TEST

START_TEST(the_command_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_command(import_midway());
}
END_TEST

START_TEST(a_call_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_call(import_midway());
}
END_TEST

START_TEST(its_deadline_stops_an_import_in_another_process)
{
    import_prepare();
    (void)rota_work_start();
    stop_by_deadline();
}
END_TEST

START_TEST(sigint_to_rota_run_gives_the_import_back)
{
    pid_t pid;

    import_prepare();
    pid =
        ROTA_START("run", "import", file_word, into_word, "table=t", "group=2");
    import_await_middle();
    ck_assert_int_eq(kill(pid, SIGINT), 0);
    child_ends_with(pid, 130);
    check_given_back(1);
}
END_TEST

START_TEST(sigterm_to_rota_work_gives_the_import_back)
{
    pid_t pid;
    int64_t id;

    import_prepare();
    pid = rota_work_start();
    id = import_midway();
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    child_ends_with(pid, 0);
    check_given_back(id);
}
END_TEST

START_TEST(plain_sql_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_sql(import_midway());
}
END_TEST

START_TEST(the_command_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_command(import_midway());
}
END_TEST

START_TEST(a_call_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_call(import_midway());
}
END_TEST

START_TEST(its_deadline_stops_an_import_here)
{
    import_prepare();
    work_here();
    stop_by_deadline();
}
END_TEST

START_TEST(ctrl_c_gives_an_import_here_back)
{
    CTX_AUTO struct ctx *ctx = NULL;
    int64_t id;

    (void)signal(SIGINT, SIG_DFL); /* a shell's background has it ignored */
    ctx = ctx_with_signal(SIGINT);
    import_prepare();
    ck_assert_int_eq(rota_start(ctx, rota), ROTA_OK);
    id = import_midway();
    (void)raise(SIGINT);
    check_given_back(id);
    ck_assert_int_eq(rota_stop(rota, 0), ROTA_OK);
}
END_TEST

/* -- A foreign client that has the lock ----------------------------------- */

/* Whether a request of this kind waits for whoever has the writer's role. */
static bool
is_asked(enum wish_kind kind)
{
    bool asked = false;

    lock_take(&rota->lock);
    for (struct link *l = rota->requests.next; l != &rota->requests;
         l = l->next)
        asked |= OWNER_OF(l, struct request, wish.on_wishes)->wish.kind == kind;
    lock_drop(&rota->lock);
    return asked;
}

static bool
role_is_taken(void)
{
    bool is_free;

    lock_take(&rota->lock);
    is_free = !rota->is_writing;
    rota->is_writing = true;
    lock_drop(&rota->lock);
    return is_free;
}

static void
role_give_back(void)
{
    lock_take(&rota->lock);
    rota->is_writing = false;
    rota->must_write = true;
    MUST(pthread_cond_signal(&rota->work));
    lock_drop(&rota->lock);
}

/* Both in one transaction, which would claim it. */
START_TEST(a_cancel_right_behind_a_submit_is_in_time)
{
    struct sitting calls[] = {{.kind = "gate"}, {.id = 1}};
    pthread_t threads[2];

    work_here();
    AWAIT(role_is_taken());
    threads[0] = thread_new(submit_in_thread, &calls[0]);
    AWAIT(is_asked(WISH_SUBMIT));
    threads[1] = thread_new(cancel_in_thread, &calls[1]);
    AWAIT(is_asked(WISH_CANCEL));
    role_give_back();
    for (int i = 0; i < 2; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(calls[i].error, ROTA_OK);
    }
    ck_assert_int_eq(calls[0].id, 1);
    ck_assert(stands(1, "cancelled|0"));
    ck_assert_int_eq(noted("gate", 0), 0);
}
END_TEST

/* -- The suite ------------------------------------------------------------ */

static void
add_import(TCase *t)
{
    tcase_add_test(t, plain_sql_stops_an_import_in_another_process);
    tcase_add_test(t, the_command_stops_an_import_in_another_process);
    tcase_add_test(t, a_call_stops_an_import_in_another_process);
    tcase_add_test(t, its_deadline_stops_an_import_in_another_process);
    tcase_add_test(t, sigint_to_rota_run_gives_the_import_back);
    tcase_add_test(t, sigterm_to_rota_work_gives_the_import_back);
    tcase_add_test(t, plain_sql_stops_an_import_here);
    tcase_add_test(t, the_command_stops_an_import_here);
    tcase_add_test(t, a_call_stops_an_import_here);
    tcase_add_test(t, its_deadline_stops_an_import_here);
    tcase_add_test(t, ctrl_c_gives_an_import_here_back);
}

static void
add_submit(TCase *t)
{
    tcase_add_test(t, a_cancel_right_behind_a_submit_is_in_time);
}

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("cancel_reach");

    add_import(cast_case(suite, "import"));
    add_submit(cast_case(suite, "submit"));
    return cast_main(argc, argv, suite);
}
