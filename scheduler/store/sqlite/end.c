/*
 * The moves out of running:
 *
 *   end      running -> succeeded | failed | cancelled
 *            running -> scheduled    failed with attempts left, or snoozed
 *            running -> ready        shut down, or never started
 *   rescue   running -> ready | failed | cancelled    its process died
 *
 * and a run's progress. All are guarded by (id, lease): a worker that lost its
 * job changes no row, learns so from the count, and writes nothing.
 * One thread at a time, inside a transaction.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* A job that killed its process so often, without getting further, is not
 * run again. */
#define CRASHES_MAX 3

/* -- End ------------------------------------------------------------------ */

/* What _running and _job say of a run that ends. */
struct standing {
    int64_t cancel_at;   /* 0: no cancel was asked for */
    char *cancel_reason; /* malloc'd or NULL */
    int64_t process, failures, max_attempts, crashes, deadline_at, started_at,
        ties;
    char *limit_key; /* the same */
    int64_t attempt; /* which one this run is */
};

/* The texts of a row: without its key a run would let nobody in when it ends.
 */
static enum rota_error
standing_copy(struct standing *standing, sqlite3_stmt *row, int cancel_reason,
              int limit_key)
{
    enum rota_error error =
        column_text(row, cancel_reason, &standing->cancel_reason);

    return error == ROTA_OK ? column_text(row, limit_key, &standing->limit_key)
                            : error;
}

static enum rota_error
standing_read(struct store *store, int64_t id, int64_t lease,
              struct standing *ret_standing)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, FIND_RUNNING, &error);
    bool row = false;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, id);
    (void)sqlite3_bind_int64(s, 2, lease);
    error = connection_row(&store->connection, s, &row);
    if (error != ROTA_OK || !row)
        return error == ROTA_OK ? ROTA_LOST : error;
    *ret_standing =
        (struct standing){.cancel_at = sqlite3_column_int64(s, 0),
                          .process = sqlite3_column_int64(s, 2),
                          .failures = sqlite3_column_int64(s, 3),
                          .max_attempts = sqlite3_column_int64(s, 4),
                          .crashes = sqlite3_column_int64(s, 5),
                          .deadline_at = sqlite3_column_int64(s, 6),
                          .started_at = sqlite3_column_int64(s, 7),
                          .ties = sqlite3_column_int64(s, 9)};
    ret_standing->attempt = ret_standing->failures + 1;
    if (sqlite3_column_int64(s, 10) != 0)
        ret_standing->crashes = 0; /* it got further since */
    error = standing_copy(ret_standing, s, 1, 8);
    (void)sqlite3_reset(s);
    return error;
}

static void
standing_clear(struct standing *standing)
{
    free(standing->cancel_reason);
    free(standing->limit_key);
}

/* Take the run out of _running, and let in whom it kept out. ROTA_LOST: it is
 * not there any more. */
static enum rota_error
run_leave(struct store *store, const struct ending *ending,
          const struct standing *standing)
{
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, DELETE_RUNNING, &changed, ending->id, ending->lease);

    if (error != ROTA_OK || changed == 0)
        return error == ROTA_OK ? ROTA_LOST : error;
    return key_release(store, standing->limit_key);
}

static const char *
first_of(const char *a, const char *b, const char *c)
{
    return a != NULL ? a : b != NULL ? b : c;
}

/* The run that has left _running has ended for good. cause may be NULL. */
static enum rota_error
run_record(struct store *store, const struct ending *ending,
           const struct standing *standing, enum rota_state state,
           enum rota_error code, const char *cause)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, INSERT_DONE, &error);

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, ending->id);
    (void)sqlite3_bind_int(s, 2, (int)state);
    (void)sqlite3_bind_int64(s, 3, ending->lease);
    (void)sqlite3_bind_int64(s, 4, standing->attempt);
    bind_positive(s, 5, standing->process);
    bind_positive(s, 6,
                  ending->started_at > 0 ? ending->started_at
                                         : standing->started_at);
    (void)sqlite3_bind_int64(s, 7, store->now);
    (void)sqlite3_bind_int(s, 8, (int)code);
    bind_positive(s, 9,
                  standing->cancel_at > 0 ? standing->cancel_at
                                          : ending->delivered_at);
    bind_positive(s, 10, ending->delivered_at);
    (void)sqlite3_bind_text(s, 11, cause, -1, SQLITE_STATIC);
    bind_data(s, 12, ending->result, ending->result_size, false);
    error = connection_run(&store->connection, s, NULL);
    return error == ROTA_OK && standing->ties != 0
               ? RUN(store, TELL_OF_END, NULL, ending->id, (int64_t)state)
               : error;
}

/* running -> a final state. */
static enum rota_error
run_finish(struct store *store, const struct ending *ending,
           const struct standing *standing, enum rota_state state,
           enum rota_error code, const char *cause)
{
    enum rota_error error = run_leave(store, ending, standing);

    return error == ROTA_OK
               ? run_record(store, ending, standing, state, code, cause)
               : error;
}

/* running -> ready, or scheduled if run_at is later than now (0: unchanged).
 * outcome and code go into the history of attempts; NULL leaves none. */
static enum rota_error
run_return(struct store *store, const struct ending *ending,
           const struct standing *standing, const char *outcome,
           enum rota_error code, int64_t run_at)
{
    enum rota_error error = run_leave(store, ending, standing);
    sqlite3_stmt *s;

    if (error != ROTA_OK)
        return error;
    s = store_statement(store, GIVE_BACK, &error);
    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, ending->id);
    (void)sqlite3_bind_int64(s, 2, ending->lease);
    (void)sqlite3_bind_int64(s, 3, standing->failures);
    (void)sqlite3_bind_int64(s, 4, standing->crashes);
    bind_positive(s, 5, run_at);
    error = connection_run(&store->connection, s, NULL);
    if (error == ROTA_OK)
        error = run_at > store->now ? job_line_up(store, ending->id)
                                    : job_make_ready(store, ending->id);
    if (error != ROTA_OK || outcome == NULL)
        return error;
    s = store_statement(store, RECORD_ATTEMPT, &error);
    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, ending->id);
    (void)sqlite3_bind_int64(s, 2, ending->lease);
    (void)sqlite3_bind_int64(s, 3, standing->process);
    bind_positive(s, 4, ending->started_at);
    (void)sqlite3_bind_int64(s, 5, store->now);
    (void)sqlite3_bind_text(s, 6, outcome, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int(s, 7, (int)code);
    (void)sqlite3_bind_text(s, 8, ending->message, -1, SQLITE_STATIC);
    return connection_run(&store->connection, s, NULL);
}

/* When a job that failed so often runs again: 1 s, 2 s, 4 s ... an hour, give
 * or take a quarter, so that jobs that failed together do not return so. */
static int64_t
retry_at(struct store *store, int64_t failures)
{
    int64_t delay = failures > 12 ? 3600000 : INT64_C(1000) << (failures - 1);
    uint32_t random;

    if (delay > 3600000)
        delay = 3600000;
    sqlite3_randomness((int)sizeof(random), &random);
    return store->now + delay - delay / 4 + random % (delay / 2 + 1);
}

static bool
is_past_deadline(const struct store *store, const struct standing *standing)
{
    return standing->deadline_at != 0 && standing->deadline_at <= store->now;
}

static bool
is_ctx_error(enum rota_error error)
{
    return error == ROTA_CANCELED || error == ROTA_DEADLINE;
}

/* A failure that is charged: another run, or the last one's end. */
static enum rota_error
run_fail(struct store *store, const struct ending *ending,
         struct standing *standing, enum rota_state *ret_state)
{
    bool is_up =
        is_ctx_error(ending->error) && ending->stop == ROTA_STOP_DEADLINE;
    enum rota_error code = is_up ? ROTA_TIMEOUT : ending->error;
    int64_t max = standing->max_attempts > 0 ? standing->max_attempts
                                             : ending->max_attempts;
    struct ending said = *ending;

    said.message = first_of(ending->message, is_up ? "its time was up" : NULL,
                            rota_strerror(code));
    standing->failures++;
    if (code != ROTA_FATAL && !is_past_deadline(store, standing) &&
        standing->failures < max) {
        *ret_state = ROTA_SCHEDULED;
        return run_return(store, &said, standing, "failed", code,
                          retry_at(store, standing->failures));
    }
    *ret_state = ROTA_JOB_FAILED;
    return run_finish(store, &said, standing, ROTA_JOB_FAILED, code,
                      said.message);
}

/* The outcome rules, top down: the first that fits. */
static enum rota_error
run_decide(struct store *store, const struct ending *ending,
           struct standing *standing, enum rota_state *ret_state)
{
    enum rota_error code = ending->error;
    bool stopped = is_ctx_error(code),
         is_late = is_past_deadline(store, standing);

    if (code == ROTA_OK && !ending->never_started) {
        *ret_state = ROTA_SUCCEEDED;
        return run_finish(store, ending, standing, ROTA_SUCCEEDED, ROTA_OK,
                          standing->cancel_at != 0
                              ? first_of(standing->cancel_reason,
                                         ending->reason, "context canceled")
                              : NULL);
    }
    if (ending->never_started) {
        standing->attempt = standing->failures; /* no run, nobody's */
        standing->process = 0;
    }
    if (standing->cancel_at != 0 || ending->stop == ROTA_STOP_CANCEL) {
        *ret_state = ROTA_CANCELLED;
        return run_finish(store, ending, standing, ROTA_CANCELLED,
                          stopped || code == ROTA_OK ? ROTA_CANCELED : code,
                          first_of(standing->cancel_reason, ending->reason,
                                   "context canceled"));
    }
    if (is_late && (stopped || code == ROTA_SNOOZE)) {
        *ret_state = ROTA_JOB_FAILED;
        return run_finish(
            store, ending, standing, ROTA_JOB_FAILED, ROTA_DEADLINE,
            first_of(ending->message, NULL, "its deadline passed"));
    }
    *ret_state = ROTA_READY;
    if (ending->never_started)
        return run_return(store, ending, standing, NULL, ROTA_OK, 0);
    if (stopped && ending->stop == ROTA_STOP_SHUTDOWN)
        return run_return(store, ending, standing, "interrupted", ROTA_OK, 0);
    if (code == ROTA_SNOOZE) {
        *ret_state = ending->snooze_ms > 0 ? ROTA_SCHEDULED : ROTA_READY;
        return run_return(store, ending, standing, "snoozed", ROTA_OK,
                          store->now + ending->snooze_ms);
    }
    return run_fail(store, ending, standing, ret_state);
}

/* running -> succeeded, for what concerns nobody else: nothing needs to be
 * read. *ret_is_plain: it was so, and is done. */
static enum rota_error
run_succeed(struct store *store, const struct ending *ending,
            bool *ret_is_plain)
{
    struct standing standing = {.process = ending->process,
                                .attempt = ending->failures + 1};
    int64_t changed = 0;
    enum rota_error error =
        RUN(store, DELETE_PLAIN_RUNNING, &changed, ending->id, ending->lease);

    *ret_is_plain = changed > 0;
    return error == ROTA_OK && changed > 0
               ? run_record(store, ending, &standing, ROTA_SUCCEEDED, ROTA_OK,
                            NULL)
               : error;
}

enum rota_error
store_end(struct store *store, const struct ending *ending,
          enum rota_state *ret_state)
{
    struct standing standing = {0};
    enum rota_error error = ROTA_OK;
    bool is_over = false;

    if (ending->progress != NULL)
        error = store_progress(store, ending->progress);
    if (error == ROTA_OK && ending->error == ROTA_OK && ending->process > 0)
        error = run_succeed(store, ending, &is_over);
    if (is_over)
        *ret_state = ROTA_SUCCEEDED;
    if (error != ROTA_OK || is_over)
        return error;
    error = standing_read(store, ending->id, ending->lease, &standing);
    if (error == ROTA_OK)
        error = run_decide(store, ending, &standing, ret_state);
    standing_clear(&standing);
    return error;
}

enum rota_error
store_progress(struct store *store, const struct progress *progress)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, RECORD_PROGRESS, &error);
    int64_t changed = 0;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, progress->id);
    (void)sqlite3_bind_int64(s, 2, progress->lease);
    (void)sqlite3_bind_int64(s, 3, progress->cursor);
    if (progress->total >= 0)
        (void)sqlite3_bind_int64(s, 4, progress->total);
    else
        (void)sqlite3_bind_null(s, 4);
    (void)sqlite3_bind_int64(s, 5, progress->base);
    (void)sqlite3_bind_int64(s, 6, progress->base_at);
    (void)sqlite3_bind_int64(s, 7, store->now);
    error = connection_run(&store->connection, s, &changed);
    if (error == ROTA_OK && changed == 0) {
        message_set("a later run of job %jd has taken over",
                    (intmax_t)progress->id);
        return ROTA_LOST;
    }
    if (error == ROTA_OK)
        error = RUN(store, RECORD_START, NULL, progress->id, progress->lease,
                    progress->started_at, progress->stuck_since);
    return error;
}

/* -- Rescue --------------------------------------------------------------- */

struct orphan {
    struct ending ending;
    struct standing standing;
    bool advanced;
};

static enum rota_error
orphans_read(struct store *store, int64_t process, struct orphan **ret_orphans,
             size_t *ret_n)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *s = store_statement(store, JOBS_OF_PROCESS, &error);
    struct orphan *all = NULL, *grown;
    size_t n = 0;
    bool row;

    if (s == NULL)
        return error;
    (void)sqlite3_bind_int64(s, 1, process);
    while ((error = connection_row(&store->connection, s, &row)) == ROTA_OK &&
           row) {
        grown = realloc(all, (n + 1) * sizeof(*all));
        if (grown == NULL) {
            error = no_memory();
            break;
        }
        all = grown;
        all[n] = (struct orphan){
            .ending = {.id = sqlite3_column_int64(s, 0),
                       .lease = sqlite3_column_int64(s, 1),
                       .started_at = sqlite3_column_int64(s, 2),
                       .error = ROTA_LOST,
                       .message = "its process died"},
            .standing = {.cancel_at = sqlite3_column_int64(s, 3),
                         .process = process,
                         .failures = sqlite3_column_int64(s, 5),
                         .attempt = sqlite3_column_int64(s, 5) + 1,
                         .crashes = sqlite3_column_int64(s, 6),
                         .deadline_at = sqlite3_column_int64(s, 7),
                         .ties = sqlite3_column_int64(s, 10)},
            .advanced = sqlite3_column_int(s, 8) != 0};
        error = standing_copy(&all[n++].standing, s, 4, 9);
        if (error != ROTA_OK)
            break;
    }
    (void)sqlite3_reset(s);
    *ret_orphans = all;
    *ret_n = n;
    return error;
}

static enum rota_error
orphan_move(struct store *store, struct orphan *orphan)
{
    struct standing *standing = &orphan->standing;
    const struct ending *ending = &orphan->ending;

    if (standing->cancel_at != 0)
        return run_finish(
            store, ending, standing, ROTA_CANCELLED, ROTA_CANCELED,
            first_of(standing->cancel_reason, NULL, "context canceled"));
    if (is_past_deadline(store, standing))
        return run_finish(store, ending, standing, ROTA_JOB_FAILED,
                          ROTA_DEADLINE, "its deadline passed");
    standing->crashes = orphan->advanced ? 1 : standing->crashes + 1;
    if (standing->crashes >= CRASHES_MAX)
        return run_finish(store, ending, standing, ROTA_JOB_FAILED, ROTA_FATAL,
                          "poison: its process died three times before the "
                          "job got any further");
    return run_return(store, ending, standing, "crashed", ROTA_LOST, 0);
}

enum rota_error
store_rescue(struct store *store, int64_t process, int64_t *ret_jobs)
{
    struct orphan *orphans = NULL;
    size_t n = 0;
    bool open = false;
    enum rota_error error;

    *ret_jobs = 0;
    error = process_is_open(store, process, &open);
    if (error != ROTA_OK || !open || store_lives(store, process))
        return error;
    error = orphans_read(store, process, &orphans, &n);
    for (size_t i = 0; i < n; i++) {
        if (error == ROTA_OK)
            error = orphan_move(store, &orphans[i]);
        standing_clear(&orphans[i].standing);
    }
    free(orphans);
    if (error == ROTA_OK)
        error = process_end(store, process, "died");
    *ret_jobs = (int64_t)n;
    return error;
}
