/*
 * The SQL statements of the store. Each stands beside the function that uses
 * it, is prepared when a connection first needs it, and kept:
 *
 *   STATEMENT(FIND_QUEUE) = {"SELECT id, ageing_ms FROM _queue"
 *                            " WHERE name = ?1"};
 *   enum { QUEUE_ID, QUEUE_AGEING };
 *
 *   struct stmt stmt = stmt_of(connection, &FIND_QUEUE);
 *
 *   bind_text(stmt.s, 1, name);
 *   if (stmt_next(&stmt))
 *       ...stmt_integer(&stmt, QUEUE_ID)...
 *   return stmt_end(&stmt);
 *
 * Rules for their text: a move out of _running is guarded by the lease (WHERE
 * id = ? AND lease = ?), and its count of changed rows is the truth; a key is
 * compared whole, by equalities, so that nothing scans (tests/test_plans.c
 * looks at every statement there is); states go by name (STATE_FAILED,
 * schema.h).
 *
 * What is read is checked where it is read: the file is anybody's who can write
 * it, and a walk that goes by a value which is not what it seems to be may
 * never end. What cannot be is damage, ROTA_CORRUPT: a column of another type,
 * a text with a NUL for a key, a row that was read and is not there to be
 * moved, one that is there already.
 *
 * For the thread whose connection it is. No lock.
 */
#ifndef STATEMENT_H
#define STATEMENT_H

#include "store/sqlite/connection.h"

struct statement {
    const char *sql;
};

/* The linker puts all of a program's statements side by side in one section,
 * whichever files they are in: a statement's place there is its number in each
 * connection, and a test can walk over them all. */
#define STATEMENT(name)                \
    static const struct statement name \
        __attribute__((section("rota_sql"), used))
extern const struct statement __start_rota_sql[]
    __attribute__((visibility("hidden")));
extern const struct statement __stop_rota_sql[]
    __attribute__((visibility("hidden")));

/* -- Reading -------------------------------------------------------------- */

/* A statement that is being run. The first error is kept, and everything after
 * it does nothing: only stmt_end() needs a look. */
struct stmt {
    struct connection *connection;
    sqlite3_stmt *s; /* NULL: it could not be prepared; binding is harmless */
    enum rota_error error;
    bool has_ended; /* it is reset */
};

struct stmt stmt_of(struct connection *connection,
                    const struct statement *statement);

/* Step to the next row; false at the end, or when it failed. */
bool stmt_next(struct stmt *stmt);

/* Note that what a row was needed for has failed; false if it has. */
bool stmt_check(struct stmt *stmt, enum rota_error error);

/* Reset it: the row's texts are gone. */
ROTA_MUST_USE enum rota_error stmt_end(struct stmt *stmt);

/* Whether there is a row, and that is all that is asked. */
ROTA_MUST_USE enum rota_error stmt_exists(struct stmt *stmt, bool *ret_exist);

/* The first column of the only row; untouched if it is NULL or there is none.
 */
ROTA_MUST_USE enum rota_error stmt_number(struct stmt *stmt,
                                          int64_t *ret_number);

/* The integer in a column; 0, and ROTA_CORRUPT by stmt_end(), if it is none. */
int64_t stmt_integer(struct stmt *stmt, int column);

/* The same, or otherwise if it is NULL. */
int64_t stmt_integer_or(struct stmt *stmt, int column, int64_t otherwise);

/* A copy of a column, malloc'd; NULL if it is. Of words, for people: whatever
 * it is, as text, up to a NUL. Of a key, what is not a whole text is damage.
 * NULL, too, after an error, which is kept. */
char *stmt_words(struct stmt *stmt, int column);
char *stmt_key(struct stmt *stmt, int column);

/* -- Writing -------------------------------------------------------------- */

/* Run to the end a statement that returns no rows. *ret_changed, unless NULL,
 * is how many rows it changed: the truth of a guarded move. */
ROTA_MUST_USE enum rota_error stmt_run(struct stmt *stmt, int64_t *ret_changed);

/* Run a statement that moves one row, which has been read: it is damage if it
 * finds another number of them. */
ROTA_MUST_USE enum rota_error stmt_run_one(struct stmt *stmt);

/* Bind integers to ?1, ?2, ... and run. */
ROTA_MUST_USE enum rota_error statement_run(struct connection *connection,
                                            const struct statement *statement,
                                            int64_t *ret_changed, int n,
                                            const int64_t *values);

/* The same, of a statement that moves one row. */
ROTA_MUST_USE enum rota_error
statement_run_one(struct connection *connection,
                  const struct statement *statement, int n,
                  const int64_t *values);

/* Bind value, or NULL if it is not positive. */
void bind_positive(sqlite3_stmt *statement, int at, int64_t value);

/* Bind as TEXT, or NULL. Not copied. */
void bind_text(sqlite3_stmt *statement, int at, const char *text);

/* Bind as TEXT if it may be, else as BLOB; NULL if data is. Not copied. */
void bind_data(sqlite3_stmt *statement, int at, const void *data, size_t size,
               bool is_blob);

#endif
