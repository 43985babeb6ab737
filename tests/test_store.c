/*
 * The store alone: every move of a job, its guards, the SQL commands, the lock
 * file. No threads but where the lock file is tested.
 */
#define _GNU_SOURCE
#include <check.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/base.h"
#include "scratch.h"
#include "store/sqlite/sqlite.h"
#include "support.h"

/* -- The stage ------------------------------------------------------------ */

static char file[128];
static struct store *store;
static sqlite3 *shell; /* a foreign client */
static int64_t kind;   /* of the jobs here */

static void
begin(void)
{
    ck_assert_int_eq(store_begin(store, false), ROTA_OK);
}

static void
commit(void)
{
    ck_assert_int_eq(store_commit(store), ROTA_OK);
}

static void
setup(void)
{
    scratch_make();
    (void)snprintf(file, sizeof(file), "%s", in_scratch("q.db"));
    ck_assert_int_eq(store_open(file, false, &store), ROTA_OK);
    ck_assert_int_eq(sqlite3_open(file, &shell), SQLITE_OK);
    (void)sqlite3_busy_timeout(shell, 5000);
    begin();
    ck_assert_int_eq(store_kind(store, "k", 3, 0, &kind), ROTA_OK);
    commit();
}

static void
teardown(void)
{
    (void)sqlite3_close(shell);
    store_close(store);
    scratch_remove();
}

/* The same client, by turns: NULL, or the message of its failure. */
static const char *
shell_try(const char *sql)
{
    return sql_try(file, "%s", sql);
}

static int64_t
shell_int(const char *sql)
{
    return sql_int(file, "%s", sql);
}

static const char *
shell_text(const char *sql)
{
    return sql_text(file, "%s", sql);
}

static int64_t
submit(void)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id = 0;

    begin();
    ck_assert_int_eq(store_submit(store, &s, 1, &id), ROTA_OK);
    commit();
    return id;
}

static bool
keep_claim(void *arg, const struct claim *claim)
{
    struct claim *kept = arg;

    free(kept->args);
    *kept = *claim;
    return true;
}

static enum claim_rest claim_rest; /* of the last claim */

/* Claim one job as process; its id is 0 if there was none. */
static struct claim
claim_as(int64_t process)
{
    const struct scope scope = {
        .process = process, .kinds = &kind, .n_kinds = 1};
    struct claim claim = {0};

    begin();
    ck_assert_int_eq(
        store_claim(store, &scope, 1, keep_claim, &claim, &claim_rest),
        ROTA_OK);
    commit();
    free(claim.args);
    claim.args = NULL;
    return claim;
}

static enum rota_error
end_with(const struct claim *claim, enum rota_error error,
         enum rota_stop_reason stop, bool never_started,
         enum rota_state *ret_state)
{
    struct ending ending = {.id = claim->id,
                            .lease = claim->lease,
                            .started_at = store_now(store),
                            .error = error,
                            .stop = stop,
                            .never_started = never_started,
                            .max_attempts = 3,
                            .snooze_ms = 60000};
    enum rota_error answer;

    begin();
    answer = store_end(store, &ending, ret_state);
    commit();
    return answer;
}

/* Everything in the private tables, to see that nothing has changed. */
static const char *
everything(void)
{
    static char all[2][4096];
    static int turn;
    const char *tables[] = {"_job",  "_ready",    "_scheduled", "_running",
                            "_done", "_progress", "_attempt"};
    char *end, sql[128];
    sqlite3_stmt *s;

    turn = !turn;
    end = all[turn];
    *end = '\0';
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        (void)snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY 1, 2",
                       tables[t]);
        ck_assert_int_eq(sqlite3_prepare_v2(shell, sql, -1, &s, NULL),
                         SQLITE_OK);
        while (sqlite3_step(s) == SQLITE_ROW)
            for (int c = 0; c < sqlite3_column_count(s); c++)
                end += sprintf(end, "%s|",
                               sqlite3_column_text(s, c) == NULL
                                   ? ""
                                   : (const char *)sqlite3_column_text(s, c));
        end += sprintf(end, "\n");
        sqlite3_finalize(s);
    }
    return all[turn];
}

/* -- Fencing -------------------------------------------------------------- */

static const struct {
    enum rota_error error;
    enum rota_stop_reason stop;
    bool never_started;
    enum rota_state state; /* where it leads when the lease holds */
} endings[] = {
    {ROTA_OK, ROTA_STOP_NONE, false, ROTA_SUCCEEDED},
    {ROTA_FAILED, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_FATAL, ROTA_STOP_NONE, false, ROTA_JOB_FAILED},
    {ROTA_SNOOZE, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_CANCEL, false, ROTA_CANCELLED},
    {ROTA_FAILED, ROTA_STOP_CANCEL, false, ROTA_CANCELLED},
    {ROTA_OK, ROTA_STOP_CANCEL, false, ROTA_SUCCEEDED},
    {ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, ROTA_READY},
    {ROTA_FAILED, ROTA_STOP_SHUTDOWN, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_DEADLINE, ROTA_STOP_NONE, false, ROTA_SCHEDULED},
    {ROTA_CANCELED, ROTA_STOP_SHUTDOWN, true, ROTA_READY},
    {ROTA_CANCELED, ROTA_STOP_CANCEL, true, ROTA_CANCELLED},
};
#define ENDINGS ((int)(sizeof(endings) / sizeof(endings[0])))

START_TEST(an_ending_leads_where_the_outcome_rules_say)
{
    struct claim claim;
    enum rota_state state = ROTA_BLOCKED;

    (void)submit();
    claim = claim_as(1);
    ck_assert_int_eq(end_with(&claim, endings[_i].error, endings[_i].stop,
                              endings[_i].never_started, &state),
                     ROTA_OK);
    ck_assert_int_eq(state, endings[_i].state);
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"),
                     rota_state_name(state));
    ck_assert_int_eq(shell_int("SELECT count(*) FROM jobs"), 1);
}
END_TEST

/* The same process claims it again: the lease alone tells the runs apart. */
START_TEST(a_run_that_was_overtaken_ends_in_nothing_whatever_it_returns)
{
    struct claim first, second;
    enum rota_state state;
    const char *before;

    (void)submit();
    first = claim_as(1);
    ck_assert_int_eq(
        end_with(&first, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, &state),
        ROTA_OK);
    second = claim_as(1);
    ck_assert_int_eq(second.id, first.id);
    ck_assert_int_eq(second.lease, first.lease + 1);
    before = everything();
    ck_assert_int_eq(end_with(&first, endings[_i].error, endings[_i].stop,
                              endings[_i].never_started, &state),
                     ROTA_LOST);
    ck_assert_str_eq(everything(), before);
    ck_assert_int_eq(end_with(&second, ROTA_OK, ROTA_STOP_NONE, false, &state),
                     ROTA_OK);
    ck_assert_int_eq(shell_int("SELECT lease FROM jobs"), second.lease);
}
END_TEST

START_TEST(a_run_that_was_overtaken_records_no_progress)
{
    struct progress progress = {.cursor = 77, .total = 100};
    struct claim first, second;
    enum rota_state state;
    const char *before;

    (void)submit();
    first = claim_as(1);
    ck_assert_int_eq(
        end_with(&first, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, &state),
        ROTA_OK);
    second = claim_as(1);
    before = everything();
    progress.id = first.id;
    progress.lease = first.lease;
    begin();
    ck_assert_int_eq(store_progress(store, &progress), ROTA_LOST);
    commit();
    ck_assert_str_eq(everything(), before);
    progress.lease = second.lease;
    begin();
    ck_assert_int_eq(store_progress(store, &progress), ROTA_OK);
    commit();
    ck_assert_int_eq(shell_int("SELECT done FROM jobs"), 77);
}
END_TEST

/* Each statement by itself: none relies on the guard of the one before it. */
static const enum statement guarded[] = {FIND_RUNNING, DELETE_RUNNING,
                                         RECORD_PROGRESS, RECORD_START};

START_TEST(no_statement_reads_or_changes_a_run_of_another_lease)
{
    struct claim claim;
    const char *before;
    sqlite3_stmt *s;

    (void)submit();
    claim = claim_as(1);
    before = everything();
    ck_assert_int_eq(
        sqlite3_prepare_v2(shell, store_statements[guarded[_i]], -1, &s, NULL),
        SQLITE_OK);
    for (int i = sqlite3_bind_parameter_count(s); i > 2; i--)
        (void)sqlite3_bind_int(s, i, 4);
    (void)sqlite3_bind_int64(s, 1, claim.id);
    (void)sqlite3_bind_int64(s, 2, claim.lease - 1);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_DONE); /* no row */
    ck_assert_int_eq(sqlite3_changes(shell), 0);
    sqlite3_finalize(s);
    ck_assert_str_eq(everything(), before);
}
END_TEST

/* -- Counters ------------------------------------------------------------- */

START_TEST(failures_are_charged_until_none_are_left)
{
    enum rota_state state = ROTA_BLOCKED;
    struct claim claim;

    (void)submit(); /* of a kind with three attempts */
    for (int i = 1; i <= 3; i++) {
        (void)shell_try("UPDATE _job SET run_at = 1");
        (void)shell_try("UPDATE _scheduled SET run_at = 1");
        begin();
        ck_assert_int_eq(store_promote(store, &(int64_t){0}), ROTA_OK);
        commit();
        claim = claim_as(1);
        ck_assert_int_eq(claim.lease, i);
        ck_assert_int_eq(
            end_with(&claim, ROTA_FAILED, ROTA_STOP_NONE, false, &state),
            ROTA_OK);
    }
    ck_assert_int_eq(state, ROTA_JOB_FAILED);
    ck_assert_int_eq(shell_int("SELECT attempt FROM jobs"), 3);
    ck_assert_int_eq(shell_int("SELECT count(*) FROM attempts"), 3);
    ck_assert_int_eq(
        shell_int("SELECT count(*) FROM attempts WHERE outcome = 'failed'"), 3);
}
END_TEST

START_TEST(interrupted_and_snoozed_runs_are_not_charged)
{
    enum rota_state state;
    struct claim claim;

    (void)submit();
    claim = claim_as(1);
    (void)end_with(&claim, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, &state);
    claim = claim_as(1);
    (void)end_with(&claim, ROTA_SNOOZE, ROTA_STOP_NONE, false, &state);
    ck_assert_int_eq(shell_int("SELECT failures FROM jobs"), 0);
    ck_assert_int_eq(shell_int("SELECT attempt FROM jobs"), 0);
    ck_assert_str_eq(
        shell_text("SELECT group_concat(outcome) FROM attempts ORDER BY 1"),
        "interrupted,snoozed");
}
END_TEST

/* A process that is not there: its byte of the lock file is free. */
static void
add_dead_process(int64_t id)
{
    char sql[256];

    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO _process(id, pid, threads, started_at)"
                   " VALUES(%jd, 1, 1, 1)",
                   (intmax_t)id);
    ck_assert_ptr_null(shell_try(sql));
}

static int64_t
rescue(int64_t process)
{
    int64_t jobs = -1;

    begin();
    ck_assert_int_eq(store_rescue(store, process, &jobs), ROTA_OK);
    commit();
    return jobs;
}

START_TEST(a_job_that_killed_three_processes_without_advancing_is_poison)
{
    (void)submit();
    for (int64_t process = 11; process <= 13; process++) {
        add_dead_process(process);
        ck_assert_int_eq(claim_as(process).lease, process - 10);
        ck_assert_int_eq(rescue(process), 1);
        ck_assert_int_eq(rescue(process), 0); /* once only */
    }
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "failed");
    ck_assert_ptr_nonnull(
        strstr(shell_text("SELECT cause FROM jobs"), "poison"));
}
END_TEST

START_TEST(a_job_that_advances_before_each_crash_is_not_poison)
{
    struct progress progress = {.total = 100};
    struct claim claim;

    (void)submit();
    for (int64_t process = 11; process <= 20; process++) {
        add_dead_process(process);
        claim = claim_as(process);
        ck_assert_int_ne(claim.id, 0);
        progress.id = claim.id;
        progress.lease = claim.lease;
        progress.cursor = process;
        begin();
        ck_assert_int_eq(store_progress(store, &progress), ROTA_OK);
        commit();
        ck_assert_int_eq(rescue(process), 1);
    }
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "ready");
    ck_assert_int_eq(shell_int("SELECT crashes FROM jobs"), 1);
}
END_TEST

START_TEST(a_run_that_advances_and_comes_back_makes_good_for_the_deaths_before)
{
    struct progress progress = {.cursor = 5, .total = -1};
    struct claim claim;
    enum rota_state state;

    (void)submit();
    for (int64_t process = 11; process <= 12; process++) {
        add_dead_process(process);
        (void)claim_as(process);
        ck_assert_int_eq(rescue(process), 1);
    }
    ck_assert_int_eq(shell_int("SELECT crashes FROM jobs"), 2);
    claim = claim_as(1);
    progress.id = claim.id;
    progress.lease = claim.lease;
    begin();
    ck_assert_int_eq(store_progress(store, &progress), ROTA_OK);
    commit();
    ck_assert_int_eq(
        end_with(&claim, ROTA_CANCELED, ROTA_STOP_SHUTDOWN, false, &state),
        ROTA_OK);
    ck_assert_int_eq(shell_int("SELECT crashes FROM jobs"), 0);
    add_dead_process(13);
    (void)claim_as(13);
    ck_assert_int_eq(rescue(13), 1);
    ck_assert_str_eq(shell_text("SELECT state, crashes FROM jobs"), "ready|1");
}
END_TEST

START_TEST(a_dead_process_leaves_cancelled_what_was_to_be_cancelled)
{
    (void)submit();
    add_dead_process(11);
    (void)claim_as(11);
    ck_assert_ptr_null(shell_try("INSERT INTO cancel VALUES(1, 'enough')"));
    ck_assert_int_eq(rescue(11), 1);
    ck_assert_str_eq(shell_text("SELECT state || why FROM jobs"),
                     "cancelledenough");
}
END_TEST

START_TEST(a_living_process_is_not_rescued)
{
    int64_t process;

    begin();
    ck_assert_int_eq(store_process_begin(store, 1, &process), ROTA_OK);
    commit();
    (void)submit();
    (void)claim_as(process);
    ck_assert_int_eq(rescue(process), 0);
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "running");
}
END_TEST

/* -- Claiming ------------------------------------------------------------- */

START_TEST(jobs_are_claimed_by_priority_with_ageing_then_by_id)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t late, soon, old, id;

    begin();
    s.priority = 1;
    ck_assert_int_eq(store_submit(store, &s, 1, &late), ROTA_OK);
    s.priority = 0;
    ck_assert_int_eq(store_submit(store, &s, 1, &soon), ROTA_OK);
    s.priority = 5; /* but it has waited for longer than five minutes */
    s.run_at = machine_clock(NULL) - 301000;
    ck_assert_int_eq(store_submit(store, &s, 1, &old), ROTA_OK);
    commit();
    id = claim_as(1).id;
    ck_assert_int_eq(id, old);
    id = claim_as(1).id;
    ck_assert_int_eq(id, soon);
    id = claim_as(1).id;
    ck_assert_int_eq(id, late);
    ck_assert_int_eq(claim_as(1).id, 0);
}
END_TEST

START_TEST(a_queue_that_a_living_process_owns_is_its_alone)
{
    int64_t owner, other, queue;

    begin();
    ck_assert_int_eq(store_process_begin(store, 1, &other), ROTA_OK);
    ck_assert_int_eq(store_process_begin(store, 1, &owner), ROTA_OK);
    ck_assert_int_eq(store_queue(store, "default", &queue), ROTA_OK);
    ck_assert_int_eq(store_queue_is_free(store, queue), ROTA_OK);
    ck_assert_int_eq(store_own_queue(store, queue, owner), ROTA_OK);
    ck_assert_int_eq(store_queue_is_free(store, queue), ROTA_EXISTS);
    commit();
    (void)submit();
    (void)submit();
    ck_assert_int_eq(claim_as(other).id, 0);
    ck_assert_int_gt(claim_as(owner).id, 0);
    begin();
    ck_assert_int_eq(store_process_end(store, owner), ROTA_OK);
    ck_assert_int_eq(store_queue_is_free(store, queue), ROTA_OK);
    commit();
    ck_assert_int_gt(claim_as(other).id, 0);
}
END_TEST

/* Statements that must not walk over the jobs that wait, and their bindings:
 * one queue, one kind, at most two jobs. */
static const struct {
    enum statement statement;
    int64_t bound[4];
} hot[] = {
    {NEXT_LANE, {1, 1}},
    {NEXT_LANE, {0, 0}},
    {LANE_JOBS, {1, 1, 2}},
    {ONE_JOB, {500}},
    {DELETE_READY, {1, 1, 5, 5}},
    {FIND_RUNNING, {5, 1}},
    {JOB_STANDING, {500}},
    {NEXT_DUE, {0}},
    {DUE_JOBS, {1}},
    {JOBS_OF_PROCESS, {1}},
};

START_TEST(no_hot_statement_walks_over_the_jobs_that_wait)
{
    sqlite3_stmt *s;

    for (int i = 0; i < 2; i++)
        ck_assert_ptr_null(shell_try(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " LIMIT 1000) INSERT INTO submit(kind, run_at)"
            " SELECT 'k', CASE i % 2 WHEN 0 THEN 4000000000000 END FROM n"));
    ck_assert_int_eq(sqlite3_prepare_v2(shell,
                                        store_statements[hot[_i].statement], -1,
                                        &s, NULL),
                     SQLITE_OK);
    for (int i = 0; i < sqlite3_bind_parameter_count(s); i++)
        (void)sqlite3_bind_int64(s, i + 1, hot[_i].bound[i]);
    while (sqlite3_step(s) == SQLITE_ROW)
        continue;
    ck_assert_int_lt(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0), 200);
    ck_assert_int_eq(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 0), 0);
    sqlite3_finalize(s);
}
END_TEST

/* What the statements of the store have cost so far, in steps of SQLite's
 * machine. */
static int64_t
steps_taken(void)
{
    sqlite3_stmt *s = NULL;
    int64_t n = 0;

    while ((s = sqlite3_next_stmt(store->connection.db, s)) != NULL)
        n += sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0);
    return n;
}

static void
succeed(const struct claim *claim)
{
    enum rota_state state;

    ck_assert_int_eq(end_with(claim, ROTA_OK, ROTA_STOP_NONE, false, &state),
                     ROTA_OK);
}

/* What it costs to claim a job without a key, and to end it. */
static int64_t
cost_of_a_job(void)
{
    int64_t id = submit(), before = steps_taken();
    struct claim claim = claim_as(1);

    ck_assert_int_eq(claim.id, id);
    succeed(&claim);
    return steps_taken() - before;
}

START_TEST(jobs_by_the_100000_that_wait_for_a_key_cost_the_others_nothing)
{
    int64_t n = MANY(100000), alone, before, claims = 0;
    struct claim first;

    (void)cost_of_a_job(); /* statements are compiled */
    alone = cost_of_a_job();
    sql_run(file,
            "INSERT INTO submit(kind, limit_key) WITH RECURSIVE n(i) AS"
            " (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT %jd)"
            " SELECT 'k', 'x' FROM n",
            (intmax_t)n);
    first = claim_as(1);
    do {
        before = steps_taken();
        ck_assert_int_eq(claim_as(1).id, 0);
        ck_assert_int_lt(steps_taken() - before, 1000 * alone);
        claims++;
    } while (claim_rest == CLAIM_MORE);
    ck_assert_int_le(claims, n / 1000 + 2); /* each is stepped over once */
    ck_assert_int_eq(shell_int("SELECT held FROM limits"), n - 1);
    ck_assert_int_le(cost_of_a_job(), 2 * alone);
    before = steps_taken(); /* nor is it dear to let in the next of them */
    succeed(&first);
    ck_assert_int_le(steps_taken() - before, 2 * alone);
    ck_assert_int_eq(claim_as(1).id, first.id + 1);
    ck_assert_int_eq(shell_int("SELECT held FROM limits"), n - 2);
}
END_TEST

/* What a plan may walk over: it is small whatever waits and has ended. A star
 * at the end is anything. */
static const char *const walks[] = {
    "SCAN CONSTANT ROW",
    "SCAN (subquery-*",     /* of LIMIT 1 */
    "SCAN sqlite_sequence", /* a row for each table with a counter */
    "SCAN _running",        /* as many rows as there are workers */
    "SCAN r",
    "SCAN _settle", /* for its first row */
    "SCAN s",
    "SCAN _process USING INDEX _process_open", /* those that live */
    "SCAN e VIRTUAL TABLE*",                   /* an argument */
    "SCAN e EXISTS VIRTUAL TABLE*",            /* it too, since SQLite 3.51 */
    "SCAN n",                                  /* the time */
};

static bool
may_be_walked(const char *detail)
{
    for (size_t i = 0; i < sizeof(walks) / sizeof(*walks); i++) {
        size_t n = strcspn(walks[i], "*");

        if (strncmp(detail, walks[i], n) == 0 &&
            (walks[i][n] == '*' || detail[n] == '\0'))
            return true;
    }
    return false;
}

/* Walks and sorts in the plan of sql, a line each. */
static void
plan_faults(const char *sql, char *ret_faults, size_t size)
{
    size_t n = strlen(ret_faults);
    char explain[8192];
    sqlite3_stmt *s;

    (void)snprintf(explain, sizeof(explain), "EXPLAIN QUERY PLAN %s", sql);
    if (strncmp(sql, "PRAGMA", 6) == 0)
        return;
    ck_assert_msg(sqlite3_prepare_v2(shell, explain, -1, &s, NULL) == SQLITE_OK,
                  "%s: %s", sql, sqlite3_errmsg(shell));
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(s, 3);

        if ((strncmp(detail, "SCAN", 4) == 0 && !may_be_walked(detail)) ||
            strstr(detail, "TEMP B-TREE") != NULL)
            n += (size_t)snprintf(ret_faults + n, size - n, "%.60s: %s\n", sql,
                                  detail);
    }
    (void)sqlite3_finalize(s);
}

START_TEST(no_statement_of_ours_scans_or_sorts)
{
    char faults[65536] = "";

    (void)sqlite3_db_config(shell, SQLITE_DBCONFIG_TRIGGER_EQP, 1, NULL);
    for (int i = 0; i < STATEMENTS; i++)
        plan_faults(store_statements[i], faults, sizeof(faults));
    plan_faults("INSERT INTO submit(kind) VALUES('k')", faults, sizeof(faults));
    for (int i = 0; reader_questions[i] != NULL; i++)
        plan_faults(reader_questions[i], faults, sizeof(faults));
    ck_assert_str_eq(faults, "");
}
END_TEST

/* -- What comes while a claim is expected ---------------------------------- */

static int64_t
says_1700000000000(void *arg)
{
    (void)arg;
    return INT64_C(1700000000000);
}

static const struct scope own_scope = {
    .process = 1, .kinds = &kind, .n_kinds = 1};

/* The ids of the jobs that are claimed, in their order, in a text. */
static bool
note_claim(void *arg, const struct claim *claim)
{
    char *text = arg;

    (void)snprintf(text + strlen(text), 16, " %jd", (intmax_t)claim->id);
    free(claim->args);
    return true;
}

static const char *
claims_of(size_t limit)
{
    static char text[256];

    text[0] = '\0';
    ck_assert_int_eq(
        store_claim(store, &own_scope, limit, note_claim, text, &claim_rest),
        ROTA_OK);
    return text;
}

/* Inside a transaction. */
static enum rota_error
submit_here(const struct rota_submission *submission)
{
    int64_t id;

    return store_submit(store, submission, 1, &id);
}

/* Submit a job, claim it, and let it succeed; together: at once. What it leaves
 * in the file. */
static const char *
traces_of_a_job(const struct rota_submission *submission, bool together)
{
    struct claim claim = {0};
    enum rota_state state;

    begin();
    if (together)
        store_expect(store, &own_scope, 1);
    ck_assert_int_eq(submit_here(submission), ROTA_OK);
    if (!together) {
        commit();
        begin();
    }
    ck_assert_int_eq(
        store_claim(store, &own_scope, 1, keep_claim, &claim, &claim_rest),
        ROTA_OK);
    commit();
    ck_assert_str_eq(claim.args, "{}");
    ck_assert_int_eq(claim.timeout_ms, 7);
    ck_assert_int_eq(claim.deadline_at, submission->deadline);
    ck_assert_int_eq(claim.max_attempts, 2);
    free(claim.args);
    claim.args = NULL;
    ck_assert_int_eq(end_with(&claim, ROTA_OK, ROTA_STOP_NONE, false, &state),
                     ROTA_OK);
    ck_assert_int_eq(state, ROTA_SUCCEEDED);
    return everything();
}

START_TEST(a_job_that_never_stood_in_line_leaves_what_any_other_leaves)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    char *first;

    s.args = "{}";
    s.args_size = 2;
    s.batch = "b";
    s.priority = -2;
    s.deadline = _i == 0 ? 0 : INT64_C(1700000009000);
    s.timeout = ROTA_MS(7);
    s.max_attempts = 2;
    s.unique_key = "u";
    store_set_clock(store, says_1700000000000, NULL);
    first = strdup(traces_of_a_job(&s, true));
    begin();
    ck_assert_int_eq(sqlite3_exec(store->connection.db,
                                  "DELETE FROM _job; DELETE FROM _done;"
                                  "UPDATE sqlite_sequence SET seq = 0"
                                  " WHERE name = 'submit'",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    commit();
    ck_assert_str_eq(traces_of_a_job(&s, false), first);
    free(first);
}
END_TEST

START_TEST(what_comes_is_claimed_in_one_order_with_what_waits)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    (void)submit(); /* 1 */
    begin();
    store_expect(store, &own_scope, 3);
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 2 */
    s.priority = -1;
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 3 */
    s.priority = 1;
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 4 */
    s.priority = -2;
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 5, beyond the limit */
    ck_assert_str_eq(claims_of(3), " 5 3 1");
    commit();
    ck_assert_str_eq(shell_text("SELECT group_concat(id) FROM _ready"), "2,4");
    begin();
    ck_assert_str_eq(claims_of(3), " 2 4");
    commit();
}
END_TEST

/* A key that is full puts the first aside, and so does a deadline. */
START_TEST(what_comes_is_not_passed_by_when_another_is_put_aside)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    s.limit_key = "x";
    begin();
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 1 */
    ck_assert_str_eq(claims_of(1), " 1");
    commit();
    begin();
    store_expect(store, &own_scope, 2);
    s.priority = -1000;
    if (_i == 1) {
        s.limit_key = NULL;
        s.deadline = INT64_C(1700000000000);
    }
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 2, put aside */
    s = (struct rota_submission)ROTA_SUBMISSION_INIT("k");
    s.priority = -500;
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 3, kept */
    s.priority = 0;
    ck_assert_int_eq(submit_here(&s), ROTA_OK); /* 4, beyond the limit? */
    ck_assert_str_eq(claims_of(1), " 3");
    commit();
    begin();
    ck_assert_str_eq(claims_of(1), " 4");
    commit();
}
END_TEST

START_TEST(what_came_for_a_claim_that_does_not_is_lined_up)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");

    begin();
    store_expect(store, &own_scope, 3);
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    ck_assert_int_eq(store_line_up(store), ROTA_OK);
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    commit();
    ck_assert_str_eq(shell_text("SELECT group_concat(id) FROM _ready"), "1,2");
    begin();
    store_expect(store, &own_scope, 3);
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    store_rollback(store);
    begin();
    ck_assert_str_eq(claims_of(3), " 1 2");
    commit();
}
END_TEST

START_TEST(of_several_that_are_refused_together_none_is_claimed)
{
    struct rota_submission many[2] = {ROTA_SUBMISSION_INIT("k"),
                                      ROTA_SUBMISSION_INIT("k")};
    int64_t ids[2];

    many[1].unique_key = "u";
    begin();
    store_expect(store, &own_scope, 9);
    ck_assert_int_eq(submit_here(&many[1]), ROTA_OK);
    ck_assert_int_eq(store_submit(store, many, 2, ids), ROTA_EXISTS);
    ck_assert_int_eq(submit_here(&many[0]), ROTA_OK);
    ck_assert_str_eq(claims_of(9), " 1 2");
    commit();
    ck_assert_int_eq(shell_int("SELECT count(*) FROM _job"), 2);
}
END_TEST

START_TEST(what_may_not_run_yet_is_not_claimed_as_it_comes)
{
    struct rota_submission plain = ROTA_SUBMISSION_INIT("k"), s;
    int64_t after = 1;

    begin();
    ck_assert_int_eq(store_set_limit(store, "one", NULL, 1), ROTA_OK);
    ck_assert_int_eq(store_pause(store, "none", true), ROTA_OK);
    store_expect(store, &own_scope, 99);
    ck_assert_int_eq(submit_here(&plain), ROTA_OK); /* 1 */
    s = plain;
    s.limit_key = "x";
    for (int i = 0; i < 2; i++) /* 2 may */
        ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s = plain;
    s.queue = "one";
    for (int i = 0; i < 2; i++) /* 4 may */
        ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s.queue = "none";
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s = plain;
    s.run_at = store_now(store) + 60000;
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s = plain;
    s.after = &after;
    s.n_after = 1;
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s = plain;
    s.kind = "other";
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    s = plain;
    s.deadline = INT64_C(1700000000000);
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    ck_assert_str_eq(claims_of(99), " 1 2 4");
    commit();
    ck_assert_str_eq(
        shell_text("SELECT group_concat(state) FROM"
                   " (SELECT state FROM jobs ORDER BY id)"),
        "running,running,ready,running,ready,ready,scheduled,blocked,ready,"
        "failed");
}
END_TEST

static bool
refuse_claim(void *arg, const struct claim *claim)
{
    (void)arg, (void)claim;
    return false;
}

/* Seven of 16 MiB in one lane, and a small one in another, later. */
START_TEST(a_claim_reads_no_more_than_64_mib_and_keeps_the_order)
{
    int64_t kinds[2] = {kind, 0};
    const struct scope scope = {.process = 1, .kinds = kinds, .n_kinds = 2};
    struct rota_submission s = ROTA_SUBMISSION_INIT("l");
    char text[256] = "";

    ck_assert_ptr_null(shell_try(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT "
        "7)"
        " INSERT INTO submit(kind, args) SELECT 'k', zeroblob(16777216)"
        " FROM n"));
    begin();
    ck_assert_int_eq(store_kind(store, "l", 1, 0, &kinds[1]), ROTA_OK);
    ck_assert_int_eq(
        store_claim(store, &scope, 99, refuse_claim, NULL, &claim_rest),
        ROTA_OK);
    ck_assert_int_eq(claim_rest, CLAIM_NOTHING); /* not to be asked again */
    store_expect(store, &scope, 99);
    s.priority = 1;
    ck_assert_int_eq(submit_here(&s), ROTA_OK);
    ck_assert_int_eq(
        store_claim(store, &scope, 99, note_claim, text, &claim_rest), ROTA_OK);
    commit();
    ck_assert_str_eq(text, " 1 2 3 4 5");
    ck_assert_int_eq(claim_rest, CLAIM_MORE);
    begin();
    ck_assert_int_eq(
        store_claim(store, &scope, 99, note_claim, text, &claim_rest), ROTA_OK);
    commit();
    ck_assert_str_eq(text, " 1 2 3 4 5 6 7 8");
    ck_assert_int_eq(claim_rest, CLAIM_NOTHING);
}
END_TEST

START_TEST(jobs_of_a_kind_that_is_not_handled_here_stay)
{
    int64_t other;

    ck_assert_ptr_null(shell_try("INSERT INTO submit(kind) VALUES('other')"));
    begin();
    ck_assert_int_eq(store_kind(store, "other", 1, 0, &other), ROTA_OK);
    commit();
    ck_assert_int_eq(claim_as(1).id, 0);
    kind = other;
    ck_assert_int_ne(claim_as(1).id, 0);
}
END_TEST

START_TEST(a_job_whose_deadline_has_passed_fails_unclaimed)
{
    ck_assert_ptr_null(
        shell_try("INSERT INTO submit(kind, deadline_at) VALUES('k',"
                  " 100000000000)"));
    ck_assert_int_eq(claim_as(1).id, 0);
    ck_assert_str_eq(shell_text("SELECT state || error FROM jobs"),
                     "failedDEADLINE");
}
END_TEST

START_TEST(jobs_past_their_deadline_do_not_hide_the_one_behind_them)
{
    int64_t id;

    for (int i = 0; i < 3; i++)
        ck_assert_ptr_null(
            shell_try("INSERT INTO submit(kind, deadline_at) VALUES('k',"
                      " 100000000000)"));
    id = submit();
    ck_assert_int_eq(claim_as(1).id, id);
    ck_assert_int_eq(
        shell_int("SELECT count(*) FROM jobs WHERE state = 'failed'"), 3);
}
END_TEST

START_TEST(a_scheduled_job_is_not_claimed_before_it_is_due)
{
    int64_t next;

    ck_assert_ptr_null(shell_try(
        "INSERT INTO submit(kind, run_at) VALUES('k', 4000000000000)"));
    begin();
    ck_assert_int_eq(store_promote(store, &next), ROTA_OK);
    commit();
    ck_assert_int_eq(next, 4000000000000);
    ck_assert_int_eq(claim_as(1).id, 0);
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "scheduled");
}
END_TEST

/* -- SQL commands --------------------------------------------------------- */

START_TEST(submitting_in_c_and_in_sql_leaves_the_same_rows)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    s.args = "{\"a\":1}";
    s.args_size = 7;
    s.queue = "q";
    s.batch = "b";
    s.priority = -3;
    s.deadline = 4000000000000;
    s.timeout = ROTA_MS(1500);
    s.run_at = 1000000000000;
    begin();
    ck_assert_int_eq(store_submit(store, &s, 1, &id), ROTA_OK);
    commit();
    ck_assert_ptr_null(shell_try(
        "INSERT INTO submit(kind, args, queue, batch, priority, deadline_at,"
        " timeout_ms, run_at) VALUES('k', '{\"a\":1}', 'q', 'b', -3,"
        " 4000000000000, 1500, 1000000000000)"));
    ck_assert_int_eq(
        shell_int("SELECT count(DISTINCT quote(kind) || quote(queue) ||"
                  " quote(batch) || quote(priority) || quote(run_at) ||"
                  " quote(sort_key) || quote(deadline_at) ||"
                  " quote(timeout_ms) || quote(max_attempts) || quote(lease) ||"
                  " quote(failures) || quote(crashes) || quote(args) ||"
                  " typeof(args)) FROM _job"),
        1);
    ck_assert_int_eq(shell_int("SELECT count(*) FROM _ready"), 2);
    ck_assert_int_eq(shell_int("SELECT max(id) - min(id) FROM _job"), 1);
}
END_TEST

static const struct {
    const char *sql, *complaint;
} refused[] = {
    {"INSERT INTO submit(kind) VALUES('')", "kind"},
    {"INSERT INTO submit(kind) VALUES(NULL)", "kind"},
    {"INSERT INTO submit(kind) VALUES(x'00')", "kind"},
    {"INSERT INTO submit(kind) VALUES('k' || char(0) || 'l')", "kind"},
    {"INSERT INTO submit(kind, limit_key) VALUES('k', 'a' || char(0))",
     "limit_key"},
    {"INSERT INTO submit(id, kind) VALUES(7, 'k')", "leave id out"},
    {"INSERT INTO submit(id, kind) VALUES(-7, 'k')", "leave id out"},
    {"INSERT OR REPLACE INTO submit(id, kind) VALUES(1, 'k')", "leave id out"},
    {"INSERT INTO submit(kind, args) VALUES('k', 5)", "args"},
    {"INSERT INTO submit(kind, priority) VALUES('k', 'high')", "priority"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 'now')", "run_at"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 1798761600)", "run_at"},
    {"INSERT INTO submit(kind, run_at) VALUES('k', 1798761600)", "not seconds"},
    {"INSERT INTO submit(kind, deadline_at) VALUES('k', 1798761600)",
     "deadline_at"},
    {"INSERT INTO submit(kind, timeout_ms) VALUES('k', 0)", "timeout_ms"},
    {"INSERT INTO submit(kind, max_attempts) VALUES('k', 0)", "max_attempts"},
    {"INSERT INTO submit(kind, queue) VALUES('k', '')", "queue"},
    {"INSERT INTO submit(kind, batch) VALUES('k', '')", "batch"},
    {"INSERT INTO cancel VALUES(99, 'x')", "no job with that id"},
    {"INSERT INTO cancel VALUES(NULL, 'x')", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(99)", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(NULL)", "no job with that id"},
    {"INSERT INTO retry(job) VALUES(1)", "has not ended"},
    {"INSERT INTO pause VALUES('')", "queue must be a text"},
    {"INSERT INTO pause VALUES(NULL)", "queue must be a text"},
    {"INSERT INTO pause VALUES(x'00')", "queue must be a text"},
    {"INSERT INTO resume VALUES('nowhere')", "no queue with that name"},
    {"INSERT INTO resume VALUES(NULL)", "no queue with that name"},
};

START_TEST(bad_input_to_the_sql_commands_is_refused_by_name)
{
    const char *message, *before;

    (void)submit();
    before = everything();
    message = shell_try(refused[_i].sql);
    ck_assert_msg(message != NULL, "accepted: %s", refused[_i].sql);
    ck_assert_msg(strstr(message, refused[_i].complaint) != NULL, "%s",
                  message);
    ck_assert_str_eq(everything(), before);
}
END_TEST

START_TEST(sql_submit_returns_the_id_and_leaves_the_command_table_empty)
{
    ck_assert_int_eq(
        shell_int("INSERT INTO submit(kind) VALUES('k') RETURNING id"), 1);
    (void)submit();
    ck_assert_int_eq(
        shell_int("INSERT INTO submit(kind) VALUES('k') RETURNING id"), 3);
    ck_assert_int_eq(shell_int("SELECT count(*) FROM submit"), 0);
    ck_assert_ptr_null(shell_try("INSERT INTO cancel(job) VALUES(1)"));
    ck_assert_int_eq(shell_int("SELECT count(*) FROM cancel"), 0);
}
END_TEST

/* -- Retry, pause and resume ----------------------------------------------- */

START_TEST(a_retry_runs_again_what_has_ended_and_keeps_its_cursor_and_history)
{
    static const enum rota_error codes[] = {ROTA_OK, ROTA_FATAL, ROTA_FATAL};
    struct progress progress = {.cursor = 7, .total = 9};
    struct claim claim;
    enum rota_state state;

    (void)submit();
    for (int run = 1; run <= 3; run++) {
        claim = claim_as(1);
        ck_assert_int_eq(claim.id, 1);
        ck_assert_int_eq(claim.lease, run);
        ck_assert_int_eq(claim.failures, 0);
        ck_assert_int_eq(claim.cursor, run == 1 ? 0 : 7);
        progress.id = claim.id;
        progress.lease = claim.lease;
        begin();
        ck_assert_int_eq(store_progress(store, &progress), ROTA_OK);
        commit();
        (void)end_with(&claim, codes[run - 1], ROTA_STOP_NONE, false, &state);
        ck_assert_ptr_null(shell_try("INSERT INTO retry(job) VALUES(1)"));
        ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "ready");
    }
    ck_assert_str_eq(
        shell_text("SELECT group_concat(lease || outcome) FROM attempts"),
        "1succeeded,2failed,3failed");
    ck_assert_int_eq(shell_int("SELECT count(*) FROM retry"), 0);
}
END_TEST

START_TEST(a_retry_of_what_was_cancelled_while_it_waited_leaves_no_attempt)
{
    (void)submit();
    ck_assert_ptr_null(shell_try("INSERT INTO cancel(job) VALUES(1)"));
    begin();
    ck_assert_int_eq(store_retry(store, 1, false), ROTA_OK);
    ck_assert_int_eq(store_retry(store, 1, false), ROTA_INVALID);
    ck_assert_int_eq(store_retry(store, 2, false), ROTA_NOTFOUND);
    commit();
    ck_assert_int_eq(shell_int("SELECT count(*) FROM attempts"), 0);
    ck_assert_int_eq(claim_as(1).id, 1);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_none_for_a_retry)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("k");
    int64_t id;

    begin();
    s.deadline = machine_clock(NULL) - 1;
    ck_assert_int_eq(store_submit(store, &s, 1, &id), ROTA_OK);
    commit();
    ck_assert_int_eq(claim_as(1).id, 0); /* too late */
    ck_assert_str_eq(shell_text("SELECT state FROM jobs"), "failed");
    ck_assert_ptr_null(shell_try("INSERT INTO retry(job) VALUES(1)"));
    ck_assert_int_eq(claim_as(1).id, 1);
}
END_TEST

START_TEST(of_a_paused_queue_nothing_is_claimed_until_it_is_resumed)
{
    (void)submit();
    ck_assert_ptr_null(shell_try("INSERT INTO pause VALUES('default')"));
    ck_assert_ptr_null(shell_try("INSERT INTO pause VALUES('default')"));
    ck_assert_int_eq(claim_as(1).id, 0);
    ck_assert_str_eq(shell_text("SELECT state || ' ' || status || ' ' || why"
                                " FROM jobs"),
                     "ready paused its queue is paused");
    ck_assert_str_eq(shell_text("SELECT queue || paused || ready FROM queues"),
                     "default11");
    ck_assert_ptr_null(shell_try("INSERT INTO resume VALUES('default')"));
    ck_assert_int_eq(claim_as(1).id, 1);
    ck_assert_str_eq(
        shell_text("SELECT queue || paused || ready || running FROM queues"),
        "default001");
    begin();
    ck_assert_int_eq(store_pause(store, "new", true), ROTA_OK);
    ck_assert_int_eq(store_pause(store, "new", false), ROTA_OK);
    ck_assert_int_eq(store_pause(store, "nowhere", false), ROTA_NOTFOUND);
    commit();
    ck_assert_str_eq(shell_text("SELECT group_concat(queue) FROM queues"),
                     "default,new");
}
END_TEST

START_TEST(a_job_that_does_not_advance_says_since_when)
{
    struct progress progress = {.cursor = 7, .total = 9};
    struct claim claim;

    (void)submit();
    claim = claim_as(1);
    ck_assert_ptr_null(
        shell_try("UPDATE _running SET started_at = claimed_at - 100500"));
    ck_assert_str_eq(shell_text("SELECT state || ' ' || why FROM jobs"),
                     "running no advance for 100 s");
    progress.id = claim.id;
    progress.lease = claim.lease;
    begin();
    ck_assert_int_eq(store_progress(store, &progress), ROTA_OK);
    commit();
    ck_assert_int_eq(shell_int("SELECT why IS NULL FROM jobs"), 1);
}
END_TEST

START_TEST(a_submit_that_is_rolled_back_leaves_no_job)
{
    ck_assert_ptr_null(shell_try("BEGIN; INSERT INTO submit(kind) VALUES('k');"
                                 "ROLLBACK"));
    ck_assert_int_eq(shell_int("SELECT count(*) FROM jobs"), 0);
    ck_assert_int_eq(claim_as(1).id, 0);
}
END_TEST

START_TEST(an_id_is_never_given_twice)
{
    int64_t first = submit();

    ck_assert_ptr_null(shell_try("DELETE FROM _job; DELETE FROM _ready"));
    ck_assert_int_gt(submit(), first);
}
END_TEST

START_TEST(or_replace_on_a_command_renames_no_kind_and_no_queue)
{
    ck_assert_ptr_null(shell_try(
        "INSERT OR REPLACE INTO submit(kind, queue) VALUES('k', 'q')"));
    ck_assert_ptr_null(shell_try(
        "INSERT OR REPLACE INTO submit(kind, queue) VALUES('k', 'q')"));
    ck_assert_int_eq(shell_int("SELECT count(*) FROM _kind"), 1);
    ck_assert_int_eq(shell_int("SELECT id FROM _kind"), kind);
    ck_assert_int_eq(shell_int("SELECT count(*) FROM jobs"), 2);
}
END_TEST

START_TEST(cancel_answers_what_it_came_to)
{
    enum rota_cancel_answer answer;
    enum rota_state state;
    struct claim claim;
    int64_t waits = submit();

    begin();
    ck_assert_int_eq(store_cancel(store, waits, "no", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_DONE);
    ck_assert_int_eq(store_cancel(store, waits, "no", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_TOO_LATE);
    ck_assert_int_eq(store_cancel(store, 99, "no", &answer), ROTA_NOTFOUND);
    commit();
    (void)submit();
    claim = claim_as(1);
    begin();
    ck_assert_int_eq(store_cancel(store, claim.id, "stop", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_REQUESTED);
    ck_assert_int_eq(store_cancel(store, claim.id, "late", &answer), ROTA_OK);
    ck_assert_int_eq(answer, ROTA_CANCEL_AGAIN);
    commit();
    ck_assert_str_eq(shell_text("SELECT status FROM jobs WHERE id = 2"),
                     "cancelling");
    (void)end_with(&claim, ROTA_FAILED, ROTA_STOP_NONE, false, &state);
    ck_assert_int_eq(state, ROTA_CANCELLED);
    ck_assert_str_eq(shell_text("SELECT why FROM jobs WHERE id = 2"), "stop");
}
END_TEST

/* -- The views ------------------------------------------------------------ */

/* Columns may be added at the end, never changed: this list only grows. */
START_TEST(the_public_views_and_commands_keep_their_columns)
{
    static const struct {
        const char *view, *columns;
    } views[] = {
        {"jobs", "id,batch,kind,queue,state,status,why,priority,attempt,"
                 "max_attempts,done,total,percent,rate,eta,run_at,created_at,"
                 "started_at,finished_at,error,cause,args_text,result,worker,"
                 "args,deadline_at,timeout_ms,cancel_requested_at,"
                 "cancel_reason,lease,failures,crashes,created_at_iso,"
                 "run_at_iso,started_at_iso,finished_at_iso,unique_key,"
                 "limit_key,parent"},
        {"attempts", "job,lease,worker,started_at,ended_at,outcome,error,"
                     "message,started_at_iso,ended_at_iso"},
        {"batches", "batch,jobs,blocked,scheduled,ready,running,succeeded,"
                    "failed,cancelled,created_at,created_at_iso"},
        {"workers", "id,pid,host,state,threads,running,version,started_at,"
                    "ended_at,stuck,started_at_iso,ended_at_iso"},
        {"queues", "queue,paused,paused_at,blocked,scheduled,ready,running,"
                   "worker,paused_at_iso,max_running,retain_ms"},
        {"dependencies", "job,waits_for,met"},
        {"unique_keys", "unique_key,job"},
        {"limits", "limit_key,max_running,running,held"},
        {"submit", "id,kind,args,queue,batch,priority,run_at,deadline_at,"
                   "timeout_ms,max_attempts,unique_key,limit_key,after,"
                   "parent"},
        {"cancel", "job,reason"},
        {"retry", "job,restart"},
        {"reschedule", "job,priority,run_at"},
        {"pause", "queue"},
        {"resume", "queue"},
        {"set_limit", "queue,limit_key,max_running"},
        {"retain", "queue,retain_ms"},
        {"cancellations", "job,state,requested_at,delivered_at,stopped_at,"
                          "delivered_after,stopped_after,reason,"
                          "requested_at_iso,stopped_at_iso"}};
    char sql[128];

    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        (void)snprintf(sql, sizeof(sql),
                       "SELECT group_concat(name) FROM pragma_table_info('%s')",
                       views[i].view);
        ck_assert_str_eq(shell_text(sql), views[i].columns);
    }
}
END_TEST

START_TEST(a_batch_counts_its_jobs)
{
    struct claim claim;
    enum rota_state state;

    ck_assert_ptr_null(
        shell_try("INSERT INTO submit(kind, batch) VALUES('k', 'b'),"
                  "('k', 'b'), ('k', 'b'), ('k', 'b'), ('k', NULL)"));
    ck_assert_ptr_null(shell_try("INSERT INTO cancel(job) VALUES(4)"));
    claim = claim_as(1);
    (void)end_with(&claim, ROTA_OK, ROTA_STOP_NONE, false, &state);
    (void)claim_as(1);
    ck_assert_str_eq(
        shell_text("SELECT batch || jobs || ready || running || succeeded ||"
                   " failed || cancelled FROM batches"),
        "b411101");
}
END_TEST

/* -- Looking -------------------------------------------------------------- */

static bool
count_rows(void *arg, int n, const char *const *names,
           const struct rota_value *values)
{
    (void)n;
    (void)names;
    *(int *)arg += values != NULL;
    return true;
}

static const struct {
    const char *sql;
    enum rota_error error;
} looks[] = {
    {"SELECT * FROM jobs", ROTA_OK},
    {"PRAGMA table_info(jobs)", ROTA_OK},
    {"SELECT file FROM pragma_database_list", ROTA_OK},
    {"SELECT value FROM json_each('[1,2]')", ROTA_OK},
    {"SELECT * FROM jobs; ", ROTA_OK},
    {"SELECT * FROM jobs; SELECT 1", ROTA_INVALID},
    {"", ROTA_INVALID},
    {"SELEC", ROTA_INVALID},
    {"BEGIN", ROTA_INVALID},
    {"ATTACH ':memory:' AS x", ROTA_INVALID},
    {"PRAGMA query_only = 0", ROTA_INVALID},
    {"PRAGMA user_version = 7", ROTA_INVALID},
    {"SELECT load_extension('x')", ROTA_INVALID},
    {"DELETE FROM _job", ROTA_INVALID},
    {"INSERT INTO submit(kind) VALUES('k')", ROTA_INVALID},
    {"SELECT json('{')", ROTA_INVALID},
    {"VACUUM", ROTA_INVALID},
};

START_TEST(a_look_only_looks)
{
    struct reader *reader;
    int rows = 0;

    (void)submit();
    ck_assert_int_eq(reader_open(store, &reader), ROTA_OK);
    ck_assert_int_eq(
        reader_query(reader, looks[_i].sql, NULL, 0, count_rows, &rows),
        looks[_i].error);
    ck_assert_int_eq(
        reader_query(reader, "SELECT 1", NULL, 0, count_rows, &rows), ROTA_OK);
    reader_close(reader);
    ck_assert_int_eq(shell_int("SELECT count(*) FROM jobs"), 1);
}
END_TEST

/* -- The file and its lock ------------------------------------------------ */

static int
synchronous(bool durable)
{
    sqlite3_stmt *s;
    int answer;

    ck_assert_int_eq(store_begin(store, durable), ROTA_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(store->connection.db,
                                        "PRAGMA synchronous", -1, &s, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    answer = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    commit();
    return answer;
}

START_TEST(a_commit_is_as_durable_as_was_asked_also_in_a_new_file)
{
    ck_assert_int_eq(synchronous(false), 1);
    ck_assert_int_eq(synchronous(true), 2);
    ck_assert_int_eq(synchronous(false), 1);
}
END_TEST

START_TEST(the_queues_files_are_for_their_owner_only)
{
    static const char *const suffix[] = {"", "-wal", "-shm", "-lock"};
    char path[160];
    struct stat st;

    (void)submit();
    for (int i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", file, suffix[i]);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
    }
}
END_TEST

START_TEST(the_log_stays_when_the_last_process_leaves)
{
    char path[160];

    (void)submit();
    sqlite3_close(shell);
    shell = NULL;
    store_close(store);
    store = NULL;
    (void)snprintf(path, sizeof(path), "%s-wal", file);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(the_log_stays_short)
{
    struct stat st;
    char path[160];

    for (int i = 0; i < 3000; i++)
        (void)submit();
    (void)snprintf(path, sizeof(path), "%s-wal", file);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_lt(st.st_size, 800 * 4120);
}
END_TEST

struct turn {
    pthread_t thread;
    struct lockfile *lockfile;
    atomic_int *inside, *most;
    int turns;
};

static void *
take_turns(void *arg)
{
    struct turn *turn = arg;

    for (int i = 0; i < 500; i++) {
        if (lockfile_enter(turn->lockfile) != ROTA_OK)
            break;
        if (atomic_fetch_add(turn->inside, 1) > 0)
            atomic_fetch_add(turn->most, 1);
        turn->turns++;
        atomic_fetch_sub(turn->inside, 1);
        lockfile_leave(turn->lockfile);
    }
    return NULL;
}

START_TEST(one_writer_passes_the_gate_at_a_time)
{
    atomic_int inside = 0, most = 0;
    struct turn turns[3];
    char path[160];

    (void)snprintf(path, sizeof(path), "%s-lock", file);
    for (int i = 0; i < 3; i++) {
        turns[i] = (struct turn){.inside = &inside, .most = &most};
        ck_assert_int_eq(lockfile_open(path, &turns[i].lockfile), ROTA_OK);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(
            pthread_create(&turns[i].thread, NULL, take_turns, &turns[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(turns[i].thread, NULL);
        lockfile_close(turns[i].lockfile);
        ck_assert_int_eq(turns[i].turns, 500);
    }
    ck_assert_int_eq(most, 0);
}
END_TEST

START_TEST(a_process_lives_until_its_lock_file_is_closed)
{
    struct lockfile *a, *b;
    char path[160];

    (void)snprintf(path, sizeof(path), "%s-lock", file);
    ck_assert_int_eq(lockfile_open(path, &a), ROTA_OK);
    ck_assert_int_eq(lockfile_open(path, &b), ROTA_OK);
    ck_assert(!lockfile_lives(b, 5));
    ck_assert_int_eq(lockfile_live(a, 5), ROTA_OK);
    ck_assert(lockfile_lives(b, 5));
    ck_assert(lockfile_lives(a, 5)); /* also in its own eyes */
    ck_assert(!lockfile_lives(b, 6));
    lockfile_close(a);
    ck_assert(!lockfile_lives(b, 5));
    lockfile_close(b);
}
END_TEST

START_TEST(a_forked_child_does_not_keep_its_parents_lock)
{
    int ready[2], done[2];
    char path[160], byte;
    struct lockfile *mine;
    pid_t parent, child;

    /* a parent that forks a child that stays, and then dies */
    (void)snprintf(path, sizeof(path), "%s-lock", file);
    ck_assert_int_eq(lockfile_open(path, &mine), ROTA_OK);
    ck_assert_int_eq(pipe(ready) | pipe(done), 0);
    parent = fork();
    if (parent == 0) {
        struct lockfile *theirs;

        if (lockfile_open(path, &theirs) != ROTA_OK ||
            lockfile_live(theirs, 9) != ROTA_OK)
            _exit(1);
        child = fork();
        if (child == 0) {
            (void)!write(ready[1], "x", 1);
            close(done[1]);
            (void)!read(done[0], &byte, 1);
            _exit(0);
        }
        pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert(lockfile_lives(mine, 9));
    kill(parent, SIGKILL);
    (void)waitpid(parent, NULL, 0);
    ck_assert(!lockfile_lives(mine, 9));
    close(done[1]); /* lets the child go */
    lockfile_close(mine);
}
END_TEST

static const struct {
    const char *text;
    size_t size;
    bool is_utf8;
} texts[] = {
    {"", 0, true},
    {"plain", 5, true},
    {"\xc3\xa9", 2, true},
    {"\xe2\x82\xac", 3, true},
    {"\xf0\x9f\x98\x80", 4, true},
    {"a\0b", 3, false},
    {"\xff", 1, false},
    {"\xc0\x80", 2, false},
    {"\xed\xa0\x80", 3, false},
    {"\xf4\x90\x80\x80", 4, false},
    {"\xe2\x82", 2, false},
    {"\xe0\x80\x80", 3, false},
};

START_TEST(text_is_told_from_other_bytes)
{
    ck_assert_int_eq(text_is_utf8(texts[_i].text, texts[_i].size),
                     texts[_i].is_utf8);
}
END_TEST

static Suite *
store_suite(void)
{
    Suite *suite = suite_create("store");
    TCase *moves = tcase_create("moves"), *commands = tcase_create("commands");
    TCase *files = tcase_create("file");

    tcase_add_checked_fixture(moves, setup, teardown);
    tcase_add_checked_fixture(commands, setup, teardown);
    tcase_add_checked_fixture(files, setup, teardown);
    tcase_set_timeout(moves, 60);
    tcase_set_timeout(files, 60);
    tcase_add_loop_test(moves, an_ending_leads_where_the_outcome_rules_say, 0,
                        ENDINGS);
    tcase_add_loop_test(
        moves, a_run_that_was_overtaken_ends_in_nothing_whatever_it_returns, 0,
        ENDINGS);
    tcase_add_test(moves, a_run_that_was_overtaken_records_no_progress);
    tcase_add_loop_test(moves,
                        no_statement_reads_or_changes_a_run_of_another_lease, 0,
                        (int)(sizeof(guarded) / sizeof(guarded[0])));
    tcase_add_test(moves, failures_are_charged_until_none_are_left);
    tcase_add_test(moves, interrupted_and_snoozed_runs_are_not_charged);
    tcase_add_test(
        moves, a_job_that_killed_three_processes_without_advancing_is_poison);
    tcase_add_test(moves, a_job_that_advances_before_each_crash_is_not_poison);
    tcase_add_test(
        moves,
        a_run_that_advances_and_comes_back_makes_good_for_the_deaths_before);
    tcase_add_test(moves,
                   a_dead_process_leaves_cancelled_what_was_to_be_cancelled);
    tcase_add_test(moves, a_living_process_is_not_rescued);
    tcase_add_test(moves, jobs_are_claimed_by_priority_with_ageing_then_by_id);
    tcase_add_test(moves, a_queue_that_a_living_process_owns_is_its_alone);
    tcase_add_loop_test(moves, no_hot_statement_walks_over_the_jobs_that_wait,
                        0, (int)(sizeof(hot) / sizeof(hot[0])));
    tcase_add_test(
        moves, jobs_by_the_100000_that_wait_for_a_key_cost_the_others_nothing);
    tcase_add_test(moves, no_statement_of_ours_scans_or_sorts);
    tcase_add_loop_test(
        moves, a_job_that_never_stood_in_line_leaves_what_any_other_leaves, 0,
        2);
    tcase_add_test(moves, what_comes_is_claimed_in_one_order_with_what_waits);
    tcase_add_loop_test(
        moves, what_comes_is_not_passed_by_when_another_is_put_aside, 0, 2);
    tcase_add_test(moves, what_came_for_a_claim_that_does_not_is_lined_up);
    tcase_add_test(moves, of_several_that_are_refused_together_none_is_claimed);
    tcase_add_test(moves, what_may_not_run_yet_is_not_claimed_as_it_comes);
    tcase_add_test(moves,
                   a_claim_reads_no_more_than_64_mib_and_keeps_the_order);
    tcase_add_test(moves, jobs_of_a_kind_that_is_not_handled_here_stay);
    tcase_add_test(moves, a_job_whose_deadline_has_passed_fails_unclaimed);
    tcase_add_test(moves,
                   jobs_past_their_deadline_do_not_hide_the_one_behind_them);
    tcase_add_test(moves, a_scheduled_job_is_not_claimed_before_it_is_due);
    tcase_add_test(commands, submitting_in_c_and_in_sql_leaves_the_same_rows);
    tcase_add_loop_test(commands,
                        bad_input_to_the_sql_commands_is_refused_by_name, 0,
                        (int)(sizeof(refused) / sizeof(refused[0])));
    tcase_add_test(
        commands, sql_submit_returns_the_id_and_leaves_the_command_table_empty);
    tcase_add_test(commands, a_submit_that_is_rolled_back_leaves_no_job);
    tcase_add_test(commands, an_id_is_never_given_twice);
    tcase_add_test(commands,
                   or_replace_on_a_command_renames_no_kind_and_no_queue);
    tcase_add_test(commands, cancel_answers_what_it_came_to);
    tcase_add_test(commands, the_public_views_and_commands_keep_their_columns);
    tcase_add_test(
        commands,
        a_retry_runs_again_what_has_ended_and_keeps_its_cursor_and_history);
    tcase_add_test(
        commands,
        a_retry_of_what_was_cancelled_while_it_waited_leaves_no_attempt);
    tcase_add_test(commands, a_deadline_that_has_passed_is_none_for_a_retry);
    tcase_add_test(commands, a_job_that_does_not_advance_says_since_when);
    tcase_add_test(commands,
                   of_a_paused_queue_nothing_is_claimed_until_it_is_resumed);
    tcase_add_test(commands, a_batch_counts_its_jobs);
    tcase_add_loop_test(files, a_look_only_looks, 0,
                        (int)(sizeof(looks) / sizeof(looks[0])));
    tcase_add_test(files,
                   a_commit_is_as_durable_as_was_asked_also_in_a_new_file);
    tcase_add_test(files, the_queues_files_are_for_their_owner_only);
    tcase_add_test(files, the_log_stays_when_the_last_process_leaves);
    tcase_add_test(files, the_log_stays_short);
    tcase_add_test(files, one_writer_passes_the_gate_at_a_time);
    tcase_add_test(files, a_process_lives_until_its_lock_file_is_closed);
    tcase_add_test(files, a_forked_child_does_not_keep_its_parents_lock);
    tcase_add_loop_test(files, text_is_told_from_other_bytes, 0,
                        (int)(sizeof(texts) / sizeof(texts[0])));
    suite_add_tcase(suite, moves);
    suite_add_tcase(suite, commands);
    suite_add_tcase(suite, files);
    return suite;
}

int
main(void)
{
    return suite_run(store_suite());
}
