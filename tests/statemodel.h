/*
 * What becomes of jobs, in plain C: the outcome rules of rota/job.h, the calls
 * of rota/scheduler.h and the moves between the states, with nothing of the
 * store in it. What the store does is held against it (sessions.h).
 *
 * Jobs are called by number here, from 0 in the order of their making. A model
 * is copied by assignment: that is how a transaction is rolled back. One queue,
 * one kind.
 */
#ifndef STATEMODEL_H
#define STATEMODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/scheduler.h>

#define MODEL_JOBS      6
#define MODEL_AFTER     2
#define MODEL_RUNS      96
#define MODEL_PROCESSES 64
#define MODEL_NOBODY    (-1)

/* A run that came back, or ended. */
struct model_run {
    int64_t lease, worker;
    const char *outcome;
    enum rota_error code;
};

struct model_job {
    int64_t id; /* the file's number for it */
    enum rota_state state;
    bool is_forgotten;

    /* as it was submitted */
    int64_t priority, deadline_at, max_attempts;
    int unique_key, limit_key; /* which; 0: none */
    int after[MODEL_AFTER], n_after, parent;

    /* since then; failures and crashes are of the runs that came back */
    int64_t lease, failures, crashes, cursor;
    int64_t run_at, run_by; /* some time between these */
    bool is_met[MODEL_AFTER];
    struct model_run runs[MODEL_RUNS];
    int n_runs;

    /* of the run at hand, or of its end */
    int64_t worker; /* 0: there was none */
    bool has_started, has_advanced, is_asked, has_cause;
    int64_t attempt, finished_at;
    enum rota_error code;
    int skipped_by; /* the job that it waited for */

    /* whom this job's end, or its return, concerns and who has not heard */
    bool owes_those_behind, owes_children;
};

struct model_process {
    int64_t id;
    bool lives, is_open;
};

struct model {
    int64_t now;
    bool is_paused;
    int64_t queue_limit, key_limit; /* of the queue, 0: none; of every key */
    struct model_job jobs[MODEL_JOBS];
    int n_jobs;
    struct model_process processes[MODEL_PROCESSES];
    int n_processes;
};

/* -- Asking --------------------------------------------------------------- */

bool model_waits(const struct model_job *job);
bool model_has_ended(const struct model_job *job);

/* Whether a call that names job finds it. */
bool model_has(const struct model *model, int job);

/* The process called id. */
struct model_process *model_process(struct model *model, int64_t id);

/* The job that has key and has not ended, or MODEL_NOBODY. */
int model_rival(const struct model *model, int key);

/* -- Moves ---------------------------------------------------------------- */

/* wish is what it is submitted with. Its id is for the caller to fill in. */
enum rota_error model_submit(struct model *model, const struct model_job *wish);

/* Claim up to limit jobs. *ret_n are the numbers in claimed. */
void model_claim(struct model *model, int64_t process, int limit, int *claimed,
                 int *ret_n);

/* What a run writes. job may be MODEL_NOBODY. cursor < 0: nothing new. */
enum rota_error model_progress(struct model *model, int job, int64_t lease,
                               int64_t cursor);

struct model_ending {
    enum rota_error error;
    enum rota_stop_reason stop;
    bool never_started;
    int64_t cursor, snooze_ms;
};
enum rota_error model_end(struct model *model, int job, int64_t lease,
                          const struct model_ending *ending,
                          enum rota_state *ret_state);

enum rota_error model_cancel(struct model *model, int job,
                             enum rota_cancel_answer *ret_answer);
enum rota_error model_retry(struct model *model, int job, bool restart);
enum rota_error model_reschedule(struct model *model, int job,
                                 const int64_t *priority,
                                 const int64_t *run_at);

/* How many jobs run in the process; of them suspects, and those that run alone.
 */
void model_aboard(const struct model *model, int64_t process, int64_t *ret_jobs,
                  int64_t *ret_suspects, int64_t *ret_alone);

/* *ret_jobs: how many there were. */
void model_rescue(struct model *model, int64_t process, int64_t *ret_jobs);

/* Forget job if it has ended before the time: true if it is gone. */
bool model_prune(struct model *model, int job, int64_t before);

/* Tell everybody. */
void model_settle(struct model *model);

/* What time makes of jobs. */
void model_promote(struct model *model);

#endif
