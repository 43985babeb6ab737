/*
 * See source.h. The file is read by rows.c; what is added here is which rows
 * name the columns, a digest of all that was read, and errors in the job's
 * words.
 */
#define _GNU_SOURCE /* O_CLOEXEC */
#include "jobs/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/signature.h"

static enum rota_error
fail(struct source *source, enum rota_error error, const char *verb)
{
    return files_fail(source->job, error, verb, source->path);
}

/* -- Opening ------------------------------------------------------------- */

/* What the file is encoded in, unless that was told. */
static enum rota_error
find_encoding(struct source *source)
{
    struct signature is = signature_read(source->path);

    if (is.advice != NULL)
        return rota_job_fail(source->job, ROTA_FATAL, "%s is %s, not text: %s",
                             source->path, is.what, is.advice);
    if (source->dialect.encoding != NULL)
        return ROTA_OK;
    if (is.is_guess)
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s looks like %s: say encoding=%s", source->path,
                             is.what, is.encoding);
    source->dialect.encoding = is.encoding;
    return ROTA_OK;
}

enum rota_error
source_open(struct source *source)
{
    enum rota_error error;
    struct stat file;
    int fd;

    if (stat(source->path, &file) != 0)
        return fail(source, ROTA_FATAL, "open");
    if (S_ISDIR(file.st_mode)) {
        errno = EISDIR;
        return fail(source, ROTA_FATAL, "open");
    }
    if (!S_ISREG(file.st_mode))
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s is no regular file, so that the import could "
                             "not be taken up again",
                             source->path);
    error = files_refuse_databases(source->ctx, source->job, "file",
                                   source->path, source->into);
    if (error == ROTA_OK)
        error = find_encoding(source);
    if (error != ROTA_OK)
        return error;
    fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(source, ROTA_FATAL, "open");
    source->fd = fd;
    source->is_open = true;
    rows_init(&source->rows, source->ctx, fd, &source->dialect);
    rowset_init(&source->group);
    return ROTA_OK;
}

void
source_close(struct source *source)
{
    if (!source->is_open)
        return;
    rows_fini(&source->rows);
    rowset_fini(&source->group);
    (void)close(source->fd);
}

/* -- Reading ------------------------------------------------------------- */

/* What an answer means for the job. *ret_is_end: there is no more. */
static enum rota_error
error_of(struct source *source, enum rows_answer answer, bool *ret_is_end)
{
    *ret_is_end = answer == ROWS_END;
    switch (answer) {
    case ROWS_ROW:
    case ROWS_END:
        return ROTA_OK;
    case ROWS_STOPPED:
        return ctx_err(source->ctx);
    case ROWS_NO_MEMORY:
        return ROTA_NOMEM;
    case ROWS_IO:
        break;
    }
    return fail(source, ROTA_FAILED, "read");
}

/* Note what came: the last row of the group, whose bytes begin at before. */
static void
note(struct source *source, size_t before)
{
    const struct rowset *group = &source->group;
    const struct row *row = &group->rows[group->n - 1];

    source->digest =
        digest_add(source->digest, group->text + before, group->size - before);
    if (row->n_bytes == 0 || row->n != source->n_columns)
        return;
    if (source->not_text == 0)
        source->not_text_line = row->line;
    source->not_text += (int64_t)row->n_bytes;
}

enum rota_error
source_next(struct source *source, bool *ret_is_end)
{
    struct rowset *group = &source->group;
    size_t before = group->size;
    enum rows_answer answer;

    if (ctx_done(source->ctx))
        return ctx_err(source->ctx);
    answer = rows_next(&source->rows, group);
    if (answer == ROWS_ROW)
        note(source, before);
    return error_of(source, answer, ret_is_end);
}

static enum rota_error
go_to(struct source *source, const struct rows_place *place)
{
    return rows_seek(&source->rows, place) ? ROTA_OK
                                           : fail(source, ROTA_FAILED, "read");
}

/* Go past the lines that are no rows: those to skip, and the one with which
 * Excel says what the delimiter is. */
static enum rota_error
skip_lines(struct source *source)
{
    struct dialect *dialect = &source->dialect;
    struct rows_place begin = rows_tell(&source->rows);
    enum rota_error error = ROTA_OK;
    bool is_end = false, has_mark;
    char delimiter;

    error = error_of(source,
                     rows_find_separator(&source->rows, &has_mark, &delimiter),
                     &is_end);
    has_mark = error == ROTA_OK && has_mark && delimiter != dialect->quote;
    if (has_mark && !dialect->is_named)
        dialect->delimiter = delimiter;
    if (error == ROTA_OK && !has_mark)
        error = go_to(source, &begin);
    for (int64_t i = has_mark; error == ROTA_OK && !is_end && i < source->skip;
         i++)
        error = error_of(source, rows_skip_line(&source->rows), &is_end);
    return error;
}

/* The first row, which names the columns, or has as many fields as there are.
 */
static enum rota_error
read_first(struct source *source, struct table *table)
{
    struct rows_place begin = rows_tell(&source->rows);
    const struct row *row;
    enum rota_error error;
    bool is_end;

    error = source_next(source, &is_end);
    if (error != ROTA_OK)
        return error;
    if (is_end)
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s is empty: no row names the columns",
                             source->path);
    row = &source->group.rows[0];
    if (row->bad != NULL)
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s, line %" PRId64 ", names of columns: %s",
                             source->path, row->line, row->bad);
    if (source->dialect.has_header)
        return table_columns_from_row(table, &source->group, row);
    error = table_columns_unnamed(table, row->n);
    source->digest = 0; /* it is read again, as a row */
    return error == ROTA_OK ? go_to(source, &begin) : error;
}

/* The columns that are told, and the first row is no row if it is names. */
static enum rota_error
read_list(struct source *source, struct table *table)
{
    enum rota_error error = table_columns_from_list(table, source->columns);
    bool is_end;

    if (error == ROTA_OK && source->dialect.has_header)
        error = source_next(source, &is_end);
    return error;
}

static enum rota_error
read_columns(struct source *source, struct table *table)
{
    enum rota_error error;

    error = skip_lines(source);
    if (error == ROTA_OK)
        error = source->columns != NULL ? read_list(source, table)
                                        : read_first(source, table);
    if (error == ROTA_FATAL && table->message[0] != '\0')
        return rota_job_fail(source->job, error, "%s", table->message);
    rowset_clear(&source->group);
    source->n_columns = table->n;
    source->rows.has_blanks = table->n == 1 && source->dialect.null != NULL &&
                              source->dialect.null[0] == '\0';
    return error;
}

/* Go past the next row: behind the cursor's nothing has to be known of it but
 * that it is one. */
static enum rota_error
pass(struct source *source, bool is_done, bool *ret_is_end)
{
    enum rota_error error;

    if (!is_done)
        return error_of(source, rows_next(&source->rows, NULL), ret_is_end);
    error = source_next(source, ret_is_end);
    rowset_clear(&source->group);
    return error;
}

enum rota_error
source_survey(struct source *source, struct table *table, int64_t cursor)
{
    enum rota_error error = read_columns(source, table);
    struct rows_place place = rows_tell(&source->rows);
    bool is_end = false;
    int64_t n = 0;

    while (error == ROTA_OK && !is_end) {
        if (n == cursor)
            place = rows_tell(&source->rows);
        error = pass(source, n < cursor, &is_end);
        n += error == ROTA_OK && !is_end;
    }
    if (error != ROTA_OK)
        return error;
    if (n < cursor)
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s has %" PRId64 " rows, but %" PRId64
                             " were imported before: it was cut or replaced",
                             source->path, n, cursor);
    rota_job_total(source->job, n);
    return go_to(source, &place);
}
