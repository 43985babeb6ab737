/*
 * What SQLite makes of the store's statements, of all that the linker has put
 * side by side: none scans or sorts, none walks over the jobs that wait, each
 * that touches a run does so under its lease, and those that wait for a key
 * cost the others nothing. A statement that nobody foresaw is looked at like
 * any other.
 *
 * One thread. Statements are prepared anew on the connection that writes, and
 * on one as readers have; those that are run are rolled back.
 */
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "storage.h"
#include "store/sqlite/sqlite.h"
#include "support.h"

/* -- The statements ------------------------------------------------------- */

/* How many there are at least, or the linker has lost some. */
#define STATEMENTS_MIN 90

static int
n_statements(void)
{
    ptrdiff_t n = __stop_rota_sql - __start_rota_sql;

    ck_assert_int_ge(n, STATEMENTS_MIN);
    return (int)n;
}

static const char *
sql_of(int i)
{
    ck_assert_ptr_nonnull(__start_rota_sql[i].sql);
    return __start_rota_sql[i].sql;
}

static sqlite3 *
writer(void)
{
    return sqlite_store_of(storage.store)->connection.db;
}

static sqlite3_stmt *
prepared(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;

    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK,
                  "%s: %s", sql, sqlite3_errmsg(db));
    return s;
}

START_TEST(every_statement_can_be_prepared_where_it_is_used)
{
    struct connection reader;
    int readonly = 0;

    ck_assert_int_eq(connection_open(&reader, storage.queue, false), ROTA_OK);
    for (int i = 0; i < n_statements(); i++) {
        sqlite3_stmt *s = prepared(writer(), sql_of(i));

        if (sqlite3_stmt_readonly(s)) {
            (void)sqlite3_finalize(prepared(reader.db, sql_of(i)));
            readonly++;
        }
        (void)sqlite3_finalize(s);
    }
    ck_assert_int_gt(readonly, 20);
    connection_close(&reader);
}
END_TEST

/* -- Plans ---------------------------------------------------------------- */

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
    "SCAN c",                                  /* the characters of a name */
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
plan_faults(sqlite3 *db, const char *sql, char *ret_faults, size_t size)
{
    size_t n = strlen(ret_faults);
    char explain[8192];
    sqlite3_stmt *s;

    if (strncmp(sql, "PRAGMA", 6) == 0)
        return;
    ck_assert_uint_lt((size_t)snprintf(explain, sizeof(explain),
                                       "EXPLAIN QUERY PLAN %s", sql),
                      sizeof(explain));
    s = prepared(db, explain);
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(s, 3);

        if ((strncmp(detail, "SCAN", 4) == 0 && !may_be_walked(detail)) ||
            strstr(detail, "TEMP B-TREE") != NULL)
            n += (size_t)snprintf(ret_faults + n, size - n, "%.60s: %s\n", sql,
                                  detail);
        ck_assert_uint_lt(n, size);
    }
    (void)sqlite3_finalize(s);
}

START_TEST(no_statement_of_ours_scans_or_sorts)
{
    char faults[65536] = "";
    struct connection reader;

    ck_assert_int_eq(connection_open(&reader, storage.queue, false), ROTA_OK);
    (void)sqlite3_db_config(writer(), SQLITE_DBCONFIG_TRIGGER_EQP, 1, NULL);
    for (int i = 0; i < n_statements(); i++) {
        sqlite3_stmt *s = prepared(writer(), sql_of(i));

        plan_faults(writer(), sql_of(i), faults, sizeof(faults));
        if (sqlite3_stmt_readonly(s))
            plan_faults(reader.db, sql_of(i), faults, sizeof(faults));
        (void)sqlite3_finalize(s);
    }
    plan_faults(writer(), "INSERT INTO submit(kind) VALUES('k')", faults,
                sizeof(faults));
    ck_assert_str_eq(faults, "");
    connection_close(&reader);
}
END_TEST

/* It is no test of plans if a scan is not seen. */
START_TEST(a_statement_that_scans_or_sorts_is_found)
{
    static const char *const slow[] = {
        "SELECT id FROM _job WHERE priority = 1",
        "SELECT id FROM _ready ORDER BY id",
        "UPDATE _job SET priority = 1 WHERE args = ?1"};
    char faults[4096];

    for (size_t i = 0; i < sizeof(slow) / sizeof(*slow); i++) {
        faults[0] = '\0';
        plan_faults(writer(), slow[i], faults, sizeof(faults));
        ck_assert_str_ne(faults, "");
    }
}
END_TEST

/* -- Leases --------------------------------------------------------------- */

/* What may look at _running without a lease, for it asks about a job, a queue,
 * a key or a process, not about a run; and the claim, which makes one. */
static const char *const leaseless[] = {
    "INSERT INTO _running(",
    "SELECT 1 + (cancel_at IS NOT NULL) FROM _running WHERE id = ?1",
    "SELECT cancel_at FROM _running r WHERE r.id = s.job",
    "SELECT 1 FROM _running r WHERE r.id = j.id",
    "EXISTS (SELECT 1 FROM _running   WHERE id = ?1 AND cancel_at IS NOT NULL",
    "SELECT count(*) FROM _running r   WHERE r.queue = q.id",
    "SELECT count(*) FROM _running WHERE limit_key = ?1",
    "WHERE r.process = ?1",
    "FROM _running WHERE process = ?1"};
#define N_LEASELESS (sizeof(leaseless) / sizeof(*leaseless))

/* Whether it may; seen is noted for each reason. */
static bool
is_leaseless(const char *sql, bool *seen)
{
    bool is = false;

    for (size_t i = 0; i < N_LEASELESS; i++)
        if (strstr(sql, leaseless[i]) != NULL)
            is = seen[i] = true;
    return is && strstr(sql, "DELETE FROM _running") == NULL &&
           strstr(sql, "UPDATE _running") == NULL;
}

/* Each statement by itself: none relies on the guard of the one before it. */
static void
run_with_lease(const char *sql, int64_t id, int64_t lease)
{
    const char *before = storage_everything();
    sqlite3_stmt *s = prepared(writer(), sql);
    int changes = sqlite3_total_changes(writer());

    for (int i = sqlite3_bind_parameter_count(s); i > 2; i--)
        (void)sqlite3_bind_int(s, i, 4);
    (void)sqlite3_bind_int64(s, 1, id);
    (void)sqlite3_bind_int64(s, 2, lease);
    ck_assert_msg(sqlite3_step(s) == SQLITE_DONE, "a row: %s", sql);
    (void)sqlite3_finalize(s);
    ck_assert_msg(sqlite3_total_changes(writer()) == changes, "%s", sql);
    ck_assert_str_eq(storage_everything(), before);
}

START_TEST(no_statement_reads_or_changes_a_run_of_another_lease)
{
    bool seen[N_LEASELESS] = {false};
    struct claim claim;
    int guarded = 0;

    (void)storage_submit_plain();
    claim = storage_claim(storage.process);
    for (int i = 0; i < n_statements(); i++) {
        const char *sql = sql_of(i);

        if (strstr(sql, " _running") == NULL || is_leaseless(sql, seen))
            continue;
        ck_assert_msg(strstr(sql, "lease = ?2") != NULL, "no lease: %s", sql);
        run_with_lease(sql, claim.id, claim.lease - 1);
        run_with_lease(sql, claim.id, claim.lease + 1);
        guarded++;
    }
    ck_assert_int_ge(guarded, 5);
    for (size_t i = 0; i < N_LEASELESS; i++)
        ck_assert_msg(seen[i], "no statement has: %s", leaseless[i]);
}
END_TEST

/* -- Costs ---------------------------------------------------------------- */

/* Every statement is run with 1 and with 500 for all that it is given. Those
 * that are run for each job, known by what they begin with, also with what
 * leads them to jobs that wait: one queue, one kind, at most two jobs. */
static const struct hot {
    const char *sql;
    int64_t bound[4];
} hot[] = {
    {"SELECT l.queue, l.kind,", {1, 1}},
    {"SELECT l.queue, l.kind,", {0, 0}},
    {"SELECT r.queue, r.sort_key, j.id,", {1, 1, 2, 3}},
    {"SELECT r.queue, r.sort_key, j.id,", {500}},
    {"DELETE FROM _ready WHERE queue = ?1", {1, 1, 5, 5}},
    {"SELECT r.id, r.lease,", {5, 1}},
    {"SELECT (SELECT state FROM _done d", {500}},
    {"SELECT min(at) FROM", {0}},
    {"SELECT run_at, id FROM _scheduled", {1}},
    {"SELECT at, id FROM _deadline", {1}},
    {"SELECT r.id, r.lease,", {1}},
};
#define N_HOT (sizeof(hot) / sizeof(*hot))

static bool
is_control(const char *sql)
{
    static const char *const words[] = {"BEGIN",     "COMMIT",  "ROLLBACK",
                                        "SAVEPOINT", "RELEASE", "PRAGMA"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strncmp(sql, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

/* Run it, take it back, and see what it cost. Numbers that it refuses are well:
 * it has not walked either. */
static void
run_bound(const char *sql, const int64_t bound[4], int64_t otherwise, int most)
{
    sqlite3 *db = writer();
    sqlite3_stmt *s = prepared(db, sql);
    int steps;

    ck_assert_int_eq(sqlite3_exec(db, "SAVEPOINT probe", NULL, NULL, NULL),
                     SQLITE_OK);
    for (int i = 0; i < sqlite3_bind_parameter_count(s); i++)
        (void)sqlite3_bind_int64(s, i + 1,
                                 bound != NULL && i < 4 ? bound[i] : otherwise);
    while (sqlite3_step(s) == SQLITE_ROW)
        continue;
    steps = sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0);
    ck_assert_msg(steps < most, "%d steps: %s", steps, sql);
    ck_assert_msg(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 0) == 0,
                  "sorts: %s", sql);
    (void)sqlite3_finalize(s);
    ck_assert_int_eq(
        sqlite3_exec(db, "ROLLBACK TO probe; RELEASE probe", NULL, NULL, NULL),
        SQLITE_OK);
}

/* 1,000 that are ready, half of them with a deadline, and 1,000 that are
 * scheduled. */
static void
submit_many(void)
{
    for (int i = 0; i < 2; i++)
        storage_run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " LIMIT 1000) INSERT INTO submit(kind, run_at, deadline_at)"
            " SELECT 'k', CASE i %% 2 WHEN 0 THEN 4000000000000 END,"
            "  CASE i %% 4 WHEN 1 THEN 5000000000000 END FROM n");
}

START_TEST(no_hot_statement_walks_over_the_jobs_that_wait)
{
    struct sqlite_store *store = sqlite_store_of(storage.store);
    bool seen[N_HOT] = {false};

    submit_many();
    ck_assert_int_eq(transaction_begin(store, false), ROTA_OK);
    for (int i = 0; i < n_statements(); i++) {
        const char *sql = sql_of(i);

        if (is_control(sql))
            continue;
        run_bound(sql, NULL, 1, 1000);
        run_bound(sql, NULL, 500, 1000);
        for (size_t h = 0; h < N_HOT; h++)
            if (strncmp(sql, hot[h].sql, strlen(hot[h].sql)) == 0) {
                run_bound(sql, hot[h].bound, 0, 200);
                seen[h] = true;
            }
    }
    transaction_rollback(store);
    for (size_t h = 0; h < N_HOT; h++)
        ck_assert_msg(seen[h], "no statement begins with: %s", hot[h].sql);
}
END_TEST

/* What the statements of the store have cost so far, in steps of SQLite's
 * machine. */
static int64_t
steps_taken(void)
{
    sqlite3_stmt *s = NULL;
    int64_t n = 0;

    while ((s = sqlite3_next_stmt(writer(), s)) != NULL)
        n += sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0);
    return n;
}

/* What it costs to claim a job without a key, and to end it. */
static int64_t
cost_of_a_job(void)
{
    int64_t id = storage_submit_plain(), before = steps_taken();
    struct claim claim = storage_claim(storage.process);

    ck_assert_int_eq(claim.id, id);
    storage_succeed(&claim);
    return steps_taken() - before;
}

START_TEST(jobs_by_the_100000_that_wait_for_a_key_cost_the_others_nothing)
{
    int64_t n = MANY(100000), alone, before, claims = 0;
    struct claim first;

    (void)cost_of_a_job(); /* statements are compiled */
    alone = cost_of_a_job();
    storage_run("INSERT INTO submit(kind, limit_key) WITH RECURSIVE n(i) AS"
                " (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT %jd)"
                " SELECT 'k', 'x' FROM n",
                (intmax_t)n);
    first = storage_claim(storage.process);
    do {
        before = steps_taken();
        ck_assert_int_eq(storage_claim(storage.process).id, 0);
        ck_assert_int_lt(steps_taken() - before, 1000 * alone);
        claims++;
    } while (storage.rest == CLAIM_MORE);
    ck_assert_int_le(claims, n / 1000 + 2); /* each is stepped over once */
    ck_assert_int_eq(storage_int("SELECT held FROM limits"), n - 1);
    ck_assert_int_le(cost_of_a_job(), 2 * alone);
    before = steps_taken(); /* nor is it dear to let in the next of them */
    storage_succeed(&first);
    ck_assert_int_le(steps_taken() - before, 2 * alone);
    ck_assert_int_eq(storage_claim(storage.process).id, first.id + 1);
    ck_assert_int_eq(storage_int("SELECT held FROM limits"), n - 2);
}
END_TEST

/* -- Many at a time -------------------------------------------------------- */

/* Which triggers of an INSERT make a table of their own for each row, one that
 * is made in any case; "" if none does. */
static const char *
makers_of_tables(const char *sql)
{
    static char makers[1024];
    sqlite3_stmt *s = prepared(writer(), sql);
    char trigger[64] = "";

    makers[0] = '\0';
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *opcode = (const char *)sqlite3_column_text(s, 1);
        const char *p4 = (const char *)sqlite3_column_text(s, 5);

        if (strcmp(opcode, "Init") == 0)
            (void)snprintf(trigger, sizeof(trigger), "%s ",
                           p4 == NULL ? "" : p4);
        /* the characters of a name are looked at only if they are not ASCII */
        if ((strcmp(opcode, "OpenEphemeral") == 0 ||
             strcmp(opcode, "SorterOpen") == 0) &&
            strcmp(trigger, "-- TRIGGER submit_check ") != 0)
            (void)strcat(makers, trigger);
        ck_assert_uint_lt(strlen(makers), sizeof(makers) - sizeof(trigger));
    }
    (void)sqlite3_finalize(s);
    return makers;
}

START_TEST(a_plain_submission_by_sql_makes_no_table_of_its_own)
{
    const char *makers = makers_of_tables(
        "EXPLAIN INSERT INTO submit(kind, args, queue, batch, unique_key)"
        " VALUES(?1, ?2, ?3, ?4, ?5)");

    ck_assert_ptr_nonnull(strstr(makers, "submit_tied")); /* it is seen */
    ck_assert_ptr_null(strstr(makers, "submit_plain"));
    ck_assert_ptr_null(strstr(makers, "submit_kind"));
    ck_assert_ptr_null(strstr(makers, "submit_queue"));
    ck_assert_ptr_null(strstr(makers, "submit_batch"));
    ck_assert_ptr_null(strstr(makers, "submit_do"));
}
END_TEST

/* -- The newest few -------------------------------------------------------- */

/* What people ask for, of each view of which there may be many rows. */
static const char *const newest[] = {
    "SELECT * FROM jobs ORDER BY id DESC LIMIT 5",
    "SELECT id, state FROM jobs ORDER BY id DESC LIMIT 5",
    "SELECT id, kind, why, result FROM jobs ORDER BY id DESC LIMIT 5 OFFSET 5",
    "SELECT id FROM jobs ORDER BY id LIMIT 5",
    "SELECT * FROM jobs WHERE state = 'ready' ORDER BY id DESC LIMIT 5",
    "SELECT * FROM jobs WHERE state = 'scheduled' ORDER BY id DESC LIMIT 5",
    "SELECT * FROM jobs WHERE state = 'failed' ORDER BY id DESC LIMIT 5",
    "SELECT * FROM jobs WHERE state = 'cancelled' ORDER BY id DESC LIMIT 5",
    "SELECT * FROM jobs WHERE state = 'succeeded' ORDER BY id DESC LIMIT 5",
    "SELECT * FROM jobs WHERE state IN ('failed', 'cancelled')"
    " ORDER BY id DESC LIMIT 5",
    /* of the command */
    "SELECT *, max(7 - created_at, 0) / 1000 AS age FROM jobs"
    " WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR batch = ?2)"
    " ORDER BY id DESC LIMIT 5",
    "SELECT id FROM jobs ORDER BY id DESC LIMIT 1",
    "SELECT * FROM attempts ORDER BY job DESC LIMIT 5",
};

static int
steps_of(const char *sql)
{
    sqlite3_stmt *s = prepared(writer(), sql);
    int steps;

    while (sqlite3_step(s) == SQLITE_ROW)
        continue;
    steps = sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0);
    ck_assert_msg(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 0) == 0,
                  "sorts: %s", sql);
    (void)sqlite3_finalize(s);
    return steps;
}

/* As many of each: ready, scheduled, and ended in each way. */
static void
have_more_jobs(void)
{
    submit_many();
    storage_run("INSERT INTO cancel(job) SELECT r.id FROM _ready r"
                " ORDER BY id LIMIT 500");
    storage_run("UPDATE _done SET state = 4 + id %% 3, process = 1");
}

START_TEST(the_newest_few_are_found_without_reading_the_others)
{
    int few;

    have_more_jobs();
    few = steps_of(newest[_i]);
    for (int i = 0; i < 4; i++)
        have_more_jobs();
    ck_assert_int_gt(few, 5);
    ck_assert_int_lt(few, 5000);
    ck_assert_msg(steps_of(newest[_i]) <= few + few / 4, "%d and %d: %s", few,
                  steps_of(newest[_i]), newest[_i]);
}
END_TEST

static Suite *
plans_suite(void)
{
    Suite *suite = suite_create("plans");
    TCase *statements = case_new(suite, "statements");

    tcase_add_checked_fixture(statements, storage_make, storage_remove);
    tcase_add_test(statements,
                   every_statement_can_be_prepared_where_it_is_used);
    tcase_add_test(statements, no_statement_of_ours_scans_or_sorts);
    tcase_add_test(statements, a_statement_that_scans_or_sorts_is_found);
    tcase_add_test(statements,
                   no_statement_reads_or_changes_a_run_of_another_lease);
    tcase_add_test(statements, no_hot_statement_walks_over_the_jobs_that_wait);
    tcase_add_test(
        statements,
        jobs_by_the_100000_that_wait_for_a_key_cost_the_others_nothing);
    tcase_add_test(statements,
                   a_plain_submission_by_sql_makes_no_table_of_its_own);
    tcase_add_loop_test(statements,
                        the_newest_few_are_found_without_reading_the_others, 0,
                        (int)(sizeof(newest) / sizeof(*newest)));
    return suite;
}

/* This is about one kind of store, whatever the environment names. */
int
main(void)
{
    storage_use(&storage_sqlite);
    return suite_run(plans_suite());
}
