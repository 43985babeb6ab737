/*
 * Files that jobs open with open(), and that therefore must be no databases of
 * this process: closing any descriptor of a SQLite file drops all locks that
 * the process has on it. On the thread that runs the job; no lock.
 */
#ifndef FILES_H
#define FILES_H

#include <stdbool.h>
#include <sys/stat.h>

#include <rota.h>

/* Fail job for good if key=path is its queue's own file or the one at target,
 * or one of those that belong to them; it need not be there. */
enum rota_error files_refuse_databases(struct ctx *ctx, struct rota_job *job,
                                       const char *key, const char *path,
                                       const char *target);

/* Whether path leads to file. */
bool files_is(const struct stat *file, const char *path);

/* Whether path ends in extension, in whatever case. */
bool files_name_ends(const char *path, const char *extension);

/* Fail job with error: "cannot VERB PATH: " and what errno says. If that is a
 * shortage of descriptors or memory, the job is put off instead, and that is
 * logged. */
enum rota_error files_fail(struct rota_job *job, enum rota_error error,
                           const char *verb, const char *path);

#endif
