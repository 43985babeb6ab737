/*
 * Rows of a CSV or TSV file, one after the other, with the line where each
 * begins, from any row's place. On the thread that runs the job; no lock.
 *
 * A field that begins with the dialect's quote is quoted: a quote in it is
 * doubled, and it may hold delimiters and line ends. Elsewhere a quote is data.
 * Blank lines are no rows. Spaces belong to the field they are in (RFC 4180).
 * Where the quoting is malformed, exactly one line is given up as a bad row,
 * the one on which the row began, and reading goes on at the line after it: a
 * quote that is never closed would otherwise swallow the rest of the file.
 */
#ifndef ROWS_H
#define ROWS_H

#include "jobs/dialect.h"
#include "jobs/lines.h"
#include "jobs/rowset.h"

enum {
    ROW_RAW_MAX = 1000 /* bytes kept of a row as it was read */
};

/* Where the reading stands. */
struct rows_place {
    int64_t offset, number; /* of the line that comes next */
    int64_t doomed;   /* rows that are in quotes at a line's begin up to */
    const char *doom; /* here are malformed, and that is why */
};

struct rows {
    struct lines lines;
    const struct dialect *dialect;
    int64_t doomed; /* as in struct rows_place */
    const char *doom;
    struct rowset *group; /* where the row that is being read goes, or NULL */
    bool in_quotes;       /* it goes on on the next line */
    bool has_no_memory;
    size_t n_bytes;  /* the row's fields that are no text */
    bool has_blanks; /* a blank line is a row of an empty field */
};

enum rows_answer {
    ROWS_ROW,
    ROWS_END,
    ROWS_STOPPED,
    ROWS_NO_MEMORY,
    ROWS_IO /* errno says what */
};

/* Read from fd and after dialect, which stay the caller's. */
void rows_init(struct rows *rows, struct ctx *ctx, int fd,
               const struct dialect *dialect);
void rows_fini(struct rows *rows);

/* Append the next row to group; NULL: only go past it. */
enum rows_answer rows_next(struct rows *rows, struct rowset *group);

/* Go past the next line, whatever it is. */
enum rows_answer rows_skip_line(struct rows *rows);

/* Go past the next line and tell whether it is what dialect_is_separator()
 * knows. */
enum rows_answer rows_find_separator(struct rows *rows, bool *ret_is_it,
                                     char *ret_delimiter);

/* Where the next row begins; and to go on there. */
struct rows_place rows_tell(const struct rows *rows);
bool rows_seek(struct rows *rows, const struct rows_place *place);

#endif
