/*
 * The one transaction of a cycle: through the gate, begun, and ended.
 *
 * One thread at a time: whoever has the writer's role. The gate is held from
 * transaction_begin() to transaction_commit() or _rollback(), so that of all
 * rota processes one writes at a time, in turn.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/users.h"

STATEMENT(USER_VERSION) = {"PRAGMA user_version"};
STATEMENT(BEGIN_IMMEDIATE) = {"BEGIN IMMEDIATE"};
STATEMENT(COMMIT) = {"COMMIT"};
STATEMENT(ROLLBACK) = {"ROLLBACK"};
STATEMENT(TOUCH) = {"UPDATE _meta SET value = value + 1 WHERE key = 'synced'"};

/* When another process has written: names must be asked for anew, and the file
 * may be of a newer version by now. */
static enum rota_error
notice_others(struct sqlite_store *store)
{
    int64_t changes = -1, version = 0;
    enum rota_error error =
        connection_data_version(&store->connection, &changes);
    struct stmt stmt;

    if (error != ROTA_OK || changes == store->data_version)
        return error;
    names_forget(store);
    store->latest = 0;
    stmt = stmt_of(&store->connection, &USER_VERSION);
    error = stmt_number(&stmt, &version);
    if (error == ROTA_OK && version != SCHEMA_VERSION)
        error = schema_check(&store->connection, &version);
    if (error == ROTA_OK)
        store->data_version = changes;
    return error;
}

/* Say who keeps us waiting. */
static void
blame(struct sqlite_store *store)
{
    struct users users;
    char who[128], message[512];

    if (!users_read(store->yield.shm, store->yield.lock, &users))
        return;
    pids_say(&users.writers, who, sizeof(who));
    if (who[0] == '\0')
        return;
    (void)snprintf(message, sizeof(message), "%s", message_get());
    message_set("%s: %s has it", message, who);
}

/* Whether power loss may undo what is committed from here on. */
static enum rota_error
set_durable(struct sqlite_store *store, bool is_durable)
{
    enum rota_error error = ROTA_OK;

    if (is_durable == store->is_durable)
        return ROTA_OK;
    error = connection_script(&store->connection,
                              is_durable ? "PRAGMA synchronous=FULL"
                                         : "PRAGMA synchronous=NORMAL");
    if (error == ROTA_OK)
        store->is_durable = is_durable;
    return error;
}

/* What the transaction remembers, empty. As many ids as the last one took are
 * reserved at once. */
static void
transaction_init(struct sqlite_store *store)
{
    int64_t usual = store->ids.taken > 0 ? store->ids.taken : store->ids.usual;

    store->now = store_now(&store->base);
    store->ids = (struct ids){
        .first = 1, .reserve = usual > 0 ? usual : 1, .usual = usual};
    store->has_made_ready = false;
}

enum rota_error
transaction_begin(struct sqlite_store *store, bool is_durable)
{
    enum rota_error error;

    yield_wait(&store->yield);
    error = lockfile_enter(store->lockfile);
    if (error != ROTA_OK)
        return error;
    store->has_moved = connection_has_moved(&store->connection);
    if (store->has_moved)
        error = ROTA_STORE;
    if (error == ROTA_OK)
        error = set_durable(store, is_durable);
    if (error == ROTA_OK)
        error = RUN_BARE(store, BEGIN_IMMEDIATE);
    if (error == ROTA_BUSY)
        blame(store);
    if (error == ROTA_OK)
        error = notice_others(store);
    if (error != ROTA_OK) {
        transaction_rollback(store);
        return error;
    }
    transaction_init(store);
    error = times_check(store);
    if (error != ROTA_OK)
        transaction_rollback(store);
    return error;
}

enum rota_error
transaction_prepare(struct sqlite_store *store)
{
    struct stmt stmt = stmt_of(&store->connection, &ROLLBACK);

    return stmt_end(&stmt);
}

void
transaction_rollback(struct sqlite_store *store)
{
    sqlite3_stmt *rollback = stmt_of(&store->connection, &ROLLBACK).s;

    /* many errors have rolled it back already */
    if (!sqlite3_get_autocommit(store->connection.db)) {
        (void)sqlite3_step(rollback);
        (void)sqlite3_reset(rollback);
    }
    if (store->joined != 0)
        lockfile_unlive(store->lockfile);
    store->joined = 0;
    store->latest = 0;
    names_forget(store);
    arrivals_forget(store);
    lockfile_leave(store->lockfile);
    yield_wrote(&store->yield);
}

enum rota_error
transaction_commit(struct sqlite_store *store)
{
    enum rota_error error = arrivals_line_up(store);

    arrivals_forget(store);
    if (error == ROTA_OK)
        error = ids_return(store);
    if (error == ROTA_OK)
        error = RUN_BARE(store, COMMIT);
    if (error != ROTA_OK) {
        transaction_rollback(store);
        return error;
    }
    store->joined = 0;
    log_checkpoint(store);
    lockfile_leave(store->lockfile);
    yield_wrote(&store->yield);
    return ROTA_OK;
}

enum rota_error
transaction_touch(struct sqlite_store *store)
{
    return RUN_BARE(store, TOUCH);
}
