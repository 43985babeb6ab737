/*
 * SQL that a context can stop, against the same SQL bare:
 *
 *   a short query by its key      rota_sqlite_step() on a bound connection,
 *                                 against sqlite3_step()
 *   one that only computes        the same
 *   one statement, bound for it   rota_sqlite_exec(), against sqlite3_exec()
 *
 * and how long it takes from ctx_cancel() until the call has returned, for
 * statements of several kinds (p50 and p99 of many cancels, each at a random
 * time), and for one that waits for another connection's lock.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota/interrupt.h>

#include "base/base.h"
#include "bench.h"

#define ROWS 1000000

static sqlite3 *
open_file(const char *path)
{
    sqlite3 *db;

    if (sqlite3_open_v2(path, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        bench_fail("%s: %s", path, sqlite3_errmsg(db));
    return db;
}

static void
run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        bench_fail("%s: %s", sql, sqlite3_errmsg(db));
}

static sqlite3_stmt *
prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        bench_fail("%s: %s", sql, sqlite3_errmsg(db));
    return s;
}

/* -- Steps ---------------------------------------------------------------- */

struct steps {
    sqlite3 *db;
    const char *sql;
    struct ctx *ctx; /* NULL: bare */
    size_t n;
};

static void
run_bound(const struct steps *steps, sqlite3_stmt *s)
{
    struct rota_sqlite bound;

    rota_sqlite_bind(&bound, steps->ctx, steps->db);
    for (size_t i = 0; i < steps->n; i++) {
        (void)sqlite3_bind_int64(s, 1, (sqlite3_int64)(i * 7919 % ROWS));
        while (rota_sqlite_step(&bound, s) == SQLITE_ROW)
            continue;
        (void)sqlite3_reset(s);
    }
    rota_sqlite_unbind(&bound);
}

static void
run_bare(const struct steps *steps, sqlite3_stmt *s)
{
    for (size_t i = 0; i < steps->n; i++) {
        (void)sqlite3_bind_int64(s, 1, (sqlite3_int64)(i * 7919 % ROWS));
        while (sqlite3_step(s) == SQLITE_ROW)
            continue;
        (void)sqlite3_reset(s);
    }
}

static void
run_steps(void *arg, double *ret_figures)
{
    const struct steps *steps = arg;
    sqlite3_stmt *s = prepare(steps->db, steps->sql);
    int64_t start = ctx_now();

    if (steps->ctx != NULL)
        run_bound(steps, s);
    else
        run_bare(steps, s);
    ret_figures[0] = bench_each(start, steps->n);
    (void)sqlite3_finalize(s);
}

static void
run_execs(void *arg, double *ret_figures)
{
    const struct steps *steps = arg;
    int64_t start = ctx_now();

    for (size_t i = 0; i < steps->n; i++) {
        if (steps->ctx == NULL)
            run(steps->db, steps->sql);
        else if (rota_sqlite_exec(steps->ctx, steps->db, steps->sql) != ROTA_OK)
            bench_fail("%s", steps->sql);
    }
    ret_figures[0] = bench_each(start, steps->n);
}

static void
compare(const struct bench_options *options, const char *what,
        struct steps steps, bench_fn *fn, const char *target)
{
    struct steps bare = steps;
    struct contender all[] = {{fn, &steps, {0}}, {fn, &bare, {0}}};

    bare.ctx = NULL;
    bench_compete(all, 2, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_NS, what, all[0].median[0], "bare", all[1].median[0],
              target);
}

/* -- Cancels -------------------------------------------------------------- */

/* One cancel after another. The thread blocks in between: one that polled
 * would keep the core that the kernel wakes the cancelled thread on. */
struct cancel {
    sem_t wanted, served;
    struct ctx *ctx; /* NULL: no more. Published by the semaphore */
    int64_t after;
    int64_t _Atomic cancelled_at;
};

static void *
canceller(void *arg)
{
    struct cancel *c = arg;

    for (;;) {
        MUST(sem_wait(&c->wanted));
        if (c->ctx == NULL)
            return NULL;
        (void)ctx_sleep(ctx_background(), c->after);
        atomic_store(&c->cancelled_at, ctx_now());
        (void)ctx_cancel(c->ctx);
        ctx_unref(c->ctx);
        MUST(sem_post(&c->served));
    }
}

/* The time from the cancel to the return, n times: p50 and p99. */
static void
say_latency(const char *what, sqlite3 *db, const char *sql, size_t n)
{
    double *taken = bench_alloc(n * sizeof(*taken)), figures[2];
    struct cancel cancel = {.ctx = NULL};
    pthread_t thread;
    unsigned seed = 1;

    MUST(sem_init(&cancel.wanted, 0, 0));
    MUST(sem_init(&cancel.served, 0, 0));
    MUST(pthread_create(&thread, NULL, canceller, &cancel));
    for (size_t i = 0; i < n; i++) {
        struct ctx *ctx = ctx_with_cancel(NULL);

        cancel.after = ROTA_MS(1) + rand_r(&seed) % ROTA_MS(20);
        cancel.ctx = ctx_ref(ctx);
        MUST(sem_post(&cancel.wanted));
        if (rota_sqlite_exec(ctx, db, sql) != ROTA_CANCELED)
            bench_fail("%s: not cancelled", sql);
        taken[i] = (double)(ctx_now() - atomic_load(&cancel.cancelled_at));
        MUST(sem_wait(&cancel.served));
        ctx_end(ctx);
    }
    cancel.ctx = NULL;
    MUST(sem_post(&cancel.wanted));
    MUST(pthread_join(thread, NULL));
    bench_percentiles(taken, n, figures);
    (void)printf("cancel until the call is back, %s: p50 %.3f ms, p99 %.3f ms"
                 " of %zu (target p99 %s ms)\n",
                 what, figures[0] / 1e6, figures[1] / 1e6, n,
                 strstr(what, "lock") != NULL ? "5" : "20");
    free(taken);
}

static void
fill(sqlite3 *db)
{
    char sql[256];

    (void)snprintf(
        sql, sizeof(sql),
        "CREATE TABLE t(k INTEGER PRIMARY KEY, v, w);"
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1"
        " FROM n WHERE i < %d)"
        " INSERT INTO t SELECT i, i * 7919 %% 1000003, hex(i) FROM n",
        ROWS);
    run(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    run(db, sql);
}

static void
bench_latency(const struct bench_options *options, sqlite3 *db,
              const char *path)
{
    sqlite3 *other = open_file(path);
    size_t n = bench_size(options, 200);

    say_latency("a recursive CTE", db,
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                " FROM n) SELECT count(*) FROM n",
                n);
    say_latency("a join", db,
                "SELECT count(*) FROM t a, t b WHERE a.v + b.v = 7", n);
    say_latency("ORDER BY of a million rows", db,
                "SELECT * FROM t, (VALUES(1), (2), (3)) ORDER BY w", n);
    say_latency("count(*)", db,
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                " FROM n WHERE i < 100) SELECT (SELECT count(*) FROM t"
                " WHERE k > -i) FROM n",
                n);
    say_latency("CREATE INDEX", db, "CREATE INDEX x ON t(w, v)", n);
    say_latency("VACUUM", db, "VACUUM", n);
    say_latency("integrity_check", db, "PRAGMA integrity_check", n);
    run(other, "BEGIN IMMEDIATE");
    say_latency("a wait for another connection's lock", db,
                "UPDATE t SET v = 0 WHERE k = 1", n);
    run(other, "ROLLBACK");
    (void)sqlite3_close(other);
}

int
main(int argc, char **argv)
{
    struct bench_options options;
    struct ctx *ctx = ctx_with_cancel(NULL);
    char path[512];
    sqlite3 *db;

    bench_options(argc, argv, &options);
    (void)snprintf(path, sizeof(path), "%s/bench_interrupt.db",
                   options.dir == NULL ? "." : options.dir);
    (void)remove(path);
    db = open_file(path);
    fill(db);
    compare(&options, "rota_sqlite_step, a short query by its key",
            (struct steps){db, "SELECT v FROM t WHERE k = ?1", ctx,
                           bench_size(&options, 500000)},
            run_steps, "at most 1.1");
    compare(&options, "rota_sqlite_step, a query that only computes",
            (struct steps){db,
                           "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL"
                           " SELECT i + 1 FROM n WHERE i < 4000000)"
                           " SELECT count(*) FROM n",
                           ctx, 1},
            run_steps, "at most 1.01");
    compare(&options, "rota_sqlite_exec, one short statement",
            (struct steps){db, "SELECT v FROM t WHERE k = 7", ctx,
                           bench_size(&options, 100000)},
            run_execs, NULL);
    bench_latency(&options, db, path);
    (void)sqlite3_close(db);
    ctx_end(ctx);
    (void)remove(path);
    return 0;
}
