/*
 * What is played while the world refuses: scenes, each a file, a call of rota's
 * own on it, and what the file says behind it. Those of scenes_calls.c are
 * about what a caller asks, those of scenes_runs.c about jobs that run. Test's
 * main thread, unless it says otherwise.
 */
#ifndef SCENES_H
#define SCENES_H

#include <stdbool.h>
#include <stdint.h>

#include "stage.h"

#define START INT64_C(2000000000000)
#define HOUR  INT64_C(3600000)

struct scene {
    const char *name;
    void (*set)(void);            /* makes the file, with rota open */
    rota_job_fn *body;            /* NULL: they succeed */
    enum rota_error (*act)(void); /* while the world refuses */
    const char *query;
    const char *before; /* what it gives when act is refused; NULL: whatever */
    const char *after;  /* and when it is not; NULL: whatever */
    const char *in_the_end;              /* when all has run; NULL: whatever */
    bool is_unopened;                    /* act opens */
    bool is_slow;                        /* for it waits */
    void (*begin)(void);                 /* NULL, or what comes before act */
    void (*end)(enum rota_error answer); /* and behind it; NULL: step on */
};

#define STATES \
    "SELECT group_concat(state) FROM (SELECT state FROM jobs ORDER BY id)"

extern const struct scene call_scenes[], run_scenes[];
extern const int n_call_scenes, n_run_scenes;

/* -- The play ------------------------------------------------------------- */

extern _Atomic int64_t now;  /* what the clock says, to the listener too */
extern rota_job_fn *body;    /* what jobs do */
extern struct rota *other;   /* a second scheduler on the file */
extern struct ctx *patience; /* of who waits for locks as long as it lasts */

/* The runs of this play. */
extern struct ran {
    pthread_mutex_t lock;
    int n;
    int64_t ids[64], leases[64];
} ran;

/* Nothing is asserted while memory is short, for checking needs some: a job or
 * a call says here that what it was told is not so. */
extern bool was_lied_to;

extern bool is_without_memory; /* jobs that it is short for are given back */

/* Each run of this play is in the file, once. */
void assert_runs_recorded(void);

/* -- Opening and running -------------------------------------------------- */

int64_t says_now(void *arg); /* a clock */
enum rota_error try_open(struct rota **ret_rota);
void open_other(void);
void close_other(void);

struct rota_submission of_kind(const char *kind);

/* Run jobs until none is ready. */
void step_until_none(void);

enum rota_error succeeds(struct ctx *ctx, struct rota_job *job);

/* With progress and a result. */
enum rota_error gets_through(struct ctx *ctx, struct rota_job *job);

/* -- What files there are ------------------------------------------------- */

/* A job that comes after the first. */
int64_t submit_behind(int64_t first);

void set_nothing(void);
void set_one(void);

/* Two that come after job 1, one after the other, and its child. */
void set_family(void);

/* Three jobs that have a key each, and one limit. */
void set_key(void);

/* Job 1 of another process, which has died in it; what that wrote is still in
 * the log. */
void set_orphan(void);

/* -- What is asked, by more than one scene -------------------------------- */

enum rota_error first_is_fatal(struct ctx *ctx, struct rota_job *job);
enum rota_error act_submit(void);
enum rota_error act_step(void);
enum rota_error act_step_and_close(void);
enum rota_error act_pause(void);
enum rota_error act_resume(void);

#endif
