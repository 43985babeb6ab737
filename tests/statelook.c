#define _GNU_SOURCE
#include "statelook.h"

#include <check.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "statemodel.h"

enum question { JOB, RUNS, KEYS, TIES, PLACES, LEFT_OVER, QUESTIONS };

#define STANDINGS                                                            \
    "(SELECT id FROM _ready UNION ALL SELECT id FROM _held"                  \
    " UNION ALL SELECT id FROM _scheduled UNION ALL SELECT id FROM _blocked" \
    " UNION ALL SELECT id FROM _running UNION ALL SELECT id FROM _done)"
#define NO_JOB(column) \
    "NOT EXISTS (SELECT 1 FROM _job j WHERE j.id = " column ")"

static const char *const questions[QUESTIONS] = {
    [JOB] = "SELECT state, lease, failures, crashes, attempt, done,"
            " cancel_requested_at IS NOT NULL AS asked,"
            " cause IS NOT NULL AS cause, ifnull(error, '-') AS error,"
            " ifnull(worker, 0) AS worker, started_at IS NOT NULL AS started,"
            " ifnull(finished_at, 0) AS finished_at,"
            " ifnull(deadline_at, 0) AS deadline_at, priority, run_at"
            " FROM jobs WHERE id = ?1",
    [RUNS] = "SELECT ifnull(group_concat(lease || ' ' || outcome || ' '"
             "  || ifnull(error, '-') || ' ' || worker, ', '), '')"
             " FROM (SELECT * FROM attempts WHERE job = ?1 ORDER BY lease)",
    [KEYS] = "SELECT ifnull(group_concat(job), '') FROM unique_keys",
    [TIES] = "SELECT ifnull(group_concat(job || ' ' || waits_for || ' ' || met,"
             "  ', '), '') FROM (SELECT * FROM dependencies"
             "  ORDER BY job, waits_for)",
    /* as many jobs as places, and no two of the same job */
    [PLACES] = "SELECT (SELECT count(*) FROM _job) || ' ' || count(*) || ' '"
               " || count(DISTINCT id) FROM " STANDINGS,
    /* what should have gone with its job, or with its end */
    /* clang-format off */
    [LEFT_OVER] =
        "SELECT (SELECT count(*) FROM _progress o WHERE " NO_JOB("o.id") ")"
        " || (SELECT count(*) FROM _attempt o WHERE " NO_JOB("o.job") ")"
        " || (SELECT count(*) FROM _settle o WHERE " NO_JOB("o.job") ")"
        " || (SELECT count(*) FROM _dep o WHERE " NO_JOB("o.child") ")"
        " || (SELECT count(*) FROM _dep o WHERE " NO_JOB("o.parent") ")"
        " || (SELECT count(*) FROM _deadline o WHERE " NO_JOB("o.id")
        "  OR o.id IN (SELECT id FROM _done))"
        " || (SELECT count(*) FROM cancel) || (SELECT count(*) FROM retry)"
        " || (SELECT count(*) FROM _ended)",
    /* clang-format on */
};
#define NOTHING_LEFT "000000000"

static sqlite3 *db;
static sqlite3_stmt *statements[QUESTIONS];

/* -- Differences ---------------------------------------------------------- */

static char noted[1024];

void
differ(const char *format, ...)
{
    va_list args;

    if (noted[0] != '\0')
        return;
    va_start(args, format);
    (void)vsnprintf(noted, sizeof(noted), format, args);
    va_end(args);
}

void
same(const char *what, int64_t real, int64_t ideal)
{
    if (real != ideal)
        differ("%s: the store says %jd, the model %jd", what, (intmax_t)real,
               (intmax_t)ideal);
}

static void
same_text(const char *what, const char *real, const char *ideal)
{
    if (strcmp(real, ideal) != 0)
        differ("%s\n  in the file:  %s\n  in the model: %s", what, real, ideal);
}

const char *
difference(void)
{
    static char last[sizeof(noted)];

    memcpy(last, noted, sizeof(last));
    noted[0] = '\0';
    return last[0] == '\0' ? NULL : last;
}

/* -- The file ------------------------------------------------------------- */

static void
run(const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
}

void
statelook_open(const char *file)
{
    ck_assert_int_eq(sqlite3_open(file, &db), SQLITE_OK);
    run("PRAGMA synchronous=OFF");
    for (int i = 0; i < QUESTIONS; i++)
        ck_assert_msg(sqlite3_prepare_v2(db, questions[i], -1, &statements[i],
                                         NULL) == SQLITE_OK,
                      "%s: %s", questions[i], sqlite3_errmsg(db));
}

void
statelook_close(void)
{
    for (int i = 0; i < QUESTIONS; i++)
        (void)sqlite3_finalize(statements[i]);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

void
statelook_empty(const int64_t *alive, int n)
{
    char *sql;

    run("BEGIN IMMEDIATE; DELETE FROM _ready; DELETE FROM _held;"
        "DELETE FROM _scheduled; DELETE FROM _blocked; DELETE FROM _running;"
        "DELETE FROM _done; DELETE FROM _job; DELETE FROM _progress;"
        "DELETE FROM _attempt; DELETE FROM _unique; DELETE FROM _deadline;"
        "DELETE FROM _dep; DELETE FROM _settle; DELETE FROM _limit;"
        "UPDATE _queue SET paused_at = NULL, max_running = NULL;"
        "UPDATE _process SET ended_at = 1");
    for (int i = 0; i < n; i++) {
        sql = sqlite3_mprintf("UPDATE _process SET ended_at = NULL"
                              " WHERE id = %lld",
                              (long long)alive[i]);
        run(sql);
        sqlite3_free(sql);
    }
    run("DELETE FROM _process WHERE ended_at IS NOT NULL; COMMIT");
}

/* -- In words ------------------------------------------------------------- */

struct words {
    char text[512];
    size_t used;
};

static void __attribute__((format(printf, 2, 3)))
say(struct words *words, const char *format, ...)
{
    size_t room = sizeof(words->text) - words->used;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(words->text + words->used, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= room)
        ck_abort_msg("there is no room for \"%s...\"", words->text);
    words->used += (size_t)n;
}

/* As the views call it. */
static const char *
error_name(enum rota_error error)
{
#define NAME(name, number, text) \
    case name:                   \
        return &#name[strlen("ROTA_")];
    switch (error == ROTA_OK ? -1 : (int)error) {
        ROTA_ERRORS(NAME)
    default:
        return "-";
    }
#undef NAME
}

/* The question about id, with one text for an answer. */
static const char *
asked(enum question question, int64_t id)
{
    static char answer[4096];
    sqlite3_stmt *s = statements[question];

    if (sqlite3_bind_parameter_count(s) > 0)
        (void)sqlite3_bind_int64(s, 1, id);
    if (sqlite3_step(s) != SQLITE_ROW)
        ck_abort_msg("%s", sqlite3_errmsg(db));
    (void)snprintf(answer, sizeof(answer), "%s", sqlite3_column_text(s, 0));
    (void)sqlite3_reset(s);
    return answer;
}

/* -- Jobs ----------------------------------------------------------------- */

/* The row as text, and its last column, which is left out of it. */
static bool
row_read(int64_t id, struct words *row, int64_t *ret_run_at)
{
    sqlite3_stmt *s = statements[JOB];
    int last = sqlite3_column_count(s) - 1;
    bool there;

    (void)sqlite3_bind_int64(s, 1, id);
    there = sqlite3_step(s) == SQLITE_ROW;
    for (int i = 0; there && i < last; i++)
        say(row, "%s %s, ", sqlite3_column_name(s, i),
            sqlite3_column_text(s, i));
    *ret_run_at = there ? sqlite3_column_int64(s, last) : 0;
    if (there && sqlite3_step(s) == SQLITE_ROW)
        say(row, "and once more");
    (void)sqlite3_reset(s);
    return there;
}

/* The same of what the model knows. */
static void
row_make(const struct model_job *job, struct words *row)
{
    bool ended = model_has_ended(job), ran = ended || !model_waits(job);
    int64_t values[] = {
        job->lease,
        job->failures,
        job->crashes,
        ended ? job->attempt : job->failures + ran,
        job->cursor,
        ran && job->is_asked,
        ended && job->has_cause,
    };
    sqlite3_stmt *s = statements[JOB];

    say(row, "state %s, ", rota_state_name(job->state));
    for (int i = 0; i < 7; i++)
        say(row, "%s %jd, ", sqlite3_column_name(s, i + 1),
            (intmax_t)values[i]);
    say(row, "%s %s, ", sqlite3_column_name(s, 8),
        ended ? error_name(job->code) : "-");
    say(row, "%s %jd, ", sqlite3_column_name(s, 9),
        (intmax_t)(ran ? job->worker : 0));
    say(row, "%s %d, ", sqlite3_column_name(s, 10), ran && job->has_started);
    say(row, "%s %jd, ", sqlite3_column_name(s, 11),
        (intmax_t)(ended ? job->finished_at : 0));
    say(row, "%s %jd, %s %jd, ", sqlite3_column_name(s, 12),
        (intmax_t)job->deadline_at, sqlite3_column_name(s, 13),
        (intmax_t)job->priority);
}

/* Those that came back, and the one at hand or at the end. */
static void
runs_make(const struct model_job *job, char *text, size_t size)
{
    bool ended = model_has_ended(job);
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < job->n_runs; i++)
        used += (size_t)snprintf(
            text + used, size - used, "%s%jd %s %s %jd", i > 0 ? ", " : "",
            (intmax_t)job->runs[i].lease, job->runs[i].outcome,
            error_name(job->runs[i].code), (intmax_t)job->runs[i].worker);
    if (!model_waits(job) && job->worker != 0)
        (void)snprintf(
            text + used, size - used, "%s%jd %s %s %jd", used > 0 ? ", " : "",
            (intmax_t)job->lease, rota_state_name(job->state),
            ended ? error_name(job->code) : "-", (intmax_t)job->worker);
}

static void
compare_job(struct model_job *job, int number)
{
    struct words real = {.used = 0}, ideal = {.used = 0};
    char name[] = {'j', 'o', 'b', ' ', (char)('A' + number), '\0'}, runs[4096];
    int64_t run_at;

    if (row_read(job->id, &real, &run_at) == job->is_forgotten)
        differ("%s is %s the file", name, job->is_forgotten ? "in" : "not in");
    if (job->is_forgotten)
        return;
    row_make(job, &ideal);
    same_text(name, real.text, ideal.text);
    if (run_at < job->run_at || run_at > job->run_by)
        differ("%s: run_at is %jd, not from %jd to %jd", name, (intmax_t)run_at,
               (intmax_t)job->run_at, (intmax_t)job->run_by);
    job->run_at = job->run_by = run_at;
    runs_make(job, runs, sizeof(runs));
    same_text(name, asked(RUNS, job->id), runs);
}

/* -- The whole ------------------------------------------------------------ */

static void
compare_keys(const struct model *model)
{
    struct words ideal = {.used = 0};
    int job = model_rival(model, 1);

    if (job != MODEL_NOBODY)
        say(&ideal, "%jd", (intmax_t)model->jobs[job].id);
    same_text("who has the unique key", asked(KEYS, 0), ideal.text);
}

static void
compare_ties(const struct model *model)
{
    struct words ideal = {.used = 0};

    for (int i = 0; i < model->n_jobs; i++) {
        const struct model_job *job = &model->jobs[i];
        bool in_order = job->n_after < 2 || job->after[0] < job->after[1];

        for (int n = 0; n < job->n_after && model_has(model, i); n++) {
            int at = in_order ? n : 1 - n;

            if (model_has(model, job->after[at]))
                say(&ideal, "%s%jd %jd %d", ideal.used > 0 ? ", " : "",
                    (intmax_t)job->id, (intmax_t)model->jobs[job->after[at]].id,
                    job->is_met[at]);
        }
    }
    same_text("who waits for whom", asked(TIES, 0), ideal.text);
}

static void
compare_places(const struct model *model)
{
    struct words ideal = {.used = 0};
    int n = 0;

    for (int i = 0; i < model->n_jobs; i++)
        n += model_has(model, i);
    say(&ideal, "%d %d %d", n, n, n);
    same_text("how many jobs, places, and jobs with a place", asked(PLACES, 0),
              ideal.text);
    same_text("what is left over, by table", asked(LEFT_OVER, 0), NOTHING_LEFT);
}

void
statelook_compare(struct model *model)
{
    for (int i = 0; i < model->n_jobs; i++)
        compare_job(&model->jobs[i], i);
    compare_keys(model);
    compare_ties(model);
    compare_places(model);
}
