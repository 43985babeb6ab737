/*
 * A SQLite connection as the store opens it, with room for its prepared
 * statements. One thread at a time, but connection_expect() and
 * connection_has_moved(), which look at the files only: any thread.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/error.h>

/* The files that a queue is, and what they are called after its path. */
enum part { PART_FILE, PART_LOG, PART_SHM, PART_LOCK, PARTS };

struct connection {
    sqlite3 *db;
    char *path;                     /* of the file */
    char *parts[PARTS];             /* the paths of all */
    _Atomic uint64_t inodes[PARTS]; /* 0: it has not been seen yet; relaxed:
                                     * each orders nothing but itself */
    sqlite3_stmt **statements;      /* by their number (statement.h), prepared
                                     * when first used */
};

/* Open an existing file. writes: for reading and writing. On failure nothing is
 * left open. */
ROTA_MUST_USE enum rota_error connection_open(struct connection *connection,
                                              const char *path, bool writes);
void connection_close(struct connection *connection);

/* A number that is another one as soon as any other connection has committed.
 */
ROTA_MUST_USE enum rota_error
connection_data_version(struct connection *connection, int64_t *ret_version);

/* Run a script. */
ROTA_MUST_USE enum rota_error connection_script(struct connection *connection,
                                                const char *sql);

/* Take the files that other has open for those that this one must have. */
void connection_expect(struct connection *connection,
                       const struct connection *other);

/* Whether one of the files that are open is no longer the one at its path;
 * words by message_get(). */
bool connection_has_moved(struct connection *connection);

/* The rota error for what SQLite said last here, its words in message_get(). */
enum rota_error connection_error(struct connection *connection);

/* ROTA_CORRUPT, after saying that the file is damaged and by what that shows.
 */
enum rota_error connection_damage(struct connection *connection,
                                  const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
