/* See sink.h. */
#define _GNU_SOURCE
#include "jobs/sink.h"

#include <csv.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/json.h"

/* -- CSV ----------------------------------------------------------------- */

static bool
put_field(FILE *file, int i, const char *data, size_t size)
{
    if (i > 0 && fputc(',', file) == EOF)
        return false;
    /* quotes only where they are needed, as people expect of numbers */
    if (size > 0 && memchr(data, '"', size) == NULL &&
        memchr(data, ',', size) == NULL && memchr(data, '\n', size) == NULL &&
        memchr(data, '\r', size) == NULL && data[0] != ' ' &&
        data[size - 1] != ' ')
        return fwrite(data, 1, size, file) == size;
    return size == 0 || csv_fwrite(file, data, size) == 0;
}

bool
sink_names(struct sink *sink, sqlite3_stmt *statement)
{
    if (sink->file == NULL || sink->is_json)
        return true;
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
        const char *name = sqlite3_column_name(statement, i);

        if (name == NULL || !put_field(sink->file, i, name, strlen(name)))
            return false;
    }
    return fputs("\r\n", sink->file) != EOF;
}

static bool
csv_row(struct sink *sink, sqlite3_stmt *statement)
{
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
        const void *data = sqlite3_column_blob(statement, i);
        size_t size = (size_t)sqlite3_column_bytes(statement, i);

        if (sqlite3_column_type(statement, i) == SQLITE_TEXT && size == 0) {
            /* an empty text is "", NULL is nothing */
            if ((i > 0 && fputc(',', sink->file) == EOF) ||
                fputs("\"\"", sink->file) == EOF)
                return false;
        } else if (!put_field(sink->file, i, data, size)) {
            return false;
        }
    }
    return fputs("\r\n", sink->file) != EOF;
}

/* -- JSON Lines ---------------------------------------------------------- */

static struct rota_value
value_of(sqlite3_stmt *statement, int i)
{
    struct rota_value value = {.type = ROTA_NULL};

    switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
        value.type = ROTA_INTEGER;
        value.integer = sqlite3_column_int64(statement, i);
        break;
    case SQLITE_FLOAT:
        value.type = ROTA_REAL;
        value.real = sqlite3_column_double(statement, i);
        break;
    case SQLITE_TEXT:
        value.type = ROTA_TEXT;
        value.data = (const char *)sqlite3_column_text(statement, i);
        value.size = (size_t)sqlite3_column_bytes(statement, i);
        break;
    case SQLITE_BLOB:
        value.type = ROTA_BLOB;
        value.data = sqlite3_column_blob(statement, i);
        value.size = (size_t)sqlite3_column_bytes(statement, i);
        break;
    default:
        break;
    }
    return value;
}

static bool
json_line(struct sink *sink, sqlite3_stmt *statement)
{
    int n = sqlite3_column_count(statement);
    const char **names = calloc((size_t)n, sizeof(*names));
    struct rota_value *values = calloc((size_t)n, sizeof(*values));
    json_t *row = NULL;
    bool ok;

    for (int i = 0; names != NULL && values != NULL && i < n; i++) {
        names[i] = sqlite3_column_name(statement, i);
        values[i] = value_of(statement, i);
    }
    if (names != NULL && values != NULL)
        row = json_row(n, names, values);
    if (row == NULL)
        errno = ENOMEM;
    ok = row != NULL && json_print(row, sink->file) == 0;
    json_decref(row);
    free(names);
    free(values);
    return ok;
}

/* -- The file ------------------------------------------------------------ */

bool
sink_row(struct sink *sink, sqlite3_stmt *statement)
{
    sink->n_rows++;
    if (sink->file == NULL)
        return true;
    return sink->is_json ? json_line(sink, statement)
                         : csv_row(sink, statement);
}

bool
sink_sync(struct sink *sink, int64_t *ret_size)
{
    *ret_size = 0;
    if (sink->file == NULL)
        return true;
    if (fflush(sink->file) != 0 || fdatasync(fileno(sink->file)) != 0)
        return false;
    *ret_size = ftello(sink->file);
    return *ret_size >= 0;
}

bool
sink_truncate(struct sink *sink, int64_t size)
{
    return sink->file == NULL || (fflush(sink->file) == 0 &&
                                  ftruncate(fileno(sink->file), size) == 0 &&
                                  fseeko(sink->file, size, SEEK_SET) == 0);
}

bool
sink_close(struct sink *sink)
{
    FILE *file = sink->file;

    sink->file = NULL;
    return file == NULL || fclose(file) == 0;
}
