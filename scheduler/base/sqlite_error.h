/*
 * What SQLite's error codes mean here. A leaf: sqlite3.h and error.h.
 */
#ifndef SQLITE_ERROR_H
#define SQLITE_ERROR_H

#include <sqlite3.h>

#include <rota/error.h>

static inline enum rota_error
error_of_sqlite(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ROTA_OK;
    case SQLITE_NOMEM:
        return ROTA_NOMEM;
    case SQLITE_FULL:
        return ROTA_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return ROTA_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ROTA_CORRUPT;
    default:
        return ROTA_STORE;
    }
}

#endif
