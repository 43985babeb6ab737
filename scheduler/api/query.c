/*
 * rota_query(): a look at the views, by a connection that the caller has to
 * itself for the time. Any thread; no lock held while it runs.
 */
#include "engine/readers.h"

enum rota_error
rota_query(struct ctx *ctx, struct rota *rota, const char *sql,
           const struct rota_value *params, int n, rota_row_fn *fn, void *arg)
{
    enum rota_error error;
    struct reader *reader;

    if (ctx == NULL)
        ctx = ctx_background();
    if (ctx_done(ctx)) {
        message_set("%s", ctx_cause(ctx));
        return ctx_err(ctx);
    }
    if (sql == NULL || fn == NULL) {
        message_set("a query is a statement and a function for its rows");
        return ROTA_INVALID;
    }
    reader = reader_acquire(rota, &error);
    if (reader == NULL)
        return error;
    error =
        reader_query(ctx, reader, sql, params, params == NULL ? 0 : n, fn, arg);
    reader_release(rota, reader);
    return error;
}
