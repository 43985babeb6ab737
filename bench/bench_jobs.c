/*
 * The queue, against what one would write first and against SQLite itself:
 *
 *   a job's whole life    floor:   one table, three autocommits a job
 *                         ceiling: one thread that writes rota's own tables,
 *                                  256 jobs a transaction, and nothing else
 *                         other queues: beanstalkd with its log, plainjob, and
 *                         graphile-worker on PostgreSQL
 *   rota_submit           an INSERT into the same tables and a COMMIT
 *   rota_job_advance      an inlined relaxed store
 *   a cancel until seen   a bare flag, polled by another core
 *
 * A whole life is: inserted, claimed, run, finished, and its history kept. The
 * job does nothing; its arguments are 64 bytes. NORMAL and FULL are SQLite's
 * synchronous. Rates are compared, since the slow ones do fewer jobs.
 */
#define _GNU_SOURCE
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <rota/ctx.h>
#include <rota/job.h>
#include <rota/scheduler.h>

#include "bench.h"
#include "queue.h"

/* -- A job's whole life --------------------------------------------------- */

struct life {
    bool is_full;
    size_t jobs;
};

static void
run_rota_lives(void *arg, double *ret_figures)
{
    const struct life *life = arg;
    struct rota *rota = queue_open(life->is_full);

    ret_figures[0] = lives_rate(rota, life->jobs);
    history_check(rota, life->jobs);
    (void)rota_close(rota);
}

/* The floor. Updates keep the size of the row, so that SQLite overwrites it. */
static const char floor_tables[] =
    "CREATE TABLE job(id INTEGER PRIMARY KEY, queue INTEGER, state INTEGER,"
    " prio INTEGER, run_at INTEGER, attempts INTEGER, created_at INTEGER,"
    " started_at INTEGER, finished_at INTEGER, payload BLOB, result BLOB);"
    "CREATE INDEX job_ready ON job(queue, prio, run_at) WHERE state = 2;";
static const char floor_insert[] =
    "INSERT INTO job VALUES(NULL, 1, 2, 0, ?1, 0, ?1, ?1, ?1, ?2, NULL)";
static const char floor_claim[] =
    "UPDATE job SET state = 3, attempts = 1, started_at = ?1 WHERE id IN"
    " (SELECT id FROM job WHERE queue = 1 AND state = 2 AND run_at <= ?1"
    "  ORDER BY prio, run_at, id LIMIT 1) RETURNING id, payload";
static const char floor_finish[] =
    "UPDATE job SET state = 4, finished_at = ?1 WHERE id = ?2";

static void
run_floor_lives(void *arg, double *ret_figures)
{
    const struct life *life = arg;
    sqlite3_stmt *insert, *claim, *finish;
    struct bare bare;
    int64_t start, now = 1700000000000;

    queue_clear();
    bare_open(&bare, life->is_full);
    bare_script(&bare, floor_tables);
    insert = bare_statement(&bare, floor_insert);
    claim = bare_statement(&bare, floor_claim);
    finish = bare_statement(&bare, floor_finish);
    (void)sqlite3_bind_text(insert, 2, queue_args, -1, SQLITE_STATIC);
    start = ctx_now();
    for (size_t i = 0; i < life->jobs; i++, now++) {
        (void)sqlite3_bind_int64(insert, 1, now);
        bare_run(insert);
        (void)sqlite3_bind_int64(claim, 1, now);
        if (sqlite3_step(claim) != SQLITE_ROW)
            bench_fail("a job got lost");
        (void)sqlite3_bind_int64(finish, 2, sqlite3_column_int64(claim, 0));
        (void)sqlite3_step(claim);
        (void)sqlite3_reset(claim);
        (void)sqlite3_bind_int64(finish, 1, now);
        bare_run(finish);
    }
    ret_figures[0] = bench_rate(start, life->jobs);
    bare_close(&bare);
}

static void
run_ceiling_lives(void *arg, double *ret_figures)
{
    const struct life *life = arg;
    size_t jobs = life->jobs / CHUNK * CHUNK;
    sqlite3_stmt *all[CEILINGS];
    struct bare bare;
    int64_t start, now = 1700000000000;

    bare_open_tables(&bare, life->is_full);
    ceiling_prepare(&bare, all);
    start = ctx_now();
    for (size_t first = 1; first <= jobs + CHUNK; first += CHUNK, now++) {
        bare_run(all[CEILING_BEGIN]);
        if (first > 1)
            ceiling_pair(&all[CEILING_DONE], first - CHUNK, CHUNK, now);
        if (first <= jobs) {
            ceiling_pair(&all[CEILING_JOB], first, CHUNK, now);
            ceiling_pair(&all[CEILING_UNREADY], first, CHUNK, now);
        }
        bare_run(all[CEILING_COMMIT]);
        bare_checkpoint(&bare);
    }
    ret_figures[0] = bench_rate(start, jobs);
    bare_close(&bare);
}

static void
bench_lives(const struct bench_options *options)
{
    struct life lives[] = {{false, bench_size(options, 100000)},
                           {true, bench_size(options, 100000)},
                           {false, bench_size(options, 5000)},
                           {true, bench_size(options, 500)}};
    struct contender all[] = {
        {run_rota_lives, &lives[0], {0}},
        {run_rota_lives, &lives[1], {0}},
        {run_floor_lives, &lives[2], {0}},
        {run_floor_lives, &lives[3], {0}},
        {run_ceiling_lives, &lives[0], {0}},
        {run_ceiling_lives, &lives[1], {0}},
    };
    static const char *const what[] = {"a job's whole life, NORMAL",
                                       "a job's whole life, FULL"};

    bench_compete(all, 6, bench_rounds(options, ROUNDS_CROWDED));
    for (int i = 0; i < 2; i++) {
        bench_say(BENCH_RATE, what[i], all[i].median[0],
                  "three autocommits a job", all[i + 2].median[0],
                  "at least 5");
        bench_say(BENCH_RATE, what[i], all[i].median[0],
                  "a bare loop over the same tables", all[i + 4].median[0],
                  "at least 0.5");
    }
}

/* -- The same, beside other queues ----------------------------------------- */

/* What peers are asked for, and whether rota beside them is FULL. Their whole
 * lives may be shorter than ours: two of them keep no history. */
static const struct rivalry {
    const char *measure, *what;
    bool is_full;
} rivalries[] = {
    {"lives", "a job's whole life, NORMAL", false},
    {"lives-tuned", "a job's whole life, NORMAL, the peer tuned", false},
    {"lives-full", "a job's whole life, FULL", true},
    {"lives-full-tuned", "a job's whole life, FULL, the peer tuned", true},
};
#define RIVALRIES (sizeof(rivalries) / sizeof(rivalries[0]))

static void
bench_rivals(const struct bench_options *options)
{
    static const struct bench_target targets[] = {{"beanstalkd", "at least 5"},
                                                  {"graphile", "at least 5"},
                                                  {"plainjob", "at least 10"},
                                                  {NULL, NULL}};
    size_t jobs = bench_size(options, 100000), n[RIVALRIES], all_n = 2;
    struct life lives[] = {{false, jobs}, {true, jobs}};
    struct contender all[2 + RIVALRIES * PEERS] = {
        {run_rota_lives, &lives[0], {0}}, {run_rota_lives, &lives[1], {0}}};
    const struct contender *rivals = all + 2;

    for (size_t i = 0; i < RIVALRIES; i++) {
        n[i] = bench_peers(options, rivalries[i].measure, jobs, all + all_n);
        all_n += n[i];
    }
    if (all_n == 2)
        return;
    bench_compete(all, all_n, bench_rounds(options, ROUNDS_CALM));
    for (size_t i = 0; i < RIVALRIES; rivals += n[i++])
        bench_say_peers(BENCH_RATE, rivalries[i].what,
                        all[rivalries[i].is_full].median[0], rivals, n[i], 0,
                        targets);
}

/* -- Submit --------------------------------------------------------------- */

static void
run_rota_submits(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    struct rota *rota = queue_open(true);
    struct rota_submission submission = submission_of("noop");
    int64_t start;

    must(rota_submit(rota, &submission, NULL), "rota_submit");
    start = ctx_now();
    for (size_t i = 0; i < n; i++)
        must(rota_submit(rota, &submission, NULL), "rota_submit");
    ret_figures[0] = bench_each(start, n);
    (void)rota_close(rota);
}

static void
run_bare_submits(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    sqlite3_stmt *all[CEILINGS];
    struct bare bare;
    int64_t start, now = 1700000000000;

    bare_open_tables(&bare, true);
    ceiling_prepare(&bare, all);
    start = ctx_now();
    for (size_t i = 1; i <= n; i++, now++) {
        bare_run(all[CEILING_BEGIN]);
        ceiling_pair(&all[CEILING_JOB], i, 1, now);
        bare_run(all[CEILING_COMMIT]);
        bare_checkpoint(&bare);
    }
    ret_figures[0] = bench_each(start, n);
    bare_close(&bare);
}

static void
bench_submits(const struct bench_options *options)
{
    size_t n = bench_size(options, 1000);
    struct contender all[] = {{run_rota_submits, &n, {0}},
                              {run_bare_submits, &n, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "rota_submit by one caller, FULL", all[0].median[0],
              "a bare INSERT and COMMIT", all[1].median[0], NULL);
}

/* -- Advance -------------------------------------------------------------- */

struct advance {
    size_t n;
    double ns;
};

static enum rota_error
advance_job(struct ctx *ctx, struct rota_job *job)
{
    struct advance *advance = rota_job_arg(job);
    int64_t start = ctx_now();

    (void)ctx;
    for (size_t i = 1; i <= advance->n; i++)
        rota_job_advance(job, (int64_t)i);
    advance->ns = bench_each(start, advance->n);
    return ROTA_OK;
}

static void
run_advances(void *arg, double *ret_figures)
{
    struct advance advance = {.n = *(const size_t *)arg};
    struct rota_submission submission = submission_of("advance");
    struct rota *rota = queue_open(false);

    queue_start(rota, "advance", advance_job, &advance);
    must(rota_run(NULL, rota, &submission, NULL), "rota_run");
    (void)rota_close(rota);
    ret_figures[0] = advance.ns;
}

static void
run_stores(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    int64_t *cursor = bench_alloc(sizeof(*cursor));
    int64_t start = ctx_now();

    for (size_t i = 1; i <= n; i++) {
        __asm__ volatile("" ::: "memory");
        __atomic_store_n(cursor, (int64_t)i, __ATOMIC_RELAXED);
    }
    ret_figures[0] = bench_each(start, n);
    free(cursor);
}

static void
bench_advances(const struct bench_options *options)
{
    size_t n = bench_size(options, 50000000);
    struct contender all[] = {{run_advances, &n, {0}}, {run_stores, &n, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_NS, "rota_job_advance", all[0].median[0],
              "an inlined relaxed store", all[1].median[0], NULL);
}

/* -- Cancel --------------------------------------------------------------- */

struct loop {
    atomic_bool polling;
    atomic_int_fast64_t seen_at;
};

static enum rota_error
loop_job(struct ctx *ctx, struct rota_job *job)
{
    struct loop *loop = rota_job_arg(job);

    atomic_store(&loop->polling, true);
    while (!ctx_done(ctx))
        continue;
    atomic_store(&loop->seen_at, ctx_now());
    return ctx_err(ctx);
}

/* Cancel a loop when most of what the submit set off has come to rest. */
static double
cancel_sample(struct rota *rota, struct loop *loop)
{
    struct rota_submission submission = submission_of("loop");
    int64_t start, id = 0;

    atomic_store(&loop->polling, false);
    must(rota_submit(rota, &submission, &id), "rota_submit");
    while (!atomic_load(&loop->polling))
        continue;
    bench_spin(ROTA_MS(1)); /* not a sleep: who sleeps may wake on the loop's
                             * core, and the loop then sees nothing */
    start = ctx_now();
    must(rota_cancel(rota, id, NULL, NULL), "rota_cancel");
    must(rota_wait(NULL, rota, id, NULL), "rota_wait");
    return (double)(atomic_load(&loop->seen_at) - start);
}

static void
run_cancels(void *arg, double *ret_figures)
{
    size_t n = *(const size_t *)arg;
    double *samples = bench_alloc(n * sizeof(*samples));
    struct rota *rota = queue_open(false);
    struct loop loop = {0};

    queue_start(rota, "loop", loop_job, &loop);
    for (size_t i = 0; i < n; i++)
        samples[i] = cancel_sample(rota, &loop);
    (void)rota_close(rota);
    bench_percentiles(samples, n, ret_figures);
    free(samples);
}

static void
run_flags(void *arg, double *ret_figures)
{
    bench_end_seen(&bench_bare_flag, *(const size_t *)arg, ret_figures);
}

static void
bench_cancels(const struct bench_options *options)
{
    size_t n = bench_size(options, 200);
    struct contender all[] = {{run_cancels, &n, {0}}, {run_flags, &n, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_NS, "rota_cancel until a running loop sees it, p50",
              all[0].median[0], "a bare flag", all[1].median[0], NULL);
    bench_say(BENCH_NS, "rota_cancel until a running loop sees it, p99",
              all[0].median[1], "a bare flag", all[1].median[1], NULL);
}

static const struct bench_part parts[] = {
    {"lives", bench_lives},     {"peers", bench_rivals},
    {"submits", bench_submits}, {"advances", bench_advances},
    {"cancels", bench_cancels}, {NULL, NULL},
};

int
main(int argc, char **argv)
{
    struct bench_options options;

    bench_options(argc, argv, &options);
    queue_folder(options.dir);
    bench_parts(&options, parts);
    return 0;
}
