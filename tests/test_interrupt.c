/*
 * A context that ends reaches a SQLite statement whenever it ends, stops no
 * other, and what it reports about the statement's effects is true.
 *
 * ROTA_TEST_OPS sets how many operations the race runs; 2000000 is the long
 * form. ROTA_TEST_SEED replays the choices.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rota.h>

#include "base/base.h"
#include "scratch.h"
#include "support.h"
#include "vfs.h"

#define ENDLESS                                                       \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)" \
    " SELECT count(*) FROM n"

/* -- The stage ------------------------------------------------------------ */

static sqlite3 *db;
static struct ctx *ctx;

static sqlite3 *
connect_to(const char *name)
{
    sqlite3 *new_db;

    ck_assert_int_eq(sqlite3_open_v2(name, &new_db,
                                     SQLITE_OPEN_READWRITE |
                                         SQLITE_OPEN_CREATE |
                                         SQLITE_OPEN_NOMUTEX,
                                     NULL),
                     SQLITE_OK);
    (void)sqlite3_busy_timeout(new_db, 5000);
    return new_db;
}

static void
run(const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
}

static void
setup(void)
{
    scratch_make();
    db = connect_to(in_scratch("t.db"));
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        "CREATE TABLE t(k INTEGER PRIMARY KEY, v)");
    ctx = ctx_with_cancel(NULL);
}

static void
teardown(void)
{
    ctx_end(ctx);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    scratch_remove();
}

static sqlite3_stmt *
prepare(sqlite3 *on, const char *sql)
{
    sqlite3_stmt *s;

    ck_assert_msg(sqlite3_prepare_v2(on, sql, -1, &s, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(on));
    return s;
}

/* The rows in t that a foreign client sees. */
static int64_t
rows(void)
{
    return sql_int(in_scratch("t.db"), "SELECT count(*) FROM t");
}

/* -- One statement -------------------------------------------------------- */

static void *
cancel_when_running(void *arg)
{
    struct gate *running = arg;

    gate_await(running, 1);
    (void)ctx_cancel_cause(ctx, "enough");
    return NULL;
}

static struct gate running = GATE_INIT;

static void
say_running(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)context, (void)n, (void)values;
    lock_take(&running.lock);
    running.arrived++;
    MUST(pthread_cond_broadcast(&running.changed));
    lock_drop(&running.lock);
}

static const char *const long_statements[] = {
    ENDLESS " WHERE i > 1 OR running()",
    "SELECT count(*) FROM big a, big b, big c WHERE running() IS NULL",
    "SELECT max(v) FROM (SELECT a.v || running() AS v FROM big a, big b, big c"
    " ORDER BY random())",
    "INSERT INTO t SELECT NULL, running() FROM big a, big b, big c",
    "CREATE TABLE u AS SELECT running() FROM big a, big b, big c",
    "UPDATE big SET v = (SELECT count(*) FROM big a, big b, big c"
    " WHERE running() IS NULL)",
};

START_TEST(a_statement_that_would_run_for_hours_ends_and_leaves_nothing)
{
    enum rota_error error;
    pthread_t thread;

    run("CREATE TABLE big(k INTEGER PRIMARY KEY, v);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 5000) INSERT INTO big SELECT i, i FROM n");
    (void)sqlite3_create_function(db, "running", 0, SQLITE_UTF8, NULL,
                                  say_running, NULL, NULL);
    thread = thread_new(cancel_when_running, &running);
    error = rota_sqlite_exec(ctx, db, long_statements[_i]);
    (void)thread_join(thread);
    ck_assert_int_eq(error, ROTA_CANCELED);
    ck_assert_str_eq(rota_errmsg(NULL), "enough");
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(rows(), 0);
    ck_assert_int_eq(sql_int(in_scratch("t.db"), "SELECT count(*)"
                                                 " FROM sqlite_schema"),
                     2);
    ck_assert_int_eq(
        rota_sqlite_exec(ctx_background(), db, "INSERT INTO t VALUES(1, 1)"),
        ROTA_OK);
    ck_assert_int_eq(rows(), 1);
}
END_TEST

START_TEST(no_statement_starts_once_the_context_is_done)
{
    struct rota_sqlite bound;
    sqlite3_stmt *s = prepare(db, "INSERT INTO t VALUES(1, 1)");

    rota_sqlite_bind(&bound, ctx, db);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_INTERRUPT);
    ck_assert_int_eq(rota_sqlite_error(&bound, SQLITE_INTERRUPT),
                     ROTA_CANCELED);
    rota_sqlite_unbind(&bound);
    (void)sqlite3_finalize(s);
    ck_assert_int_eq(rota_sqlite_exec(ctx, db, "INSERT INTO t VALUES(1, 1)"),
                     ROTA_CANCELED);
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(a_statement_of_sqlites_own_calls_ends_too)
{
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, ctx, db);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(sqlite3_exec(db, ENDLESS, NULL, NULL, NULL),
                     SQLITE_INTERRUPT);
    rota_sqlite_unbind(&bound);
}
END_TEST

START_TEST(a_row_that_was_returned_is_taken_back_when_the_context_ends)
{
    sqlite3_stmt *s =
        prepare(db, "INSERT INTO t VALUES(1, 1), (2, 2) RETURNING k");
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, ctx, db);
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_ROW);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_sqlite_step(&bound, s), SQLITE_INTERRUPT);
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(a_wait_for_a_lock_ends_with_the_context)
{
    sqlite3 *other = connect_to(in_scratch("t.db"));

    ck_assert_int_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    ctx_end(ctx);
    ctx = ctx_with_timeout_cause(NULL, ROTA_MS(20), "no time");
    ck_assert_int_eq(rota_sqlite_exec(ctx, db, "INSERT INTO t VALUES(1, 1)"),
                     ROTA_DEADLINE);
    ck_assert_str_eq(rota_errmsg(NULL), "no time");
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(rollback_works_under_a_context_that_is_done)
{
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, ctx, db);
    run("BEGIN; INSERT INTO t VALUES(1, 1)");
    (void)ctx_cancel(ctx);
    run(" ROLLBACK");
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    rota_sqlite_unbind(&bound);
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(an_interrupt_that_found_no_statement_stops_none_later)
{
    struct rota_sqlite bound;

    run("INSERT INTO t VALUES(1, 1)");
    rota_sqlite_bind(&bound, ctx, db);
    (void)ctx_cancel(ctx);
    rota_sqlite_unbind(&bound);
    ck_assert_int_eq(sqlite3_wal_checkpoint_v2(
                         db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
                     SQLITE_OK);
}
END_TEST

START_TEST(the_busy_timeout_is_there_again_afterwards)
{
    sqlite3_stmt *s;

    ck_assert_int_eq(rota_sqlite_exec(ctx, db, "SELECT 1"), ROTA_OK);
    s = prepare(db, "PRAGMA busy_timeout");
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_column_int(s, 0), 5000);
    (void)sqlite3_finalize(s);
}
END_TEST

START_TEST(a_busy_timeout_that_cannot_be_read_is_left_as_it_is)
{
    struct rota_sqlite bound;
    sqlite3_stmt *s;

    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0);
    (void)sqlite3_hard_heap_limit64(1);
    rota_sqlite_bind(&bound, ctx, db);
    (void)sqlite3_hard_heap_limit64(0);
    rota_sqlite_unbind(&bound);
    s = prepare(db, "PRAGMA busy_timeout");
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_column_int(s, 0), 5000);
    (void)sqlite3_finalize(s);
}
END_TEST

START_TEST(the_innermost_binding_alone_counts)
{
    struct ctx *clean = ctx_without_cancel(ctx);
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, ctx, db);
    (void)ctx_cancel(ctx);
    ck_assert_int_eq(rota_sqlite_exec(clean, db, "INSERT INTO t VALUES(1, 1)"),
                     ROTA_OK);
    ck_assert_int_eq(sqlite3_exec(db, ENDLESS, NULL, NULL, NULL),
                     SQLITE_INTERRUPT);
    rota_sqlite_unbind(&bound);
    ctx_end(clean);
    ck_assert_int_eq(rows(), 1);
}
END_TEST

/* -- Transactions --------------------------------------------------------- */

static enum rota_error
insert_two(sqlite3 *on, void *arg)
{
    struct ctx *to_cancel = arg;
    int code = sqlite3_exec(on, "INSERT INTO t VALUES(1, 1)", NULL, NULL, NULL);

    if (to_cancel != NULL)
        (void)ctx_cancel(to_cancel);
    if (code == SQLITE_OK)
        code = sqlite3_exec(on, "INSERT INTO t VALUES(2, 2)", NULL, NULL, NULL);
    return code == SQLITE_OK ? ROTA_OK : ROTA_STORE;
}

static enum rota_error
insert_and_refuse(sqlite3 *on, void *arg)
{
    (void)insert_two(on, arg);
    return ROTA_FATAL;
}

static enum rota_error
insert_and_commit(sqlite3 *on, void *arg)
{
    (void)insert_two(on, arg);
    (void)sqlite3_exec(on, "ROLLBACK", NULL, NULL, NULL);
    return ROTA_OK;
}

START_TEST(a_transaction_is_there_whole_or_not_at_all)
{
    sqlite3_stmt *at_row;

    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_and_refuse, NULL),
                     ROTA_FATAL);
    ck_assert_int_eq(rows(), 0);
    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_and_commit, NULL),
                     ROTA_STORE);
    ck_assert_int_eq(rows(), 0);
    run("BEGIN");
    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_two, NULL), ROTA_INVALID);
    run("COMMIT");
    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_two, NULL), ROTA_OK);
    ck_assert_int_eq(rows(), 2);
    run("DELETE FROM t WHERE k = 2");
    at_row = prepare(db, "SELECT 1 UNION SELECT 2");
    ck_assert_int_eq(sqlite3_step(at_row), SQLITE_ROW);
    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_two, NULL), ROTA_STORE);
    ck_assert_int_eq(rows(), 1);
    (void)sqlite3_finalize(at_row);
    ck_assert_int_eq(rota_sqlite_tx(ctx, db, insert_two, ctx), ROTA_CANCELED);
    ck_assert_int_eq(rows(), 1);
}
END_TEST

START_TEST(a_script_that_fails_takes_back_the_transaction_it_began)
{
    ck_assert_int_eq(rota_sqlite_exec(ctx, db,
                                      "INSERT INTO t VALUES(1, 1); BEGIN;"
                                      "INSERT INTO t VALUES(2, 2); SELEC"),
                     ROTA_STORE);
    ck_assert_ptr_nonnull(strstr(rota_errmsg(NULL), "syntax error"));
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(rows(), 1);
    run("BEGIN");
    ck_assert_int_eq(rota_sqlite_exec(ctx, db,
                                      "INSERT INTO t VALUES(2, 2);"
                                      "INSERT INTO t VALUES(2, 2)"),
                     ROTA_STORE);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 0);
    run("COMMIT");
    ck_assert_int_eq(rows(), 2);
    ck_assert_int_eq(rota_sqlite_exec(ctx, db, " ; -- nothing\n"), ROTA_OK);
}
END_TEST

static int
cancel_at_commit(void *arg)
{
    (void)ctx_cancel(*(struct ctx **)arg);
    return 0;
}

static enum rota_error
replace_one(sqlite3 *on, void *arg)
{
    sqlite3_stmt *s = arg;
    int code = sqlite3_step(s);

    (void)on;
    (void)sqlite3_reset(s);
    return code == SQLITE_DONE ? ROTA_OK : ROTA_STORE;
}

START_TEST(a_commit_that_has_begun_is_never_called_cancelled)
{
    sqlite3 *memory = connect_to(":memory:");
    struct ctx *each;
    sqlite3_stmt *s;

    ck_assert_int_eq(
        sqlite3_exec(memory, "CREATE TABLE t(k)", NULL, NULL, NULL), SQLITE_OK);
    s = prepare(memory, "INSERT INTO t VALUES(1)");
    (void)sqlite3_commit_hook(memory, cancel_at_commit, &each);
    for (int i = 0; i < MANY(100000); i++) {
        each = ctx_with_cancel(NULL);
        ck_assert_int_eq(rota_sqlite_tx(each, memory, replace_one, s), ROTA_OK);
        ck_assert(ctx_done(each));
        ctx_end(each);
    }
    (void)sqlite3_finalize(s);
    s = prepare(memory, "SELECT count(*) FROM t");
    ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_column_int(s, 0), MANY(100000));
    (void)sqlite3_finalize(s);
    ck_assert_int_eq(sqlite3_close(memory), SQLITE_OK);
}
END_TEST

/* -- At every point ------------------------------------------------------- */

/* Counts down at each call into the file system, and at each of SQLite's own
 * operations; then the context is cancelled, or somebody else, who knows of no
 * context, interrupts once. */
static int countdown;
static bool has_fired, is_foreign;

static void
point(void)
{
    if (--countdown != 0)
        return;
    has_fired = true;
    if (is_foreign)
        sqlite3_interrupt(db);
    else
        (void)ctx_cancel(ctx);
}

static int
on_operation(void *arg)
{
    (void)arg;
    point();
    return 0;
}

static void
on_call(enum vfs_call call)
{
    (void)call;
    point();
}

static void
connect_with_points(const char *journal)
{
    vfs_install();
    vfs_watch(on_call);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    sql_run(in_scratch("t.db"), "PRAGMA journal_mode = %s", journal);
    ck_assert_int_eq(
        sqlite3_open_v2(in_scratch("t.db"), &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL),
        SQLITE_OK);
}

static enum rota_error
by_step(void)
{
    sqlite3_stmt *s = prepare(db, "INSERT INTO t VALUES(1, 1), (2, 2)");
    struct rota_sqlite bound;
    enum rota_error error;

    rota_sqlite_bind(&bound, ctx, db);
    error = rota_sqlite_error(&bound, rota_sqlite_step(&bound, s));
    (void)sqlite3_finalize(s);
    rota_sqlite_unbind(&bound);
    return error;
}

static enum rota_error
by_exec(void)
{
    return rota_sqlite_exec(ctx, db,
                            "BEGIN; INSERT INTO t VALUES(1, 1);"
                            "INSERT INTO t VALUES(2, 2); COMMIT");
}

static enum rota_error
by_tx(void)
{
    return rota_sqlite_tx(ctx, db, insert_two, NULL);
}

static enum rota_error (*const ways[])(void) = {by_step, by_exec, by_tx};
static const char *const journals[] = {"WAL", "DELETE"};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

#define JOURNALS (sizeof(journals) / sizeof(journals[0]))

/* A write is stopped at its first point, at its second, and so on until it gets
 * through. What it says then is stopped_as. */
static void
stop_at_every_point(int variant, enum rota_error stopped_as)
{
    enum rota_error error;
    int stopped = 0;

    connect_with_points(journals[variant / (int)WAYS]);
    sqlite3_progress_handler(db, 1, on_operation, NULL);
    for (int at = 1; at == 1 || has_fired; at++) {
        ctx_end(ctx);
        ctx = ctx_with_cancel(NULL);
        countdown = 0;
        run("DELETE FROM t; PRAGMA cache_size = 0; PRAGMA shrink_memory");
        has_fired = false;
        countdown = at;
        error = ways[variant % (int)WAYS]();
        countdown = 0;
        ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
        ck_assert(error == ROTA_OK || (has_fired && error == stopped_as));
        ck_assert_int_eq(rows(), error == ROTA_OK ? 2 : 0);
        stopped += error != ROTA_OK;
    }
    /* an INSERT of one row never looks whether somebody interrupts it */
    ck_assert(stopped > 0 ||
              (is_foreign && ways[variant % (int)WAYS] == by_tx));
}

START_TEST(a_cancel_at_any_point_leaves_all_of_it_or_nothing_and_says_which)
{
    stop_at_every_point(_i, ROTA_CANCELED);
}
END_TEST

START_TEST(an_interrupt_of_somebody_elses_leaves_all_of_it_or_nothing_too)
{
    is_foreign = true;
    stop_at_every_point(_i, ROTA_STORE);
}
END_TEST

/* -- Races ---------------------------------------------------------------- */

/* Cancels one context after another, each at its time, and drops it. */
struct canceller {
    _Atomic(struct ctx *) ctx; /* NULL: none */
    _Atomic int64_t at;
    atomic_bool over;
};

static void *
cancel_in_time(void *arg)
{
    struct canceller *c = arg;
    struct ctx *next;

    while (!atomic_load(&c->over)) {
        next = atomic_load(&c->ctx);
        if (next == NULL) {
            (void)sched_yield();
            continue;
        }
        while (ctx_now() < atomic_load(&c->at))
            continue;
        (void)ctx_cancel(next);
        ctx_unref(next);
        atomic_store(&c->ctx, NULL);
    }
    return NULL;
}

struct racer {
    struct canceller canceller;
    int ops;
    unsigned seed;
    sqlite3 *db;
    sqlite3_stmt *insert, *select, *exists, *endless;
    int64_t key; /* of the row that is being made */
    int stopped, done, wrong, ghosts, lost_rows, left_open;
};

static enum rota_error
insert_key(sqlite3 *on, void *arg)
{
    struct racer *r = arg;
    int code;

    (void)on;
    (void)sqlite3_bind_int64(r->insert, 1, r->key);
    code = sqlite3_step(r->insert);
    (void)sqlite3_reset(r->insert);
    return code == SQLITE_DONE ? ROTA_OK : ROTA_STORE;
}

static enum rota_error
race_step(struct racer *r, struct ctx *each, sqlite3_stmt *s)
{
    struct rota_sqlite bound;
    enum rota_error error;
    int code;

    rota_sqlite_bind(&bound, each, r->db);
    do {
        code = rota_sqlite_step(&bound, s);
    } while (code == SQLITE_ROW);
    error = rota_sqlite_error(&bound, code);
    (void)sqlite3_reset(s);
    rota_sqlite_unbind(&bound);
    return error;
}

enum race_kind { RACE_INSERT, RACE_TX, RACE_SELECT, RACE_ENDLESS };

static enum rota_error
race_kind(struct racer *r, enum race_kind kind, struct ctx *each)
{
    switch (kind) {
    case RACE_INSERT:
        (void)sqlite3_bind_int64(r->insert, 1, r->key);
        return race_step(r, each, r->insert);
    case RACE_TX:
        return rota_sqlite_tx(each, r->db, insert_key, r);
    case RACE_SELECT:
        return race_step(r, each, r->select);
    case RACE_ENDLESS:
        return race_step(r, each, r->endless);
    }
    return ROTA_INVALID;
}

/* What was reported against what is there, with no context near. */
static void
race_judge(struct racer *r, enum race_kind kind, enum rota_error error,
           bool was_cancelled)
{
    bool is_there;

    r->left_open += !sqlite3_get_autocommit(r->db);
    r->done += error == ROTA_OK;
    r->stopped += error == ROTA_CANCELED;
    r->wrong += error != ROTA_OK && !(error == ROTA_CANCELED && was_cancelled);
    if (kind != RACE_INSERT && kind != RACE_TX)
        return;
    (void)sqlite3_bind_int64(r->exists, 1, r->key);
    is_there = sqlite3_step(r->exists) == SQLITE_ROW;
    (void)sqlite3_reset(r->exists);
    r->ghosts += is_there && error != ROTA_OK;
    r->lost_rows += !is_there && error == ROTA_OK;
}

static void
race_once(struct racer *r)
{
    enum race_kind kind = (enum race_kind)(rand_r(&r->seed) % 4);
    bool is_cancelled = kind == RACE_ENDLESS || rand_r(&r->seed) % 4 != 0;
    int64_t span = kind == RACE_ENDLESS ? ROTA_US(40) : ROTA_US(16);
    struct ctx *each = ctx_with_cancel(NULL);
    enum rota_error error;

    r->key++;
    if (kind == RACE_ENDLESS)
        AWAIT(atomic_load(&r->canceller.ctx) == NULL);
    /* otherwise it may be at work still on the one before */
    is_cancelled = is_cancelled && atomic_load(&r->canceller.ctx) == NULL;
    if (is_cancelled) {
        atomic_store(&r->canceller.at, ctx_now() + rand_r(&r->seed) % span);
        atomic_store(&r->canceller.ctx, ctx_ref(each));
    }
    error = race_kind(r, kind, each);
    race_judge(r, kind, error, is_cancelled);
    ctx_unref(each);
}

static void *
race(void *arg)
{
    struct racer *r = arg;
    pthread_t canceller;

    (void)sqlite3_exec(r->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
    r->insert = prepare(r->db, "INSERT INTO t VALUES(?1, 1)");
    r->select = prepare(r->db, "SELECT v FROM t WHERE k BETWEEN 1 AND 50");
    r->exists = prepare(r->db, "SELECT 1 FROM t WHERE k = ?1");
    r->endless = prepare(r->db, ENDLESS);
    canceller = thread_new(cancel_in_time, &r->canceller);
    for (int i = 0; i < r->ops; i++)
        race_once(r);
    AWAIT(atomic_load(&r->canceller.ctx) == NULL);
    atomic_store(&r->canceller.over, true);
    (void)thread_join(canceller);
    (void)sqlite3_finalize(r->insert);
    (void)sqlite3_finalize(r->select);
    (void)sqlite3_finalize(r->exists);
    (void)sqlite3_finalize(r->endless);
    ck_assert_int_eq(sqlite3_close(r->db), SQLITE_OK);
    return NULL;
}

#define RACERS 4

START_TEST(cancels_at_random_times_hit_no_other_and_report_what_is_true)
{
    int ops = number_from("ROTA_TEST_OPS", IS_SANITIZED ? 10000 : 40000);
    unsigned seed = (unsigned)number_from("ROTA_TEST_SEED", (int)time(NULL));
    struct racer racers[RACERS] = {{.ops = 0}};
    pthread_t threads[RACERS];

    (void)printf("ROTA_TEST_SEED=%u\n", seed);
    sql_run(in_scratch("race.db"), "PRAGMA journal_mode = WAL;"
                                   "CREATE TABLE t(k INTEGER PRIMARY KEY, v)");
    for (int i = 0; i < RACERS; i++) {
        racers[i].db = connect_to(in_scratch("race.db"));
        racers[i].ops = ops / RACERS;
        racers[i].key = i * INT64_C(1000000000);
        racers[i].seed = seed + (unsigned)i;
        threads[i] = thread_new(race, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        (void)thread_join(threads[i]);
        ck_assert_int_eq(racers[i].wrong, 0);
        ck_assert_int_eq(racers[i].ghosts, 0);
        ck_assert_int_eq(racers[i].lost_rows, 0);
        ck_assert_int_eq(racers[i].left_open, 0);
        ck_assert_int_gt(racers[i].stopped, 0);
        ck_assert_int_gt(racers[i].done, 0);
    }
}
END_TEST

/* Roll back by a call of ours, or by SQLite's own under the binding. */
static void
roll_back(struct rota_sqlite *bound, struct ctx *each, int way)
{
    sqlite3_stmt *s;

    if (way == 0) {
        s = prepare(db, "ROLLBACK");
        ck_assert_int_eq(rota_sqlite_step(bound, s), SQLITE_DONE);
        (void)sqlite3_finalize(s);
    } else if (way == 1) {
        ck_assert_int_eq(rota_sqlite_exec(each, db, "ROLLBACK"), ROTA_OK);
    } else {
        run("ROLLBACK");
    }
}

/* _i: the way, and what has been done in the transaction. */
START_TEST(no_interrupt_stops_a_rollback)
{
    static const char *const deeds[] = {"BEGIN", "BEGIN; DELETE FROM t",
                                        "SAVEPOINT s; SELECT * FROM t"};
    struct canceller canceller = {.over = false};
    pthread_t thread = thread_new(cancel_in_time, &canceller);

    for (int i = 0; i < MANY(20000); i++) {
        struct ctx *each = ctx_with_cancel(NULL);
        struct rota_sqlite bound;

        rota_sqlite_bind(&bound, each, db);
        run(deeds[_i / 3]);
        atomic_store(&canceller.at, ctx_now() + i % 4000);
        atomic_store(&canceller.ctx, ctx_ref(each));
        roll_back(&bound, each, _i % 3);
        ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
        AWAIT(atomic_load(&canceller.ctx) == NULL);
        rota_sqlite_unbind(&bound);
        ctx_unref(each);
    }
    atomic_store(&canceller.over, true);
    (void)thread_join(thread);
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(a_connection_may_be_closed_while_its_context_ends)
{
    struct canceller canceller = {.over = false};
    pthread_t thread = thread_new(cancel_in_time, &canceller);

    for (int i = 0; i < MANY(100000); i++) {
        struct ctx *each = ctx_with_cancel(NULL);
        sqlite3 *memory = connect_to(":memory:");
        struct rota_sqlite bound;

        atomic_store(&canceller.at, 0);
        atomic_store(&canceller.ctx, ctx_ref(each));
        rota_sqlite_bind(&bound, each, memory);
        rota_sqlite_unbind(&bound);
        ck_assert_int_eq(sqlite3_close(memory), SQLITE_OK);
        AWAIT(atomic_load(&canceller.ctx) == NULL);
        ctx_unref(each);
    }
    atomic_store(&canceller.over, true);
    (void)thread_join(thread);
}
END_TEST

static Suite *
interrupt_suite(void)
{
    Suite *suite = suite_create("interrupt");
    TCase *one = tcase_create("one"), *tx = tcase_create("tx"),
          *points = tcase_create("points"), *races = tcase_create("races");

    tcase_add_checked_fixture(one, setup, teardown);
    tcase_set_timeout(one, 30);
    tcase_add_loop_test(
        one, a_statement_that_would_run_for_hours_ends_and_leaves_nothing, 0,
        (int)(sizeof(long_statements) / sizeof(long_statements[0])));
    tcase_add_test(one, no_statement_starts_once_the_context_is_done);
    tcase_add_test(one, a_statement_of_sqlites_own_calls_ends_too);
    tcase_add_test(one,
                   a_row_that_was_returned_is_taken_back_when_the_context_ends);
    tcase_add_test(one, a_wait_for_a_lock_ends_with_the_context);
    tcase_add_test(one, rollback_works_under_a_context_that_is_done);
    tcase_add_test(one, an_interrupt_that_found_no_statement_stops_none_later);
    tcase_add_test(one, the_busy_timeout_is_there_again_afterwards);
    tcase_add_test(one, a_busy_timeout_that_cannot_be_read_is_left_as_it_is);
    tcase_add_test(one, the_innermost_binding_alone_counts);
    suite_add_tcase(suite, one);
    tcase_add_checked_fixture(tx, setup, teardown);
    tcase_set_timeout(tx, 60);
    tcase_add_test(tx, a_transaction_is_there_whole_or_not_at_all);
    tcase_add_test(tx, a_script_that_fails_takes_back_the_transaction_it_began);
    tcase_add_test(tx, a_commit_that_has_begun_is_never_called_cancelled);
    suite_add_tcase(suite, tx);
    tcase_add_checked_fixture(points, setup, teardown);
    tcase_set_timeout(points, 120);
    tcase_add_loop_test(
        points,
        a_cancel_at_any_point_leaves_all_of_it_or_nothing_and_says_which, 0,
        (int)(WAYS * JOURNALS));
    tcase_add_loop_test(
        points, an_interrupt_of_somebody_elses_leaves_all_of_it_or_nothing_too,
        0, (int)(WAYS * JOURNALS));
    suite_add_tcase(suite, points);
    tcase_add_checked_fixture(races, setup, teardown);
    tcase_set_timeout(races, 500);
    tcase_add_test(
        races, cancels_at_random_times_hit_no_other_and_report_what_is_true);
    tcase_add_loop_test(races, no_interrupt_stops_a_rollback, 0, 9);
    tcase_add_test(races, a_connection_may_be_closed_while_its_context_ends);
    suite_add_tcase(suite, races);
    return suite;
}

int
main(void)
{
    return suite_run(interrupt_suite());
}
