/* See dialect.h. */
#include "jobs/dialect.h"

#include <stdio.h>
#include <string.h>

/* Whether text is one character that may stand between fields or around them.
 * Only of ASCII: it is looked for byte by byte. */
static bool
is_mark(const char *text, size_t size)
{
    return size == 1 && text[0] > 0 && text[0] < 0x7f && text[0] != '\n' &&
           text[0] != '\r';
}

static enum rota_error
read_delimiter(struct rota_job *job, const char *text, struct dialect *dialect)
{
    if (text == NULL)
        return ROTA_OK;
    if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
        text = "\t";
    if (!is_mark(text, strlen(text)))
        return rota_job_fail(job, ROTA_FATAL,
                             "delimiter=%s: must be one ASCII character, or "
                             "tab",
                             text);
    dialect->delimiter = text[0];
    dialect->is_named = true;
    return ROTA_OK;
}

static enum rota_error
read_quote(struct rota_job *job, const char *text, struct dialect *dialect)
{
    if (text == NULL)
        return ROTA_OK;
    if (strcmp(text, "none") == 0)
        dialect->quote = '\0';
    else if (is_mark(text, strlen(text)))
        dialect->quote = text[0];
    else
        return rota_job_fail(job, ROTA_FATAL,
                             "quote=%s: must be one ASCII character, or none",
                             text);
    return ROTA_OK;
}

static enum rota_error
read_null(struct rota_job *job, const char *text, struct dialect *dialect)
{
    dialect->null = text;
    if (text == NULL)
        return ROTA_OK;
    if (strpbrk(text, "\r\n") != NULL ||
        strchr(text, dialect->delimiter) != NULL ||
        (dialect->quote != '\0' && text[0] == dialect->quote))
        return rota_job_fail(job, ROTA_FATAL,
                             "null=%s: no field is that: it has a delimiter, a "
                             "quote or a line end in it",
                             text);
    return ROTA_OK;
}

static enum rota_error
read_header(struct rota_job *job, const char *text, struct dialect *dialect)
{
    if (text == NULL)
        return ROTA_OK;
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return rota_job_fail(job, ROTA_FATAL, "header=%s: must be yes or no",
                             text);
    dialect->has_header = text[0] == 'y';
    return ROTA_OK;
}

enum rota_error
dialect_read(struct rota_job *job, const struct args *args, bool is_tsv,
             struct dialect *ret_dialect)
{
    struct dialect dialect = {.delimiter = is_tsv ? '\t' : ',',
                              .quote = is_tsv ? '\0' : '"',
                              .has_header = true};
    enum rota_error error;

    error = read_delimiter(job, args_text(args, "delimiter"), &dialect);
    if (error == ROTA_OK)
        error = read_quote(job, args_text(args, "quote"), &dialect);
    if (error == ROTA_OK && dialect.quote == dialect.delimiter)
        error = rota_job_fail(job, ROTA_FATAL,
                              "delimiter= and quote= are the same");
    if (error == ROTA_OK)
        error = read_null(job, args_text(args, "null"), &dialect);
    if (error == ROTA_OK)
        error = read_header(job, args_text(args, "header"), &dialect);
    if (error == ROTA_OK)
        *ret_dialect = dialect;
    return error;
}

bool
dialect_is_separator(const char *line, size_t size, char *ret_delimiter)
{
    while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == '\n'))
        size--;
    if (size != 5 || memcmp(line, "sep=", 4) != 0 || !is_mark(line + 4, 1))
        return false;
    *ret_delimiter = line[4];
    return true;
}
