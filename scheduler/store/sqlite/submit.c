/*
 * The move of a new job into the queue:
 *
 *   submit   new -> ready | scheduled | blocked
 *
 * INSERT INTO submit does the same by a trigger (schema_commands.c); a test
 * holds the two against each other. One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* -- Ids ------------------------------------------------------------------ */

/* sqlite_sequence's row for submit is the one counter of ids, which INSERT INTO
 * submit moves too. */
STATEMENT(RESERVE_IDS) = {"UPDATE sqlite_sequence SET seq = seq + ?1"
                          " WHERE name = 'submit' RETURNING seq"};
STATEMENT(RETURN_IDS) = {"UPDATE sqlite_sequence SET seq = seq - ?1"
                         " WHERE name = 'submit'"};

/* Reserve some more, in growing chunks: ids_return() takes back what is left.
 */
static enum rota_error
ids_reserve(struct sqlite_store *store)
{
    struct stmt stmt = stmt_of(&store->connection, &RESERVE_IDS);
    struct ids *ids = &store->ids;
    int64_t last = -1;

    (void)sqlite3_bind_int64(stmt.s, 1, ids->reserve);
    while (stmt_next(&stmt)) /* to the end: the change is made then */
        last = stmt_integer(&stmt, 0);
    if (stmt_end(&stmt) != ROTA_OK)
        return stmt.error;
    if (last < 0) {
        return connection_damage(&store->connection,
                                 "the counter of ids is gone");
    }
    ids->last = last;
    ids->first = last - ids->reserve + 1;
    ids->reserve = ids->reserve < 1024 ? ids->reserve * 4 : 1024;
    return ROTA_OK;
}

static enum rota_error
id_take(struct sqlite_store *store, int64_t *ret_id)
{
    enum rota_error error = ROTA_OK;

    if (store->ids.first > store->ids.last)
        error = ids_reserve(store);
    if (error != ROTA_OK)
        return error;
    *ret_id = store->ids.first++;
    store->ids.taken++;
    return ROTA_OK;
}

enum rota_error
ids_return(struct sqlite_store *store)
{
    int64_t unused = store->ids.last - store->ids.first + 1;

    return unused > 0 ? RUN(store, RETURN_IDS, NULL, unused) : ROTA_OK;
}

/* -- Ties ----------------------------------------------------------------- */

STATEMENT(UNIQUE_JOB) = {"SELECT job FROM _unique WHERE key = ?1"};
STATEMENT(JOB_EXISTS) = {"SELECT 1 FROM _job WHERE id = ?1"};

/* ROTA_EXISTS: a job that has not ended has the key. */
static enum rota_error
unique_check(struct sqlite_store *store, const char *key, int64_t *ret_job)
{
    struct stmt stmt = stmt_of(&store->connection, &UNIQUE_JOB);
    int64_t job = 0;
    enum rota_error error;

    bind_text(stmt.s, 1, key);
    error = stmt_number(&stmt, &job);
    if (error != ROTA_OK || job == 0)
        return error;
    *ret_job = job;
    message_set("job %jd has the unique key %s and has not ended",
                (intmax_t)job, key);
    return ROTA_EXISTS;
}

static enum rota_error
job_check(struct sqlite_store *store, int64_t id, const char *what)
{
    struct stmt stmt = stmt_of(&store->connection, &JOB_EXISTS);
    bool exists;
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    error = stmt_exists(&stmt, &exists);
    if (error != ROTA_OK || exists)
        return error;
    message_set("%s names job %jd, which is not there", what, (intmax_t)id);
    return ROTA_NOTFOUND;
}

/* Whether the jobs that a submission names are there, and the one whose key it
 * has is not. */
static enum rota_error
ties_check(struct sqlite_store *store, const struct rota_submission *submission,
           int64_t *ret_rival)
{
    enum rota_error error = ROTA_OK;

    if (submission->unique_key != NULL)
        error = unique_check(store, submission->unique_key, ret_rival);
    for (size_t i = 0; error == ROTA_OK && i < submission->n_after; i++)
        error = job_check(store, submission->after[i], "after");
    if (error == ROTA_OK && submission->parent != 0)
        error = job_check(store, submission->parent, "parent");
    return error;
}

STATEMENT(INSERT_UNIQUE) = {"INSERT INTO _unique VALUES(?1, ?2)"};
STATEMENT(INSERT_DEADLINE) = {"INSERT INTO _deadline VALUES(?1, ?2)"};
STATEMENT(INSERT_DEP) = {"INSERT INTO _dep SELECT ?1, ?2, EXISTS (SELECT 1"
                         " FROM _done WHERE id = ?1"
                         "  AND state = " STATE_SUCCEEDED ")"
                         " WHERE NOT EXISTS (SELECT 1 FROM _dep"
                         "  WHERE parent = ?1 AND child = ?2)"};
STATEMENT(TIE_JOB) = {"UPDATE _job SET ties = ties | ?2"
                      " WHERE id = ?1 AND ties & ?2 = 0"};
/* What it waits for has ended badly before it came: it must hear of that. */
STATEMENT(SETTLE_LATECOMER) = {
    "INSERT INTO _settle SELECT ?1, " AWAITING ", 0"
    " WHERE EXISTS (SELECT 1 FROM _done WHERE id = ?1"
    "  AND state <> " STATE_SUCCEEDED ")"
    " AND NOT EXISTS (SELECT 1 FROM _settle"
    "  WHERE job = ?1 AND what = " AWAITING ")"};
/* Its parent has been cancelled, or is being so: likewise. */
STATEMENT(SETTLE_LATE_CHILD) = {
    "INSERT INTO _settle SELECT ?1, " CHILDREN
    ", 0 WHERE (EXISTS (SELECT 1 FROM _done"
    "   WHERE id = ?1 AND state = " STATE_CANCELLED ")"
    "  OR EXISTS (SELECT 1 FROM _running"
    "   WHERE id = ?1 AND cancel_at IS NOT NULL))"
    " AND NOT EXISTS (SELECT 1 FROM _settle WHERE job = ?1 AND what = " CHILDREN
    ")"};

static enum rota_error
unique_insert(struct sqlite_store *store, const char *key, int64_t id)
{
    struct stmt stmt = stmt_of(&store->connection, &INSERT_UNIQUE);

    bind_text(stmt.s, 1, key);
    (void)sqlite3_bind_int64(stmt.s, 2, id);
    return stmt_run(&stmt, NULL);
}

static enum rota_error
dep_insert(struct sqlite_store *store, int64_t awaited, int64_t id)
{
    enum rota_error error = RUN(store, INSERT_DEP, NULL, awaited, id);

    if (error == ROTA_OK)
        error = RUN(store, TIE_JOB, NULL, awaited, TIE_AWAITED);
    return error == ROTA_OK ? RUN(store, SETTLE_LATECOMER, NULL, awaited)
                            : error;
}

/* The rows that tie a new job to others. */
static enum rota_error
ties_insert(struct sqlite_store *store,
            const struct rota_submission *submission, int64_t id)
{
    int64_t parent = submission->parent;
    enum rota_error error = ROTA_OK;

    if (submission->unique_key != NULL)
        error = unique_insert(store, submission->unique_key, id);
    if (error == ROTA_OK && submission->deadline > 0)
        error = RUN(store, INSERT_DEADLINE, NULL, submission->deadline, id);
    for (size_t i = 0; error == ROTA_OK && i < submission->n_after; i++)
        error = dep_insert(store, submission->after[i], id);
    if (error == ROTA_OK && parent != 0)
        error = RUN(store, TIE_JOB, NULL, parent, TIE_PARENT);
    if (error == ROTA_OK && parent != 0)
        error = RUN(store, SETTLE_LATE_CHILD, NULL, parent);
    return error;
}

/* -- The job -------------------------------------------------------------- */

STATEMENT(INSERT_JOB) = {
    "INSERT INTO _job VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
    " ?10, ?11, 0, 0, 0, NULL, ?12, ?13, ?14, ?15, ?16)"};

/* What else the job's end will concern: bits of _job.ties. */
static int64_t
ties_of(const struct rota_submission *submission)
{
    return (submission->unique_key != NULL ? TIE_UNIQUE : 0) +
           (submission->deadline > 0 ? TIE_DEADLINE : 0);
}

/* The new job, as a claim would find it. */
static struct candidate
candidate_of(const struct sqlite_store *store,
             const struct rota_submission *submission, int64_t id,
             const struct name *kind, const struct name *queue)
{
    int64_t run_at = submission->run_at == 0 ? store->now : submission->run_at;
    int64_t timeout_ms = submission->timeout / 1000000;

    if (submission->timeout > 0 && timeout_ms == 0)
        timeout_ms = 1; /* 0 would be none */
    return (struct candidate){
        .queue = queue->number,
        .sort_key = run_at + submission->priority * queue->ageing_ms,
        .is_arrival = true,
        .claim = {.id = id,
                  .lease = 1,
                  .kind = kind->number,
                  .run_at = run_at,
                  .created_at = store->now,
                  .deadline_at = submission->deadline,
                  .timeout_ms = timeout_ms,
                  .max_attempts = submission->max_attempts,
                  .total = -1}};
}

static enum rota_error
job_insert(struct sqlite_store *store, const struct rota_submission *submission,
           const struct candidate *job, const struct name *batch)
{
    struct stmt stmt = stmt_of(&store->connection, &INSERT_JOB);
    sqlite3_stmt *s = stmt.s;

    (void)sqlite3_bind_int64(s, 1, job->claim.id);
    (void)sqlite3_bind_int64(s, 2, job->claim.kind);
    (void)sqlite3_bind_int64(s, 3, job->queue);
    bind_positive(s, 4, batch == NULL ? 0 : batch->number);
    (void)sqlite3_bind_int64(s, 5, submission->priority);
    (void)sqlite3_bind_int64(s, 6, job->claim.run_at);
    (void)sqlite3_bind_int64(s, 7, job->sort_key);
    (void)sqlite3_bind_int64(s, 8, store->now);
    bind_positive(s, 9, submission->deadline);
    bind_positive(s, 10, job->claim.timeout_ms);
    bind_positive(s, 11, submission->max_attempts);
    bind_text(s, 12, submission->unique_key);
    bind_text(s, 13, submission->limit_key);
    bind_positive(s, 14, submission->parent);
    (void)sqlite3_bind_int64(s, 15, ties_of(submission));
    bind_data(s, 16, submission->args, submission->args_size,
              submission->args_blob);
    return stmt_run(&stmt, NULL);
}

/* -- Where it waits ------------------------------------------------------- */

STATEMENT(INSERT_SCHEDULED) = {"INSERT INTO _scheduled VALUES(?1, ?2, 0)"};
STATEMENT(INSERT_BLOCKED) = {"INSERT INTO _blocked VALUES(?1)"};
STATEMENT(HAS_UNMET) = {"SELECT 1 FROM _dep WHERE child = ?1 AND met = 0"};

static enum rota_error
has_unmet(struct sqlite_store *store, int64_t id, bool *ret_unmet)
{
    struct stmt stmt = stmt_of(&store->connection, &HAS_UNMET);

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    return stmt_exists(&stmt, ret_unmet);
}

static enum rota_error
job_place(struct sqlite_store *store, const struct rota_submission *submission,
          const struct candidate *job)
{
    enum rota_error error = ROTA_OK;
    bool is_blocked = false, is_kept = false;

    if (submission->n_after > 0)
        error = has_unmet(store, job->claim.id, &is_blocked);
    if (error == ROTA_OK && is_blocked)
        return RUN(store, INSERT_BLOCKED, NULL, job->claim.id);
    if (error == ROTA_OK && job->claim.run_at > store->now)
        return RUN(store, INSERT_SCHEDULED, NULL, job->claim.run_at,
                   job->claim.id);
    if (error == ROTA_OK && store->arrivals.limit > 0)
        error = arrivals_keep(store, submission, job, &is_kept);
    if (error != ROTA_OK || is_kept)
        return error;
    return ready_insert(store, job->queue, job->claim.kind, job->sort_key,
                        job->claim.id);
}

/* -- Submit --------------------------------------------------------------- */

static enum rota_error
submit_one(struct sqlite_store *store, const struct rota_submission *submission,
           int64_t *ret_id)
{
    const char *queue_name =
        submission->queue == NULL ? "default" : submission->queue;
    struct name *kind, *queue = NULL, *batch = NULL;
    struct candidate job;
    int64_t id = 0;
    enum rota_error error;

    error = ties_check(store, submission, ret_id);
    if (error == ROTA_OK)
        error = kind_find(store, submission->kind, &kind);
    if (error == ROTA_OK)
        error = queue_find(store, queue_name, &queue);
    if (error == ROTA_OK && submission->batch != NULL)
        error = batch_find(store, submission->batch, &batch);
    if (error == ROTA_OK)
        error = id_take(store, &id);
    if (error != ROTA_OK)
        return error;
    job = candidate_of(store, submission, id, kind, queue);
    error = job_insert(store, submission, &job, batch);
    if (error == ROTA_OK)
        error = ties_insert(store, submission, id);
    if (error == ROTA_OK)
        error = job_place(store, submission, &job);
    if (error == ROTA_OK)
        *ret_id = id;
    return error;
}

/* Whether one of several may be refused after others were made. */
static bool
may_be_refused(const struct rota_submission *submissions, size_t n)
{
    for (size_t i = 0; n > 1 && i < n; i++)
        if (submissions[i].unique_key != NULL || submissions[i].n_after > 0 ||
            submissions[i].parent != 0)
            return true;
    return false;
}

static enum rota_error
submit_each(struct sqlite_store *store,
            const struct rota_submission *submissions, size_t n,
            int64_t *ret_ids)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; error == ROTA_OK && i < n; i++) {
        error = submit_one(store, &submissions[i], &ret_ids[i]);
        if (error == ROTA_EXISTS)
            ret_ids[0] = ret_ids[i];
    }
    return error;
}

STATEMENT(SAVEPOINT) = {"SAVEPOINT several"};
STATEMENT(ROLLBACK_TO) = {"ROLLBACK TO several"};
STATEMENT(RELEASE) = {"RELEASE several"};

/* All or none of several. */
static enum rota_error
submit_together(struct sqlite_store *store,
                const struct rota_submission *submissions, size_t n,
                int64_t *ret_ids)
{
    struct ids before = store->ids;
    enum rota_error error = RUN_BARE(store, SAVEPOINT), undone;

    if (error != ROTA_OK)
        return error;
    error = submit_each(store, submissions, n, ret_ids);
    if (error == ROTA_EXISTS || error == ROTA_NOTFOUND) {
        undone = RUN_BARE(store, ROLLBACK_TO);
        if (undone != ROTA_OK)
            return undone;
        store->ids = before;
        names_forget(store); /* some may have been made with these */
    } else if (error != ROTA_OK) {
        return error;
    }
    undone = RUN_BARE(store, RELEASE);
    return undone == ROTA_OK ? error : undone;
}

enum rota_error
jobs_submit(struct sqlite_store *store,
            const struct rota_submission *submissions, size_t n,
            int64_t *ret_ids)
{
    size_t limit = store->arrivals.limit;
    enum rota_error error;

    if (!may_be_refused(submissions, n))
        return submit_each(store, submissions, n, ret_ids);
    /* what is kept in memory cannot be undone */
    error = arrivals_line_up(store);
    store->arrivals.limit = 0;
    if (error == ROTA_OK)
        error = submit_together(store, submissions, n, ret_ids);
    store->arrivals.limit = limit;
    return error;
}
