/*
 * The arguments of jobs that are claimed. They may be larger than the memory
 * that is to be had, and reading them may be what kills the process: so they
 * are read last, one job's at a time, into memory of their own size, and such
 * as are large not before the claim is committed. Then it is that job's run
 * that fails or dies with its process, as any run may, and not the claim of
 * all.
 *
 * One thread at a time, on the connection that writes.
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "store/sqlite/connection.h"
#include "store/work.h"

/* From this size on they may themselves be why there is no memory. */
#define ARGUMENTS_LARGE (1 << 20)

/* Goes from one job's to another's. Zero is the beginning. */
struct arguments {
    sqlite3_blob *blob;
};

/* Set claim->args, unless they are large, and args_size; in the transaction of
 * the claim. */
ROTA_MUST_USE enum rota_error arguments_read(struct arguments *arguments,
                                             struct connection *connection,
                                             struct claim *claim);

/* Before the transaction ends. */
void arguments_end(struct arguments *arguments);

/* Once it is committed: set the args of those of the work's claims that are
 * large, or args_error. */
void arguments_read_large(struct connection *connection, struct work *work);

#endif
