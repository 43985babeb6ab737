/*
 * Which columns an import fills, from a list or from the file's first row: the
 * part of table.h that has to do with words, not with a database.
 */
#define _GNU_SOURCE /* strndup */
#include <string.h>
#include <strings.h>

#include "jobs/grow.h"
#include "jobs/table.h"
#include "jobs/utf8.h"

static enum rota_error
add(struct table *table, const char *name, size_t name_size, const char *type,
    size_t type_size)
{
    struct column *column;

    if (name_size == 0)
        return table_fail(table, ROTA_FATAL, "column %zu has no name",
                          table->n + 1);
    if (!utf8_is_text(name, name_size))
        return table_fail(table, ROTA_FATAL,
                          "the name of column %zu is not UTF-8", table->n + 1);
    for (size_t i = 0; i < table->n; i++)
        if (strncasecmp(table->columns[i].name, name, name_size) == 0 &&
            table->columns[i].name[name_size] == '\0')
            return table_fail(table, ROTA_FATAL, "two columns are called %.*s",
                              (int)name_size, name);
    if (!GROW(table->columns, table->room, table->n + 1))
        return table_fail(table, ROTA_NOMEM, "out of memory");
    column = &table->columns[table->n++];
    column->name = strndup(name, name_size);
    column->type = strndup(type, type_size);
    if (column->name == NULL || column->type == NULL)
        /* table_fini() frees whichever half there is */
        return table_fail(table, ROTA_NOMEM, "out of memory");
    return ROTA_OK;
}

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

enum rota_error
table_columns_from_list(struct table *table, const char *list)
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
        error = add(table, name, name_size, type, (size_t)(stop - type));
        if (error != ROTA_OK || *end == '\0')
            return error;
        list = end + 1;
    }
}

enum rota_error
table_columns_from_row(struct table *table, const struct rowset *group,
                       const struct row *row)
{
    for (size_t i = 0; i < row->n; i++) {
        const struct row_field *field = &group->fields[row->first + i];
        enum rota_error error;

        error = add(table, group->text + field->at, field->size, "", 0);
        if (error != ROTA_OK)
            return error;
    }
    return ROTA_OK;
}
