/*
 * Forgetting jobs that have ended. One thread at a time, inside a transaction.
 */
#include "base/base.h"
#include "store/sqlite/sqlite.h"

/* Forget the job unless it has been retried meanwhile, ended later, or is
 * waited for. *ret_gone: it is gone. */
static enum rota_error
forget(struct store *store, int64_t id, int64_t before, bool *ret_gone)
{
    static const enum statement rest[] = {
        PRUNE_PROGRESS, PRUNE_ATTEMPTS, PRUNE_PARENTS, PRUNE_CHILDREN,
        PRUNE_SETTLE,   PRUNE_BATCH,    PRUNE_JOB};
    int64_t changed = 0;
    enum rota_error error = RUN(store, PRUNE_DONE, &changed, id, before);

    *ret_gone = changed > 0;
    for (size_t i = 0;
         *ret_gone && error == ROTA_OK && i < sizeof(rest) / sizeof(*rest); i++)
        error = RUN(store, rest[i], NULL, id);
    return error;
}

enum rota_error
store_prune(struct store *store, const int64_t *ids, size_t n, int64_t before,
            int64_t *ret_count)
{
    enum rota_error error = ROTA_OK;
    int64_t count = 0;
    bool gone = false;

    for (size_t i = 0; error == ROTA_OK && i < n; i++) {
        error = forget(store, ids[i], before, &gone);
        count += gone;
    }
    names_forget(store); /* a batch may be gone */
    *ret_count = count;
    return error;
}
