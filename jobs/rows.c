/*
 * See rows.h. A row is parsed line by line: where nothing is quoted, a line is
 * a row and its delimiters are all that is looked for.
 *
 * A row that turns out to be malformed is begun again at its second line, and
 * that one may fail at the very same place, and so may all rows up to there:
 * the file would be read once for each of its lines. But two rows that are both
 * in quotes where a line begins end in the same way. So the place where a row
 * failed is remembered, and a row that is in quotes before it is given up at
 * its first line.
 */
#include "jobs/rows.h"

#include <string.h>

#include "jobs/utf8.h"

static const char not_closed[] = "a quote is not closed";
static const char too_long[] = "longer than 16 MiB";
static const char not_decoded[] = "bytes that are not in the file's encoding";

void
rows_init(struct rows *rows, struct ctx *ctx, int fd,
          const struct dialect *dialect)
{
    *rows = (struct rows){.dialect = dialect, .doomed = -1};
    lines_init(&rows->lines, ctx, fd, dialect->encoding);
}

void
rows_fini(struct rows *rows)
{
    lines_fini(&rows->lines);
}

struct rows_place
rows_tell(const struct rows *rows)
{
    return (struct rows_place){rows->lines.offset, rows->lines.number,
                               rows->doomed, rows->doom};
}

bool
rows_seek(struct rows *rows, const struct rows_place *place)
{
    rows->doomed = place->doomed;
    rows->doom = place->doom;
    return lines_seek(&rows->lines, place->offset, place->number);
}

/* -- Fields ---------------------------------------------------------------- */

static void
begin_field(struct rows *rows)
{
    if (rows->group != NULL && !rowset_begin_field(rows->group))
        rows->has_no_memory = true;
}

static void
add_text(struct rows *rows, const char *text, size_t size)
{
    if (rows->group != NULL && !rowset_add_text(rows->group, text, size))
        rows->has_no_memory = true;
}

static void
end_field(struct rows *rows, bool is_quoted)
{
    const char *null = rows->dialect->null;
    struct row_field *field;
    const char *text;

    if (rows->group == NULL || rows->has_no_memory)
        return;
    field = rowset_end_field(rows->group);
    text = rows->group->text + field->at;
    field->is_null = !is_quoted && null != NULL &&
                     field->size == strlen(null) &&
                     memcmp(text, null, field->size) == 0;
    field->is_text = utf8_is_text(text, field->size);
    rows->n_bytes += !field->is_text;
}

/* In quotes, from *at on: the text up to the quote that ends the field, behind
 * which *at then is. False: the line ends first. */
static bool
parse_quoted(struct rows *rows, const char **at, const char *line_end)
{
    char quote = rows->dialect->quote;
    const char *next;

    for (;;) {
        next = memchr(*at, quote, (size_t)(line_end - *at));
        if (next == NULL) {
            add_text(rows, *at, (size_t)(line_end - *at));
            return false;
        }
        if (next + 1 == line_end || next[1] != quote) {
            add_text(rows, *at, (size_t)(next - *at));
            *at = next + 1;
            return true;
        }
        add_text(rows, *at, (size_t)(next + 1 - *at)); /* the first of two */
        *at = next + 2;
    }
}

/* Up to the next delimiter, which is what is behind the field. */
static const char *
parse_plain(struct rows *rows, const char *at, const char *end)
{
    const char *next =
        at < end ? memchr(at, rows->dialect->delimiter, (size_t)(end - at))
                 : NULL;

    if (next == NULL)
        next = end;
    begin_field(rows);
    add_text(rows, at, (size_t)(next - at));
    end_field(rows, false);
    return next;
}

enum parsed { PARSED_ROW, PARSED_IN_QUOTES, PARSED_MALFORMED };

/* The part of size bytes at line that is not its end. */
static size_t
without_end(const char *line, size_t size)
{
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
        size--;
    return size;
}

static enum parsed
parse_line(struct rows *rows, const char *line, size_t size)
{
    const char *at = line, *end = line + without_end(line, size);
    char quote = rows->dialect->quote;

    if (rows->group == NULL && !rows->in_quotes &&
        (quote == '\0' || memchr(line, quote, size) == NULL))
        return PARSED_ROW;
    for (;; at++) {
        if (rows->in_quotes || (quote != '\0' && at < end && *at == quote)) {
            if (!rows->in_quotes) {
                begin_field(rows);
                at++;
            }
            rows->in_quotes = !parse_quoted(rows, &at, line + size);
            if (rows->in_quotes)
                return PARSED_IN_QUOTES;
            end_field(rows, true);
            if (at < end && *at != rows->dialect->delimiter)
                return PARSED_MALFORMED;
        } else {
            at = parse_plain(rows, at, end);
        }
        if (at == end)
            return PARSED_ROW;
    }
}

/* -- Rows ------------------------------------------------------------------ */

/* What is known of the row that is being read. */
struct reading {
    struct row row;
    size_t lines;      /* lines so far */
    size_t first_size; /* of the first of them */
    size_t text_mark;  /* the group as it was before */
    size_t field_mark;
};

/* The row is what was kept, or the first size bytes of it. */
static enum rows_answer
end_row(struct rows *rows, struct reading *reading, size_t size)
{
    struct rowset *group = rows->group;
    struct row *row = &reading->row;
    size_t kept;
    const char *raw = lines_kept(&rows->lines, &kept);

    if (group == NULL)
        return ROWS_ROW;
    kept = kept < size ? kept : size;
    row->raw_size = without_end(raw, kept < ROW_RAW_MAX ? kept : ROW_RAW_MAX);
    row->n = group->n_fields - row->first;
    row->n_bytes = row->bad == NULL ? rows->n_bytes : 0;
    row->raw = group->size;
    if (rows->has_no_memory || !rowset_add_text(group, raw, row->raw_size) ||
        !rowset_add_row(group, row))
        return ROWS_NO_MEMORY;
    return ROWS_ROW;
}

/* The row is no row, for that reason: forget its fields. */
static void
drop_fields(struct rows *rows, struct reading *reading, const char *reason)
{
    if (rows->group != NULL) {
        rows->group->size = reading->text_mark;
        rows->group->n_fields = reading->field_mark;
    }
    reading->row.bad = reason;
}

/* The row is whole. */
static enum rows_answer
end_whole(struct rows *rows, struct reading *reading)
{
    size_t size;
    const char *text = lines_kept(&rows->lines, &size);

    if (rows->dialect->encoding != NULL &&
        memchr(text, DECODER_WRONG, size) != NULL)
        drop_fields(rows, reading, not_decoded);
    return end_row(rows, reading, size);
}

/* Give up the row's first line, and go on at its second. The row failed on the
 * line at offset. */
static enum rows_answer
give_up(struct rows *rows, struct reading *reading, int64_t offset,
        const char *reason)
{
    enum rows_answer answer;

    drop_fields(rows, reading, reason);
    answer = end_row(rows, reading, reading->first_size);
    if (reading->lines > 1) {
        rows->doomed = offset;
        rows->doom = reason;
        lines_return(&rows->lines, reading->first_size, reading->row.line + 1);
    }
    return answer;
}

static enum rows_answer
answer_of(enum lines_answer answer)
{
    return answer == LINES_LINE        ? ROWS_ROW
           : answer == LINES_END       ? ROWS_END
           : answer == LINES_STOPPED   ? ROWS_STOPPED
           : answer == LINES_NO_MEMORY ? ROWS_NO_MEMORY
                                       : ROWS_IO;
}

/* The next line is more than a row may be. */
static enum rows_answer
give_up_long(struct rows *rows, struct reading *reading)
{
    struct lines *lines = &rows->lines;
    enum lines_answer skipped;
    enum rows_answer answer;

    if (reading->lines > 0)
        return give_up(rows, reading, lines->offset, not_closed);
    /* its beginning is there, and is gone when it has been skipped */
    reading->row.line = lines->number;
    lines->at += ROW_RAW_MAX;
    reading->first_size = ROW_RAW_MAX;
    answer = give_up(rows, reading, 0, too_long);
    lines->at -= ROW_RAW_MAX;
    if (answer != ROWS_ROW)
        return answer;
    skipped = lines_skip(lines);
    return skipped == LINES_END ? ROWS_ROW : answer_of(skipped);
}

/* The first line of a row. */
static enum lines_answer
first_line(struct rows *rows, struct reading *reading, const char **ret_line,
           size_t *ret_size)
{
    enum lines_answer answer;

    do {
        lines_keep(&rows->lines);
        answer = lines_next(&rows->lines, ret_line, ret_size);
    } while (answer == LINES_LINE && !rows->has_blanks &&
             without_end(*ret_line, *ret_size) == 0);
    if (answer == LINES_LINE) {
        reading->row.line = rows->lines.number - 1;
        reading->first_size = *ret_size;
    }
    return answer;
}

enum rows_answer
rows_next(struct rows *rows, struct rowset *group)
{
    struct reading reading = {.lines = 0};
    enum lines_answer answer;
    const char *line;
    size_t size;

    if (group != NULL) {
        reading.text_mark = group->size;
        reading.field_mark = reading.row.first = group->n_fields;
    }
    rows->group = group;
    rows->in_quotes = rows->has_no_memory = false;
    rows->n_bytes = 0;
    answer = first_line(rows, &reading, &line, &size);
    for (; answer == LINES_LINE;
         answer = lines_next(&rows->lines, &line, &size)) {
        reading.lines++;
        switch (parse_line(rows, line, size)) {
        case PARSED_ROW:
            return end_whole(rows, &reading);
        case PARSED_MALFORMED:
            return give_up(rows, &reading, rows->lines.offset - (int64_t)size,
                           "malformed quoting");
        case PARSED_IN_QUOTES:
            if (rows->lines.offset <= rows->doomed)
                return give_up(rows, &reading, rows->doomed, rows->doom);
        }
    }
    if (answer == LINES_LONG)
        return give_up_long(rows, &reading);
    if (answer == LINES_END && reading.lines > 0)
        return give_up(rows, &reading, rows->lines.offset, not_closed);
    return answer_of(answer);
}

/* -- Lines that are no rows ------------------------------------------------ */

enum rows_answer
rows_skip_line(struct rows *rows)
{
    return answer_of(lines_skip(&rows->lines));
}

enum rows_answer
rows_find_separator(struct rows *rows, bool *ret_is_it, char *ret_delimiter)
{
    enum lines_answer answer;
    const char *line;
    size_t size;

    lines_keep(&rows->lines);
    answer = lines_next(&rows->lines, &line, &size);
    *ret_is_it =
        answer == LINES_LINE && dialect_is_separator(line, size, ret_delimiter);
    return answer == LINES_LONG ? ROWS_ROW : answer_of(answer);
}
