/*
 * Rows on stdout: a table on a terminal, cut to its width; lines of fields
 * with tabs between them elsewhere, whole and without a header; or JSON, an
 * object a line. For all commands that print rows, on the main thread; no lock.
 */
#ifndef OUT_H
#define OUT_H

#include "cli/cli.h"
#include "jobs/json.h"

enum out_layout { OUT_TABLE, OUT_PLAIN, OUT_JSON };

struct out {
    enum out_layout layout;
    bool has_colour;
    bool drops_empty;  /* a table leaves out columns without a value */
    bool is_streaming; /* the widths are settled: rows are kept no more */
    int width;         /* of the terminal, in columns */
    int n;             /* columns of a row */
    char **names;
    char **cells;  /* n for each row that was kept */
    bool *is_text; /* a column that is not numbers only */
    int *widths;
    size_t n_cells, room;
    int64_t n_rows; /* so far, in whatever layout */
    bool has_failed; /* one could not be kept, without memory */
};

void out_init(struct out *out, const struct cli *cli);

/* A rota_row_fn. false once stdout takes no more. */
bool out_row(void *out, int n, const char *const *names,
             const struct rota_value *values);

/* Print an object on a line, so that a terminal may show it. False without
 * memory. */
bool out_json(const json_t *object);

/* Print what was kept, and free everything. */
void out_end(struct out *out);

#endif
