#include "jobs/rowset.h"

#include <stdlib.h>
#include <string.h>

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

/* Make room for need elements in the array at *items. */
static bool
grow(void **items, size_t *cap, size_t need, size_t item_size)
{
    size_t new_cap = *cap < 64 ? 64 : *cap;
    void *new_items;

    if (need <= *cap)
        return true;
    while (new_cap < need)
        new_cap *= 2;
    new_items = realloc(*items, new_cap * item_size);
    if (new_items == NULL)
        return false;
    *items = new_items;
    *cap = new_cap;
    return true;
}

bool
rowset_add_text(struct rowset *set, const void *data, size_t size)
{
    void *text = set->text;

    if (set->size + size > set->cap) {
        if (!grow(&text, &set->cap, set->size + size, 1))
            return false;
        set->text = text;
    }
    if (size > 0)
        memcpy(set->text + set->size, data, size);
    set->size += size;
    return true;
}

bool
rowset_add_field(struct rowset *set, const void *data, size_t size)
{
    void *fields = set->fields;

    if (set->n_fields == set->fields_cap) {
        if (!grow(&fields, &set->fields_cap, set->n_fields + 1,
                  sizeof(*set->fields)))
            return false;
        set->fields = fields;
    }
    set->fields[set->n_fields] =
        (struct row_field){.at = set->size, .size = size};
    if (!rowset_add_text(set, data, size))
        return false;
    set->n_fields++;
    return true;
}

bool
rowset_add_row(struct rowset *set, const struct row *row)
{
    void *rows = set->rows;

    if (set->n == set->rows_cap) {
        if (!grow(&rows, &set->rows_cap, set->n + 1, sizeof(*set->rows)))
            return false;
        set->rows = rows;
    }
    set->rows[set->n++] = *row;
    return true;
}
