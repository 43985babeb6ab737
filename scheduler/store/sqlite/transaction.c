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
#include "base/process.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/users.h"

/* How long the gate is waited for: one who has it may have much to write, one
 * who is stopped writes nothing. */
#define GATE_LIMIT         ROTA_SEC(60)
#define GATE_LIMIT_STOPPED ROTA_SEC(5)
#define GATE_LOOK          ROTA_SEC(1) /* who has it, so often */

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

/* Say who keeps us waiting at the gate. */
static void
blame_turn(const struct sqlite_store *store, int64_t pid, int64_t time)
{
    const struct pids pids = {.all = {pid}, .n = pid != 0};
    char who[128], advice[64] = "try again";

    pids_say(&pids, who, sizeof(who));
    if (pid != 0 && process_is_stopped(pid))
        (void)snprintf(advice, sizeof(advice),
                       "let it go on (kill -CONT %jd) or end it",
                       (intmax_t)pid);
    message_set("%s: %s has kept all others from writing for %jd s; %s",
                store->connection.path,
                who[0] != '\0' ? who : "another process",
                (intmax_t)(time / ROTA_SEC(1)), advice);
}

enum rota_error
transaction_gate(struct sqlite_store *store)
{
    const int64_t begun = ctx_now();
    int64_t now = begun, limit = GATE_LIMIT, pid = 0;
    enum rota_error error;

    if (store->base.options.waits_for_none) {
        error = lockfile_enter(store->lockfile, 0);
        if (error == ROTA_BUSY)
            message_set("%s: another process writes", store->connection.path);
        return error;
    }
    do {
        error = lockfile_enter(store->lockfile, now + GATE_LOOK);
        now = ctx_now();
        if (error != ROTA_BUSY)
            return error;
        pid = users_turn(store->yield.shm, store->yield.lock);
        limit = pid != 0 && process_is_stopped(pid) ? GATE_LIMIT_STOPPED
                                                    : GATE_LIMIT;
    } while (now - begun < limit);
    blame_turn(store, pid, now - begun);
    return error;
}

/* A worker, who tries again, says once that it cannot write, and once that it
 * can. */
static void
busy_tell(struct sqlite_store *store, enum rota_error error)
{
    char words[512];

    if (error == ROTA_BUSY && !store->is_shut_out) {
        (void)snprintf(words, sizeof(words), "%s", message_get());
        store_say(&store->base, "%s", words);
        message_set("%s", words);
    } else if (error == ROTA_OK && store->is_shut_out) {
        store_say(&store->base, "%s can be written to again",
                  store->connection.path);
    }
    store->is_shut_out = error == ROTA_BUSY;
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
    error = transaction_gate(store);
    if (error != ROTA_OK) {
        busy_tell(store, error);
        return error;
    }
    store->has_moved = connection_has_moved(&store->connection);
    if (store->has_moved)
        error = ROTA_STORE;
    if (error == ROTA_OK)
        error = set_durable(store, is_durable);
    if (error == ROTA_OK)
        error = RUN_BARE(store, BEGIN_IMMEDIATE);
    if (error == ROTA_BUSY)
        blame(store);
    busy_tell(store, error);
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
