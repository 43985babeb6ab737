/*
 * The kind of store that is a SQLite file, for tests: a file of the scratch
 * folder, and the shell of sqlite3. One thread.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"
#include "storage.h"

static const char *
queue(const char *name)
{
    return in_scratch(name);
}

static const char *
run(const char *path, const char *sql)
{
    return sql_try(path, "%s", sql);
}

static void
keeps(const char *path, char *text, size_t size)
{
    static const char *const tables[] = {
        "_job",      "_ready",   "_held", "_scheduled", "_blocked", "_dep",
        "_deadline", "_running", "_done", "_progress",  "_kind",    "_attempt"};
    size_t used = strlen(text);

    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
        used += (size_t)snprintf(
            text + used, size - used, "%s: %s\n", tables[i],
            sql_text(path, "SELECT * FROM %s ORDER BY 1, %s", tables[i],
                     strcmp(tables[i], "_blocked") == 0 ? "1" : "2"));
        ck_assert_uint_lt(used, size);
    }
}

static void
end(void)
{
    sql_keep(NULL);
}

const struct storage_kind storage_sqlite = {
    .name = "sqlite",
    .queue = queue,
    .run = run,
    .keeps = keeps,
    .begin = sql_keep, /* reads the schema once */
    .end = end};
