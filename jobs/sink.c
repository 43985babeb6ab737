/* See sink.h. */
#define _GNU_SOURCE
#include "jobs/sink.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jobs/json.h"
#include "jobs/real.h"
#include "jobs/signature.h"

/* -- CSV and TSV ---------------------------------------------------------- */

/* Whether a file that begins so would be taken for something else than rows: by
 * its signature, a byte order mark, or "sep=". */
static bool
is_misleading(const char *data, size_t size)
{
    return signature_of(data, size).what != NULL ||
           (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) ||
           (size >= 4 && memcmp(data, "sep=", 4) == 0) ||
           memchr(data, '\0', size < 4 ? size : 4) != NULL;
}

/* Whether a field would not be read as it is. */
static bool
is_ambiguous(const struct sink *sink, int i, const char *data, size_t size)
{
    const struct dialect *dialect = &sink->dialect;

    return (size > 0 && (memchr(data, dialect->delimiter, size) != NULL ||
                         memchr(data, '\n', size) != NULL ||
                         memchr(data, '\r', size) != NULL)) ||
           (dialect->null != NULL && strlen(dialect->null) == size &&
            memcmp(data, dialect->null, size) == 0) ||
           (i == 0 && size > 0 && is_misleading(data, size) &&
            ftello(sink->file) == 0);
}

/* Whether one is quoted, where that can be: quotes stand only where they are
 * needed, as people expect of numbers, or help others to read. An empty text is
 * told from NULL by them. */
static bool
is_quoted(const struct sink *sink, int i, const char *data, size_t size)
{
    return size == 0 || is_ambiguous(sink, i, data, size) ||
           memchr(data, sink->dialect.quote, size) != NULL || data[0] == ' ' ||
           data[size - 1] == ' ';
}

static bool
put_quoted(FILE *file, char quote, const char *data, size_t size)
{
    const char *end = data + size, *next;

    if (fputc(quote, file) == EOF)
        return false;
    for (; (next = memchr(data, quote, (size_t)(end - data))) != NULL;
         data = next + 1)
        if (fwrite(data, 1, (size_t)(next + 1 - data), file) !=
                (size_t)(next + 1 - data) ||
            fputc(quote, file) == EOF)
            return false;
    return fwrite(data, 1, (size_t)(end - data), file) ==
               (size_t)(end - data) &&
           fputc(quote, file) != EOF;
}

static bool
put_field(struct sink *sink, int i, const char *data, size_t size)
{
    char quote = sink->dialect.quote;

    if (size == 0)
        data = "";
    if (quote == '\0' && is_ambiguous(sink, i, data, size)) {
        sink->problem = "a field has a delimiter or a line end in it, or is "
                        "what stands for NULL: it takes quotes, quote=";
        return false;
    }
    if (quote != '\0' && is_quoted(sink, i, data, size))
        return put_quoted(sink->file, quote, data, size);
    return fwrite(data, 1, size, sink->file) == size;
}

/* As SQLite says it, if that is the same when it is read, and else with more
 * digits. */
static bool
put_real(struct sink *sink, int i, sqlite3_stmt *statement)
{
    double real = sqlite3_column_double(statement, i);
    const char *text = (const char *)sqlite3_column_text(statement, i);
    double back = text != NULL ? strtod(text, NULL) : 0;
    char exact[40];

    if (isinf(real))
        text = real > 0 ? "9e999" : "-9e999";
    else if (text == NULL || back < real || back > real) {
        real_print(exact, real);
        if (strpbrk(exact, ".e") == NULL)
            (void)strcat(exact, ".0");
        text = exact;
    }
    return put_field(sink, i, text, strlen(text));
}

static bool
put_value(struct sink *sink, int i, sqlite3_stmt *statement)
{
    const char *null = sink->dialect.null != NULL ? sink->dialect.null : "";
    const char *data;

    if (i > 0 && fputc(sink->dialect.delimiter, sink->file) == EOF)
        return false;
    switch (sqlite3_column_type(statement, i)) {
    case SQLITE_NULL:
        return fputs(null, sink->file) != EOF;
    case SQLITE_FLOAT:
        return put_real(sink, i, statement);
    default:
        data = sqlite3_column_blob(statement, i);
        return put_field(sink, i, data,
                         (size_t)sqlite3_column_bytes(statement, i));
    }
}

bool
sink_names(struct sink *sink, sqlite3_stmt *statement)
{
    if (sink->file == NULL || sink->is_json || !sink->dialect.has_header)
        return true;
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
        const char *name = sqlite3_column_name(statement, i);

        if ((i > 0 && fputc(sink->dialect.delimiter, sink->file) == EOF) ||
            name == NULL || !put_field(sink, i, name, strlen(name)))
            return false;
    }
    return fputs(sink->line_end, sink->file) != EOF;
}

static bool
dialect_row(struct sink *sink, sqlite3_stmt *statement)
{
    for (int i = 0; i < sqlite3_column_count(statement); i++)
        if (!put_value(sink, i, statement))
            return false;
    return fputs(sink->line_end, sink->file) != EOF;
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
                         : dialect_row(sink, statement);
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
