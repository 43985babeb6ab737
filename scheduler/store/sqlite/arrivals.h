/*
 * Jobs that are claimed in the transaction in which they come, and so never
 * stand in line:
 *
 *   arrive   new -> running   instead of new -> ready -> running
 *
 * A cycle that may claim says so first. What is submitted in it, and what its
 * claim may take as it is, is then kept in memory instead of _ready; the claim
 * looks at it together with those in line, so that the order is the same, and
 * what it leaves is lined up. So a job that finds a worker free costs no row
 * that is inserted and deleted in one transaction: a third of its whole price.
 *
 * One thread at a time, in a transaction.
 */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include "store/sqlite/candidates.h"

struct sqlite_store;

struct arrivals {
    struct candidates jobs;
    const struct scope *scope; /* of the claim */
    size_t limit;              /* how many to keep; 0: no claim is expected */
    int64_t queue;             /* what is_open is about; 0: none yet */
    bool is_open;
};

/* A claim for the scope will follow in this transaction, of so many jobs at
 * least. */
void arrivals_expect(struct sqlite_store *store, const struct scope *scope,
                     size_t limit);

/* Keep the new job for it, unless it must be lined up like any: *ret_kept. */
ROTA_MUST_USE enum rota_error
arrivals_keep(struct sqlite_store *store,
              const struct rota_submission *submission,
              const struct candidate *job, bool *ret_kept);

/* Line up what is kept, before anything that may concern jobs that wait. */
ROTA_MUST_USE enum rota_error arrivals_line_up(struct sqlite_store *store);

/* Line up those of the candidates that are not yet. */
ROTA_MUST_USE enum rota_error
arrivals_return(struct sqlite_store *store,
                const struct candidates *candidates);

/* The transaction is over. */
void arrivals_forget(struct sqlite_store *store);

#endif
