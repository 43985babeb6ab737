/*
 * The moves out of running:
 *
 *   end      running -> succeeded | failed | cancelled
 *            running -> scheduled    failed with attempts left, or snoozed
 *            running -> ready        shut down, or never started
 *   orphan   running -> ready | failed | cancelled    its process died
 *
 * Where it leads is decided by outcome.c; here it is read how the job stands,
 * and written what came of it. Each move begins with a delete from _running
 * that is guarded by (id, lease): a worker that lost its job changes no row,
 * learns so from the count, and writes nothing.
 *
 * One thread at a time, inside a transaction.
 */
#include <stdlib.h>

#include "base/base.h"
#include "store/outcome.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* -- How it stands -------------------------------------------------------- */

STATEMENT(FIND_RUNNING) = {RUNS " WHERE r.id = ?1 AND r.lease = ?2"};
/* the columns of RUNS */
enum {
    RUN_ID,
    RUN_LEASE,
    RUN_PROCESS,
    RUN_STARTED_AT,
    RUN_CANCEL_AT,
    RUN_CANCEL_REASON,
    RUN_LIMIT_KEY,
    RUN_FAILURES,
    RUN_MAX_ATTEMPTS,
    RUN_CRASHES,
    RUN_DEADLINE_AT,
    RUN_TIES,
    RUN_ADVANCED,
    RUN_ISOLATED
};

struct run
run_of(struct stmt *row)
{
    return (struct run){
        .id = stmt_integer(row, RUN_ID),
        .lease = stmt_integer(row, RUN_LEASE),
        .process = stmt_integer(row, RUN_PROCESS),
        .started_at = stmt_integer_or(row, RUN_STARTED_AT, 0),
        .cancel_at = stmt_integer_or(row, RUN_CANCEL_AT, 0),
        .cancel_reason = stmt_words(row, RUN_CANCEL_REASON),
        /* without its key a run would let nobody in when it ends */
        .limit_key = stmt_key(row, RUN_LIMIT_KEY),
        .failures = stmt_integer(row, RUN_FAILURES),
        .max_attempts = stmt_integer_or(row, RUN_MAX_ATTEMPTS, 0),
        .crashes = stmt_integer(row, RUN_CRASHES),
        .deadline_at = stmt_integer_or(row, RUN_DEADLINE_AT, 0),
        .ties = stmt_integer(row, RUN_TIES),
        .has_advanced = stmt_integer_or(row, RUN_ADVANCED, 0) != 0,
        .is_isolated = stmt_integer(row, RUN_ISOLATED) != 0};
}

void
run_clear(struct run *run)
{
    free(run->cancel_reason);
    free(run->limit_key);
}

/* ROTA_LOST: there is no such run any more. */
static enum rota_error
run_read(struct sqlite_store *store, int64_t id, int64_t lease,
         struct run *ret_run)
{
    struct stmt stmt = stmt_of(&store->connection, &FIND_RUNNING);

    (void)sqlite3_bind_int64(stmt.s, 1, id);
    (void)sqlite3_bind_int64(stmt.s, 2, lease);
    if (!stmt_next(&stmt))
        return stmt.error == ROTA_OK ? ROTA_LOST : stmt.error;
    *ret_run = run_of(&stmt);
    return stmt_end(&stmt);
}

/* -- What came of it ------------------------------------------------------ */

STATEMENT(DELETE_RUNNING) = {"DELETE FROM _running"
                             " WHERE id = ?1 AND lease = ?2"};
STATEMENT(DELETE_PLAIN_RUNNING) = {
    "DELETE FROM _running WHERE id = ?1 AND lease = ?2"
    " AND cancel_at IS NULL AND limit_key IS NULL"
    " AND (SELECT ties FROM _job WHERE id = ?1) = 0"};
STATEMENT(INSERT_DONE) = {"INSERT INTO _done VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                          " ?8, ?9, ?10, ?11, NULL, ?12)"};
STATEMENT(TELL_OF_END) = {"INSERT INTO _ended SELECT id, ?2 FROM _job"
                          " WHERE id = ?1 AND ties > 0"};
STATEMENT(GIVE_BACK) = {"UPDATE _job SET lease = ?2, failures = ?3,"
                        " crashes = ?4, run_at = COALESCE(?5, run_at),"
                        " sort_key = COALESCE(?5 + priority * (SELECT ageing_ms"
                        "  FROM _queue q WHERE q.id = queue), sort_key)"
                        " WHERE id = ?1"};
STATEMENT(RECORD_ATTEMPT) = {
    "INSERT INTO _attempt VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"};

/* An end, as it is to be written. */
struct end {
    const struct ending *ending;
    const struct run *run;
    const struct outcome *outcome;
    const char *cause; /* why an end, or what the run's history says; or NULL */
    int64_t process;   /* that ran it; 0: there was no run */
    int64_t attempt;   /* which one this run was */
};

enum rota_error
end_tell(struct sqlite_store *store, int64_t id, enum rota_state state)
{
    return RUN(store, TELL_OF_END, NULL, id, (int64_t)state);
}

/* Take the run out of _running, and let in whom it kept out. ROTA_LOST: it is
 * not there any more. */
static enum rota_error
run_leave(struct sqlite_store *store, const struct run *run)
{
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, DELETE_RUNNING, &changed, run->id, run->lease);

    if (error != ROTA_OK || changed == 0)
        return error == ROTA_OK ? ROTA_LOST : error;
    return key_release(store, run->limit_key);
}

/* The job has ended for good. */
static enum rota_error
done_insert(struct sqlite_store *store, const struct end *end)
{
    const struct ending *ending = end->ending;
    const struct run *run = end->run;
    struct stmt stmt = stmt_of(&store->connection, &INSERT_DONE);
    sqlite3_stmt *s = stmt.s;
    enum rota_error error;

    (void)sqlite3_bind_int64(s, 1, run->id);
    (void)sqlite3_bind_int(s, 2, (int)end->outcome->state);
    (void)sqlite3_bind_int64(s, 3, run->lease);
    (void)sqlite3_bind_int64(s, 4, end->attempt);
    bind_positive(s, 5, end->process);
    bind_positive(
        s, 6, ending->started_at > 0 ? ending->started_at : run->started_at);
    (void)sqlite3_bind_int64(s, 7, store->now);
    (void)sqlite3_bind_int(s, 8, (int)end->outcome->code);
    bind_positive(s, 9,
                  run->cancel_at > 0 ? run->cancel_at : ending->delivered_at);
    bind_positive(s, 10, ending->delivered_at);
    bind_text(s, 11, end->cause);
    bind_data(s, 12, ending->result, ending->result_size, false);
    error = stmt_run(&stmt, NULL);
    return error == ROTA_OK && run->ties != 0
               ? end_tell(store, run->id, end->outcome->state)
               : error;
}

static enum rota_error
attempt_insert(struct sqlite_store *store, const struct end *end)
{
    struct stmt stmt = stmt_of(&store->connection, &RECORD_ATTEMPT);

    (void)sqlite3_bind_int64(stmt.s, 1, end->run->id);
    (void)sqlite3_bind_int64(stmt.s, 2, end->run->lease);
    (void)sqlite3_bind_int64(stmt.s, 3, end->process);
    bind_positive(stmt.s, 4, end->ending->started_at);
    (void)sqlite3_bind_int64(stmt.s, 5, store->now);
    bind_text(stmt.s, 6, end->outcome->attempt);
    (void)sqlite3_bind_int(stmt.s, 7, (int)end->outcome->code);
    bind_text(stmt.s, 8, end->cause);
    return stmt_run(&stmt, NULL);
}

/* The job waits again. */
static enum rota_error
job_return(struct sqlite_store *store, const struct end *end)
{
    const struct outcome *outcome = end->outcome;
    struct stmt stmt = stmt_of(&store->connection, &GIVE_BACK);
    enum rota_error error;

    (void)sqlite3_bind_int64(stmt.s, 1, end->run->id);
    (void)sqlite3_bind_int64(stmt.s, 2, end->run->lease);
    (void)sqlite3_bind_int64(stmt.s, 3, outcome->failures);
    (void)sqlite3_bind_int64(stmt.s, 4, outcome->crashes);
    bind_positive(stmt.s, 5, outcome->run_at);
    error = stmt_run_one(&stmt);
    if (error == ROTA_OK)
        error = outcome->run_at > store->now
                    ? job_line_up(store, end->run->id, true)
                    : job_make_ready(store, end->run->id);
    return error == ROTA_OK && outcome->attempt != NULL
               ? attempt_insert(store, end)
               : error;
}

/* -- Whose words ---------------------------------------------------------- */

static const char *
first_of(const char *a, const char *b, const char *c)
{
    return a != NULL ? a : b != NULL ? b : c;
}

/* It has been there at so many deaths. */
static const char *
poison_words(int64_t crashes)
{
#define POISON(times) \
    "poison: its process died " times " times before the job got any further"
    return crashes == CRASHES_MAX            ? POISON("three")
           : crashes == CRASHES_MAX + 1      ? POISON("four")
           : crashes == CRASHES_MAX_ISOLATED ? POISON("ten")
                                             : POISON("many");
#undef POISON
}

static const char *
words_of(const struct ending *ending, const struct run *run,
         const struct outcome *outcome)
{
    switch (outcome->cause) {
    case CAUSE_OWN:
        break;
    case CAUSE_ERROR:
    case CAUSE_ERROR_LATE:
        return first_of(ending->message,
                        outcome->code == ROTA_TIMEOUT ? "its time was up"
                                                      : NULL,
                        rota_strerror(outcome->code));
    case CAUSE_LATE_CANCEL:
        if (run->cancel_at == 0)
            return NULL;
        /* fall through */
    case CAUSE_CANCEL:
        return first_of(run->cancel_reason, ending->reason, "context canceled");
    case CAUSE_DEADLINE:
        return first_of(ending->message, NULL, "its deadline passed");
    case CAUSE_DEATH:
        return "its process died";
    case CAUSE_POISON:
        return poison_words(outcome->crashes);
    }
    return ending->message;
}

/* The words for end->cause, and *ret_own, which is to be freed. False: no
 * memory. */
static bool
cause_find(struct end *end, char **ret_own)
{
    end->cause = words_of(end->ending, end->run, end->outcome);
    *ret_own = NULL;
    if (end->outcome->cause != CAUSE_ERROR_LATE)
        return true;
    *ret_own = sqlite3_mprintf("%s; its deadline passed", end->cause);
    end->cause = *ret_own;
    return *ret_own != NULL;
}

/* -- The moves ------------------------------------------------------------ */

/* Decide, and write what came of it. ROTA_LOST: nothing was written. */
static enum rota_error
run_decide(struct sqlite_store *store, const struct ending *ending,
           const struct run *run, enum run_end how, bool was_alone,
           struct outcome *ret_outcome)
{
    const struct standing standing = {
        .is_cancelled = run->cancel_at != 0 || ending->stop == ROTA_STOP_CANCEL,
        .is_late = run->deadline_at != 0 && run->deadline_at <= store->now,
        .failures = run->failures,
        .max_attempts =
            run->max_attempts > 0 ? run->max_attempts : ending->max_attempts,
        .crashes = run->has_advanced ? 0 : run->crashes,
        .is_isolated = run->is_isolated,
        .was_alone = was_alone};
    bool has_run = how != END_UNSTARTED;
    struct end end = {.ending = ending,
                      .run = run,
                      .outcome = ret_outcome,
                      .process = has_run ? run->process : 0,
                      .attempt = run->failures + has_run};
    enum rota_error error = run_leave(store, run);
    uint32_t random;
    char *own;

    if (error != ROTA_OK)
        return error;
    sqlite3_randomness((int)sizeof(random), &random);
    *ret_outcome = outcome_of(how, ending->error, ending->snooze_ms, &standing,
                              store->now, random);
    if (!cause_find(&end, &own))
        return no_memory();
    error = ret_outcome->state >= ROTA_SUCCEEDED ? done_insert(store, &end)
                                                 : job_return(store, &end);
    sqlite3_free(own);
    return error;
}

/* running -> succeeded, for what concerns nobody else: nothing needs to be
 * read. *ret_is_over: it was so, and is done. */
static enum rota_error
run_succeed(struct sqlite_store *store, const struct ending *ending,
            bool *ret_is_over)
{
    static const struct outcome success = {.state = ROTA_SUCCEEDED,
                                           .code = ROTA_OK};
    const struct run run = {.id = ending->id, .lease = ending->lease};
    const struct end end = {.ending = ending,
                            .run = &run,
                            .outcome = &success,
                            .process = ending->process,
                            .attempt = ending->failures + 1};
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, DELETE_PLAIN_RUNNING, &changed, ending->id, ending->lease);

    *ret_is_over = changed > 0;
    return error == ROTA_OK && changed > 0 ? done_insert(store, &end) : error;
}

static enum rota_error
end_slowly(struct sqlite_store *store, struct ending *ending)
{
    struct run run = {0};
    struct outcome outcome;
    enum rota_error error = run_read(store, ending->id, ending->lease, &run);

    if (error == ROTA_OK)
        error = run_decide(
            store, ending, &run,
            run_end_of(ending->error, ending->stop, ending->never_started),
            false, &outcome);
    if (error == ROTA_OK)
        ending->state = outcome.state;
    run_clear(&run);
    return error;
}

enum rota_error
end_run(struct sqlite_store *store, struct ending *ending)
{
    enum rota_error error = ROTA_OK;
    bool is_over = false;

    ending->is_lost = false;
    if (ending->has_progress)
        error = progress_record(store, &ending->progress);
    if (error == ROTA_OK && ending->error == ROTA_OK &&
        !ending->never_started && ending->process > 0)
        error = run_succeed(store, ending, &is_over);
    if (is_over)
        ending->state = ROTA_SUCCEEDED;
    else if (error == ROTA_OK)
        error = end_slowly(store, ending);
    ending->is_lost = error == ROTA_LOST;
    return ending->is_lost ? ROTA_OK : error;
}

enum rota_error
end_orphan(struct sqlite_store *store, const struct run *run, bool was_alone)
{
    const struct ending ending = {.id = run->id,
                                  .lease = run->lease,
                                  .started_at = run->started_at,
                                  .error = ROTA_LOST};
    struct outcome outcome;

    return run_decide(store, &ending, run, END_DIED, was_alone, &outcome);
}
