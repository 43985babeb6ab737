/*
 * How the rows of a file of text are written: what separates fields, what
 * quotes them, what stands for NULL. Read from the arguments of a job; import
 * reads such files, and sql writes them. Any thread; nothing is kept.
 */
#ifndef DIALECT_H
#define DIALECT_H

#include <stdbool.h>

#include "jobs/args.h"

struct dialect {
    char delimiter;
    char quote;           /* '\0': none is one */
    const char *null;     /* unquoted, it is NULL. NULL: nothing is */
    bool has_header;      /* the first row is names */
    bool is_named;        /* the delimiter was given */
    const char *encoding; /* NULL: UTF-8, and what is not is kept as it is */
};

/* The keys, for a kind's list of keys. */
#define DIALECT_KEYS                                                         \
    {"delimiter", 0, "what separates fields: a character, or tab"},          \
        {"quote", 0, "what quotes fields: a character, or none"},            \
        {"null", JOB_KEY_EMPTY, "an unquoted field with this text is NULL"}, \
    {                                                                        \
        "header", 0, "yes or no: whether the first row is names"             \
    }

/* Read them: ret_dialect is set to what is not given, and is for TSV if is_tsv.
 * What makes no sense fails job for good. */
enum rota_error dialect_read(struct rota_job *job, const struct args *args,
                             bool is_tsv, struct dialect *ret_dialect);

/* Whether the size bytes at line are "sep=;", with which Excel says what the
 * delimiter is. *ret_delimiter is that. */
bool dialect_is_separator(const char *line, size_t size, char *ret_delimiter);

#endif
