#define _GNU_SOURCE
#include "storm.h"

#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <rota.h>

#include "base/base.h"

static struct ledger *ledger;
static const char *path; /* the queue */
static int64_t me;       /* which process this is */
static unsigned seed;    /* the main thread's */
static struct rota *rota;

static unsigned
pick(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

/* -- The ledger ------------------------------------------------------------ */

int64_t
ledger_now(struct ledger *of)
{
    return atomic_fetch_add(&of->clock, 1) + 1;
}

/* Say that it is about to be called. n: how many it submits. */
static struct call *
call_begin(enum call_kind kind, int64_t id, int64_t n)
{
    int64_t slot = atomic_fetch_add(&ledger->n_calls, 1);
    struct call *call = &ledger->calls[slot];

    MUST_BE(slot < STORM_CALLS);
    call->kind = kind;
    call->id = id;
    call->n = n;
    return call;
}

/* It is; all is said that there is to say of it. */
static void
call_made(struct call *call)
{
    atomic_store(&call->begun, ledger_now(ledger));
}

static void
call_end(struct call *call, enum rota_error error, int answer)
{
    call->error = error;
    call->answer = answer;
    atomic_store(&call->ended, ledger_now(ledger));
}

/* A submit has come to this; id is of its first job. */
static void
submit_end(struct call *call, enum rota_error error, int64_t id)
{
    int64_t last = atomic_load(&ledger->last_id), mine = id + call->n - 1;

    call->id = id;
    call_end(call, error, 0);
    while (error == ROTA_OK && last < mine &&
           !atomic_compare_exchange_weak(&ledger->last_id, &last, mine))
        continue;
}

/* -- Jobs ------------------------------------------------------------------ */

/* What the args of a job say: its call's number, and its limit key's. */
struct args {
    char text[48];
};

static struct args
args_of(const struct call *call, unsigned key)
{
    struct args args;

    (void)snprintf(args.text, sizeof(args.text), "%td %u",
                   call - ledger->calls + 1, key);
    return args;
}

static enum rota_error
at_once(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    (void)ctx, (void)job, (void)run;
    return ROTA_OK;
}

/* Makes every other item durable. */
static enum rota_error
loop(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    enum rota_error error;

    for (int64_t i = rota_job_cursor(job); i < 6; i++) {
        if (ctx_done(ctx))
            return ctx_err(ctx);
        if (i % 2 == 0) {
            rota_job_advance(job, i + 1);
            continue;
        }
        error = rota_job_commit(job, i + 1);
        if (error != ROTA_OK)
            return error;
        atomic_store(&run->committed, i + 1);
    }
    return ROTA_OK;
}

static enum rota_error
comes_again(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    (void)ctx, (void)run;
    if (rota_job_cursor(job) > 0)
        return ROTA_OK;
    rota_job_advance(job, 1);
    return rota_job_snooze(job, 0);
}

static enum rota_error
fails_once(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    (void)ctx, (void)run;
    if (rota_job_cursor(job) > 0)
        return ROTA_OK;
    rota_job_advance(job, 1);
    return rota_job_fail(job, ROTA_FAILED, "the first time");
}

static enum rota_error
is_broken(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    (void)ctx, (void)run;
    return rota_job_fail(job, ROTA_FATAL, "broken");
}

static enum rota_error
has_child(struct ctx *ctx, struct rota_job *job, struct run *run)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT("at once");
    struct call *call = call_begin(CALL_SUBMIT, 0, 1);
    struct args args = args_of(call, 0);
    enum rota_error error;
    int64_t id = 0;

    (void)ctx, (void)run;
    call->tied = true;
    s.parent = rota_job_id(job);
    s.args = args.text;
    s.args_size = strlen(args.text);
    call_made(call);
    error = rota_submit(rota_job_rota(job), &s, &id);
    submit_end(call, error, id);
    return error;
}

static const struct kind {
    const char *name;
    enum rota_error (*fn)(struct ctx *ctx, struct rota_job *job,
                          struct run *run);
} kinds[] = {{"at once", at_once},         {"loop", loop},
             {"comes again", comes_again}, {"fails once", fails_once},
             {"is broken", is_broken},     {"has child", has_child}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Any kind, between its two entries. */
static enum rota_error
run_noted(struct ctx *ctx, struct rota_job *job)
{
    const struct kind *kind = rota_job_arg(job);
    int64_t slot = atomic_fetch_add(&ledger->n_runs, 1);
    struct run *run = &ledger->runs[slot];

    MUST_BE(slot < STORM_RUNS);
    run->job = rota_job_id(job);
    run->lease = rota_job_lease(job);
    run->process = me;
    run->cursor = rota_job_cursor(job);
    MUST_BE(sscanf(rota_job_args(job, NULL), "%*d %" SCNd64, &run->key) == 1);
    atomic_store(&run->begun, ledger_now(ledger));
    run->answer = kind->fn(ctx, job, run);
    atomic_store(&run->ended, ledger_now(ledger));
    return run->answer;
}

static bool
workers_start(void)
{
    struct rota_options options = ROTA_OPTIONS_INIT;
    bool ok;

    options.workers = 2;
    ok = rota_open(path, &options, &rota) == ROTA_OK;
    for (size_t i = 0; ok && i < KINDS; i++)
        ok = rota_handle(rota, kinds[i].name, run_noted, (void *)&kinds[i],
                         NULL) == ROTA_OK;
    return ok && rota_start(NULL, rota) == ROTA_OK;
}

/* -- What clients do ------------------------------------------------------- */

/* One of the latest jobs. */
static int64_t
pick_job(void)
{
    int64_t id = atomic_load(&ledger->last_id) - pick(100);

    return id < 1 ? 1 : id;
}

/* A job with one tie or another, or none. */
struct wish {
    struct args args;
    const char *kind, *queue, *limit_key, *unique_key;
    int64_t after; /* 0: none */
};

static struct wish
pick_wish(struct call *call)
{
    static const char *const limits[] = {NULL, "a", "b"};
    static const char *const uniques[] = {"u", "v", "w", "x", "y", "z"};
    unsigned key = pick(4) == 0 ? 1 + pick(STORM_KEYS) : 0;
    struct wish wish = {.args = args_of(call, key),
                        .kind = kinds[pick(KINDS)].name,
                        .queue = pick(4) == 0 ? "side" : NULL,
                        .limit_key = limits[key],
                        .unique_key = pick(8) == 0 ? uniques[pick(6)] : NULL};

    if (pick(6) == 0 && atomic_load(&ledger->last_id) > 0)
        wish.after = pick_job();
    call->tied |= wish.after != 0;
    return wish;
}

static struct rota_submission
submission_of(const struct wish *wish)
{
    struct rota_submission s = ROTA_SUBMISSION_INIT(wish->kind);

    s.args = wish->args.text;
    s.args_size = strlen(wish->args.text);
    s.queue = wish->queue;
    s.limit_key = wish->limit_key;
    s.unique_key = wish->unique_key;
    s.after = &wish->after;
    s.n_after = wish->after != 0;
    s.max_attempts = 3;
    return s;
}

static void
do_submit(int64_t n)
{
    struct call *call = call_begin(CALL_SUBMIT, 0, n);
    struct rota_submission all[16];
    struct wish wishes[16];
    enum rota_error error;
    int64_t ids[16];

    for (int64_t i = 0; i < n; i++) {
        wishes[i] = pick_wish(call);
        all[i] = submission_of(&wishes[i]);
    }
    call_made(call);
    error = n == 1 ? rota_submit(rota, &all[0], ids)
                   : rota_submit_many(rota, all, (size_t)n, ids);
    submit_end(call, error, ids[0]);
}

static void
do_cancel(void)
{
    struct call *call = call_begin(CALL_CANCEL, pick_job(), 0);
    enum rota_cancel_answer answer = ROTA_CANCEL_TOO_LATE;
    enum rota_error error;

    call_made(call);
    error = rota_cancel(rota, call->id, "the storm", &answer);
    call_end(call, error, (int)answer);
}

static void
do_retry(void)
{
    struct call *call = call_begin(CALL_RETRY, pick_job(), 0);

    call_made(call);
    call_end(call, rota_retry(rota, call->id, false), 0);
}

static void
do_wait(void)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(NULL, ROTA_MS(4));
    struct rota_outcome outcome = ROTA_OUTCOME_INIT;
    struct call *call = call_begin(CALL_WAIT, pick_job(), 0);
    enum rota_error error;

    call_made(call);
    error = rota_wait(ctx, rota, call->id, &outcome);
    call_end(call, error, (int)outcome.state);
}

/* What needs no entry: nothing is lost by it, whether it happens or not. */
static void
do_other(void)
{
    int64_t now = 0;

    switch (pick(3)) {
    case 0:
        (void)(pick(2) == 0 ? rota_pause(rota, "side")
                            : rota_resume(rota, "side"));
        break;
    case 1:
        (void)rota_limit_queue(rota, "side", pick(3));
        break;
    default:
        (void)rota_reschedule(rota, pick_job(), NULL, &now);
    }
}

static void
do_anything(void)
{
    unsigned n = pick(100);

    if (n < 40)
        do_submit(1);
    else if (n < 55)
        do_submit(2 + pick(15));
    else if (n < 70)
        do_cancel();
    else if (n < 80)
        do_retry();
    else if (n < 90)
        do_wait();
    else
        do_other();
}

/* -- The same in plain SQL ------------------------------------------------- */

static sqlite3 *shell;

/* Run sql, which it frees. What it returns is in *ret_id. On an error nothing
 * has happened. */
static enum rota_error
shell_do(char *sql, int64_t *ret_id)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(shell, sql, -1, &s, NULL);

    MUST_BE(sql != NULL && rc == SQLITE_OK);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        *ret_id = sqlite3_column_int64(s, 0);
    (void)sqlite3_finalize(s);
    sqlite3_free(sql);
    return rc == SQLITE_DONE ? ROTA_OK : ROTA_STORE;
}

static void
shell_submit(void)
{
    struct call *call = call_begin(CALL_SUBMIT, 0, 1);
    struct wish wish = pick_wish(call);
    enum rota_error error;
    int64_t id = 0;

    call_made(call);
    error = shell_do(
        sqlite3_mprintf(
            "INSERT INTO submit(kind, args, queue, limit_key, unique_key,"
            " max_attempts, after)"
            " VALUES(%Q, %Q, %Q, %Q, %Q, 3, nullif(%lld, 0)) RETURNING id",
            wish.kind, wish.args.text, wish.queue, wish.limit_key,
            wish.unique_key, (long long)wish.after),
        &id);
    submit_end(call, error, id);
}

/* table is the command that kind is. */
static void
shell_command(enum call_kind kind, const char *table)
{
    struct call *call = call_begin(kind, pick_job(), 0);
    int64_t none;

    call_made(call);
    call_end(call,
             shell_do(sqlite3_mprintf("INSERT INTO %s(job) VALUES(%lld)", table,
                                      (long long)call->id),
                      &none),
             0);
}

static void
shell_anything(void)
{
    unsigned n = pick(10);

    if (n < 7)
        shell_submit();
    else if (n < 9)
        shell_command(CALL_CANCEL_BLIND, "cancel");
    else
        shell_command(CALL_RETRY, "retry");
}

/* -- Roles ----------------------------------------------------------------- */

/* Wait until all the others are ready too. */
static void
meet(void)
{
    char byte;

    MUST_BE(write(STORM_BEGUN_FD, "", 1) == 1);
    MUST_BE(read(STORM_GO_FD, &byte, 1) == 1);
}

static bool
role_worker(void)
{
    if (!workers_start())
        return false;
    meet();
    for (;;)
        (void)pause();
}

static bool
role_client(void)
{
    if (rota_open(path, NULL, &rota) != ROTA_OK)
        return false;
    meet();
    for (;;)
        do_anything();
}

static bool
role_shell(void)
{
    if (sqlite3_open_v2(path, &shell, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        return false;
    (void)sqlite3_busy_timeout(shell, 20000);
    meet();
    for (;;)
        shell_anything();
}

static bool
count_take(void *arg, int n, const char *const *names,
           const struct rota_value *values)
{
    (void)n, (void)names;
    if (values != NULL)
        *(int64_t *)arg = values[0].integer;
    return true;
}

/* Run all there is to its end; what waits for its time need not. */
static bool
role_drain(void)
{
    const char *const rest = "SELECT count(*) FROM jobs"
                             " WHERE state IN ('scheduled', 'ready',"
                             " 'running')";
    int64_t left = 1, none;
    bool ok = sqlite3_open(path, &shell) == SQLITE_OK && workers_start();

    (void)rota_resume(rota, "side");
    (void)rota_limit_queue(rota, "side", 0);
    for (int i = 0; ok && left > 0 && i < 20; i++) {
        (void)shell_do(
            sqlite3_mprintf("INSERT INTO reschedule(job, run_at) SELECT id, 0"
                            " FROM jobs WHERE state = 'scheduled'"),
            &none);
        ok =
            rota_drain(NULL, rota) == ROTA_OK &&
            rota_query(NULL, rota, rest, NULL, 0, count_take, &left) == ROTA_OK;
    }
    return ok && left == 0 && rota_close(rota) == ROTA_OK;
}

int
storm_play(char *const *argv)
{
    static const struct {
        const char *name;
        bool (*play)(void);
    } roles[] = {{"--worker", role_worker},
                 {"--client", role_client},
                 {"--shell", role_shell},
                 {"--drain", role_drain}};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    path = argv[2];
    me = atoi(argv[3]);
    seed = (unsigned)atoi(argv[4]);
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED,
                  STORM_LEDGER_FD, 0);
    MUST_BE(ledger != MAP_FAILED);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(argv[1], roles[i].name) == 0 && roles[i].play())
            return EXIT_SUCCESS;
    (void)fprintf(stderr, "%s: %s\n", argv[1], rota_errmsg(NULL));
    return EXIT_FAILURE;
}
