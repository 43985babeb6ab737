/*
 * Rows that are kept together: three growing arrays, emptied at once, so that
 * a field costs no allocation. The rows that an import's next step inserts; on
 * the thread that runs the job; no lock.
 */
#ifndef ROWSET_H
#define ROWSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row_field {
    size_t at, size; /* in rowset.text */
    bool is_null;
    bool is_text; /* UTF-8 without a NUL */
};

struct row {
    size_t first, n;      /* in rowset.fields */
    size_t raw, raw_size; /* in rowset.text */
    size_t n_bytes;       /* fields that are no text */
    int64_t line;
    const char *bad; /* why it is no row; static. NULL: it is one */
};

struct rowset {
    char *text;
    size_t size, text_room;
    struct row_field *fields;
    size_t n_fields, fields_room;
    struct row *rows;
    size_t n, rows_room;
};

void rowset_init(struct rowset *set);
void rowset_clear(struct rowset *set);
void rowset_fini(struct rowset *set);

/* Append bytes. false without memory, here and below: the set is as it was, but
 * for bytes that nothing points to. */
bool rowset_add_text(struct rowset *set, const void *data, size_t size);

/* The bytes that are appended between the two are a field. */
bool rowset_begin_field(struct rowset *set);
struct row_field *rowset_end_field(struct rowset *set);

bool rowset_add_row(struct rowset *set, const struct row *row);

#endif
