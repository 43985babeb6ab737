/*
 * A fresh store in the scratch folder, of the kind that ROTA_TEST_STORE names
 * (sqlite, unless it says otherwise), and what tests ask of it: the moves of a
 * job as cycles of one wish each, a look at the public views as rota_query()
 * gives it, and a shell of the store's kind, which is a foreign client.
 *
 * What a kind is, only its struct storage_kind says. For one thread at a time.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct Suite;

/* -- Kinds ---------------------------------------------------------------- */

struct storage_kind {
    const char *name;
    /* the name of a queue in the scratch folder. NULL: it is not built in */
    const char *(*queue)(const char *name);
    /* a foreign client runs sql: NULL, or the message of its failure */
    const char *(*run)(const char *queue, const char *sql);
    /* add to text, of that size, all that is kept of jobs and their runs,
     * public or not, in an order that depends on nothing else */
    void (*keeps)(const char *queue, char *text, size_t size);
    /* it has been opened; it is to be closed */
    void (*begin)(const char *queue);
    void (*end)(void);
};
extern const struct storage_kind storage_sqlite; /* storage_sqlite.c */

/* Have the calls below use this kind, whatever the environment says. */
void storage_use(const struct storage_kind *kind);

/* Run suite for the kind that the environment names: main()'s result. What is
 * not built in is skipped, with a line that says so; what nobody knows fails.
 */
int storage_suite_run(struct Suite *suite);

/* -- The store of a test --------------------------------------------------- */

#define STORAGE_ATTEMPTS 3

struct storage {
    struct store *store;
    const char *queue;     /* its name */
    int64_t process, kind; /* a process that has joined, and lives; its kind of
                            * jobs, "k", with STORAGE_ATTEMPTS */
    int64_t time;          /* the store's clock stands at; 0: it goes */
    int64_t skipped;       /* and is so much ahead of the machine's */
    enum claim_rest rest;  /* what the last claim left */
};
extern struct storage storage;

/* Fixture: the scratch folder and a fresh store in it. */
void storage_make(void);
void storage_remove(void);

/* Another fresh one, instead of that. */
void storage_renew(void);

/* Close it, and open it again. */
void storage_reopen(void);

/* -- Cycles --------------------------------------------------------------- */

/* Work without anything, of the process and its kind; what has been submitted
 * before is looked at if claims are asked for. */
void work_init(struct work *work);
void work_wish(struct work *work, struct wish *wish);

/* A wish that a submission is submitted. Both must live until the cycle. */
struct submitting {
    struct wish wish;
    struct rota_submission submission;
    int64_t id;
};
void work_submit(struct work *work, struct submitting *submitting,
                 const struct rota_submission *submission);

/* Carry it out, claiming at most limit jobs. Returns their ids in their order,
 * each behind a space, until the next call. */
const char *storage_cycle(struct work *work, size_t limit);

/* A cycle of the wish alone: its answer. */
enum rota_error storage_grant(struct wish *wish);

/* new -> ready ...: one job, plain or not. Its id. */
int64_t storage_submit_plain(void);
int64_t storage_submit(const struct rota_submission *submission);

/* running -> succeeded */
void storage_succeed(const struct claim *claim);

/* ready -> running: one job of kind "k", as process; id 0: there was none. Its
 * arguments are freed. */
struct claim storage_claim(int64_t process);

/* The ids of those that are claimed, at most limit. */
const char *storage_claims(size_t limit);

/* running -> *ret_state; ROTA_LOST. */
enum rota_error storage_end(const struct claim *claim, enum rota_error error,
                            enum rota_stop_reason stop, bool never_started,
                            enum rota_state *ret_state);

/* ROTA_LOST. */
enum rota_error storage_progress(const struct claim *claim, int64_t cursor,
                                 int64_t total);

enum rota_error storage_cancel(int64_t job, const char *reason,
                               enum rota_cancel_answer *ret_answer);
enum rota_error storage_retry(int64_t job);
enum rota_error storage_pause(const char *queue, bool pauses);

/* When there are more chores. */
int64_t storage_chores(void);

/* A process that has joined and died without leaving. */
int64_t storage_dead_process(void);

/* How many jobs of it were rescued. */
int64_t storage_rescue(int64_t process);

/* Another process joins, for "k" in queue alone, or in any if it is NULL. Its
 * number, or the wish's error in *ret_error. */
int64_t storage_join(const char *queue, enum rota_error *ret_error);

/* -- Looking -------------------------------------------------------------- */

/* What the query gives: rows are lines, values stand between bars, NULL is
 * "NULL". Until the next call but one. */
const char *storage_text(const char *sql, ...)
    __attribute__((format(printf, 1, 2)));

/* The first value of the first row, which must be there; NULL is 0. */
int64_t storage_int(const char *sql, ...) __attribute__((format(printf, 1, 2)));

/* The error of the query, whatever it gives. */
enum rota_error storage_look(const char *sql);

/* What is kept of jobs and their runs, to see that nothing has changed. Until
 * the next call but one. */
const char *storage_everything(void);

/* -- The shell ------------------------------------------------------------ */

/* NULL, or the message of its failure, until the next call. */
const char *storage_try(const char *sql, ...)
    __attribute__((format(printf, 1, 2)));

/* It must succeed. */
void storage_run(const char *sql, ...) __attribute__((format(printf, 1, 2)));

#endif
