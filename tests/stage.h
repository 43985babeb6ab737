/*
 * A scheduler on its stage: one queue in a scratch folder, jobs of the kind
 * "k", what they do, what they saw, and how they came out. All but the jobs is
 * for the test's main thread, which asserts.
 */
#ifndef STAGE_H
#define STAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/scheduler.h>

#include "support.h"

struct TCase;
struct store;
struct work;

extern struct rota *rota;
extern struct ctx *run;             /* the workers' */
extern struct rota_outcome outcome; /* of the last wait_for() */
extern char queue[256];             /* the file */

/* Checked fixtures. What is open at the end is closed. */
void stage_set(void);
void stage_clear(void);

/* A case of suite that is played on the stage, with a minute for each test. */
struct TCase *stage_case(struct Suite *suite, const char *name);

/* -- The scheduler -------------------------------------------------------- */

/* Open rota, to acknowledge without a sync; what it logs is kept. */
void open_queue(int workers);

/* By these options, but for flags and log. */
void open_as(struct rota_options options);

/* Open for so many workers, and have jobs of the kind "k" run by fn. */
void open_with(int workers, rota_job_fn *fn);

void start_workers(void);

/* Open with fn and start. */
void begin(int workers, rota_job_fn *fn);

void close_queue(void);

/* How many threads wait for a job, or for any news, in this process. */
size_t sleepers(void);

/* How many requests wait for the next cycle. */
size_t requests(void);

/* Have the store's cycles carried out by fn, which may hold them, or refuse
 * them; cycle_for_real() is the store's own. While no cycle is on. */
void cycles_by(enum rota_error (*fn)(struct store *store, struct work *work));
enum rota_error cycle_for_real(struct store *store, struct work *work);

/* Whether a line with this part was logged about the job. */
bool was_logged(int64_t id, const char *part);
int times_logged(int64_t id, const char *part);

/* -- What jobs do --------------------------------------------------------- */

extern struct act {
    struct gate gate;       /* for those that are held */
    enum rota_error answer; /* what they return */
    atomic_int runs, ends;  /* how many have begun, are about to return */
    int64_t number;         /* a test's own */
    enum rota_error error;  /* the same */
    /* what the last one saw */
    enum rota_stop_reason stop;
    enum rota_error code;
    char words[128];
    bool was_done;
} act;

enum rota_error at_once(struct ctx *ctx, struct rota_job *job);

/* Until the gate is opened. */
enum rota_error held(struct ctx *ctx, struct rota_job *job);

/* Until its context ends; returns its error unless told another. */
enum rota_error until_stopped(struct ctx *ctx, struct rota_job *job);

/* Gets to item 4 of 10 and until stopped; resumed, to the end. number is where
 * it took up. */
enum rota_error in_two_runs(struct ctx *ctx, struct rota_job *job);

/* See why ctx has ended. */
void note_end(struct ctx *ctx, struct rota_job *job);

/* -- Jobs ----------------------------------------------------------------- */

/* Submit a job of the kind "k"; one with so many attempts; another. */
int64_t submit(void);
int64_t submit_attempts(int max_attempts);
int64_t submit_as(const struct rota_submission *submission);

/* One that is due in an hour. */
int64_t submit_later(void);

/* One that has begun when the call returns. */
int64_t submit_running(int max_attempts);

/* One that is claimed and waits behind the one worker, who is busy. */
int64_t submit_claimed(void);

/* Make a job that is scheduled due. */
void hurry(int64_t id);

/* Cancel the job, which is to come to that. */
void cancel(int64_t id, const char *reason, enum rota_cancel_answer expected);

/* Wait until the job has ended: outcome says how. */
void wait_for(int64_t id);
void drain(void);

void assert_outcome(enum rota_state state, enum rota_error error, int attempts,
                    const char *message);

/* Columns of the job's row of the view jobs, as sql_text() gives them. */
const char *job_says(int64_t id, const char *columns);

/* Its runs: lease, outcome, error and message, a line each. */
const char *runs_of(int64_t id);

/* Look until the job has come to that state. */
void await_state(int64_t id, const char *state);

/* Run one job by rota_step(). Its id; 0: none was ready. */
int64_t step(void);

#endif
