/*
 * What a context that ends does to the other statements of a connection, and to
 * those that are to clean up: nothing; and how that it has ended is told from
 * other failures.
 */
#define _GNU_SOURCE
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota.h>

#include "base/base.h"
#include "scratch.h"
#include "support.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define ENDLESS                                                       \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)" \
    " SELECT count(*) FROM n"

static sqlite3 *db;
static struct ctx *outer, *inner;

static void
run(const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
}

static sqlite3_stmt *
prepare(const char *sql)
{
    sqlite3_stmt *s;

    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
    return s;
}

static int
value(const char *sql)
{
    sqlite3_stmt *s = prepare(sql);
    int n;

    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    n = sqlite3_column_int(s, 0);
    (void)sqlite3_finalize(s);
    return n;
}

/* The SQL function stop(): the inner context ends. */
static void
stop(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)context, (void)n, (void)values;
    (void)ctx_cancel(inner);
}

static void
connect_anew(void)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_open_v2(in_scratch("t.db"), &db,
                                     SQLITE_OPEN_READWRITE |
                                         SQLITE_OPEN_CREATE |
                                         SQLITE_OPEN_NOMUTEX,
                                     NULL),
                     SQLITE_OK);
    (void)sqlite3_create_function(db, "stop", 0, SQLITE_UTF8, NULL, stop, NULL,
                                  NULL);
}

static void
setup(void)
{
    scratch_make();
    connect_anew();
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        "PRAGMA user_version = 5;"
        "CREATE TABLE t(x); CREATE TABLE log(x UNIQUE);"
        "INSERT INTO log VALUES('old');"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 10) INSERT INTO t SELECT i FROM n");
    outer = ctx_with_cancel(NULL);
    inner = ctx_with_cancel(outer);
}

static void
teardown(void)
{
    ctx_end(inner);
    ctx_end(outer);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    scratch_remove();
}

/* -- Among others --------------------------------------------------------- */

/* A statement that is called off while it stands at a row. */
static void
called_off_at_a_row(const char *sql)
{
    sqlite3_stmt *s = prepare(sql);
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, inner, db);
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_ROW);
    (void)ctx_cancel(inner);
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_INTERRUPT);
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
}

static void
a_select_at_a_row(void)
{
    called_off_at_a_row("SELECT x FROM t");
}

static void
a_constant_at_a_row(void)
{
    called_off_at_a_row("VALUES(1), (2), (3)");
}

static void
a_write_at_a_row(void)
{
    called_off_at_a_row("INSERT INTO log VALUES(1), (2) RETURNING x");
}

static void
called_off(const char *sql)
{
    ck_assert_int_eq(rota_sqlite_exec(inner, db, sql), ROTA_CANCELED);
}

static void
a_script_that_was_late(void)
{
    (void)ctx_cancel(inner);
    called_off("INSERT INTO log VALUES(1)");
}

static void
a_script_that_was_stopped(void)
{
    called_off("SELECT stop(); INSERT INTO log VALUES(1)");
}

static void
a_query_that_would_run_for_hours(void)
{
    called_off(ENDLESS " WHERE i > 9 OR stop() IS NULL");
}

static void
a_write_that_was_stopped(void)
{
    called_off("INSERT INTO log SELECT coalesce(stop(), a.x + 10 * b.x)"
               " FROM t a, t b");
}

/* A rota_sqlite_fn: run arg by SQLite's own call. */
static enum rota_error
run_arg(sqlite3 *on, void *arg)
{
    return sqlite3_exec(on, arg, NULL, NULL, NULL) == SQLITE_OK ? ROTA_OK
                                                                : ROTA_FATAL;
}

static void
a_transaction_that_failed(void)
{
    static char sql[] = "INSERT INTO log VALUES(1); INSERT INTO log"
                        " VALUES('old')";

    ck_assert_int_eq(rota_sqlite_tx(inner, db, run_arg, sql), ROTA_FATAL);
}

static void
a_transaction_that_was_stopped(void)
{
    static char sql[] = "INSERT INTO log VALUES(1); SELECT stop(); " ENDLESS;

    ck_assert_int_eq(rota_sqlite_tx(inner, db, run_arg, sql), ROTA_CANCELED);
}

static void
a_transaction_that_went_on(void)
{
    static char sql[] = "INSERT INTO log VALUES(1); SELECT stop();"
                        "INSERT INTO log VALUES(2)";

    ck_assert_int_eq(rota_sqlite_tx(inner, db, run_arg, sql), ROTA_CANCELED);
}

/* It leaves a statement at a row when it is called off. */
static enum rota_error
leave_at_a_row(sqlite3 *on, void *arg)
{
    sqlite3_stmt **ret_statement = arg;

    (void)on;
    run("INSERT INTO log VALUES(1)");
    *ret_statement = prepare("SELECT x FROM t");
    ck_assert_int_eq(sqlite3_step(*ret_statement), SQLITE_ROW);
    (void)ctx_cancel(inner);
    return ROTA_FAILED;
}

static void
a_transaction_that_left_a_select(void)
{
    sqlite3_stmt *left;

    ck_assert_int_eq(rota_sqlite_tx(inner, db, leave_at_a_row, &left),
                     ROTA_CANCELED);
    (void)sqlite3_finalize(left);
}

static void (*const calls[])(void) = {
    a_select_at_a_row,
    a_constant_at_a_row,
    a_write_at_a_row,
    a_script_that_was_late,
    a_script_that_was_stopped,
    a_query_that_would_run_for_hours,
    a_write_that_was_stopped,
    a_transaction_that_failed,
    a_transaction_that_was_stopped,
    a_transaction_that_went_on,
    a_transaction_that_left_a_select,
};

/* Walk the ten rows, and do call at the third. The number of rows; how the walk
 * ended. */
static int
walk(struct rota_sqlite *bound, void (*call)(void), int *ret_code)
{
    sqlite3_stmt *s = prepare("SELECT x FROM t");
    int rows = 0;

    for (;;) {
        *ret_code =
            bound != NULL ? rota_sqlite_step(bound, s) : sqlite3_step(s);
        if (*ret_code != SQLITE_ROW || rows == 30)
            break;
        ck_assert_int_eq(sqlite3_column_int(s, 0), ++rows);
        if (rows == 3)
            call();
    }
    (void)sqlite3_finalize(s);
    return rows;
}

/* _i: which call, and half of them below a binding. */
START_TEST(a_select_at_a_row_goes_on_when_another_call_is_called_off)
{
    struct rota_sqlite bound, *used = _i < COUNT(calls) ? NULL : &bound;
    int code;

    if (used != NULL)
        rota_sqlite_bind(used, outer, db);
    ck_assert_int_eq(walk(used, calls[_i % COUNT(calls)], &code), 10);
    ck_assert_int_eq(code, SQLITE_DONE);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 1);
    if (used != NULL)
        rota_sqlite_unbind(used);
}
END_TEST

static void
a_transaction_that_changed_the_schema(void)
{
    static char sql[] = "CREATE TABLE u(x); SELECT stop(); " ENDLESS;

    ck_assert_int_eq(rota_sqlite_tx(inner, db, run_arg, sql), ROTA_CANCELED);
}

START_TEST(a_select_that_cannot_go_on_ends_with_an_error_and_not_anew)
{
    int code;

    (void)walk(NULL, a_transaction_that_changed_the_schema, &code);
    ck_assert(code == SQLITE_DONE || (code & 0xff) == SQLITE_ABORT);
    ck_assert_int_eq(value("SELECT count(*) FROM sqlite_schema"
                           " WHERE name = 'u'"),
                     0);
}
END_TEST

static int
stop_at_commit(void *arg)
{
    (void)arg;
    (void)ctx_cancel(inner);
    return 0;
}

static void
a_write_that_was_finished(void)
{
    (void)sqlite3_commit_hook(db, stop_at_commit, NULL);
    ck_assert_int_eq(rota_sqlite_exec(inner, db, "INSERT INTO log VALUES(1)"),
                     ROTA_OK);
    (void)sqlite3_commit_hook(db, NULL, NULL);
}

START_TEST(a_commit_that_has_begun_among_others_is_never_called_cancelled)
{
    int code;

    ck_assert_int_eq(walk(NULL, a_write_that_was_finished, &code), 10);
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 2);
}
END_TEST

START_TEST(a_transaction_is_rolled_back_whatever_its_function_left_at_a_row)
{
    sqlite3_stmt *left;

    ck_assert_int_eq(rota_sqlite_tx(inner, db, leave_at_a_row, &left),
                     ROTA_CANCELED);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(sqlite3_step(left), SQLITE_INTERRUPT);
    (void)sqlite3_finalize(left);
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 1);
    ck_assert_int_eq(value("PRAGMA user_version"), 5);
}
END_TEST

START_TEST(a_binding_whose_context_ended_below_another_stops_what_goes_on)
{
    struct ctx *shield = ctx_without_cancel(outer);
    struct rota_sqlite bound, shielded;
    sqlite3_stmt *s = prepare("SELECT 1 UNION ALL SELECT * FROM (" ENDLESS ")");

    rota_sqlite_bind(&bound, outer, db);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    rota_sqlite_bind(&shielded, shield, db);
    (void)ctx_cancel(outer);
    rota_sqlite_unbind(&shielded);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_INTERRUPT);
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
    ctx_end(shield);
}
END_TEST

/* -- ROLLBACK ------------------------------------------------------------- */

static int
by_step(const char *sql)
{
    struct rota_sqlite bound;
    sqlite3_stmt *s;
    int code;

    rota_sqlite_bind(&bound, inner, db);
    s = prepare(sql);
    code = rota_sqlite_step(&bound, s);
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int
by_exec(const char *sql)
{
    return rota_sqlite_exec(inner, db, sql) == ROTA_OK ? SQLITE_OK
                                                       : SQLITE_INTERRUPT;
}

static int
by_sqlites_own(const char *sql)
{
    struct rota_sqlite bound;
    int code;

    rota_sqlite_bind(&bound, inner, db);
    code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    rota_sqlite_unbind(&bound);
    return code;
}

static int (*const ways[])(const char *sql) = {by_step, by_exec,
                                               by_sqlites_own};
static const char *const rollbacks[] = {
    "ROLLBACK",
    "rollback;",
    " \t\n\f ; Rollback TRANSACTION",
    "-- enough\nROLLBACK",
    "/* -- */ROLLBACK--",
    "/* ROLL */ -- BACK\r\n /**/ ROLLBACK /* now */",
    "\xef\xbb\xbfROLLBACK",
    "ROLLBACK TO SAVEPOINT s",
    "/* */ROLLBACK TRANSACTION TO\"s\"",
};

/* _i: which way, and which text. */
START_TEST(a_rollback_is_run_when_the_context_has_ended)
{
    const char *sql = rollbacks[_i / COUNT(ways)];
    bool is_to = strstr(sql, "TO") != NULL;

    run("BEGIN; SAVEPOINT s; INSERT INTO log VALUES(1)");
    (void)ctx_cancel(inner);
    ck_assert_int_eq(ways[_i % COUNT(ways)](sql), SQLITE_OK);
    ck_assert_int_eq(sqlite3_get_autocommit(db), !is_to);
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 1);
    if (is_to)
        run("COMMIT");
}
END_TEST

/* By a statement that was prepared in time; by a call. */
START_TEST(a_rollback_of_ours_gets_through_where_a_statement_was_stopped)
{
    sqlite3_stmt *back = prepare("ROLLBACK"), *s = prepare("SELECT x FROM t");
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, inner, db);
    run("BEGIN; INSERT INTO log VALUES(1)");
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_ROW);
    (void)ctx_cancel(inner);
    if (_i == 0)
        ck_assert_int_eq(rota_sqlite_step(&bound, back), SQLITE_DONE);
    else
        ck_assert_int_eq(rota_sqlite_exec(outer, db, " ROLLBACK;"), ROTA_OK);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(sqlite3_finalize(back), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(s), SQLITE_INTERRUPT);
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 1);
    ck_assert_int_eq(value("PRAGMA user_version"), 5);
}
END_TEST

static const char *const others[] = {"COMMIT",
                                     "END",
                                     "RELEASE s",
                                     "/* ROLLBACK */ COMMIT",
                                     "--\n-- ROLLBACK\nEND TRANSACTION",
                                     "INSERT INTO log VALUES('ROLLBACK')"};

START_TEST(nothing_but_a_rollback_is_run_when_the_context_has_ended)
{
    run("BEGIN; SAVEPOINT s; INSERT INTO log VALUES(1)");
    (void)ctx_cancel(inner);
    ck_assert_int_eq(ways[_i % COUNT(ways)](others[_i / COUNT(ways)]),
                     SQLITE_INTERRUPT);
    if (!sqlite3_get_autocommit(db))
        run("ROLLBACK");
    ck_assert_int_eq(value("SELECT count(*) FROM log"), 1);
}
END_TEST

/* -- In disguise ---------------------------------------------------------- */

/* Statements that SQLite runs with statements of its own within, and leave
 * things as they were. */
static const char *const within[] = {
    "BEGIN; ALTER TABLE t RENAME COLUMN x TO y; ROLLBACK",
    "BEGIN; ALTER TABLE t RENAME TO u; ROLLBACK",
    "BEGIN; ALTER TABLE t ADD COLUMN y DEFAULT 5;"
    " ALTER TABLE t DROP COLUMN y; ROLLBACK",
    "SELECT count(*) FROM json_each('[1,2]'), json_tree('[1,[2]]'),"
    " pragma_table_info('t'), pragma_index_list('log')",
    "BEGIN; CREATE VIRTUAL TABLE g USING fts5(a); INSERT INTO g VALUES('one');"
    " DROP TABLE g; ROLLBACK",
    "BEGIN; CREATE VIRTUAL TABLE g USING rtree(id, lo, hi);"
    " INSERT INTO g VALUES(1, 2, 3); DROP TABLE g; ROLLBACK",
    "INSERT INTO f(f) VALUES('integrity-check')",
    "SELECT a FROM f WHERE f MATCH 'hel*'; SELECT lo FROM b WHERE hi > 1",
    "BEGIN; DELETE FROM f; INSERT INTO f SELECT 'hello ' || x FROM t;"
    " INSERT INTO f(f) VALUES('optimize'); ROLLBACK",
    "BEGIN; INSERT INTO b SELECT x + 1, x, x FROM t; DELETE FROM b; ROLLBACK",
};

static int countdown;

static int
stop_in_time(void *arg)
{
    (void)arg;
    if (--countdown == 0)
        (void)ctx_cancel(inner);
    return 0;
}

static void
make_more(void)
{
    char sql[64];

    run("CREATE VIRTUAL TABLE f USING fts5(a); CREATE VIRTUAL TABLE b USING"
        " rtree(id, lo, hi); INSERT INTO f VALUES('hello'); INSERT INTO b"
        " VALUES(1, 2, 3); CREATE TRIGGER r AFTER DELETE ON t BEGIN"
        " INSERT INTO log VALUES(OLD.x); END");
    for (int i = 0; i < 9; i++) {
        (void)snprintf(sql, sizeof(sql), "CREATE VIEW v%d AS SELECT x FROM t",
                       i);
        run(sql);
    }
}

START_TEST(an_interrupt_comes_out_as_the_contexts_error_whatever_sqlite_says)
{
    int stopped = 0;
    enum rota_error error;

    make_more();
    for (int at = 1; countdown <= 0; at += 1 + at / 64) {
        ctx_end(inner);
        inner = ctx_with_cancel(outer);
        connect_anew();
        sqlite3_progress_handler(db, 1, stop_in_time, NULL);
        countdown = at;
        error = rota_sqlite_exec(inner, db, within[_i]);
        ck_assert_msg(error == ROTA_OK || error == ROTA_CANCELED,
                      "at %d: %d, %s", at, error, rota_errmsg(NULL));
        stopped += error == ROTA_CANCELED;
        ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    }
    ck_assert_int_gt(stopped, 0);
}
END_TEST

static const struct {
    const char *sql, *says;
} failing[] = {
    {"INSERT INTO log VALUES(coalesce(stop(), 'old'))", "UNIQUE constraint"},
    {"SELEC", "syntax error"},
    {"SELECT no_such()", "no such function"},
};

START_TEST(an_error_that_is_the_statements_own_stays_what_it_is)
{
    struct rota_sqlite bound;
    sqlite3_stmt *s;

    if (_i == 0) {
        ck_assert_int_eq(rota_sqlite_exec(inner, db, failing[_i].sql),
                         ROTA_STORE);
    } else { /* the context has ended, and stopped nothing */
        (void)ctx_cancel(inner);
        rota_sqlite_bind(&bound, inner, db);
        ck_assert_int_eq(
            rota_sqlite_error(
                &bound, sqlite3_prepare_v2(db, failing[_i].sql, -1, &s, NULL)),
            ROTA_STORE);
        rota_sqlite_unbind(&bound);
        ck_assert_int_eq(rota_sqlite_exec(inner, db, failing[_i].sql),
                         ROTA_STORE);
    }
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), failing[_i].says));
}
END_TEST

static Suite *
binding_suite(void)
{
    Suite *suite = suite_create("binding");
    TCase *among = case_new(suite, "among"), *back = case_new(suite, "back"),
          *disguise = case_new(suite, "disguise");

    tcase_add_checked_fixture(among, setup, teardown);
    tcase_add_loop_test(
        among, a_select_at_a_row_goes_on_when_another_call_is_called_off, 0,
        2 * COUNT(calls));
    tcase_add_test(among,
                   a_select_that_cannot_go_on_ends_with_an_error_and_not_anew);
    tcase_add_test(
        among, a_commit_that_has_begun_among_others_is_never_called_cancelled);
    tcase_add_test(
        among,
        a_transaction_is_rolled_back_whatever_its_function_left_at_a_row);
    tcase_add_test(
        among, a_binding_whose_context_ended_below_another_stops_what_goes_on);
    tcase_add_checked_fixture(back, setup, teardown);
    tcase_add_loop_test(
        back, a_rollback_of_ours_gets_through_where_a_statement_was_stopped, 0,
        2);
    tcase_add_loop_test(back, a_rollback_is_run_when_the_context_has_ended, 0,
                        COUNT(ways) * COUNT(rollbacks));
    tcase_add_loop_test(
        back, nothing_but_a_rollback_is_run_when_the_context_has_ended, 0,
        COUNT(ways) * COUNT(others));
    tcase_add_checked_fixture(disguise, setup, teardown);
    tcase_add_loop_test(
        disguise,
        an_interrupt_comes_out_as_the_contexts_error_whatever_sqlite_says, 0,
        COUNT(within));
    tcase_add_loop_test(disguise,
                        an_error_that_is_the_statements_own_stays_what_it_is, 0,
                        COUNT(failing));
    return suite;
}

int
main(void)
{
    return suite_run(binding_suite());
}
