/* See rowset.h. */
#include "jobs/rowset.h"

#include <stdlib.h>
#include <string.h>

#include "jobs/grow.h"

void
rowset_init(struct rowset *set)
{
    memset(set, 0, sizeof(*set));
}

void
rowset_clear(struct rowset *set)
{
    set->size = 0;
    set->n_fields = 0;
    set->n = 0;
}

void
rowset_fini(struct rowset *set)
{
    free(set->text);
    free(set->fields);
    free(set->rows);
}

bool
rowset_add_text(struct rowset *set, const void *data, size_t size)
{
    if (!GROW(set->text, set->text_room, set->size + size))
        return false;
    if (size > 0)
        memcpy(set->text + set->size, data, size);
    set->size += size;
    return true;
}

bool
rowset_begin_field(struct rowset *set)
{
    if (!GROW(set->fields, set->fields_room, set->n_fields + 1))
        return false;
    set->fields[set->n_fields] = (struct row_field){.at = set->size};
    return true;
}

struct row_field *
rowset_end_field(struct rowset *set)
{
    struct row_field *field = &set->fields[set->n_fields++];

    field->size = set->size - field->at;
    return field;
}

bool
rowset_add_row(struct rowset *set, const struct row *row)
{
    if (!GROW(set->rows, set->rows_room, set->n + 1))
        return false;
    set->rows[set->n++] = *row;
    return true;
}
