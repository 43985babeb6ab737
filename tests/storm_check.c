/*
 * The file against the ledger. The ledger's processes are dead, the main thread
 * looks.
 */
#define _GNU_SOURCE
#include <check.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rota.h>

#include "scratch.h"
#include "storm.h"

#define NEVER INT64_MAX

/* -- The file -------------------------------------------------------------- */

/* What the file and the ledger say of a job. */
struct job {
    int64_t call;  /* that submitted it */
    int64_t lease; /* never less than it was */
    int places, state;
    int64_t retried, cancelled; /* the latest time when it may have been */
    int64_t barred;             /* no run begins after that */
    int64_t told;               /* and one at most after this */
    int64_t runs_told;          /* how many have */
    const struct run *last;     /* of its runs */
};
static struct job *jobs;

/* What a call has submitted, as the file has it. */
struct made {
    int64_t n, first;
};
static struct made *made;

static void
job_forget(struct job *job)
{
    *job = (struct job){
        .lease = job->lease, .barred = NEVER, .told = NEVER, .state = -1};
}

/* A row: id, what its args begin with, where it stands, lease. */
static void
job_look(sqlite3_stmt *row)
{
    int64_t id = sqlite3_column_int64(row, 0);
    int64_t call = sqlite3_column_int64(row, 1);
    int64_t lease = sqlite3_column_int64(row, 3);
    struct job *job = &jobs[id];

    HOLDS(id > 0 && id <= storm.jobs, "a place without a job: %" PRId64, id);
    HOLDS(call > 0 && call <= STORM_CALLS &&
              storm.ledger->calls[call - 1].begun > 0,
          "nobody has submitted job %" PRId64, id);
    HOLDS(++job->places == 1, "job %" PRId64 " stands in two places", id);
    HOLDS(lease >= job->lease, "job %" PRId64 ": its lease has fallen", id);
    job->call = call - 1;
    job->state = sqlite3_column_int(row, 2);
    job->lease = lease;
    if (made[job->call].n++ == 0 || id < made[job->call].first)
        made[job->call].first = id;
}

static void
file_look(void)
{
    const char *const places =
        "SELECT j.id, CAST(j.args AS INTEGER), p.state,"
        " COALESCE(p.lease, j.lease) FROM ("
        "SELECT id, 2 AS state, NULL AS lease FROM _ready UNION ALL"
        " SELECT id, 2, NULL FROM _held UNION ALL"
        " SELECT id, 1, NULL FROM _scheduled UNION ALL"
        " SELECT id, 0, NULL FROM _blocked UNION ALL"
        " SELECT id, 3, lease FROM _running UNION ALL"
        " SELECT id, state, lease FROM _done) p LEFT JOIN _job j USING(id)";
    int64_t before = storm.jobs, n = 0;
    sqlite3_stmt *s;
    sqlite3 *db;

    storm.jobs = sql_int(storm.queue, "SELECT max(id) FROM _job");
    jobs = realloc(jobs, (size_t)(storm.jobs + 1) * sizeof(*jobs));
    ck_assert_ptr_nonnull(jobs);
    for (int64_t i = 0; i <= storm.jobs; i++) {
        if (i > before)
            jobs[i].lease = 0;
        job_forget(&jobs[i]);
    }
    if (made == NULL)
        made = calloc(STORM_CALLS, sizeof(*made));
    ck_assert_ptr_nonnull(made);
    memset(made, 0, (size_t)storm.ledger->n_calls * sizeof(*made));
    ck_assert_int_eq(sqlite3_open(storm.queue, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, places, -1, &s, NULL), SQLITE_OK);
    for (; sqlite3_step(s) == SQLITE_ROW; n++)
        job_look(s);
    ck_assert_int_eq(sqlite3_finalize(s), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    HOLDS(n == sql_int(storm.queue, "SELECT count(*) FROM _job"),
          "%" PRId64 " jobs stand somewhere", n);
}

/* -- Calls ----------------------------------------------------------------- */

#define EACH_CALL(call)                                              \
    for (const struct call *call = storm.ledger->calls;              \
         call < storm.ledger->calls + storm.ledger->n_calls; call++) \
        if (call->begun != 0)

static bool
is_acknowledged(const struct call *call)
{
    return call->ended != 0 && call->error == ROTA_OK;
}

/* When it is over whatever it does. Of one in flight nobody knows. */
static int64_t
end_of(const struct call *call)
{
    return call->ended == 0         ? NEVER
           : call->error == ROTA_OK ? call->ended
                                    : 0; /* it has done nothing */
}

/* What was acknowledged is there, what was refused is not, and of what nobody
 * was told either all is or nothing. */
static void
check_submits(void)
{
    storm.acknowledged = 0;
    EACH_CALL(call)
    {
        const struct made *m = &made[call - storm.ledger->calls];

        if (call->kind != CALL_SUBMIT)
            continue;
        HOLDS(m->n == call->n || (m->n == 0 && !is_acknowledged(call)),
              "%" PRId64 " of %" PRId64 " jobs are there, from %" PRId64
              " on: %s",
              m->n, call->n, call->id, rota_strerror(call->error));
        HOLDS(m->n == 0 || call->ended == 0 || call->error == ROTA_OK,
              "a submit that was refused has made job %" PRId64, m->first);
        HOLDS(!is_acknowledged(call) || m->first == call->id,
              "job %" PRId64 " is not that job", call->id);
        storm.acknowledged += is_acknowledged(call) ? call->n : 0;
    }
}

static void
later(int64_t *time, int64_t than)
{
    if (*time < than)
        *time = than;
}

static void
earlier(int64_t *time, int64_t than)
{
    if (*time > than)
        *time = than;
}

/* Whether job id has a parent, or comes after another: what becomes of that one
 * may cancel it, and bring it back. */
static bool
is_tied(int64_t id)
{
    return storm.ledger->calls[jobs[id].call].tied;
}

static void
note_calls(void)
{
    EACH_CALL(call)
    {
        if (call->id < 1 || call->id > storm.jobs)
            continue;
        if (call->kind == CALL_RETRY)
            later(&jobs[call->id].retried, end_of(call));
        if (call->kind == CALL_CANCEL || call->kind == CALL_CANCEL_BLIND)
            later(&jobs[call->id].cancelled, end_of(call));
    }
}

static void
check_cancel(const struct call *call)
{
    struct job *job = &jobs[call->id];

    if (job->retried > call->begun)
        return;
    if (call->kind == CALL_CANCEL_BLIND) {
        if (!is_tied(call->id))
            earlier(&job->told, call->ended);
    } else if (call->answer == ROTA_CANCEL_DONE) {
        earlier(&job->barred, call->ended);
        HOLDS(job->state == ROTA_CANCELLED,
              "job %" PRId64 " was cancelled, and is %s", call->id,
              rota_state_name((enum rota_state)job->state));
    } else if (call->answer != ROTA_CANCEL_TOO_LATE) {
        earlier(&job->told, call->ended);
    }
}

/* What was acknowledged goes for as long as nobody asks for a retry. */
static void
check_answers(void)
{
    note_calls();
    EACH_CALL(call)
    {
        if (!is_acknowledged(call) || call->kind == CALL_SUBMIT)
            continue;
        HOLDS(call->id <= storm.jobs, "an answer about job %" PRId64, call->id);
        if (call->kind == CALL_CANCEL || call->kind == CALL_CANCEL_BLIND)
            check_cancel(call);
        if (call->kind != CALL_WAIT || is_tied(call->id) ||
            jobs[call->id].retried > call->begun)
            continue;
        HOLDS(jobs[call->id].state == call->answer,
              "job %" PRId64 " had come to %s, and is %s", call->id,
              rota_state_name((enum rota_state)call->answer),
              rota_state_name((enum rota_state)jobs[call->id].state));
    }
}

/* -- Runs ------------------------------------------------------------------ */

/* A time before its end. */
static int64_t
run_end(const struct run *run)
{
    return run->ended != 0 ? run->ended : storm.ledger->killed[run->process];
}

/* before is the last run that began before it; NULL: there was none. */
static void
check_order(const struct run *run, const struct run *before, const char *what)
{
    HOLDS(before == NULL ||
              (run_end(before) != 0 && run_end(before) < run->begun),
          "two runs at once of one %s: job %" PRId64 ", lease %" PRId64
          ", and job %" PRId64 ", lease %" PRId64,
          what, before->job, before->lease, run->job, run->lease);
}

static void
check_run(const struct run *run)
{
    struct job *job = &jobs[run->job];

    HOLDS(run->job <= storm.jobs && run->lease <= job->lease,
          "a run of job %" PRId64 " that the file knows nothing of", run->job);
    check_order(run, job->last, "job");
    HOLDS(job->last == NULL || job->last->lease < run->lease,
          "job %" PRId64 ": lease %" PRId64 " twice", run->job, run->lease);
    HOLDS(job->last == NULL || job->last->committed <= run->cursor,
          "job %" PRId64 ": lease %" PRId64 " has lost its cursor", run->job,
          run->lease);
    HOLDS(run->answer != ROTA_LOST, "job %" PRId64 " was lost", run->job);
    HOLDS(run->begun < job->barred, "job %" PRId64 " ran after its cancel",
          run->job);
    job->runs_told += run->begun > job->told;
    HOLDS(job->runs_told <= 1, "job %" PRId64 " ran again after its cancel",
          run->job);
    job->last = run;
}

/* In the order of the ledger, which is that of the leases. */
static void
check_runs(void)
{
    const struct run *last[STORM_KEYS + 1] = {NULL};

    storm.runs = 0;
    for (const struct run *run = storm.ledger->runs;
         run < storm.ledger->runs + storm.ledger->n_runs; run++) {
        if (run->begun == 0)
            continue;
        check_run(run);
        if (run->key > 0)
            check_order(run, last[run->key], "key");
        last[run->key] = run;
        storm.runs++;
    }
    for (int64_t id = 1; id <= storm.jobs; id++)
        HOLDS(jobs[id].state != ROTA_SUCCEEDED ||
                  (jobs[id].last != NULL &&
                   jobs[id].last->lease == jobs[id].lease &&
                   jobs[id].last->answer == ROTA_OK),
              "job %" PRId64 " has not succeeded", id);
}

/* -- All together -----------------------------------------------------------
 */

static void
check_file(void)
{
    HOLDS(sql_int(storm.queue, "SELECT (SELECT count(*) FROM jobs)"
                               " - (SELECT count(*) FROM _job)") == 0,
          "%s", "jobs are missing in the view");
    HOLDS(sql_int(storm.queue,
                  "SELECT count(*) - count(DISTINCT job || '.' || lease)"
                  " FROM attempts") == 0,
          "%s", "a run is there twice");
    HOLDS(sql_int(storm.queue,
                  "SELECT count(*) FROM (SELECT unique_key, id FROM jobs WHERE"
                  " unique_key IS NOT NULL AND state IN ('blocked',"
                  " 'scheduled', 'ready', 'running') EXCEPT SELECT * FROM"
                  " unique_keys)") == 0,
          "%s", "a unique key is not its job's");
    HOLDS(sql_int(storm.queue,
                  "SELECT count(*) FROM unique_keys u WHERE NOT EXISTS"
                  " (SELECT 1 FROM jobs j WHERE j.id = u.job"
                  "  AND j.unique_key = u.unique_key AND j.state IN"
                  "  ('blocked', 'scheduled', 'ready', 'running'))") == 0,
          "%s", "a unique key is kept for nobody");
}

void
storm_check(bool closely)
{
    HOLDS(strcmp(sql_text(storm.queue, closely ? "PRAGMA integrity_check"
                                               : "PRAGMA quick_check"),
                 "ok") == 0,
          "%s", "the file is damaged");
    file_look();
    check_submits();
    check_answers();
    check_runs();
    if (closely)
        check_file();
}

/* Whoever was skipped, and then retried, waits for a retry of the other. */
static void
check_blocked(void)
{
    char *waits;

    HOLDS(sql_int(storm.queue,
                  "SELECT count(*) FROM jobs j JOIN dependencies d"
                  " ON d.job = j.id JOIN jobs p ON p.id = d.waits_for"
                  " WHERE j.state = 'blocked'"
                  " AND (d.met OR p.state = 'succeeded')") == 0,
          "%s", "a job is blocked by none");
    waits = (char *)sql_text(storm.queue,
                             "SELECT group_concat(j.id, ' ') FROM jobs j"
                             " JOIN dependencies d ON d.job = j.id"
                             " JOIN jobs p ON p.id = d.waits_for WHERE"
                             " j.state = 'blocked' AND p.state <> 'blocked'");
    for (int64_t id; (id = strtoll(waits, &waits, 10)) != 0;)
        HOLDS(jobs[id].retried != 0, "job %" PRId64 " is not skipped", id);
}

void
storm_check_ends(void)
{
    for (int64_t id = 1; id <= storm.jobs; id++)
        HOLDS((jobs[id].state >= ROTA_SUCCEEDED ||
               jobs[id].state == ROTA_BLOCKED) &&
                  (jobs[id].state != ROTA_CANCELLED || is_tied(id) ||
                   jobs[id].cancelled != 0),
              "job %" PRId64 " is %s", id,
              rota_state_name((enum rota_state)jobs[id].state));
    EACH_CALL(call)
    if (call->kind == CALL_RETRY && is_acknowledged(call))
        HOLDS(is_tied(call->id) || jobs[call->id].cancelled > call->begun ||
                  (jobs[call->id].last != NULL &&
                   jobs[call->id].last->begun > call->begun),
              "job %" PRId64 " was retried, and did not run", call->id);
    HOLDS(sql_int(storm.queue,
                  "SELECT count(*) FROM jobs j WHERE state = 'failed'"
                  " AND NOT (kind = 'is broken' AND cause = 'broken')"
                  " AND NOT (cause GLOB 'poison:*' AND 2 <= (SELECT count(*)"
                  "  FROM attempts a WHERE a.job = j.id"
                  "  AND a.outcome = 'crashed'))") == 0,
          "%s", "a job has failed that had no reason to");
    check_blocked();
}
