/*
 * Which columns an import fills, from a list or from the file's first row: the
 * part of table.h that has to do with words, not with a database.
 */
#define _GNU_SOURCE /* strndup, asprintf */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/grow.h"
#include "jobs/table.h"
#include "jobs/utf8.h"

static enum rota_error
add(struct table *table, const char *name, size_t name_size, const char *type,
    size_t type_size)
{
    struct column *column;

    if (table->n == table->max)
        return table_fail(table, ROTA_FATAL,
                          "more than %zu columns: no table has so many",
                          table->max);
    if (!utf8_is_text(name, name_size))
        return table_fail(
            table, ROTA_FATAL,
            "the name of column %zu is not UTF-8: encoding= says what it "
            "is",
            table->n + 1);
    if (!GROW(table->columns, table->room, table->n + 1))
        return table_fail(table, ROTA_NOMEM, "out of memory");
    column = &table->columns[table->n++];
    column->name = strndup(name, name_size);
    column->type = strndup(type, type_size);
    column->repeated = 0;
    if (column->name == NULL || column->type == NULL)
        /* table_fini() frees whichever half there is */
        return table_fail(table, ROTA_NOMEM, "out of memory");
    return ROTA_OK;
}

/* -- Names that are there twice -------------------------------------------- */

/* As SQLite compares names of columns. */
static int
compare(const void *a, const void *b)
{
    const struct column *const *x = a, *const *y = b;

    return sqlite3_stricmp((*x)->name, (*y)->name);
}

/* Whether the next one in the order of names has the same. */
static bool
is_followed(const struct table *table, size_t i)
{
    return i + 1 < table->n &&
           compare(&table->sorted[i], &table->sorted[i + 1]) == 0;
}

/* Put them in order; *ret_repeated is one whose name another has, or NULL. */
static enum rota_error
sort(struct table *table, struct column **ret_repeated)
{
    *ret_repeated = NULL;
    if (table->sorted == NULL)
        table->sorted = calloc(table->n, sizeof(struct column *));
    if (table->sorted == NULL)
        return table_fail(table, ROTA_NOMEM, "out of memory");
    for (size_t i = 0; i < table->n; i++)
        table->sorted[i] = &table->columns[i];
    qsort(table->sorted, table->n, sizeof(struct column *), compare);
    for (size_t i = 0; i < table->n && *ret_repeated == NULL; i++)
        if (is_followed(table, i))
            *ret_repeated = table->sorted[i];
    return ROTA_OK;
}

bool
table_has_column(const struct table *table, const char *name)
{
    struct column wanted = {.name = (char *)(uintptr_t)name}, *key = &wanted;

    return bsearch(&key, table->sorted, table->n, sizeof(struct column *),
                   compare) != NULL;
}

/* Give each column whose name is repeated its number, with zeros before it. */
static enum rota_error
add_numbers(struct table *table, int zeros)
{
    for (size_t i = 0; i < table->n; i++) {
        struct column *column = &table->columns[i];
        int digits = zeros + snprintf(NULL, 0, "%zu", i + 1);
        char *name;

        if (column->repeated == 0)
            continue;
        if (asprintf(&name, "%.*s_%0*zu", (int)column->repeated, column->name,
                     digits, i + 1) < 0)
            return table_fail(table, ROTA_NOMEM, "out of memory");
        free(column->name);
        column->name = name;
    }
    return ROTA_OK;
}

/* As sqlite3's .import does it: a, b, a become a_1, b, a_3, and if there is
 * another a_3 already, a_01 and a_03. */
static enum rota_error
make_unique(struct table *table)
{
    struct column *repeated;
    enum rota_error error = sort(table, &repeated);
    bool before = false;

    if (error != ROTA_OK || repeated == NULL)
        return error;
    for (size_t i = 0; i < table->n; i++) {
        bool after = is_followed(table, i);

        if (before || after)
            table->sorted[i]->repeated = strlen(table->sorted[i]->name);
        before = after;
    }
    for (int zeros = 0; error == ROTA_OK && repeated != NULL; zeros++) {
        error = add_numbers(table, zeros);
        if (error == ROTA_OK)
            error = sort(table, &repeated);
    }
    return error;
}

/* -- Lists ----------------------------------------------------------------- */

/* The end of the list's item at text: a comma in parentheses, as in
 * DECIMAL(10,2), ends none. */
static const char *
item_end(const char *text)
{
    int depth = 0;

    for (; *text != '\0' && (*text != ',' || depth > 0); text++)
        depth += *text == '(' ? 1 : *text == ')' ? -1 : 0;
    return text;
}

/* Types go into CREATE TABLE as they are, so that nothing but words, numbers
 * and balanced parentheses may be in them. */
static bool
type_is_safe(const char *type, size_t size)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ (),";
    int depth = 0;

    for (size_t i = 0; i < size; i++) {
        if (type[i] == '\0' || strchr(safe, type[i]) == NULL)
            return false;
        depth += type[i] == '(' ? 1 : type[i] == ')' ? -1 : 0;
        if (depth < 0)
            return false;
    }
    return depth == 0;
}

static enum rota_error
add_list(struct table *table, const char *list)
{
    for (;;) {
        const char *name = list + strspn(list, " ");
        const char *end = item_end(name);
        const char *stop = end;
        size_t name_size = strcspn(name, " ,");
        const char *type = name + name_size;
        enum rota_error error;

        type += strspn(type, " ");
        while (stop > type && stop[-1] == ' ')
            stop--;
        if (type > stop)
            type = stop;
        if (!type_is_safe(type, (size_t)(stop - type)))
            return table_fail(table, ROTA_FATAL,
                              "columns=: \"%.*s\" is no type: letters, "
                              "digits, spaces and parentheses only",
                              (int)(stop - type), type);
        if (name_size == 0)
            return table_fail(table, ROTA_FATAL, "column %zu has no name",
                              table->n + 1);
        error = add(table, name, name_size, type, (size_t)(stop - type));
        if (error != ROTA_OK || *end == '\0')
            return error;
        list = end + 1;
    }
}

enum rota_error
table_columns_from_list(struct table *table, const char *list)
{
    struct column *repeated;
    enum rota_error error = add_list(table, list);

    if (error == ROTA_OK)
        error = sort(table, &repeated);
    if (error == ROTA_OK && repeated != NULL)
        return table_fail(table, ROTA_FATAL, "two columns are called %s",
                          repeated->name);
    return error;
}

/* -- Rows ------------------------------------------------------------------ */

enum rota_error
table_columns_from_row(struct table *table, const struct rowset *group,
                       const struct row *row)
{
    enum rota_error error = ROTA_OK;

    for (size_t i = 0; i < row->n && error == ROTA_OK; i++) {
        const struct row_field *field = &group->fields[row->first + i];

        error = field->size == 0
                    ? add(table, "?", 1, "", 0)
                    : add(table, group->text + field->at, field->size, "", 0);
    }
    return error == ROTA_OK ? make_unique(table) : error;
}

enum rota_error
table_columns_unnamed(struct table *table, size_t n)
{
    enum rota_error error = ROTA_OK;
    struct column *repeated;

    for (size_t i = 0; i < n && error == ROTA_OK; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "column%zu", i + 1);
        error = add(table, name, strlen(name), "", 0);
    }
    return error == ROTA_OK ? sort(table, &repeated) : error;
}
