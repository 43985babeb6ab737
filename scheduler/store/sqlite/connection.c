#define _GNU_SOURCE
#include "store/sqlite/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "base/sqlite_error.h"
#include "store/sqlite/statement.h"

/* How long a statement waits for a foreign client's lock, and how often it
 * looks: SQLite's own wait would look ten times a second in the end, and come
 * in vain as long as the client writes without pause. */
#define BUSY_TRIES 5000
#define BUSY_PAUSE 1 /* milliseconds */

/* What each part of a queue is called after its path, and what it is to those
 * who have it open when it has gone. */
static const struct {
    const char *suffix, *loss;
} parts[PARTS] = {
    {"", "moved, removed or replaced while it was open: nothing can be kept in "
         "it; put it back, or stop and begin anew"},
    {"-wal", "removed or replaced while it was open: what is written goes "
             "nowhere; stop, and begin anew"},
    {"-shm", "removed or replaced while it was open: what is written is not "
             "seen by others; stop, and begin anew"},
    {"-lock", "removed or replaced while it was open: who else works on the "
              "queue cannot be told; stop, and begin anew"},
};

static int
look_again(void *arg, int tries)
{
    (void)arg;
    (void)sqlite3_sleep(BUSY_PAUSE);
    return tries < BUSY_TRIES;
}

enum rota_error
connection_error(struct connection *connection)
{
    int code = sqlite3_extended_errcode(connection->db);
    enum rota_error error;
    char words[400];

    if ((code & 0xff) == SQLITE_CORRUPT)
        return connection_damage(connection, "%s (SQLite %d)",
                                 sqlite3_errmsg(connection->db), code);
    error = error_of_connection(connection->db, code, words, sizeof(words));
    message_set("%s: %s", connection->path, words);
    return error == ROTA_OK ? ROTA_STORE : error;
}

enum rota_error
connection_damage(struct connection *connection, const char *format, ...)
{
    char what[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    message_set("%s is damaged: %s; nothing more is written to it: go back to "
                "a copy, or save what is left with sqlite3's .recover",
                connection->path, what);
    return ROTA_CORRUPT;
}

static enum rota_error
connection_limits(struct connection *connection, bool writes)
{
    sqlite3 *db = connection->db;

    (void)sqlite3_extended_result_codes(db, 1);
    /* a reader seldom waits, and what binds it to a context gives a time back,
     * not a handler */
    if (writes)
        (void)sqlite3_busy_handler(db, look_again, NULL);
    else
        (void)sqlite3_busy_timeout(db, BUSY_TRIES * BUSY_PAUSE);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    return connection_script(connection, writes ? "PRAGMA mmap_size=0;"
                                                  "PRAGMA temp_store=MEMORY;"
                                                  "PRAGMA cache_size=-16384"
                                                : "PRAGMA mmap_size=0;"
                                                  "PRAGMA query_only=1");
}

#define UNKNOWN UINT64_MAX

/* Which file is at path; 0: none. Not its times: a kernel that has told them
 * makes the next write to it take longer. */
static uint64_t
inode_at(const char *path)
{
    struct statx file;

    if (statx(AT_FDCWD, path, 0, STATX_INO, &file) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : UNKNOWN;
    return file.stx_ino ^ ((uint64_t)file.stx_dev_major << 52) ^
           ((uint64_t)file.stx_dev_minor << 44);
}

static uint64_t
inode_of(const struct connection *connection, int part)
{
    return atomic_load_explicit(&connection->inodes[part],
                                memory_order_relaxed);
}

static void
inode_note(struct connection *connection, int part, uint64_t inode)
{
    if (inode != UNKNOWN)
        atomic_store_explicit(&connection->inodes[part], inode,
                              memory_order_relaxed);
}

enum rota_error
connection_open(struct connection *connection, const char *path, bool writes)
{
    int flags = SQLITE_OPEN_NOMUTEX |
                (writes ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    enum rota_error error = ROTA_OK;

    memset(connection, 0, sizeof(*connection));
    connection->statements =
        calloc((size_t)(__stop_rota_sql - __start_rota_sql),
               sizeof(*connection->statements));
    if (connection->statements == NULL)
        return no_memory();
    for (int i = 0; i < PARTS; i++) {
        if (asprintf(&connection->parts[i], "%s%s", path, parts[i].suffix) >= 0)
            continue;
        connection->parts[i] = NULL;
        error = no_memory();
        goto out;
    }
    connection->path = connection->parts[PART_FILE];
    if (sqlite3_open_v2(path, &connection->db, flags, NULL) != SQLITE_OK) {
        error =
            connection->db == NULL ? no_memory() : connection_error(connection);
        goto out;
    }
    /* the others may be somebody's who takes them with him */
    inode_note(connection, PART_FILE, inode_at(path));
    inode_note(connection, PART_LOCK, inode_at(connection->parts[PART_LOCK]));
    error = connection_limits(connection, writes);
out:
    if (error != ROTA_OK)
        connection_close(connection);
    return error;
}

void
connection_close(struct connection *connection)
{
    for (int i = 0; connection->statements != NULL &&
                    i < __stop_rota_sql - __start_rota_sql;
         i++)
        (void)sqlite3_finalize(connection->statements[i]);
    free(connection->statements);
    MUST(sqlite3_close(connection->db));
    for (int i = 0; i < PARTS; i++)
        free(connection->parts[i]);
    *connection = (struct connection){0};
}

STATEMENT(DATA_VERSION) = {"PRAGMA data_version"};

enum rota_error
connection_data_version(struct connection *connection, int64_t *ret_version)
{
    struct stmt stmt = stmt_of(connection, &DATA_VERSION);

    return stmt_number(&stmt, ret_version);
}

enum rota_error
connection_script(struct connection *connection, const char *sql)
{
    if (sqlite3_exec(connection->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return connection_error(connection);
    return ROTA_OK;
}

void
connection_expect(struct connection *connection, const struct connection *other)
{
    for (int i = 0; i < PARTS; i++)
        if (inode_of(other, i) != 0)
            inode_note(connection, i, inode_of(other, i));
}

bool
connection_has_moved(struct connection *connection)
{
    for (int i = 0; i < PARTS; i++) {
        uint64_t before = inode_of(connection, i);
        uint64_t inode = inode_at(connection->parts[i]);

        if (before == 0)
            inode_note(connection, i, inode);
        else if (inode != before && inode != UNKNOWN) {
            message_set("%s has been %s", connection->parts[i], parts[i].loss);
            return true;
        }
    }
    return false;
}
