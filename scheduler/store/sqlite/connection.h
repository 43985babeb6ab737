/*
 * A SQLite connection as the store opens it, with its prepared statements.
 * Private to scheduler/store/. One thread at a time.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/error.h>

#define STATEMENTS_MAX 112

/* The files that a queue is, and what they are called after its path. */
enum part { PART_FILE, PART_LOG, PART_SHM, PART_LOCK, PARTS };

struct connection {
    sqlite3 *db;
    char *path;                                /* of the file */
    char *parts[PARTS];                        /* the paths of all */
    _Atomic uint64_t inodes[PARTS];            /* 0: it has not been seen yet;
                                                * relaxed */
    const char *const *sql;                    /* the owner's statements */
    sqlite3_stmt *statements[STATEMENTS_MAX];  /* prepared when first used */
};

/* Open an existing file. writes: for reading and writing. sql: the texts that
 * connection_statement() prepares; at most STATEMENTS_MAX. On failure nothing
 * is left open. */
ROTA_MUST_USE enum rota_error connection_open(struct connection *connection,
                                              const char *path, bool writes,
                                              const char *const *sql);
void connection_close(struct connection *connection);

/* Statement number n, reset, its bindings those of the last use. NULL when it
 * cannot be prepared: connection_error() says why. */
sqlite3_stmt *connection_statement(struct connection *connection, int n);

/* Step a statement that returns no rows, and reset it. *ret_changed, unless
 * NULL, is the number of rows it changed: the truth of a guarded move. */
ROTA_MUST_USE enum rota_error connection_run(struct connection *connection,
                                             sqlite3_stmt *statement,
                                             int64_t *ret_changed);

/* Step to the next row: ROTA_OK and *ret_row false at the end, when the
 * statement has been reset. */
ROTA_MUST_USE enum rota_error connection_row(struct connection *connection,
                                             sqlite3_stmt *statement,
                                             bool *ret_row);

/* A copy of a TEXT column, malloc'd; NULL if it is. ROTA_NOMEM, and NULL. */
ROTA_MUST_USE enum rota_error column_text(sqlite3_stmt *statement, int column,
                                          char **ret_text);

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

#endif
