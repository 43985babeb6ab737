/*
 * A query under a timeout of two seconds, whose caller tells "it took too long"
 * from everything else that can go wrong.
 *
 *   query DATABASE SQL [MILLISECONDS]
 */
#include <rota.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static enum rota_error
count_rows(struct ctx *parent, sqlite3 *db, const char *sql, int64_t timeout,
           int *ret_rows)
{
    CTX_AUTO struct ctx *ctx = ctx_with_timeout(parent, timeout);
    struct rota_sqlite bound;
    sqlite3_stmt *statement = NULL;
    enum rota_error error;
    int code;

    rota_sqlite_bind(&bound, ctx, db);
    code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        while ((code = rota_sqlite_step(&bound, statement)) == SQLITE_ROW)
            ++*ret_rows;
    error = rota_sqlite_error(&bound, code);
    sqlite3_finalize(statement);
    rota_sqlite_unbind(&bound);
    return error;
}

int
main(int argc, char **argv)
{
    int64_t timeout = argc > 3 ? ROTA_MS(atoi(argv[3])) : ROTA_SEC(2);
    sqlite3 *db;
    int rows = 0;

    if (argc < 3 || sqlite3_open(argv[1], &db) != SQLITE_OK)
        return fprintf(stderr, "usage: query DATABASE SQL [MILLISECONDS]\n"), 2;
    switch (count_rows(NULL, db, argv[2], timeout, &rows)) {
    case ROTA_OK:
        printf("%d rows\n", rows);
        break;
    case ROTA_DEADLINE:
        printf("too slow: %d rows by then\n", rows);
        break;
    default:
        printf("failed: %s\n", rota_errmsg(NULL));
    }
    return sqlite3_close(db) != SQLITE_OK;
}
