/*
 * A folder of the test's own below TMPDIR, or /tmp, and looking into SQLite
 * files as a foreign client does.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stddef.h>
#include <stdint.h>

/* Make the folder; remove it with all in it. */
void scratch_make(void);
void scratch_remove(void);

/* The path of a file in the folder. Eight of them live at a time in a
 * thread. */
const char *in_scratch(const char *name);

void scratch_write(const char *name, const void *data, size_t size);
void scratch_write_text(const char *name, const char *text);

/* All of the file at path, and a NUL behind it; malloc'd. */
char *file_read(const char *path, size_t *ret_size);

/* Make the file at path a queue of that older version. */
void scratch_make_version(const char *path, int version);

/* n rows "i,row i" below the names id and text. */
void scratch_write_rows(const char *name, int n);

/* Have the calls below use one connection to the file at path, until NULL: it
 * reads the schema once. */
void sql_keep(const char *path);

/* Run sql, made as by printf, on the file at path, which is made if it is not
 * there, waiting for locks. NULL, or the message of its failure, until the
 * next call. */
const char *sql_try(const char *path, const char *sql, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, and it must succeed. */
void sql_run(const char *path, const char *sql, ...)
    __attribute__((format(printf, 2, 3)));

/* The first value of the first row, which must be there; NULL is 0. The file
 * must be there too. */
int64_t sql_int(const char *path, const char *sql, ...)
    __attribute__((format(printf, 2, 3)));

/* What sql gives: rows are lines, values stand between bars, NULL is "NULL".
 * Until the next call. */
const char *sql_text(const char *path, const char *sql, ...)
    __attribute__((format(printf, 2, 3)));

#endif
