#define _GNU_SOURCE
#include "store/sqlite/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/grow.h"
#include "store/sqlite/sqlite.h"

/* Beyond so many all are forgotten, so that batches without end cost no
 * memory. */
#define NAMES_MAX 1024

STATEMENT(INSERT_KIND) = {"INSERT INTO _kind(name) VALUES(?1)"};
STATEMENT(FIND_KIND) = {"SELECT id, 0, timeout_ms, max_attempts, is_isolated"
                        " FROM _kind WHERE name = ?1"};
STATEMENT(SET_KIND) = {"UPDATE _kind SET max_attempts = ?2, timeout_ms = ?3,"
                       " is_isolated = ?4 WHERE id = ?1"};
STATEMENT(INSERT_QUEUE) = {"INSERT INTO _queue(name) VALUES(?1)"};
STATEMENT(FIND_QUEUE) = {"SELECT id, ageing_ms, 0, 0, 0 FROM _queue"
                         " WHERE name = ?1"};
STATEMENT(INSERT_BATCH) = {
    "INSERT INTO _batch(name, created_at) VALUES(?1, ?2)"};
STATEMENT(FIND_BATCH) = {"SELECT id, 0, 0, 0, 0 FROM _batch WHERE name = ?1"};
enum { NAME_NUMBER, NAME_AGEING, NAME_TIMEOUT, NAME_ATTEMPTS, NAME_ISOLATED };

/* -- What is remembered --------------------------------------------------- */

static void
names_clear(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->all[i].text);
    names->n = 0;
}

void
names_forget(struct sqlite_store *store)
{
    names_clear(&store->kinds);
    names_clear(&store->queues);
    names_clear(&store->batches);
}

void
names_fini(struct sqlite_store *store)
{
    names_forget(store);
    free(store->kinds.all);
    free(store->queues.all);
    free(store->batches.all);
}

static struct name *
names_recall(struct names *names, const char *text)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->all[i].text, text) == 0)
            return &names->all[i];
    return NULL;
}

/* Remember name, with a copy of text. NULL: no memory. */
static struct name *
names_add(struct names *names, const struct name *name, const char *text)
{
    char *copy = strdup(text);

    if (names->n == NAMES_MAX)
        names_clear(names);
    if (copy == NULL || !grow(names->all, names->n, names->room)) {
        free(copy);
        return NULL;
    }
    names->all[names->n] = *name;
    names->all[names->n].text = copy;
    return &names->all[names->n++];
}

/* -- In the file ---------------------------------------------------------- */

/* Read the row of text; *ret_exists false if it has none. */
static enum rota_error
name_read(struct sqlite_store *store, const struct statement *find,
          const char *text, struct name *ret_name, bool *ret_exists)
{
    struct stmt stmt = stmt_of(&store->connection, find);

    bind_text(stmt.s, 1, text);
    *ret_exists = stmt_next(&stmt);
    if (*ret_exists)
        *ret_name = (struct name){
            .number = stmt_integer(&stmt, NAME_NUMBER),
            .ageing_ms = stmt_integer(&stmt, NAME_AGEING),
            .timeout_ms = stmt_integer_or(&stmt, NAME_TIMEOUT, 0),
            .max_attempts = (int)stmt_integer(&stmt, NAME_ATTEMPTS),
            .is_isolated = stmt_integer(&stmt, NAME_ISOLATED) != 0};
    return stmt_end(&stmt);
}

/* Make it, and read what it is by default. */
static enum rota_error
name_make(struct sqlite_store *store, const struct statement *insert,
          const struct statement *find, const char *text, struct name *ret_name)
{
    struct stmt stmt = stmt_of(&store->connection, insert);
    enum rota_error error;
    bool exists;

    bind_text(stmt.s, 1, text);
    if (insert == &INSERT_BATCH)
        (void)sqlite3_bind_int64(stmt.s, 2, store->now);
    error = stmt_run(&stmt, NULL);
    return error == ROTA_OK ? name_read(store, find, text, ret_name, &exists)
                            : error;
}

static enum rota_error
name_find(struct sqlite_store *store, struct names *names,
          const struct statement *find, const struct statement *insert,
          const char *text, struct name **ret_name)
{
    struct name *name = names_recall(names, text), found = {0};
    enum rota_error error = ROTA_OK;
    bool exists = true;

    if (name == NULL) {
        error = name_read(store, find, text, &found, &exists);
        if (error == ROTA_OK && !exists)
            error = name_make(store, insert, find, text, &found);
        if (error != ROTA_OK)
            return error;
        name = names_add(names, &found, text);
    }
    if (name == NULL)
        return no_memory();
    *ret_name = name;
    return ROTA_OK;
}

enum rota_error
kind_find(struct sqlite_store *store, const char *text, struct name **ret_name)
{
    return name_find(store, &store->kinds, &FIND_KIND, &INSERT_KIND, text,
                     ret_name);
}

enum rota_error
queue_find(struct sqlite_store *store, const char *text, struct name **ret_name)
{
    return name_find(store, &store->queues, &FIND_QUEUE, &INSERT_QUEUE, text,
                     ret_name);
}

enum rota_error
batch_find(struct sqlite_store *store, const char *text, struct name **ret_name)
{
    return name_find(store, &store->batches, &FIND_BATCH, &INSERT_BATCH, text,
                     ret_name);
}

enum rota_error
kind_set(struct sqlite_store *store, struct name *kind,
         const struct joined_kind *joined)
{
    struct stmt stmt;

    if (kind->max_attempts == joined->max_attempts &&
        kind->timeout_ms == joined->timeout_ms &&
        kind->is_isolated == joined->is_isolated)
        return ROTA_OK;
    kind->max_attempts = joined->max_attempts;
    kind->timeout_ms = joined->timeout_ms;
    kind->is_isolated = joined->is_isolated;
    stmt = stmt_of(&store->connection, &SET_KIND);
    (void)sqlite3_bind_int64(stmt.s, 1, kind->number);
    (void)sqlite3_bind_int(stmt.s, 2, joined->max_attempts);
    bind_positive(stmt.s, 3, joined->timeout_ms);
    (void)sqlite3_bind_int(stmt.s, 4, joined->is_isolated);
    return stmt_run(&stmt, NULL);
}
