/*
 * What tests of the kind "import" share: a queue whose workers know it and
 * "sql", and imports of in.csv into the table t of out.db, all in a folder of
 * the test's own. One thread calls.
 */
#ifndef IMPORTING_H
#define IMPORTING_H

#include <rota.h>

extern struct rota *rota;
extern struct ctx *run;             /* the workers' */
extern struct rota_outcome outcome; /* of the job that was waited for, and */
extern char result[512];            /* its result */

void importing_setup(void);
void importing_teardown(void);
void open_queue(void);

/* Arguments for in.csv into out.db, and what else is given. Until the next
 * call. */
const char *args_with(const char *more);

int64_t submit(const char *args);

/* Submit to another kind than import: sql. */
int64_t submit_to(const char *kind, const char *args);

/* Wait until the job has ended: outcome and result say how. */
void wait_for(int64_t id);

/* Import with these arguments; or text, with more than the usual ones. */
void import_args(const char *args);
void import(const char *text, const char *more);

/* Import the file of that name in the folder, into a table of its name. */
void import_file(const char *name, const char *more);

void assert_succeeded(void);

/* It failed with error, and says part on its one line. */
void assert_failed(enum rota_error error, const char *part);

/* Look into out.db, and change it. */
const char *ask(const char *sql);
void prepare(const char *sql);

#endif
