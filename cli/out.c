/*
 * See out.h. A table's widths are those of its first thousand rows: these are
 * kept until the widths are known, and what comes after them is printed as it
 * comes, so that a table of any length needs no more memory than that.
 */
#define _GNU_SOURCE /* open_memstream */
#include "cli/out.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/format.h"
#include "cli/terminal.h"
#include "jobs/grow.h"
#include "jobs/real.h"

/* Rows that are kept to find the widths; what comes after them is printed as
 * it comes. */
enum { KEPT_ROWS = 1000, GAP = 2, NARROW = 4, CUT_FIRST = 24, BLOB_SHOWN = 16 };

void
out_init(struct out *out, const struct cli *cli)
{
    memset(out, 0, sizeof(*out));
    out->layout = cli->is_json            ? OUT_JSON
                  : isatty(STDOUT_FILENO) ? OUT_TABLE
                                          : OUT_PLAIN;
    out->has_colour = terminal_has_colour(stdout);
    out->width = terminal_columns(stdout);
}

/* -- Values as text ------------------------------------------------------ */

static void
put_blob(FILE *file, const struct rota_value *value, size_t shown)
{
    (void)fputs("x'", file);
    for (size_t i = 0; i < value->size && i < shown; i++)
        (void)fprintf(file, "%02x", (unsigned char)value->data[i]);
    (void)fputs(value->size > shown ? "...'" : "'", file);
}

/* A screen is for reading; a field is read by programs. */
static void
put_real(FILE *file, double real, bool is_field)
{
    char text[32];

    real_print(text, real);
    if (is_field)
        (void)fputs(text, file);
    else
        (void)fprintf(file, "%.15g", real);
}

static void
put_value(FILE *file, const struct rota_value *value, bool is_field)
{
    switch (value->type) {
    case ROTA_NULL:
        break;
    case ROTA_INTEGER:
        (void)fprintf(file, "%" PRId64, value->integer);
        break;
    case ROTA_REAL:
        put_real(file, value->real, is_field);
        break;
    case ROTA_TEXT:
        format_text(file, value->data, value->size,
                    is_field ? FORMAT_FIELD : FORMAT_SCREEN);
        break;
    case ROTA_BLOB:
        put_blob(file, value, is_field ? SIZE_MAX : BLOB_SHOWN);
        break;
    }
}

static char *
cell_of(const struct rota_value *value)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    if (file == NULL)
        return NULL;
    put_value(file, value, false);
    if (fclose(file) == 0)
        return text;
    free(text);
    return NULL;
}

/* -- Tables -------------------------------------------------------------- */

static const char *
colour_of(const char *name, const char *cell)
{
    static const char *const colours[][2] = {
        {"running", "\033[33m"},    {"succeeded", "\033[32m"},
        {"failed", "\033[31m"},     {"cancelled", "\033[35m"},
        {"cancelling", "\033[35m"}, {"retrying", "\033[31m"},
        {"stuck", "\033[31m"}};

    if (strcmp(name, "state") != 0 && strcmp(name, "status") != 0 &&
        strcmp(name, "outcome") != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++)
        if (strcmp(colours[i][0], cell) == 0)
            return colours[i][1];
    return NULL;
}

/* Print text in width columns, cut if it does not fit. */
static void
put_cell(const char *text, int width, bool is_right, bool is_last)
{
    int used;
    size_t fits = format_fit(text, width, &used);
    bool is_cut = text[fits] != '\0';

    if (is_cut)
        fits = format_fit(text, width - 1, &used);
    if (is_right && !is_cut)
        (void)printf("%*s", width - used, "");
    (void)fwrite(text, 1, fits, stdout);
    if (is_cut) {
        (void)fputs(terminal_has_unicode() ? "\u2026" : "~", stdout);
        used++;
    }
    if (!is_last && (!is_right || is_cut))
        (void)printf("%*s", width - used, "");
    if (!is_last)
        (void)printf("%*s", GAP, "");
}

static void
put_row(const struct out *out, char *const *cells, bool is_header)
{
    for (int i = 0; i < out->n; i++) {
        const char *cell = cells[i] != NULL ? cells[i] : "";
        const char *colour =
            is_header ? "\033[1m" : colour_of(out->names[i], cell);

        if (out->widths[i] == 0)
            continue;
        if (!out->has_colour)
            colour = NULL;
        if (colour != NULL)
            (void)fputs(colour, stdout);
        put_cell(cell, out->widths[i], !out->is_text[i], i == out->n - 1);
        if (colour != NULL)
            (void)fputs("\033[0m", stdout);
    }
    (void)fputc('\n', stdout);
}

/* What column i wants. 0: it is empty, and may be left out. */
static int
natural_width(const struct out *out, int i)
{
    int width = 0;

    for (size_t at = (size_t)i; at < out->n_cells; at += (size_t)out->n)
        if (out->cells[at] != NULL && format_width(out->cells[at]) > width)
            width = format_width(out->cells[at]);
    if (width == 0 && out->drops_empty)
        return 0;
    return width > format_width(out->names[i]) ? width
                                               : format_width(out->names[i]);
}

/* The column to make narrower: the last, which is the longest text as a rule,
 * as long as something of it is left; then the widest. */
static int
column_to_cut(const struct out *out)
{
    int widest = 0;

    if (out->widths[out->n - 1] > CUT_FIRST)
        return out->n - 1;
    for (int i = 1; i < out->n; i++)
        if (out->widths[i] > out->widths[widest])
            widest = i;
    return widest;
}

static void
fit_widths(struct out *out)
{
    int total = -GAP;

    for (int i = 0; i < out->n; i++) {
        out->widths[i] = natural_width(out, i);
        total += out->widths[i] > 0 ? out->widths[i] + GAP : 0;
    }
    while (total > out->width) {
        int cut = column_to_cut(out);

        if (out->widths[cut] <= NARROW)
            return;
        out->widths[cut]--;
        total--;
    }
}

static void
flush_table(struct out *out)
{
    if (out->is_streaming || out->n == 0)
        return;
    out->is_streaming = true;
    fit_widths(out);
    if (out->n_cells > 0)
        put_row(out, out->names, true);
    for (size_t at = 0; at < out->n_cells; at += (size_t)out->n)
        put_row(out, out->cells + at, false);
}

static bool
set_names(struct out *out, int n, const char *const *names)
{
    out->names = calloc((size_t)n, sizeof(*out->names));
    out->is_text = calloc((size_t)n, sizeof(*out->is_text));
    out->widths = calloc((size_t)n, sizeof(*out->widths));
    if (out->names == NULL || out->is_text == NULL || out->widths == NULL)
        return false;
    out->n = n;
    for (int i = 0; i < n; i++) {
        struct rota_value name = {
            .type = ROTA_TEXT, .data = names[i], .size = strlen(names[i])};

        out->names[i] = cell_of(&name);
        if (out->names[i] == NULL)
            return false;
    }
    return true;
}

static bool
keep_row(struct out *out, const struct rota_value *values)
{
    size_t n = (size_t)out->n;

    if (!GROW(out->cells, out->room, out->n_cells + n))
        return false;
    for (size_t i = 0; i < n; i++) {
        out->cells[out->n_cells++] = cell_of(&values[i]);
        if (values[i].type == ROTA_TEXT || values[i].type == ROTA_BLOB)
            out->is_text[i] = true;
    }
    return true;
}

static void
drop_cells(struct out *out)
{
    for (size_t i = 0; i < out->n_cells; i++)
        free(out->cells[i]);
    out->n_cells = 0;
}

static bool
table_row(struct out *out, const struct rota_value *values)
{
    if (out->is_streaming)
        drop_cells(out);
    if (!keep_row(out, values))
        return false;
    if (out->is_streaming)
        put_row(out, out->cells, false);
    else if (out->n_cells >= KEPT_ROWS * (size_t)out->n)
        flush_table(out);
    return true;
}

/* -- Rows ---------------------------------------------------------------- */

static void
plain_row(int n, const struct rota_value *values)
{
    for (int i = 0; i < n; i++) {
        if (i > 0)
            (void)fputc('\t', stdout);
        put_value(stdout, &values[i], true);
    }
    (void)fputc('\n', stdout);
}

bool
out_json(const json_t *object)
{
    char *line = json_text_of(object);

    if (line == NULL)
        return false;
    format_json(stdout, line);
    (void)fputc('\n', stdout);
    free(line);
    return true;
}

static bool
object_row(int n, const char *const *names, const struct rota_value *values)
{
    json_t *object = json_row(n, names, values);
    bool ok = object != NULL && out_json(object);

    json_decref(object);
    return ok;
}

static bool
put_any_row(struct out *out, int n, const char *const *names,
            const struct rota_value *values)
{
    switch (out->layout) {
    case OUT_TABLE:
        return table_row(out, values);
    case OUT_PLAIN:
        plain_row(n, values);
        return true;
    case OUT_JSON:
        return object_row(n, names, values);
    }
    return false;
}

bool
out_row(void *arg, int n, const char *const *names,
        const struct rota_value *values)
{
    struct out *out = arg;

    if (values == NULL) {
        out->has_failed =
            out->layout == OUT_TABLE && n > 0 && !set_names(out, n, names);
    } else {
        out->n_rows++;
        out->has_failed = !put_any_row(out, n, names, values);
    }
    return !out->has_failed && !ferror(stdout);
}

void
out_end(struct out *out)
{
    flush_table(out);
    drop_cells(out);
    for (int i = 0; i < out->n; i++)
        free(out->names[i]);
    free(out->names);
    free(out->cells);
    free(out->is_text);
    free(out->widths);
}
