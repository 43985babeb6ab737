/*
 * The cast: other processes on the stage, and this one among them. They are the
 * rota command, and this program executed again in a role (roles.c). Nobody
 * waits for a guessed time: who has got where is seen in the file, in a log to
 * which jobs add a line when they begin, and in the byte locks of <db>-lock.
 * All children die with the test.
 */
#ifndef CAST_H
#define CAST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "stage.h"

/* What is promised within a second, on a machine that has other things to do
 * as well. */
#define A_SECOND    ROTA_SEC(IS_SANITIZED ? 20 : 5)
#define LONG_ENOUGH ROTA_SEC(60)

#define WITHIN(time, condition)                                         \
    do {                                                                \
        const int64_t limit_ = ctx_now() + (time);                      \
                                                                        \
        while (!(condition)) {                                          \
            ck_assert_msg(ctx_now() < limit_, "never: %s", #condition); \
            (void)ctx_sleep(ctx_background(), ROTA_MS(5));              \
        }                                                               \
    } while (0)
#define EVENTUALLY(condition) WITHIN(LONG_ENOUGH, condition)

extern char self[4096];         /* this program */
extern char rota_command[4128]; /* the other one */
extern char target[128];        /* what imports write */

/* Play argv's role, if there is one, or run suite: main()'s result. */
int cast_main(int argc, char **argv, struct Suite *suite);

/* Checked fixtures: the stage, with rota opened for four workers and all kinds,
 * durably. All children are killed. */
void cast_set(void);
void cast_clear(void);

/* A case of suite with these, and two minutes for each test. */
struct TCase *cast_case(struct Suite *suite, const char *name);

/* Have rota run the kinds of roles.c, and imports. */
bool handle_kinds(void);

void work_here(void);

/* -- A log that jobs of all processes write ------------------------------- */

struct path {
    char text[300];
};

/* A file in the folder of the queue: beside("log").text. Any thread. */
struct path beside(const char *name);

void note(const char *word, int64_t id, int64_t lease);

struct noted {
    char word[16];
    int64_t id, lease;
    pid_t pid;
};

/* The next line of the log. */
bool noted_next(FILE *log, struct noted *noted);

/* How many lines have the word and are of process pid; of any if it is 0. */
int noted(const char *word, pid_t pid);

/* The process of the latest line with the word. */
pid_t noted_last(const char *word);

/* -- Children ------------------------------------------------------------- */

extern int child_input; /* what they read, if not nothing */

/* This program in a role, with the words that follow up to NULL. */
pid_t child_start(const char *role, ...);
#define ROTA_START(...) \
    child_start("--exec", rota_command, __VA_ARGS__, "--db", queue, NULL)

/* Its exit code, or the signal that ended it, negative. */
int child_await(pid_t pid);

void child_ends_with(pid_t pid, int code);
#define ROTA_ENDS_WITH(code, ...) child_ends_with(ROTA_START(__VA_ARGS__), code)

void child_kill(pid_t pid);

/* Until it is stopped. */
void child_await_stop(pid_t pid);

/* Stop it, but not while all others must wait for it. */
void child_stop(pid_t pid);

/* Whether a process is between the transactions' gate and its end. */
bool somebody_writes(void);

/* Whether one is the next to, and waits for another that writes. */
bool somebody_is_next(void);

/* Whether it is a worker that works. */
bool works(pid_t pid);

/* A process with so many workers for all kinds, idle. */
pid_t worker_start(const char *threads);

/* Another process with n jobs that have begun. */
pid_t worker_with(const char *kind, int n);

/* The rota command, at work. */
pid_t rota_work_start(void);

/* -- Jobs ----------------------------------------------------------------- */

int64_t submit_kind(const char *kind);
int64_t submit_with(const char *kind, const char *args, const char *batch,
                    int64_t deadline);

/* What the view says of the job: state, lease. */
bool stands(int64_t id, const char *where);

/* Let the jobs that wait for it end. */
void open_gate(void);

/* How many run, in all processes. */
int running(void);

/* For so long, and twice at least, have others look for dead processes: job 1
 * stays whose it is. */
void check_kept(int64_t time);

/* As a context that ends with the signal. */
struct ctx *ctx_with_signal(int number);

/* -- An import that is stopped -------------------------------------------- */

#define ROWS 1000

extern char file_word[160], into_word[160]; /* for the rota command */

/* A first run takes its time at each row: it is in the middle for long. */
void import_prepare(void);

int64_t import_submit(int64_t deadline);
void import_await_middle(void);

/* One that is in the middle. */
int64_t import_midway(void);

/* -- Calls in threads ----------------------------------------------------- */

/* A call that waits, in a thread of its own. */
struct sitting {
    struct ctx *ctx;
    int64_t id;
    const char *kind;
    enum rota_error error;
    struct rota_outcome outcome;
};

/* A thread's body, for a struct sitting. */
void *wait_in_thread(void *arg);
void *run_in_thread(void *arg);
void *submit_in_thread(void *arg);
void *cancel_in_thread(void *arg);

#endif
