/*
 * The queue under many hands and with much in it:
 *
 *   64 callers who wait    one caller; 64 threads in front of one bare writer
 *   rota_submit_many       the same rows by bare INSERTs, as many a transaction
 *   history, jobs for      the same whole lives in a file without them
 *     later, priorities
 *   a cancel, a start      the time until the job saw it, here and in another
 *                          process, with every worker busy or with all idle
 *   a foreign client       how long a plain INSERT waits while two processes
 *                          run jobs that do nothing, as fast as they can
 *   1,000,000 that wait    the memory of the process, against 1,000
 *
 * Jobs do nothing unless said otherwise; their arguments are 64 bytes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rota/ctx.h>
#include <rota/job.h>

#include "bench.h"
#include "queue.h"

#define CALLERS 64
#define MANY    1000 /* a call of rota_submit_many() */

static const int64_t long_ago = 1700000000000;

/* -- Callers who wait ------------------------------------------------------ */

/* What callers do, each n times; figure is how many a second all made. */
struct callers {
    int threads;
    size_t n; /* of all */
    void (*submit)(void *arg);
    void *arg;
};

static void *
caller(void *arg)
{
    const struct callers *callers = arg;

    for (size_t i = 0; i < callers->n / (size_t)callers->threads; i++)
        callers->submit(callers->arg);
    return NULL;
}

static double
callers_rate(const struct callers *callers)
{
    pthread_t threads[CALLERS];
    int64_t start = ctx_now();

    for (int i = 0; i < callers->threads; i++)
        if (pthread_create(&threads[i], NULL, caller, (void *)callers) != 0)
            bench_fail("no thread");
    for (int i = 0; i < callers->threads; i++)
        (void)pthread_join(threads[i], NULL);
    return bench_rate(start, callers->n);
}

static void
submit_one(void *arg)
{
    struct rota_submission submission = submission_of("noop");

    must(rota_submit(arg, &submission, NULL), "rota_submit");
}

static void
run_rota_callers(void *arg, double *ret_figures)
{
    struct callers callers = *(const struct callers *)arg;
    struct rota *rota = queue_open(true);

    submit_one(rota);
    callers.submit = submit_one;
    callers.arg = rota;
    ret_figures[0] = callers_rate(&callers);
    (void)rota_close(rota);
}

/* One writer; who comes while it commits is in the next transaction. */
struct writer {
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    size_t waiting;      /* callers of the transaction that is next */
    size_t begun, ended; /* transactions */
    bool over;
    struct bare bare;
    sqlite3_stmt *all[CEILINGS];
};

static void
ask_writer(void *arg)
{
    struct writer *writer = arg;
    size_t mine;

    (void)pthread_mutex_lock(&writer->lock);
    mine = writer->begun + 1;
    if (writer->waiting++ == 0)
        (void)pthread_cond_signal(&writer->asked);
    while (writer->ended < mine)
        (void)pthread_cond_wait(&writer->answered, &writer->lock);
    (void)pthread_mutex_unlock(&writer->lock);
}

static void *
write_rounds(void *arg)
{
    struct writer *writer = arg;
    size_t id = 1, n;

    (void)pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (writer->waiting == 0 && !writer->over)
            (void)pthread_cond_wait(&writer->asked, &writer->lock);
        if (writer->waiting == 0)
            break;
        n = writer->waiting;
        writer->waiting = 0;
        writer->begun++; /* who comes now is of the next */
        (void)pthread_mutex_unlock(&writer->lock);
        bare_run(writer->all[CEILING_BEGIN]);
        ceiling_pair(&writer->all[CEILING_JOB], id, n, long_ago + (int64_t)id);
        bare_run(writer->all[CEILING_COMMIT]);
        bare_checkpoint(&writer->bare);
        id += n;
        (void)pthread_mutex_lock(&writer->lock);
        writer->ended++;
        (void)pthread_cond_broadcast(&writer->answered);
    }
    (void)pthread_mutex_unlock(&writer->lock);
    return NULL;
}

static void
run_bare_callers(void *arg, double *ret_figures)
{
    struct callers callers = *(const struct callers *)arg;
    struct writer writer = {.lock = PTHREAD_MUTEX_INITIALIZER,
                            .asked = PTHREAD_COND_INITIALIZER,
                            .answered = PTHREAD_COND_INITIALIZER};
    pthread_t thread;

    bare_open_tables(&writer.bare, true);
    ceiling_prepare(&writer.bare, writer.all);
    if (pthread_create(&thread, NULL, write_rounds, &writer) != 0)
        bench_fail("no thread");
    callers.submit = ask_writer;
    callers.arg = &writer;
    ret_figures[0] = callers_rate(&callers);
    (void)pthread_mutex_lock(&writer.lock);
    writer.over = true;
    (void)pthread_cond_signal(&writer.asked);
    (void)pthread_mutex_unlock(&writer.lock);
    (void)pthread_join(thread, NULL);
    bare_close(&writer.bare);
}

static void
bench_callers(const struct bench_options *options)
{
    struct callers one = {.threads = 1, .n = bench_size(options, 2000)};
    struct callers many = {.threads = CALLERS,
                           .n = bench_size(options, 64000) / CALLERS * CALLERS};
    struct contender all[] = {{run_rota_callers, &many, {0}},
                              {run_rota_callers, &one, {0}},
                              {run_bare_callers, &many, {0}}};

    bench_compete(all, 3, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_RATE, "rota_submit by 64 callers, FULL", all[0].median[0],
              "one caller", all[1].median[0], "at least 10");
    bench_say(BENCH_RATE, "rota_submit by 64 callers, FULL", all[0].median[0],
              "64 threads and a bare writer", all[2].median[0], "at least 0.8");
}

/* -- Many in a call -------------------------------------------------------- */

static void
run_rota_many(void *arg, double *ret_figures)
{
    size_t calls = *(const size_t *)arg;
    struct rota_submission *many = bench_alloc(MANY * sizeof(*many));
    struct rota *rota = queue_open(true);
    int64_t start;

    for (size_t i = 0; i < MANY; i++)
        many[i] = submission_of("noop");
    start = ctx_now();
    for (size_t i = 0; i < calls; i++)
        must(rota_submit_many(rota, many, MANY, NULL), "rota_submit_many");
    ret_figures[0] = bench_rate(start, calls * MANY);
    (void)rota_close(rota);
    free(many);
}

static void
run_bare_many(void *arg, double *ret_figures)
{
    size_t calls = *(const size_t *)arg;
    sqlite3_stmt *all[CEILINGS];
    struct bare bare;
    int64_t start;

    bare_open_tables(&bare, true);
    ceiling_prepare(&bare, all);
    start = ctx_now();
    for (size_t i = 0; i < calls; i++) {
        bare_run(all[CEILING_BEGIN]);
        ceiling_pair(&all[CEILING_JOB], 1 + i * MANY, MANY,
                     long_ago + (int64_t)i);
        bare_run(all[CEILING_COMMIT]);
        bare_checkpoint(&bare);
    }
    ret_figures[0] = bench_rate(start, calls * MANY);
    bare_close(&bare);
}

static void
bench_many(const struct bench_options *options)
{
    size_t calls = bench_size(options, 200);
    struct contender all[] = {{run_rota_many, &calls, {0}},
                              {run_bare_many, &calls, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_RATE, "rota_submit_many, 1,000 a call, FULL",
              all[0].median[0], "bare INSERTs, 1,000 a COMMIT",
              all[1].median[0], "at least 0.6");
}

/* -- With much in the file ------------------------------------------------- */

/* What is in the file before. The same file serves all rounds of a contender,
 * so that 10,000,000 rows are written once. */
struct crowd {
    const char *sql; /* ?1 is how many; NULL: nothing */
    int64_t rows;
    size_t jobs;
    char kept[64]; /* the file's name in between, "": not made yet */
};

static void
kept_move(const char *from, const char *to)
{
    static const char *const parts[] = {"", "-wal", "-shm", "-lock"};
    char old[512], new[512];

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        (void)snprintf(old, sizeof(old), "%s%s", from, parts[i]);
        (void)snprintf(new, sizeof(new), "%s%s", to, parts[i]);
        (void)rename(old, new);
    }
}

static void
crowd_fill(const struct crowd *crowd)
{
    struct bare bare;
    sqlite3_stmt *fill;

    bare_open(&bare, false);
    bare_script(&bare, "INSERT INTO _kind(id, name) VALUES(1, 'noop');"
                       "INSERT INTO _queue(id, name) VALUES(1, 'default');"
                       "BEGIN IMMEDIATE");
    for (const char *sql = crowd->sql; sql != NULL && *sql != '\0';) {
        if (sqlite3_prepare_v2(bare.db, sql, -1, &fill, &sql) != SQLITE_OK)
            bench_fail("%s: %s", sql, sqlite3_errmsg(bare.db));
        (void)sqlite3_bind_int64(fill, 1, crowd->rows);
        bare_run(fill);
        (void)sqlite3_finalize(fill);
    }
    bare_script(&bare, "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    bare_close(&bare);
}

static struct rota *
crowd_open(struct crowd *crowd)
{
    static int crowds;
    const char *path = queue_path();

    if (crowd->kept[0] == '\0') {
        (void)rota_close(queue_reopen(true));
        crowd_fill(crowd);
        (void)snprintf(crowd->kept, sizeof(crowd->kept), "crowd%d.db",
                       ++crowds);
    } else {
        kept_move(crowd->kept, path);
    }
    return queue_reopen(true);
}

static void
crowd_close(struct crowd *crowd, struct rota *rota)
{
    (void)rota_close(rota);
    kept_move(queue_path(), crowd->kept);
}

static void
run_crowded_lives(void *arg, double *ret_figures)
{
    struct crowd *crowd = arg;
    struct rota *rota = crowd_open(crowd);

    ret_figures[0] = lives_rate(rota, crowd->jobs);
    crowd_close(crowd, rota);
}

#define NUMBERS                                                      \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n" \
    " WHERE i < ?1)"
#define JOBS(run_at)                                                         \
    NUMBERS " INSERT INTO _job SELECT i, 1, 1, NULL, 0, " run_at ", " run_at \
            ", 1700000000000, NULL, NULL, NULL, 0, 0, 0,"                    \
            " NULL, NULL, NULL, NULL, 0, printf('%064d', i) FROM n;"
#define COUNTER "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'submit'"

static const char history_sql[] = JOBS("1700000000000") NUMBERS
    " INSERT INTO _done SELECT i, 4, 1, 1, 1, 1700000000000, 1700000000000,"
    " 0, NULL, NULL, NULL, NULL, NULL FROM n;" COUNTER;
static const char later_sql[] = JOBS("90000000000000 + i") NUMBERS
    " INSERT INTO _scheduled SELECT 90000000000000 + i, i, 0 FROM n;" COUNTER;

static void
bench_crowds(const struct bench_options *options)
{
    size_t jobs = bench_size(options, 100000);
    struct crowd some = {history_sql, 10000, jobs, ""};
    struct crowd much = {history_sql, (int64_t)bench_size(options, 10000000),
                         jobs, ""};
    struct crowd later = {later_sql, (int64_t)bench_size(options, 100000), jobs,
                          ""};
    struct contender all[] = {{run_crowded_lives, &some, {0}},
                              {run_crowded_lives, &much, {0}},
                              {run_crowded_lives, &later, {0}}};

    queue_clear();
    bench_compete(all, 3, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_RATE, "a whole life among 10^7 rows of history, FULL",
              all[1].median[0], "among 10^4", all[0].median[0], "at least 0.8");
    bench_say(BENCH_RATE, "a whole life with 10^5 jobs for later, FULL",
              all[2].median[0], "without", all[0].median[0], "at least 0.8");
}

/* -- Priorities ------------------------------------------------------------ */

struct backlog {
    size_t jobs;
    int64_t priorities;
};

static void
run_backlog(void *arg, double *ret_figures)
{
    const struct backlog *backlog = arg;
    struct rota_submission *many = bench_alloc(MANY * sizeof(*many));
    struct rota *rota = queue_open(true);
    int64_t start;

    for (size_t i = 0; i < MANY; i++) {
        many[i] = submission_of("noop");
        many[i].priority = (int64_t)i % backlog->priorities;
    }
    for (size_t i = 0; i < backlog->jobs; i += MANY)
        must(rota_submit_many(rota, many, MANY, NULL), "rota_submit_many");
    start = ctx_now();
    queue_start(rota, "noop", do_nothing, NULL);
    must(rota_drain(NULL, rota), "rota_drain");
    ret_figures[0] = bench_rate(start, backlog->jobs);
    history_check(rota, backlog->jobs);
    (void)rota_close(rota);
    free(many);
}

static void
bench_priorities(const struct bench_options *options)
{
    size_t jobs = bench_size(options, 100000) / MANY * MANY;
    struct backlog ten = {jobs, 10}, one = {jobs, 1};
    struct contender all[] = {{run_backlog, &ten, {0}},
                              {run_backlog, &one, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CROWDED));
    bench_say(BENCH_RATE, "10^5 ready jobs of ten priorities drained, FULL",
              all[0].median[0], "of one priority", all[1].median[0],
              "at least 0.55");
}

/* -- Until it is seen ------------------------------------------------------ */

/* What a job in this process or in another writes, and where. */
static struct shared {
    _Atomic int64_t started_at, seen_at;
    atomic_bool ready; /* the other process has its workers */
} * shared;

static enum rota_error
note_start(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx;
    (void)job;
    atomic_store(&shared->started_at, ctx_now());
    return ROTA_OK;
}

static enum rota_error
note_end(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    atomic_store(&shared->started_at, ctx_now());
    while (!ctx_done(ctx))
        continue;
    atomic_store(&shared->seen_at, ctx_now());
    return ctx_err(ctx);
}

/* A worker that is busy, and lets others have the core now and then. */
static enum rota_error
be_busy(struct ctx *ctx, struct rota_job *job)
{
    (void)job;
    while (!ctx_done(ctx))
        bench_spin(ROTA_MS(1) / 20);
    return ctx_err(ctx);
}

static void
workers_start(struct rota *rota)
{
    must(rota_handle(rota, "start", note_start, NULL, NULL), "rota_handle");
    must(rota_handle(rota, "busy", be_busy, NULL, NULL), "rota_handle");
    queue_start(rota, "loop", note_end, NULL);
}

/* Workers in another process, until its parent ends it. */
static pid_t
workers_fork(void)
{
    pid_t pid = fork();

    if (pid < 0)
        bench_fail("no process");
    if (pid == 0) {
        struct rota *rota = queue_reopen(false);

        workers_start(rota);
        atomic_store(&shared->ready, true);
        for (;;)
            (void)pause();
    }
    while (!atomic_load(&shared->ready))
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    return pid;
}

struct latency {
    bool is_elsewhere; /* the workers are in another process */
    bool cancels;      /* until a cancel is seen; else until a job starts */
    size_t samples;
};

static double
cancel_sample(struct rota *rota)
{
    struct rota_submission submission = submission_of("loop");
    int64_t start, id = 0;

    atomic_store(&shared->started_at, 0);
    must(rota_submit(rota, &submission, &id), "rota_submit");
    while (atomic_load(&shared->started_at) == 0)
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    start = ctx_now();
    must(rota_cancel(rota, id, NULL, NULL), "rota_cancel");
    must(rota_wait(NULL, rota, id, NULL), "rota_wait");
    return (double)(atomic_load(&shared->seen_at) - start);
}

/* From the acknowledgement; a job may be quicker than that. */
static double
start_sample(struct rota *rota)
{
    struct rota_submission submission = submission_of("start");
    int64_t id = 0, acknowledged, late;

    (void)ctx_sleep(ctx_background(), ROTA_MS(2));
    atomic_store(&shared->started_at, 0);
    must(rota_submit(rota, &submission, &id), "rota_submit");
    acknowledged = ctx_now();
    must(rota_wait(NULL, rota, id, NULL), "rota_wait");
    late = atomic_load(&shared->started_at) - acknowledged;
    return late < 0 ? 0 : (double)late;
}

static void
run_latency(void *arg, double *ret_figures)
{
    const struct latency *latency = arg;
    struct rota_submission busy = submission_of("busy");
    double *samples = bench_alloc(latency->samples * sizeof(*samples));
    struct rota *rota;
    pid_t pid = 0;

    queue_clear();
    atomic_store(&shared->ready, false);
    if (latency->is_elsewhere)
        pid = workers_fork();
    rota = queue_reopen(false);
    if (!latency->is_elsewhere)
        workers_start(rota);
    if (latency->cancels)
        must(rota_submit(rota, &busy, NULL), "rota_submit");
    for (size_t i = 0; i < latency->samples; i++)
        samples[i] =
            latency->cancels ? cancel_sample(rota) : start_sample(rota);
    if (pid != 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    (void)rota_close(rota);
    bench_percentiles(samples, latency->samples, ret_figures);
    free(samples);
}

static void
bench_latencies(const struct bench_options *options)
{
    static const char *const what[] = {
        "rota_cancel until a running loop sees it, all workers busy",
        "an acknowledged submit until the job starts, all workers idle"};
    size_t n = bench_size(options, 200);

    for (int i = 0; i < 2; i++) {
        struct latency here = {false, i == 0, n}, there = {true, i == 0, n};
        struct contender all[] = {{run_latency, &there, {0}},
                                  {run_latency, &here, {0}}};

        bench_compete(all, 2, bench_rounds(options, ROUNDS_CROWDED));
        printf("%s, p50 and p99: here %.3f and %.3f ms (target p99 1 ms), in "
               "another process %.3f and %.3f ms (target p99 10 ms)\n",
               what[i], all[1].median[0] / 1e6, all[1].median[1] / 1e6,
               all[0].median[0] / 1e6, all[0].median[1] / 1e6);
    }
}

/* -- A foreign client ------------------------------------------------------ */

static atomic_bool enough;

/* Keeps some hundreds of jobs waiting. */
static void *
keep_full(void *arg)
{
    struct rota_submission chunk[CHUNK];

    for (size_t i = 0; i < CHUNK; i++)
        chunk[i] = submission_of("noop");
    while (!atomic_load(&enough))
        must(rota_submit_many(arg, chunk, CHUNK, NULL), "rota_submit_many");
    return NULL;
}

/* In another process: opens the file for each INSERT, as a shell does, and
 * waits for the lock as SQLite does, up to 5 s. */
static void
foreign_client(double *samples, size_t n)
{
    while (!atomic_load(&shared->ready))
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    for (size_t i = 0; i < n; i++) {
        int64_t start = ctx_now();
        sqlite3 *db;

        if (sqlite3_open(queue_path(), &db) != SQLITE_OK)
            bench_fail("%s cannot be opened", queue_path());
        (void)sqlite3_busy_timeout(db, 5000);
        if (sqlite3_exec(db, "INSERT INTO submit(kind) VALUES('noop')", NULL,
                         NULL, NULL) != SQLITE_OK)
            bench_fail("a client: %s", sqlite3_errmsg(db));
        (void)sqlite3_close(db);
        samples[i] = (double)(ctx_now() - start);
        (void)ctx_sleep(ctx_background(), ROTA_MS(5));
    }
}

struct foreign {
    size_t clients, n;
    double *samples; /* shared with the clients */
};

/* Another process that works on the same queue, until its parent ends it. */
static pid_t
second_worker_fork(void)
{
    pid_t pid = fork();
    struct rota *rota;

    if (pid < 0)
        bench_fail("no process");
    if (pid > 0)
        return pid;
    while (!atomic_load(&shared->ready))
        (void)ctx_sleep(ctx_background(), ROTA_MS(1));
    rota = queue_reopen(false);
    queue_start(rota, "noop", do_nothing, NULL);
    for (;;)
        (void)pause();
}

/* p50 and p99 of the clients' INSERTs. */
static void
run_foreign(void *arg, double *ret_figures)
{
    const struct foreign *foreign = arg;
    pid_t pids[8], second;
    struct rota *rota;
    pthread_t thread;
    int status;

    queue_clear();
    atomic_store(&shared->ready, false);
    second = second_worker_fork();
    for (size_t i = 0; i < foreign->clients; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            bench_fail("no process");
        if (pids[i] == 0) {
            foreign_client(foreign->samples + i * foreign->n, foreign->n);
            _exit(0);
        }
    }
    rota = queue_open(false);
    atomic_store(&enough, false);
    queue_start(rota, "noop", do_nothing, NULL);
    if (pthread_create(&thread, NULL, keep_full, rota) != 0)
        bench_fail("no thread");
    (void)ctx_sleep(ctx_background(), ROTA_MS(100));
    atomic_store(&shared->ready, true);
    for (size_t i = 0; i < foreign->clients; i++)
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
            bench_fail("a client failed");
    (void)kill(second, SIGKILL);
    (void)waitpid(second, NULL, 0);
    atomic_store(&enough, true);
    (void)pthread_join(thread, NULL);
    (void)rota_stop(rota, 0);
    (void)rota_close(rota);
    bench_percentiles(foreign->samples, foreign->clients * foreign->n,
                      ret_figures);
}

static void
bench_foreign(const struct bench_options *options)
{
    struct foreign foreign = {.clients = 2, .n = bench_size(options, 200)};
    struct contender all[] = {{run_foreign, &foreign, {0}}};

    foreign.samples =
        mmap(NULL, foreign.clients * foreign.n * sizeof(double),
             PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (foreign.samples == MAP_FAILED)
        bench_fail("no memory that is shared");
    bench_compete(all, 1, bench_rounds(options, ROUNDS_CALM));
    printf("a shell that opens the file and inserts, two at a time, while two "
           "processes work at full speed: p50 %.2f ms, p99 %.2f ms (target p99 "
           "100 ms)\n",
           all[0].median[0] / 1e6, all[0].median[1] / 1e6);
}

/* -- Memory and writes ----------------------------------------------------- */

/* This process's resident memory in bytes, as the kernel says. */
static double
resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;

    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
        bench_fail("/proc/self/statm cannot be read");
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static const char waiting_sql[] = JOBS("1700000000000 + i") NUMBERS
    " INSERT INTO _ready SELECT 1, 1, 1700000000000 + i, i FROM n;" COUNTER;

/* In a process of its own, after it has run a thousand of those that wait. */
static void
run_memory(void *arg, double *ret_figures)
{
    struct crowd crowd = {waiting_sql, *(const int64_t *)arg, 0, ""};
    double figure = 0;
    int channel[2];
    pid_t pid;

    queue_clear();
    (void)rota_close(queue_reopen(true));
    crowd_fill(&crowd);
    if (pipe(channel) != 0 || (pid = fork()) < 0)
        bench_fail("no process");
    if (pid == 0) {
        struct rota *rota = queue_reopen(false);

        queue_start(rota, "noop", do_nothing, NULL);
        while (queue_number(rota, "SELECT count(*) FROM _done") < 900)
            (void)ctx_sleep(ctx_background(), ROTA_MS(1));
        figure = resident();
        (void)!write(channel[1], &figure, sizeof(figure));
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    if (read(channel[0], &figure, sizeof(figure)) != (ssize_t)sizeof(figure))
        bench_fail("the process that was measured died");
    (void)close(channel[0]);
    (void)close(channel[1]);
    ret_figures[0] = figure;
}

static void
bench_memory(const struct bench_options *options)
{
    int64_t many = (int64_t)bench_size(options, 1000000), few = 1000;
    struct contender all[] = {{run_memory, &many, {0}},
                              {run_memory, &few, {0}}};

    bench_compete(all, 2, bench_rounds(options, ROUNDS_CALM));
    bench_say(BENCH_BYTES, "memory with 10^6 jobs waiting", all[0].median[0],
              "with 10^3", all[1].median[0], "flat");
}

/* A million advances a second, for as many seconds as arg says. */
static enum rota_error
advance_on(struct ctx *ctx, struct rota_job *job)
{
    int64_t seconds = *(const int64_t *)rota_job_arg(job), cursor = 0;
    int64_t start = ctx_now();

    (void)ctx;
    while (ctx_now() - start < ROTA_SEC(seconds)) {
        for (int i = 0; i < 100; i++)
            rota_job_advance(job, ++cursor);
        bench_spin(ROTA_MS(1) / 10);
    }
    return ROTA_OK;
}

static void
bench_writes(const struct bench_options *options)
{
    int64_t seconds = options->quick ? 1 : 3;
    struct rota_submission submission = submission_of("advance");
    struct rota *rota = queue_open(false);
    struct bare bare;
    sqlite3_stmt *version;
    int64_t id = 0, last = 0, writes = 0;
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;

    bare_open(&bare, false);
    version = bare_statement(&bare, "PRAGMA data_version");
    queue_start(rota, "advance", advance_on, &seconds);
    must(rota_submit(rota, &submission, &id), "rota_submit");
    while (rota_wait(ctx_background(), rota, -1, NULL) == ROTA_NOTFOUND) {
        int64_t now;

        if (sqlite3_step(version) != SQLITE_ROW)
            bench_fail("data_version: %s", sqlite3_errmsg(bare.db));
        now = sqlite3_column_int64(version, 0);
        (void)sqlite3_reset(version);
        writes += now != last;
        last = now;
        (void)ctx_sleep(ctx_background(), ROTA_MS(2));
        if (queue_number(rota, "SELECT count(*) FROM _done") > 0)
            break;
    }
    must(rota_wait(NULL, rota, id, &outcome), "rota_wait");
    bare_close(&bare);
    (void)rota_close(rota);
    printf("a job that advances %.1f million times a second writes the file "
           "%.1f times a second (target at most 10)\n",
           (double)outcome.cursor / 1e6 / (double)seconds,
           (double)writes / (double)seconds);
}

/* those that fork before those whose threads a fork would miss */
static const struct bench_part parts[] = {
    {"memory", bench_memory},
    {"foreign", bench_foreign},
    {"latency", bench_latencies},
    {"callers", bench_callers},
    {"many", bench_many},
    {"priorities", bench_priorities},
    {"writes", bench_writes},
    {"crowds", bench_crowds},
    {NULL, NULL},
};

int
main(int argc, char **argv)
{
    struct bench_options options;

    bench_options(argc, argv, &options);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bench_fail("no memory that is shared");
    queue_folder(options.dir);
    bench_parts(&options, parts);
    return 0;
}
