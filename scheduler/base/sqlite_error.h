/*
 * What SQLite's failures mean here, and what they are in words. SQLite has one
 * code for a disk that is full and others for what comes to the same; the
 * system's own reason, if there is one, tells. Any thread that has the
 * connection; no state.
 */
#ifndef SQLITE_ERROR_H
#define SQLITE_ERROR_H

#include <sqlite3.h>
#include <stddef.h>

#include <rota/error.h>

/* Of a code alone. */
enum rota_error error_of_sqlite(int code);

/* Of the last call on db, which has failed with code; its words go to text:
 * "disk I/O error: No space left on device (SQLite 4874)". */
enum rota_error error_of_connection(sqlite3 *db, int code, char *text,
                                    size_t size);

#endif
