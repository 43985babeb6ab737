/*
 * Forgetting jobs that have ended. One thread at a time, inside a transaction.
 */
#include "base/base.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* Unless it has been retried meanwhile, ended later, or is waited for. */
STATEMENT(PRUNE_DONE) = {"DELETE FROM _done WHERE id = ?1 AND finished_at < ?2"
                         " AND NOT EXISTS (SELECT 1 FROM _dep d"
                         "  JOIN _blocked b ON b.id = d.child"
                         "  WHERE d.parent = ?1)"
                         " AND NOT EXISTS (SELECT 1 FROM _settle"
                         "  WHERE job = ?1 AND what = " CHILDREN ")"};
STATEMENT(PRUNE_PROGRESS) = {"DELETE FROM _progress WHERE id = ?1"};
STATEMENT(PRUNE_ATTEMPTS) = {"DELETE FROM _attempt WHERE job = ?1"};
STATEMENT(PRUNE_PARENTS) = {"DELETE FROM _dep WHERE child = ?1"};
STATEMENT(PRUNE_CHILDREN) = {"DELETE FROM _dep WHERE parent = ?1"};
STATEMENT(PRUNE_SETTLE) = {"DELETE FROM _settle WHERE job = ?1"};
STATEMENT(PRUNE_BATCH) = {
    "DELETE FROM _batch WHERE id = (SELECT batch FROM _job"
    "  WHERE id = ?1) AND NOT EXISTS (SELECT 1 FROM _job"
    "  WHERE batch = _batch.id AND id <> ?1)"};
STATEMENT(PRUNE_JOB) = {"DELETE FROM _job WHERE id = ?1"};

/* *ret_gone: it is gone. */
static enum rota_error
job_forget(struct sqlite_store *store, int64_t id, int64_t before,
           bool *ret_gone)
{
    static const struct statement *const rest[] = {
        &PRUNE_PROGRESS, &PRUNE_ATTEMPTS, &PRUNE_PARENTS, &PRUNE_CHILDREN,
        &PRUNE_SETTLE,   &PRUNE_BATCH,    &PRUNE_JOB};
    int64_t changed = 0;
    enum rota_error error = RUN(store, PRUNE_DONE, &changed, id, before);

    *ret_gone = changed > 0;
    for (size_t i = 0;
         *ret_gone && error == ROTA_OK && i < sizeof(rest) / sizeof(*rest); i++)
        error = RUN(store, *rest[i], NULL, id);
    return error;
}

enum rota_error
jobs_prune(struct sqlite_store *store, const int64_t *ids, size_t n,
           int64_t before, int64_t *ret_count)
{
    enum rota_error error = ROTA_OK;
    int64_t count = 0;
    bool is_gone = false;

    for (size_t i = 0; error == ROTA_OK && i < n; i++) {
        error = job_forget(store, ids[i], before, &is_gone);
        count += is_gone;
    }
    names_forget(store); /* a batch may be gone */
    *ret_count = count;
    return error;
}
