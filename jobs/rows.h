/*
 * Rows of a CSV or TSV file, one after the other, with the line where each
 * begins, from any row's offset.
 *
 * A line ends in LF, CRLF or CR. Quoted fields may hold line ends. Blank lines
 * are no rows. Spaces belong to the field they are in (RFC 4180). Where the
 * quoting is malformed, exactly one line is given up as a bad row, the one on
 * which the row began, and reading goes on at the line after it: a quote that
 * is never closed would otherwise swallow the rest of the file.
 */
#ifndef ROWS_H
#define ROWS_H

#include <csv.h>
#include <stdio.h>

#include "jobs/rowset.h"

enum {
    ROW_RAW_MAX = 1000,     /* bytes kept of a row as it was read */
    ROW_SIZE_MAX = 16 << 20 /* bytes a row may have */
};

struct rows {
    FILE *file;
    struct csv_parser parser;
    bool has_parser;
    char delimiter;
    char *line; /* what getline() read last */
    size_t line_cap;
    size_t line_size;
    size_t line_at;       /* how much of it was given to the parser */
    int64_t offset;       /* in the file, and */
    int64_t number;       /* the number, of the line that comes next */
    struct rowset *group; /* where the row that is being read goes */
    bool has_row;         /* it is complete */
    bool has_no_memory;
};

enum rows_answer { ROWS_ROW, ROWS_END, ROWS_NO_MEMORY, ROWS_IO };

/* Read from file, which stays the caller's, at its beginning. */
void rows_init(struct rows *rows, FILE *file, char delimiter);
void rows_fini(struct rows *rows);

/* Append the next row to group. ROWS_IO: errno says what. */
enum rows_answer rows_next(struct rows *rows, struct rowset *group);

/* Go on at offset, where the line with this number begins. */
bool rows_seek(struct rows *rows, int64_t offset, int64_t number);

#endif
