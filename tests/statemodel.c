#include "statemodel.h"

#include <string.h>

/* A job that is the soonest of those with a level more by so much is as soon.
 */
#define AGEING_MS 60000

#define DEATHS_SUSPECT 2 /* makes a suspect */
#define DEATHS_ALONE   3 /* and one that runs alone */

/* -- Asking --------------------------------------------------------------- */

bool
model_waits(const struct model_job *job)
{
    return !job->is_forgotten && job->state <= ROTA_READY;
}

bool
model_has_ended(const struct model_job *job)
{
    return job->state >= ROTA_SUCCEEDED;
}

bool
model_has(const struct model *model, int job)
{
    return job >= 0 && job < model->n_jobs && !model->jobs[job].is_forgotten;
}

struct model_process *
model_process(struct model *model, int64_t id)
{
    for (int i = 0; i < model->n_processes; i++)
        if (model->processes[i].id == id)
            return &model->processes[i];
    return NULL;
}

int
model_rival(const struct model *model, int key)
{
    for (int i = 0; key != 0 && i < model->n_jobs; i++)
        if (model_has(model, i) && !model_has_ended(&model->jobs[i]) &&
            model->jobs[i].unique_key == key)
            return i;
    return MODEL_NOBODY;
}

/* Which of job's after is other; -1: none. */
static int
after_which(const struct model_job *job, int other)
{
    for (int i = 0; i < job->n_after; i++)
        if (job->after[i] == other)
            return i;
    return -1;
}

/* Whether some have been made that wait for job; that are children of it. */
static bool
has_those_behind(const struct model *model, int job)
{
    for (int i = 0; i < model->n_jobs; i++)
        if (after_which(&model->jobs[i], job) >= 0)
            return true;
    return false;
}

static bool
has_children(const struct model *model, int job)
{
    for (int i = 0; i < model->n_jobs; i++)
        if (model->jobs[i].parent == job)
            return true;
    return false;
}

/* Whether it has to wait for others. */
static bool
is_unmet(const struct model *model, const struct model_job *job)
{
    for (int i = 0; i < job->n_after; i++)
        if (!job->is_met[i] && model_has(model, job->after[i]))
            return true;
    return false;
}

static bool
is_late(const struct model *model, const struct model_job *job)
{
    return job->deadline_at != 0 && job->deadline_at <= model->now;
}

/* How many run: with key, or all. */
static int64_t
running(const struct model *model, int key)
{
    int64_t n = 0;

    for (int i = 0; i < model->n_jobs; i++)
        n += model_has(model, i) && model->jobs[i].state == ROTA_RUNNING &&
             (key == 0 || model->jobs[i].limit_key == key);
    return n;
}

/* -- Waiting and ending --------------------------------------------------- */

/* To where it waits to be run. */
static void
line_up(struct model *model, struct model_job *job)
{
    job->state = is_unmet(model, job)       ? ROTA_BLOCKED
                 : job->run_at > model->now ? ROTA_SCHEDULED
                                            : ROTA_READY;
}

/* It has ended: what is known of the end besides is in *job. */
static void
end(struct model *model, int number, enum rota_state state,
    enum rota_error code, bool has_cause)
{
    struct model_job *job = &model->jobs[number];

    job->state = state;
    job->code = code;
    job->has_cause = has_cause;
    job->finished_at = model->now;
    job->owes_those_behind |= has_those_behind(model, number);
    job->owes_children |=
        state == ROTA_CANCELLED && has_children(model, number);
}

/* A job that waited has ended. */
static void
end_unrun(struct model *model, int number, enum rota_state state,
          enum rota_error code)
{
    struct model_job *job = &model->jobs[number];

    job->worker = 0;
    job->has_started = false;
    job->attempt = job->failures;
    end(model, number, state, code, true);
}

/* A run has come back. */
static void
note_run(struct model_job *job, const char *outcome, enum rota_error code)
{
    job->runs[job->n_runs++] =
        (struct model_run){job->lease, job->worker, outcome, code};
}

/* To run again between these times. */
static void
give_back(struct model *model, struct model_job *job, const char *outcome,
          enum rota_error code)
{
    if (job->has_advanced)
        job->crashes = 0;
    note_run(job, outcome, code);
    line_up(model, job);
}

/* Somebody waits for job from here on, who has not heard if it failed before.
 */
static void
hear_of(struct model *model, int job, bool is_met)
{
    if (model_has(model, job))
        model->jobs[job].owes_those_behind |=
            !is_met && model_has_ended(&model->jobs[job]);
}

/* -- Submit --------------------------------------------------------------- */

enum rota_error
model_submit(struct model *model, const struct model_job *wish)
{
    struct model_job *job = &model->jobs[model->n_jobs], *other;

    if (model_rival(model, wish->unique_key) != MODEL_NOBODY)
        return ROTA_EXISTS;
    for (int i = 0; i < wish->n_after; i++)
        if (!model_has(model, wish->after[i]))
            return ROTA_NOTFOUND;
    if (wish->parent != MODEL_NOBODY && !model_has(model, wish->parent))
        return ROTA_NOTFOUND;
    *job = *wish;
    job->skipped_by = MODEL_NOBODY;
    if (job->run_at == 0)
        job->run_at = model->now;
    job->run_by = job->run_at;
    for (int i = 0; i < job->n_after; i++) {
        job->is_met[i] = model->jobs[job->after[i]].state == ROTA_SUCCEEDED;
        hear_of(model, job->after[i], job->is_met[i]);
    }
    if (job->parent != MODEL_NOBODY) {
        other = &model->jobs[job->parent];
        other->owes_children |=
            other->state == ROTA_CANCELLED ||
            (other->state == ROTA_RUNNING && other->is_asked);
    }
    model->n_jobs++;
    line_up(model, job);
    return ROTA_OK;
}

/* -- Claim ---------------------------------------------------------------- */

static bool
is_sooner(const struct model_job *a, const struct model_job *b)
{
    return a->run_at + a->priority * AGEING_MS <
           b->run_at + b->priority * AGEING_MS;
}

/* At how many deaths it was without getting further since. */
static int64_t
deaths(const struct model_job *job)
{
    return job->state == ROTA_RUNNING && job->has_advanced ? 0 : job->crashes;
}

/* Whether nothing that runs in the process keeps it from running beside it. */
static bool
may_join(const struct model *model, int64_t process, int64_t n)
{
    for (int i = 0; i < model->n_jobs; i++) {
        const struct model_job *other = &model->jobs[i];
        int64_t m = deaths(other);

        if (!model_has(model, i) || other->state != ROTA_RUNNING ||
            other->worker != process)
            continue;
        if (m >= DEATHS_ALONE || n >= DEATHS_ALONE ||
            (m >= DEATHS_SUSPECT && n >= DEATHS_SUSPECT))
            return false;
    }
    return true;
}

/* The soonest that may be claimed. */
static int
soonest(const struct model *model, int64_t process)
{
    int best = MODEL_NOBODY;

    if (model->is_paused || !may_join(model, process, 0) ||
        (model->queue_limit != 0 && running(model, 0) >= model->queue_limit))
        return MODEL_NOBODY;
    for (int i = 0; i < model->n_jobs; i++) {
        const struct model_job *job = &model->jobs[i];

        if (!model_has(model, i) || job->state != ROTA_READY)
            continue;
        if (job->limit_key != 0 && !is_late(model, job) &&
            running(model, job->limit_key) >= model->key_limit)
            continue;
        if (!is_late(model, job) && !may_join(model, process, deaths(job)))
            continue;
        if (best == MODEL_NOBODY || is_sooner(job, &model->jobs[best]))
            best = i;
    }
    return best;
}

void
model_claim(struct model *model, int64_t process, int limit, int *claimed,
            int *ret_n)
{
    struct model_job *job;
    int number;

    *ret_n = 0;
    while (*ret_n < limit &&
           (number = soonest(model, process)) != MODEL_NOBODY) {
        job = &model->jobs[number];
        if (is_late(model, job)) {
            end_unrun(model, number, ROTA_JOB_FAILED, ROTA_DEADLINE);
            continue;
        }
        job->state = ROTA_RUNNING;
        job->lease++;
        job->worker = process;
        job->has_started = job->has_advanced = job->is_asked = false;
        claimed[(*ret_n)++] = number;
    }
}

/* -- Runs ----------------------------------------------------------------- */

static bool
is_run(const struct model *model, int job, int64_t lease)
{
    return model_has(model, job) && model->jobs[job].state == ROTA_RUNNING &&
           model->jobs[job].lease == lease;
}

static void
advance(struct model_job *job, int64_t cursor)
{
    if (cursor < 0)
        return;
    job->has_advanced |= cursor > job->cursor;
    job->cursor = cursor;
    job->has_started = true;
}

enum rota_error
model_progress(struct model *model, int job, int64_t lease, int64_t cursor)
{
    if (!is_run(model, job, lease))
        return ROTA_LOST;
    model->jobs[job].has_started = true;
    advance(&model->jobs[job], cursor);
    return ROTA_OK;
}

/* A failure is charged: again after 1 s, 2 s, 4 s, give or take a quarter; or
 * not, if there are no attempts left. */
static void
charge(struct model *model, int number, const struct model_ending *ending)
{
    struct model_job *job = &model->jobs[number];
    int64_t delay = INT64_C(1000) << job->failures;
    bool stopped =
        ending->error == ROTA_CANCELED || ending->error == ROTA_DEADLINE;
    enum rota_error code = stopped && ending->stop == ROTA_STOP_DEADLINE
                               ? ROTA_TIMEOUT
                               : ending->error;

    if (code == ROTA_FATAL || is_late(model, job) ||
        job->failures + 1 >= job->max_attempts) {
        end(model, number, ROTA_JOB_FAILED, code, true);
        return;
    }
    job->failures++;
    job->run_at = model->now + delay - delay / 4;
    job->run_by = model->now + delay + delay / 4;
    give_back(model, job, "failed", code);
}

/* A run that was told to stop, or asks to be run later. */
static void
interrupt(struct model *model, int number, const struct model_ending *ending)
{
    struct model_job *job = &model->jobs[number];

    if (is_late(model, job)) {
        end(model, number, ROTA_JOB_FAILED, ROTA_DEADLINE, true);
    } else if (ending->never_started) {
        line_up(model, job);
    } else if (ending->error == ROTA_SNOOZE) {
        job->run_at = job->run_by = model->now + ending->snooze_ms;
        give_back(model, job, "snoozed", ROTA_OK);
    } else {
        give_back(model, job, "interrupted", ROTA_OK);
    }
}

enum rota_error
model_end(struct model *model, int number, int64_t lease,
          const struct model_ending *ending, enum rota_state *ret_state)
{
    struct model_job *job = &model->jobs[number < 0 ? 0 : number];
    enum rota_error error = ending->error;
    bool stopped = error == ROTA_CANCELED || error == ROTA_DEADLINE;

    if (!is_run(model, number, lease))
        return ROTA_LOST;
    advance(job, ending->cursor);
    job->attempt = job->failures + !ending->never_started;
    job->has_started |= !ending->never_started;
    if (ending->never_started)
        job->worker = 0; /* there was no run */
    if (error == ROTA_OK) {
        end(model, number, ROTA_SUCCEEDED, ROTA_OK, job->is_asked);
    } else if (job->is_asked || ending->stop == ROTA_STOP_CANCEL) {
        job->is_asked = true;
        end(model, number, ROTA_CANCELLED, stopped ? ROTA_CANCELED : error,
            true);
    } else if (error == ROTA_SNOOZE || ending->never_started ||
               (stopped &&
                (ending->stop == ROTA_STOP_SHUTDOWN || is_late(model, job)))) {
        interrupt(model, number, ending);
    } else {
        charge(model, number, ending);
    }
    *ret_state = job->state;
    return ROTA_OK;
}

void
model_aboard(const struct model *model, int64_t process, int64_t *ret_jobs,
             int64_t *ret_suspects, int64_t *ret_alone)
{
    *ret_jobs = *ret_suspects = *ret_alone = 0;
    for (int i = 0; i < model->n_jobs; i++) {
        const struct model_job *job = &model->jobs[i];

        if (!model_has(model, i) || job->state != ROTA_RUNNING ||
            job->worker != process)
            continue;
        ++*ret_jobs;
        *ret_suspects += deaths(job) == DEATHS_SUSPECT;
        *ret_alone += deaths(job) >= DEATHS_ALONE;
    }
}

/* -- Rescue --------------------------------------------------------------- */

static void
rescue(struct model *model, int number, bool was_alone)
{
    struct model_job *job = &model->jobs[number];
    int64_t crashes = deaths(job) + 1;

    job->attempt = job->failures + 1;
    if (job->is_asked) {
        end(model, number, ROTA_CANCELLED, ROTA_CANCELED, true);
    } else if (is_late(model, job)) {
        end(model, number, ROTA_JOB_FAILED, ROTA_DEADLINE, true);
    } else if (crashes >= DEATHS_ALONE && was_alone) {
        end(model, number, ROTA_JOB_FAILED, ROTA_FATAL, true);
    } else {
        give_back(model, job, "crashed", ROTA_LOST);
        job->crashes = crashes;
    }
}

void
model_rescue(struct model *model, int64_t id, int64_t *ret_jobs)
{
    struct model_process *process = model_process(model, id);
    int64_t jobs, suspects, alone;

    model_aboard(model, id, &jobs, &suspects, &alone);
    *ret_jobs = 0;
    if (!process->is_open || process->lives)
        return;
    for (int i = 0; i < model->n_jobs; i++)
        if (model_has(model, i) && model->jobs[i].state == ROTA_RUNNING &&
            model->jobs[i].worker == id) {
            rescue(model, i, jobs == 1);
            ++*ret_jobs;
        }
    process->is_open = false;
}

/* -- What others ask ------------------------------------------------------ */

enum rota_error
model_cancel(struct model *model, int number,
             enum rota_cancel_answer *ret_answer)
{
    struct model_job *job;

    if (!model_has(model, number))
        return ROTA_NOTFOUND;
    job = &model->jobs[number];
    *ret_answer = model_has_ended(job) ? ROTA_CANCEL_TOO_LATE
                  : model_waits(job)   ? ROTA_CANCEL_DONE
                  : job->is_asked      ? ROTA_CANCEL_AGAIN
                                       : ROTA_CANCEL_REQUESTED;
    if (*ret_answer == ROTA_CANCEL_DONE) {
        job->is_asked = true;
        end_unrun(model, number, ROTA_CANCELLED, ROTA_CANCELED);
    } else if (*ret_answer == ROTA_CANCEL_REQUESTED) {
        job->is_asked = true;
        job->owes_children |= has_children(model, number);
    }
    return ROTA_OK;
}

enum rota_error
model_retry(struct model *model, int number, bool restart)
{
    struct model_job *job;

    if (!model_has(model, number))
        return ROTA_NOTFOUND;
    job = &model->jobs[number];
    if (!model_has_ended(job))
        return ROTA_INVALID;
    if (model_rival(model, job->unique_key) != MODEL_NOBODY)
        return ROTA_EXISTS;
    if (job->worker != 0)
        note_run(job, rota_state_name(job->state), job->code);
    job->failures = job->crashes = 0;
    if (restart)
        job->cursor = 0;
    if (is_late(model, job))
        job->deadline_at = 0;
    job->run_at = job->run_by = model->now;
    job->is_asked = false;
    job->skipped_by = MODEL_NOBODY;
    job->owes_those_behind |= has_those_behind(model, number);
    job->owes_children = false;
    for (int i = 0; i < job->n_after; i++)
        hear_of(model, job->after[i], job->is_met[i]);
    line_up(model, job);
    return ROTA_OK;
}

enum rota_error
model_reschedule(struct model *model, int number, const int64_t *priority,
                 const int64_t *run_at)
{
    struct model_job *job;

    if (!model_has(model, number))
        return ROTA_NOTFOUND;
    job = &model->jobs[number];
    if (!model_waits(job))
        return ROTA_INVALID;
    if (priority != NULL)
        job->priority = *priority;
    if (run_at != NULL)
        job->run_at = job->run_by = *run_at;
    if (job->state != ROTA_BLOCKED)
        line_up(model, job);
    return ROTA_OK;
}

bool
model_prune(struct model *model, int number, int64_t before)
{
    struct model_job *job;

    if (!model_has(model, number))
        return false;
    job = &model->jobs[number];
    if (!model_has_ended(job) || job->finished_at >= before ||
        job->owes_children)
        return false;
    for (int i = 0; i < model->n_jobs; i++)
        if (model_has(model, i) && model->jobs[i].state == ROTA_BLOCKED &&
            after_which(&model->jobs[i], number) >= 0)
            return false;
    job->is_forgotten = true;
    return true;
}

/* -- Settle --------------------------------------------------------------- */

/* It waits again, for the job that has been retried, with the time it had. */
static void
revive(struct model *model, int number)
{
    struct model_job *job = &model->jobs[number];
    int64_t run_at = job->run_at, run_by = job->run_by;

    if (model_retry(model, number, false) != ROTA_OK)
        return;
    job->run_at = run_at;
    job->run_by = run_by;
}

/* job, which child waits for, has ended or has been retried. If it has
 * succeeded, it may have been retried since child was skipped, and have ended
 * before its turn to be revived. */
static void
tell_behind(struct model *model, int number, int child_number)
{
    struct model_job *job = &model->jobs[number];
    struct model_job *child = &model->jobs[child_number];
    bool was_skipped = model_has_ended(child) && child->skipped_by == number;

    if (job->state == ROTA_SUCCEEDED) {
        if (was_skipped)
            revive(model, child_number);
        child->is_met[after_which(child, number)] = true;
        if (child->state == ROTA_BLOCKED)
            line_up(model, child);
    } else if (model_has_ended(job)) {
        if (child->state != ROTA_BLOCKED)
            return;
        end_unrun(model, child_number, ROTA_CANCELLED, ROTA_CANCELED);
        child->skipped_by = number;
    } else if (was_skipped) {
        revive(model, child_number);
    }
}

static void
tell_child(struct model *model, int number, int child)
{
    const struct model_job *job = &model->jobs[number];
    enum rota_cancel_answer answer;

    if (job->state == ROTA_CANCELLED ||
        (job->state == ROTA_RUNNING && job->is_asked))
        (void)model_cancel(model, child, &answer);
}

/* The first who owes word to others. */
static int
next_debtor(const struct model *model)
{
    for (int i = 0; i < model->n_jobs; i++)
        if (model->jobs[i].owes_those_behind || model->jobs[i].owes_children)
            return i;
    return MODEL_NOBODY;
}

void
model_settle(struct model *model)
{
    int number;

    while ((number = next_debtor(model)) != MODEL_NOBODY) {
        struct model_job *job = &model->jobs[number];
        bool to_those_behind = job->owes_those_behind;

        if (to_those_behind)
            job->owes_those_behind = false;
        else
            job->owes_children = false;
        for (int i = 0; i < model->n_jobs; i++) {
            if (!model_has(model, i))
                continue;
            if (to_those_behind && after_which(&model->jobs[i], number) >= 0)
                tell_behind(model, number, i);
            else if (!to_those_behind && model->jobs[i].parent == number)
                tell_child(model, number, i);
        }
    }
}

/* -- Time ----------------------------------------------------------------- */

void
model_promote(struct model *model)
{
    for (int i = 0; i < model->n_jobs; i++)
        if (model_waits(&model->jobs[i]) && is_late(model, &model->jobs[i]))
            end_unrun(model, i, ROTA_JOB_FAILED, ROTA_DEADLINE);
    for (int i = 0; i < model->n_jobs; i++)
        if (model_has(model, i) && model->jobs[i].state == ROTA_SCHEDULED &&
            model->jobs[i].run_at <= model->now)
            model->jobs[i].state = ROTA_READY;
}
