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

static enum rota_error
fail(struct source *source, enum rota_error error, const char *verb)
{
    return files_fail(source->job, error, verb, source->path);
}

/* -- Opening ------------------------------------------------------------- */

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
    if (error != ROTA_OK)
        return error;
    fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(source, ROTA_FATAL, "open");
    source->file = fdopen(fd, "r");
    if (source->file == NULL) {
        (void)close(fd);
        return ROTA_NOMEM;
    }
    (void)setvbuf(source->file, NULL, _IOFBF, 1 << 16);
    rows_init(&source->rows, source->file, source->delimiter);
    rowset_init(&source->group);
    return ROTA_OK;
}

void
source_close(struct source *source)
{
    if (source->file == NULL)
        return;
    rows_fini(&source->rows);
    rowset_fini(&source->group);
    (void)fclose(source->file);
}

/* -- Reading ------------------------------------------------------------- */

enum rota_error
source_next(struct source *source, bool *ret_is_end)
{
    const struct rowset *group = &source->group;
    size_t before = group->size;

    *ret_is_end = false;
    if (ctx_done(source->ctx))
        return ctx_err(source->ctx);
    switch (rows_next(&source->rows, &source->group)) {
    case ROWS_ROW:
        source->digest = digest_add(source->digest, group->text + before,
                                    group->size - before);
        return ROTA_OK;
    case ROWS_END:
        *ret_is_end = true;
        return ROTA_OK;
    case ROWS_NO_MEMORY:
        return ROTA_NOMEM;
    case ROWS_IO:
        break;
    }
    return fail(source, ROTA_FAILED, "read");
}

/* The first row, which names the columns. */
static enum rota_error
read_names(struct source *source, struct table *table)
{
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
    error = table_columns_from_row(table, &source->group, row);
    rowset_clear(&source->group);
    return error;
}

static enum rota_error
read_columns(struct source *source, struct table *table)
{
    enum rota_error error;

    if (source->columns != NULL)
        error = table_columns_from_list(table, source->columns);
    else
        error = read_names(source, table);
    if (error == ROTA_FATAL && table->message[0] != '\0')
        return rota_job_fail(source->job, error, "%s", table->message);
    return error;
}

enum rota_error
source_survey(struct source *source, struct table *table, int64_t cursor)
{
    int64_t n = 0, offset = 0, number = 1;
    uint64_t digest = 0;
    bool is_end = false;
    enum rota_error error = read_columns(source, table);

    while (error == ROTA_OK && !is_end) {
        if (n == cursor) {
            offset = source->rows.offset;
            number = source->rows.number;
            digest = source->digest;
        }
        error = source_next(source, &is_end);
        rowset_clear(&source->group);
        if (error == ROTA_OK && !is_end)
            n++;
    }
    if (error != ROTA_OK)
        return error;
    if (n < cursor)
        return rota_job_fail(source->job, ROTA_FATAL,
                             "%s has %" PRId64 " rows, but %" PRId64
                             " were imported before: it was cut or replaced",
                             source->path, n, cursor);
    rota_job_total(source->job, n);
    source->digest = digest;
    if (!rows_seek(&source->rows, offset, number))
        return fail(source, ROTA_FAILED, "read");
    return ROTA_OK;
}
