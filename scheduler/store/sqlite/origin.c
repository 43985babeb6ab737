/*
 * Whether the file is a copy of another queue, and what becomes of its jobs.
 *
 * What a job writes exactly once is fenced, in the target, by the instance of
 * its queue, its id and the lease of its run. A copy has all three of them
 * twice: the same run would be made in both, and its rows doubled; and two jobs
 * submitted later, one here and one there, would be taken for one. So a copy
 * becomes a queue of its own when it is first opened to write:
 *
 *   - Jobs that come from now on are of a new instance.
 *   - Those that were there keep theirs, so that they take up in the target
 *     where they had got to; but leases begin far above those of the original:
 *     of the two runs the target takes rows from one.
 *
 * A file is known by its inode and the time at which that was made, which
 * _meta has. A queue that was moved to another disk, or restored, looks like a
 * copy, and nothing is lost by that: its jobs go on as they would have. A copy
 * that was made together with its whole disk has the same inode and time, and
 * cannot be told from the original.
 *
 * Opening only; the gate is held.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "base/grow.h"
#include "store/sqlite/sqlite.h"

STATEMENT(META) = {"SELECT value FROM _meta WHERE key = ?1"};

/* The text that _meta has for key, malloc'd; NULL: none. */
static enum rota_error
meta_text(struct connection *connection, const char *key, char **ret_text)
{
    struct stmt stmt = stmt_of(connection, &META);

    *ret_text = NULL;
    bind_text(stmt.s, 1, key);
    if (stmt_next(&stmt))
        *ret_text = stmt_key(&stmt, 0);
    return stmt_end(&stmt);
}

static enum rota_error
meta_number(struct connection *connection, const char *key, int64_t *ret_number)
{
    struct stmt stmt = stmt_of(connection, &META);

    *ret_number = 0;
    bind_text(stmt.s, 1, key);
    if (stmt_next(&stmt))
        *ret_number = stmt_integer(&stmt, 0);
    return stmt_end(&stmt);
}

/* -- Settling -------------------------------------------------------------- */

#define PLACE_SIZE 64

/* Which file it is, of all that there ever were on its disk. */
static void
place_read(const char *path, char place[PLACE_SIZE])
{
    struct statx file = {.stx_ino = 0};

    (void)statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &file);
    (void)snprintf(place, PLACE_SIZE, "%jx.%jx.%x", (uintmax_t)file.stx_ino,
                   (uintmax_t)file.stx_btime.tv_sec, file.stx_btime.tv_nsec);
}

/* Durable: leases that were given by it must not be forgotten. */
#define BECOME_ONE                                                           \
    "PRAGMA synchronous=FULL; BEGIN IMMEDIATE;"                              \
    "INSERT OR REPLACE INTO _meta SELECT 'former',"                          \
    " coalesce((SELECT value FROM _meta WHERE key = 'former'), '')"          \
    "  || s.seq || ' ' || i.value || char(10)"                               \
    " FROM sqlite_sequence s, _meta i"                                       \
    " WHERE s.name = 'submit' AND i.key = 'instance' AND s.seq >"            \
    "  coalesce((SELECT value FROM _meta WHERE key = 'copied'), 0);"         \
    "INSERT OR REPLACE INTO _meta SELECT 'lease_base',"                      \
    " coalesce((SELECT value FROM _meta WHERE key = 'lease_base'), 0)"       \
    "  + 1048576 + (random() & 1073741823);"                                 \
    "INSERT OR REPLACE INTO _meta SELECT 'copied', seq FROM sqlite_sequence" \
    " WHERE name = 'submit';"                                                \
    "UPDATE _meta SET value = lower(hex(randomblob(16)))"                    \
    " WHERE key = 'instance';"                                               \
    "INSERT OR REPLACE INTO _meta VALUES('place', '%s');"                    \
    "COMMIT; PRAGMA synchronous=NORMAL"

/* A file of a rota before this is where it is. */
#define BE_HERE                                                         \
    "PRAGMA synchronous=FULL; INSERT INTO _meta VALUES('place', '%s');" \
    "PRAGMA synchronous=NORMAL"

static enum rota_error
place_note(struct sqlite_store *store, const char *format, const char *place)
{
    char *script = sqlite3_mprintf(format, place);
    enum rota_error error = script == NULL
                                ? no_memory()
                                : connection_script(&store->connection, script);

    sqlite3_free(script);
    if (error != ROTA_OK && !sqlite3_get_autocommit(store->connection.db))
        (void)sqlite3_exec(store->connection.db, "ROLLBACK", NULL, NULL, NULL);
    return error;
}

enum rota_error
origin_settle(struct sqlite_store *store)
{
    char place[PLACE_SIZE], *noted;
    enum rota_error error = meta_text(&store->connection, "place", &noted);

    if (error != ROTA_OK)
        return error;
    place_read(store->connection.path, place);
    if (noted == NULL)
        error = place_note(store, BE_HERE, place);
    else if (strcmp(noted, place) != 0)
        error = place_note(store, BECOME_ONE, place);
    if (error == ROTA_OK && noted != NULL && strcmp(noted, place) != 0)
        store_say(&store->base,
                  "%s was copied or moved here: it is a queue of its own from "
                  "now on; if the other one is still there, jobs that had not "
                  "ended run in both",
                  store->connection.path);
    free(noted);
    return error;
}

/* -- Reading --------------------------------------------------------------- */

/* "7 INSTANCE", a line for each: the jobs up to 7, from the line before on. */
static enum rota_error
former_read(struct store_identity *identity, const char *text)
{
    size_t room = identity->n_former;
    struct former former;
    int n;

    while (sscanf(text, "%" SCNd64 " %63s%n", &former.last, former.instance,
                  &n) == 2) {
        if (!grow(identity->former, identity->n_former, room))
            return no_memory();
        identity->former[identity->n_former++] = former;
        text += n;
    }
    return ROTA_OK;
}

enum rota_error
origin_read(struct sqlite_store *store)
{
    struct connection *connection = &store->connection;
    char *text = NULL;
    enum rota_error error = meta_number(connection, "copied", &store->copied);

    if (error == ROTA_OK)
        error = meta_number(connection, "lease_base", &store->lease_base);
    if (error == ROTA_OK)
        error = meta_text(connection, "former", &text);
    if (error == ROTA_OK && text != NULL)
        error = former_read(&store->base.identity, text);
    free(text);
    return error;
}

int64_t
origin_lease(const struct sqlite_store *store, int64_t id, int64_t lease)
{
    return id <= store->copied && lease <= store->lease_base
               ? store->lease_base + 1
               : lease;
}
