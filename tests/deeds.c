#define _GNU_SOURCE
#include "deeds.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "statelook.h"
#include "store/sqlite/reader.h"

/* -- What it is about ----------------------------------------------------- */

/* The number of the job whose letter is the first in text. */
static int
job_named(const char *text)
{
    for (; *text != '\0'; text++)
        if (isupper((unsigned char)*text))
            return *text - 'A';
    return MODEL_NOBODY;
}

/* Its id; one that no job has if there is none so called. */
static int64_t
id_of(int job)
{
    return job >= 0 && job < model.n_jobs ? model.jobs[job].id
                                          : INT64_C(4000000000000);
}

static int
job_with(int64_t id)
{
    for (int i = 0; i < model.n_jobs; i++)
        if (model.jobs[i].id == id)
            return i;
    return MODEL_NOBODY;
}

/* The latest run that the session remembers: of the job named, if one is. */
static struct kept_run *
run_named(struct session *session, const char *about)
{
    int job = job_named(about);

    for (int i = 0; i < session->n_runs; i++)
        if (job == MODEL_NOBODY || session->runs[i].job == job)
            return &session->runs[i];
    return NULL;
}

/* -- Submit and claim ----------------------------------------------------- */

/* What the letters ask for: u a unique key, x a limit key, l later, d a
 * deadline, p a priority, ^A a child of A, A to wait for A. */
static struct model_job
wish_of(const char *about)
{
    struct model_job wish = {.max_attempts = 2, .parent = MODEL_NOBODY};

    for (; *about != '\0'; about++) {
        wish.unique_key |= *about == 'u';
        wish.limit_key |= *about == 'x';
        wish.priority -= *about == 'p';
        if (*about == 'l')
            wish.run_at = model.now + 5000;
        if (*about == 'd')
            wish.deadline_at = model.now + 15000;
        if (*about == '^' && isupper((unsigned char)about[1]))
            wish.parent = *++about - 'A';
        else if (isupper((unsigned char)*about) && wish.n_after < MODEL_AFTER)
            wish.after[wish.n_after++] = *about - 'A';
    }
    if (wish.n_after == 2 && wish.after[0] == wish.after[1])
        wish.n_after = 1;
    return wish;
}

static void
do_submit(struct session *session, const struct deed *deed, const char *about)
{
    struct model_job wish = wish_of(about);
    struct rota_submission submission = ROTA_SUBMISSION_INIT("k");
    int64_t after[MODEL_AFTER], id = 0;
    enum rota_error error;
    int rival = model_rival(&model, wish.unique_key);

    (void)deed;
    if (model.n_jobs == MODEL_JOBS)
        return;
    for (int i = 0; i < wish.n_after; i++)
        after[i] = id_of(wish.after[i]);
    submission.priority = wish.priority;
    submission.run_at = wish.run_at;
    submission.deadline = wish.deadline_at;
    submission.max_attempts = (int)wish.max_attempts;
    submission.unique_key = wish.unique_key != 0 ? "u" : NULL;
    submission.limit_key = wish.limit_key != 0 ? "x" : NULL;
    submission.after = after;
    submission.n_after = (size_t)wish.n_after;
    submission.parent = wish.parent == MODEL_NOBODY ? 0 : id_of(wish.parent);
    error = jobs_submit(session->store, &submission, 1, &id);
    same("answer", error, model_submit(&model, &wish));
    if (error == ROTA_EXISTS)
        same("the job in the way", id, id_of(rival));
    if (error == ROTA_OK)
        model.jobs[model.n_jobs - 1].id = id;
}

static void
run_keep(struct session *session, int job, const struct claim *claim)
{
    if (session->n_runs < RUNS_KEPT)
        session->n_runs++;
    memmove(&session->runs[1], &session->runs[0],
            (RUNS_KEPT - 1) * sizeof(struct kept_run));
    session->runs[0] = (struct kept_run){.job = job,
                                         .id = claim->id,
                                         .lease = claim->lease,
                                         .cursor = claim->cursor,
                                         .process = session->process,
                                         .failures = claim->failures};
    same("lease", claim->lease, model.jobs[job].lease);
    same("failures", claim->failures, model.jobs[job].failures);
    same("crashes", claim->crashes, model.jobs[job].crashes);
    same("cursor", claim->cursor, model.jobs[job].cursor);
}

/* The work of a claim. What runs in its process the engine knows, and here the
 * model. */
static struct work
claim_work(const struct session *session, struct claim *claims)
{
    struct work work = {
        .scope = {.process = session->process, .kinds = &kind, .n_kinds = 1},
        .claims = claims};

    model_aboard(&model, session->process, &work.aboard.jobs,
                 &work.aboard.suspects, &work.aboard.loners);
    return work;
}

static void
claim(struct session *session, struct work *work, size_t limit)
{
    int claimed[MODEL_JOBS], n;

    same("answer", jobs_claim(session->store, work, limit), ROTA_OK);
    model_claim(&model, session->process, (int)limit, claimed, &n);
    same("claims", (int64_t)work->n_claims, n);
    for (int i = 0; i < n && i < (int)work->n_claims; i++) {
        same("claimed job", work->claims[i].id, id_of(claimed[i]));
        run_keep(session, claimed[i], &work->claims[i]);
    }
    for (size_t i = 0; i < work->n_claims; i++)
        free(work->claims[i].args);
}

/* Several: after what time has made of jobs, as a cycle does. */
static void
do_claim(struct session *session, const struct deed *deed, const char *about)
{
    struct claim claims[MODEL_JOBS];
    struct work work = claim_work(session, claims);
    int64_t next;

    (void)about;
    if (deed->number > 1) {
        same("answer", due_promote(session->store, &next), ROTA_OK);
        model_promote(&model);
    }
    claim(session, &work, (size_t)deed->number);
}

/* What comes in the transaction of a claim, of two if it is the third kind: it,
 * and another that is urgent. */
static void
do_arrive(struct session *session, const struct deed *deed, const char *about)
{
    struct claim claims[MODEL_JOBS];
    struct work work = claim_work(session, claims);
    size_t limit = deed->number > 2 ? 2 : 1;

    arrivals_expect(session->store, &work.scope, limit);
    do_submit(session, deed, about);
    if (deed->number > 1)
        do_submit(session, deed, "p");
    claim(session, &work, limit);
}

/* -- Runs ----------------------------------------------------------------- */

static struct progress
progress_of(const struct kept_run *run)
{
    return (struct progress){.id = run->id,
                             .lease = run->lease,
                             .started_at = model.now,
                             .cursor = run->cursor,
                             .total = -1};
}

static void
do_progress(struct session *session, const struct deed *deed, const char *about)
{
    struct kept_run *run = run_named(session, about);
    struct progress progress;

    if (run == NULL)
        return;
    run->cursor += deed->number;
    run->has_started = true;
    progress = progress_of(run);
    same("answer", progress_record(session->store, &progress),
         model_progress(&model, run->job, run->lease, run->cursor));
}

static void
do_end(struct session *session, const struct deed *deed, const char *about)
{
    struct model_ending ideal = deed->ending;
    struct kept_run *run = run_named(session, about);
    enum rota_state ideal_state = ROTA_BLOCKED;
    struct ending ending;
    enum rota_error error;

    if (run == NULL || (ideal.never_started && run->has_started))
        return;
    run->cursor += deed->number;
    ideal.cursor = deed->number > 0 ? run->cursor : -1;
    ending = (struct ending){
        .id = run->id,
        .lease = run->lease,
        .started_at = ideal.never_started ? 0 : model.now,
        .delivered_at = ideal.stop == ROTA_STOP_CANCEL ? model.now : 0,
        .error = ideal.error,
        .stop = ideal.stop,
        .never_started = ideal.never_started,
        .process = run->process,
        .failures = run->failures,
        .max_attempts = 2,
        .snooze_ms = ideal.snooze_ms,
        .has_progress = ideal.cursor >= 0,
        .progress = progress_of(run),
        .reason = ideal.stop == ROTA_STOP_CANCEL ? "told" : NULL};
    error = end_run(session->store, &ending);
    if (error == ROTA_OK && ending.is_lost)
        error = ROTA_LOST;
    same("answer", error,
         model_end(&model, run->job, run->lease, &ideal, &ideal_state));
    if (!ending.is_lost)
        same("where it came to", ending.state, ideal_state);
}

/* -- Processes ------------------------------------------------------------ */

static void
process_look(void *arg, const struct open_process *seen)
{
    struct session *session = arg;
    const struct model_process *process = model_process(&model, seen->id);
    bool lives = lockfile_lives(session->store->lockfile, seen->id);

    if (process == NULL || !process->is_open) {
        differ("worker %jd is open", (intmax_t)seen->id);
        return;
    }
    same("whether a worker lives", lives, process->lives);
    if (!lives && session->n_dead < 4)
        session->dead[session->n_dead++] = seen->id;
}

static void
do_look(struct session *session, const struct deed *deed, const char *about)
{
    (void)deed, (void)about;
    session->n_dead = 0;
    same("answer", open_processes_read(&look, process_look, session), ROTA_OK);
}

/* Of those that were seen dead; and of oneself, who is not. */
static void
do_rescue(struct session *session, const struct deed *deed, const char *about)
{
    int64_t jobs, ideal;

    (void)deed, (void)about;
    for (int i = 0; i <= session->n_dead; i++) {
        int64_t process =
            i < session->n_dead ? session->dead[i] : session->process;

        same("answer", worker_rescue(session->store, process, &jobs), ROTA_OK);
        model_rescue(&model, process, &ideal);
        same("rescued jobs", jobs, ideal);
    }
}

static void
do_die(struct session *session, const struct deed *deed, const char *about)
{
    (void)deed, (void)about;
    session_die(session);
}

/* -- Commands ------------------------------------------------------------- */

static void
do_cancel(struct session *session, const struct deed *deed, const char *about)
{
    int job = job_named(about);
    enum rota_cancel_answer answer = ROTA_CANCEL_DONE, ideal = ROTA_CANCEL_DONE;

    (void)deed;
    same("answer", command_cancel(session->store, id_of(job), "why", &answer),
         model_cancel(&model, job, &ideal));
    same("what it came to", answer, ideal);
}

static void
do_retry(struct session *session, const struct deed *deed, const char *about)
{
    int job = job_named(about);
    bool restart = deed->number != 0;

    same("answer", command_retry(session->store, id_of(job), restart),
         model_retry(&model, job, restart));
}

/* The number is in how long. */
static void
do_reschedule(struct session *session, const struct deed *deed,
              const char *about)
{
    int job = job_named(about);
    int64_t priority = 1, run_at = model.now + deed->number;

    same("answer",
         command_reschedule(session->store, id_of(job), &priority, &run_at),
         model_reschedule(&model, job, &priority, &run_at));
}

static void
do_pause(struct session *session, const struct deed *deed, const char *about)
{
    (void)about;
    model.is_paused = deed->number != 0;
    same("answer", command_pause(session->store, "default", model.is_paused),
         ROTA_OK);
}

static void
do_limit_queue(struct session *session, const struct deed *deed,
               const char *about)
{
    (void)about;
    model.queue_limit = deed->number;
    same("answer",
         command_limit(session->store, "default", NULL, model.queue_limit),
         ROTA_OK);
}

static void
do_limit_key(struct session *session, const struct deed *deed,
             const char *about)
{
    (void)about;
    model.key_limit = deed->number;
    same("answer", command_limit(session->store, NULL, "x", model.key_limit),
         ROTA_OK);
}

/* -- Forgetting, telling, time -------------------------------------------- */

/* That have ended by a time which is a little ahead, so that a job can end anew
 * right then. */
static void
do_seek_old(struct session *session, const struct deed *deed, const char *about)
{
    int64_t last = 0;
    size_t n = 0;

    (void)deed, (void)about;
    session->before = model.now + 2;
    same("answer",
         reader_prunable(ended_reader, queue, session->before, &last,
                         session->old, MODEL_JOBS, &session->n_old),
         ROTA_OK);
    for (int i = 0; i < model.n_jobs; i++)
        if (model_has(&model, i) && model_has_ended(&model.jobs[i]) &&
            model.jobs[i].finished_at < session->before) {
            if (n < session->n_old)
                same("old job", session->old[n], model.jobs[i].id);
            n++;
        }
    same("old jobs", (int64_t)session->n_old, (int64_t)n);
}

static void
do_prune(struct session *session, const struct deed *deed, const char *about)
{
    int64_t count = 0, ideal = 0;

    (void)deed, (void)about;
    for (size_t i = 0; i < session->n_old; i++)
        ideal +=
            model_prune(&model, job_with(session->old[i]), session->before);
    same("answer",
         jobs_prune(session->store, session->old, session->n_old,
                    session->before, &count),
         ROTA_OK);
    same("forgotten jobs", count, ideal);
}

/* All in one transaction, so many at a time. */
static void
do_settle(struct session *session, const struct deed *deed, const char *about)
{
    bool more = true;

    (void)about;
    while (more)
        if (dependents_settle(session->store, (size_t)deed->number, &more) !=
            ROTA_OK) {
            differ("nobody was told");
            return;
        }
    model_settle(&model);
}

static void
do_promote(struct session *session, const struct deed *deed, const char *about)
{
    int64_t next = 0;

    (void)deed, (void)about;
    same("answer", due_promote(session->store, &next), ROTA_OK);
    model_promote(&model);
}

static void
do_tick(struct session *session, const struct deed *deed, const char *about)
{
    (void)session, (void)about;
    model.now += deed->number;
}

/* -- All of them ----------------------------------------------------------- */

/* clang-format off */
#define ENDS(name, cursor, ...) {name, do_end, true, cursor, {__VA_ARGS__}}
/* clang-format on */

const struct deed deeds[] = {
    {"submit", do_submit, true, 0, {0}},
    {"claim", do_claim, true, 1, {0}},
    {"claim2", do_claim, true, 2, {0}},
    {"arrive", do_arrive, true, 1, {0}},
    {"arrive2", do_arrive, true, 2, {0}},
    {"arrive3", do_arrive, true, 3, {0}},
    {"start", do_progress, true, 0, {0}},
    {"advance", do_progress, true, 1, {0}},
    ENDS("ok", 0, .error = ROTA_OK),
    ENDS("okfar", 1, .error = ROTA_OK),
    ENDS("fail", 0, .error = ROTA_FAILED),
    ENDS("failfar", 1, .error = ROTA_FAILED),
    ENDS("fatal", 0, .error = ROTA_FATAL),
    ENDS("snooze", 0, .error = ROTA_SNOOZE, .snooze_ms = 3000),
    ENDS("snoozefar", 1, .error = ROTA_SNOOZE, .snooze_ms = 0),
    ENDS("stopped", 0, .error = ROTA_CANCELED, .stop = ROTA_STOP_CANCEL),
    ENDS("shutdown", 0, .error = ROTA_CANCELED, .stop = ROTA_STOP_SHUTDOWN),
    ENDS("timeout", 0, .error = ROTA_DEADLINE, .stop = ROTA_STOP_DEADLINE),
    ENDS("owncancel", 0, .error = ROTA_CANCELED),
    ENDS("unstarted", 0, .error = ROTA_CANCELED, .stop = ROTA_STOP_SHUTDOWN,
         .never_started = true),
    {"look", do_look, false, 0, {0}},
    {"rescue", do_rescue, true, 0, {0}},
    {"die", do_die, false, 0, {0}},
    {"cancel", do_cancel, true, 0, {0}},
    {"retry", do_retry, true, 0, {0}},
    {"restart", do_retry, true, 1, {0}},
    {"sooner", do_reschedule, true, -100, {0}},
    {"later", do_reschedule, true, 4000, {0}},
    {"pause", do_pause, true, 1, {0}},
    {"resume", do_pause, true, 0, {0}},
    {"onlyone", do_limit_queue, true, 1, {0}},
    {"anynumber", do_limit_queue, true, 0, {0}},
    {"keytwo", do_limit_key, true, 2, {0}},
    {"keyone", do_limit_key, true, 1, {0}},
    {"seekold", do_seek_old, false, 0, {0}},
    {"prune", do_prune, true, 0, {0}},
    {"settle", do_settle, true, 100, {0}},
    {"trickle", do_settle, true, 1, {0}},
    {"promote", do_promote, true, 0, {0}},
    {"tick", do_tick, false, 10000, {0}},
    {NULL, NULL, false, 0, {0}},
};
