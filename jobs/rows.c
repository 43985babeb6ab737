/*
 * See rows.h. libcsv parses, and knows nothing of lines; so it is given one
 * line after the other, and after each it is asked whether a row is complete.
 * That way the offset and the number of the line behind a row are always known,
 * and a row that is malformed can be given up at the end of its first line.
 */
#define _GNU_SOURCE /* getline, fseeko */
#include "jobs/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- The parser ---------------------------------------------------------- */

static int
no_space(unsigned char c)
{
    (void)c;
    return 0; /* libcsv would trim fields otherwise */
}

/* Forget what the parser has seen of a row. After an error in strict mode it
 * is stuck in the middle of one, and only a new one is not. */
static void
parser_reset(struct rows *rows)
{
    if (rows->has_parser)
        csv_free(&rows->parser);
    (void)csv_init(&rows->parser, CSV_STRICT | CSV_STRICT_FINI);
    csv_set_delim(&rows->parser, (unsigned char)rows->delimiter);
    csv_set_space_func(&rows->parser, no_space);
    csv_set_blk_size(&rows->parser, 4096);
    rows->has_parser = true;
    rows->has_row = false;
    rows->has_no_memory = false;
}

static void
on_field(void *data, size_t size, void *arg)
{
    struct rows *rows = arg;

    if (!rowset_add_field(rows->group, data, size))
        rows->has_no_memory = true;
}

static void
on_row(int c, void *arg)
{
    struct rows *rows = arg;

    (void)c;
    rows->has_row = true;
}

void
rows_init(struct rows *rows, FILE *file, char delimiter)
{
    memset(rows, 0, sizeof(*rows));
    rows->file = file;
    rows->delimiter = delimiter;
    rows->number = 1;
    parser_reset(rows);
}

void
rows_fini(struct rows *rows)
{
    if (rows->has_parser)
        csv_free(&rows->parser);
    free(rows->line);
}

bool
rows_seek(struct rows *rows, int64_t offset, int64_t number)
{
    parser_reset(rows);
    rows->line_at = rows->line_size = 0;
    rows->offset = offset;
    rows->number = number;
    return fseeko(rows->file, (off_t)offset, SEEK_SET) == 0;
}

/* -- Lines --------------------------------------------------------------- */

enum line_answer { LINE_YES, LINE_END, LINE_FAILED };

static enum line_answer
fill(struct rows *rows)
{
    static const char bom[] = "\xef\xbb\xbf";
    ssize_t n;

    errno = 0;
    n = getline(&rows->line, &rows->line_cap, rows->file);
    if (n < 0)
        return ferror(rows->file) || errno == ENOMEM ? LINE_FAILED : LINE_END;
    rows->line_size = (size_t)n;
    rows->line_at = 0;
    if (rows->offset == 0 && n >= 3 && memcmp(rows->line, bom, 3) == 0) {
        rows->line_at = 3;
        rows->offset = 3;
    }
    return LINE_YES;
}

/* The next line with its end, in *ret_line until the next call. getline()
 * stops at LF only: what it read is handed out in pieces that end in CR. */
static enum line_answer
next_line(struct rows *rows, const char **ret_line, size_t *ret_size)
{
    const char *start, *cr;
    size_t size;

    if (rows->line_at >= rows->line_size) {
        enum line_answer answer = fill(rows);

        if (answer != LINE_YES)
            return answer;
    }
    start = rows->line + rows->line_at;
    size = rows->line_size - rows->line_at;
    cr = memchr(start, '\r', size);
    if (cr != NULL && !(cr + 2 == start + size && cr[1] == '\n'))
        size = (size_t)(cr - start) + 1;
    rows->line_at += size;
    rows->offset += (int64_t)size;
    rows->number++;
    *ret_line = start;
    *ret_size = size;
    return LINE_YES;
}

/* -- Rows ---------------------------------------------------------------- */

/* What is known of the row that is being read. */
struct reading {
    struct row row;
    char raw[ROW_RAW_MAX];
    size_t size;       /* bytes so far */
    size_t lines;      /* lines so far */
    size_t first_size; /* of the first of them */
    size_t text_mark;  /* the group as it was before */
    size_t field_mark;
    int64_t after; /* where the row's second line begins */
};

static void
keep_raw(struct reading *reading, const char *line, size_t size)
{
    size_t room = sizeof(reading->raw) - reading->row.raw_size;

    if (size > room)
        size = room;
    memcpy(reading->raw + reading->row.raw_size, line, size);
    reading->row.raw_size += size;
}

static enum rows_answer
end_row(struct rows *rows, struct reading *reading)
{
    struct rowset *group = rows->group;
    struct row *row = &reading->row;

    while (row->raw_size > 0 && (reading->raw[row->raw_size - 1] == '\n' ||
                                 reading->raw[row->raw_size - 1] == '\r'))
        row->raw_size--;
    row->n = group->n_fields - row->first;
    row->raw = group->size;
    if (rows->has_no_memory ||
        !rowset_add_text(group, reading->raw, row->raw_size) ||
        !rowset_add_row(group, row))
        return ROWS_NO_MEMORY;
    return ROWS_ROW;
}

/* Give up the row's first line, and go on at its second. */
static enum rows_answer
give_up(struct rows *rows, struct reading *reading, const char *reason)
{
    rows->group->size = reading->text_mark;
    rows->group->n_fields = reading->field_mark;
    reading->row.bad = reason;
    if (reading->lines == 1) {
        parser_reset(rows);
        return end_row(rows, reading);
    }
    if (reading->row.raw_size > reading->first_size)
        reading->row.raw_size = reading->first_size;
    if (!rows_seek(rows, reading->after, reading->row.line + 1))
        return ROWS_IO;
    return end_row(rows, reading);
}

/* The file ends here: so does a row that was begun. */
static enum rows_answer
end_file(struct rows *rows, struct reading *reading)
{
    if (reading->lines == 0)
        return ROWS_END;
    if (csv_fini(&rows->parser, on_field, on_row, rows) != 0)
        return give_up(rows, reading, "a quote is not closed");
    return rows->has_row ? end_row(rows, reading) : ROWS_END;
}

static void
begin_line(struct rows *rows, struct reading *reading, const char *line,
           size_t size)
{
    if (reading->lines++ == 0) {
        reading->row.line = rows->number - 1;
        reading->after = rows->offset;
        reading->first_size = size;
    }
    reading->size += size;
    keep_raw(reading, line, size);
}

enum rows_answer
rows_next(struct rows *rows, struct rowset *group)
{
    struct reading reading;
    const char *line;
    size_t size;

    memset(&reading.row, 0, sizeof(reading.row));
    reading.size = reading.lines = 0;
    reading.text_mark = group->size;
    reading.field_mark = reading.row.first = group->n_fields;
    rows->group = group;
    rows->has_row = false;
    for (;;) {
        switch (next_line(rows, &line, &size)) {
        case LINE_FAILED:
            return errno == ENOMEM ? ROWS_NO_MEMORY : ROWS_IO;
        case LINE_END:
            return end_file(rows, &reading);
        case LINE_YES:
            break;
        }
        if (reading.lines == 0 && (line[0] == '\n' || line[0] == '\r'))
            continue; /* blank */
        begin_line(rows, &reading, line, size);
        if (reading.size > ROW_SIZE_MAX)
            return give_up(rows, &reading,
                           reading.lines > 1 ? "a quote is not closed"
                                             : "longer than 16 MiB");
        if (csv_parse(&rows->parser, line, size, on_field, on_row, rows) !=
            size)
            return csv_error(&rows->parser) == CSV_EPARSE
                       ? give_up(rows, &reading, "malformed quoting")
                       : ROWS_NO_MEMORY;
        if (rows->has_row)
            return end_row(rows, &reading);
    }
}
