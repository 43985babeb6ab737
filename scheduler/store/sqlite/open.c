/*
 * Opening the queue's file, its transactions and its checkpoints.
 *
 * One thread at a time: the holder of the writer's role. store_now() and
 * store_lives() may be called from any thread.
 *
 * Checkpoints: SQLite before 3.51.3 can damage a file when a checkpoint runs
 * while somebody else restarts the WAL. So ours is the only one of all rota
 * processes, passive, and runs while we hold the gate, when nobody can write;
 * and it runs early, so that a foreign client, which checkpoints by itself at
 * 1,000 frames, rarely has cause to.
 */
#define _GNU_SOURCE
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/sqlite/users.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/schema.h"

/* In frames of the WAL; well below the 1,000 of foreign clients. */
#define CHECKPOINT_FRAMES 600
/* While a reader keeps the log it is tried again so often. */
#define CHECKPOINT_AGAIN ROTA_MS(500)

void
store_set_clock(struct store *store, store_clock_fn *clock, void *arg)
{
    store->clock = clock;
    store->clock_arg = arg;
}

int64_t
store_now(const struct store *store)
{
    return store->clock(store->clock_arg);
}

/* julianday() of the writing connection, so that the triggers' time is the
 * transaction's. */
static void
julianday_now(sqlite3_context *context, int n, sqlite3_value **values)
{
    const struct store *store = sqlite3_user_data(context);

    (void)n;
    (void)values;
    sqlite3_result_double(context, (double)store->now / 86400000.0 + 2440587.5);
}

const char *
store_path(const struct store *store)
{
    return store->connection.path;
}

const struct connection *
store_connection(const struct store *store)
{
    return &store->connection;
}

const char *
store_instance(const struct store *store)
{
    return store->instance;
}

static void
forked_say(const char *path)
{
    message_set("this process was forked from the one that opened %s: it must "
                "execute a program (exec) before it uses the queue",
                path);
}

/* Whether the process that this one was forked from had the queue open. */
static bool
was_open(const char *path)
{
    char *lock;
    bool was;

    if (asprintf(&lock, "%s-lock", path) < 0)
        return false;
    was = lockfile_was_open(lock);
    free(lock);
    if (was)
        forked_say(path);
    return was;
}

bool
store_is_inherited(const struct store *store)
{
    if (!lockfile_is_inherited(store->lockfile))
        return false;
    forked_say(store->connection.path);
    return true;
}

bool
store_lives(struct store *store, int64_t process)
{
    return lockfile_lives(store->lockfile, process);
}

/* -- Opening ------------------------------------------------------------- */

/* The canonical form of path, whose last part need not exist. malloc'd. */
static enum rota_error
path_resolve(const char *path, char **ret_path)
{
    char *copy, *slash, *directory, *whole = realpath(path, NULL);

    if (whole != NULL) {
        *ret_path = whole;
        return ROTA_OK;
    }
    copy = strdup(path);
    if (copy == NULL)
        return no_memory();
    slash = strrchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    directory = realpath(slash == NULL   ? "."
                         : slash == copy ? "/"
                                         : copy,
                         NULL);
    if (directory == NULL) {
        message_set("cannot open %s: %s", path, strerror(errno));
        free(copy);
        return ROTA_SYSTEM;
    }
    if (asprintf(&whole, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory,
                 slash == NULL ? path : slash + 1) < 0)
        whole = NULL;
    free(directory);
    free(copy);
    if (whole == NULL)
        return no_memory();
    *ret_path = whole;
    return ROTA_OK;
}

/* Refuse what SQLite's shared memory or locks cannot be trusted on. */
static enum rota_error
path_check(const char *path)
{
    struct statfs fs;
    struct stat st;

    if (stat(path, &st) != 0) {
        message_set("cannot open %s: %s", path, strerror(errno));
        return errno == ENOENT ? ROTA_NOTFOUND : ROTA_SYSTEM;
    }
    if (!S_ISREG(st.st_mode)) {
        message_set("%s is not a regular file", path);
        return ROTA_INVALID;
    }
    if (st.st_nlink > 1) {
        message_set("%s has %ju names (hard links): each would get a log of "
                    "its own and damage the file; remove all but one",
                    path, (uintmax_t)st.st_nlink);
        return ROTA_INVALID;
    }
    if (statfs(path, &fs) == 0 &&
        (fs.f_type == NFS_SUPER_MAGIC || fs.f_type == SMB_SUPER_MAGIC ||
         fs.f_type == V9FS_MAGIC || fs.f_type == CEPH_SUPER_MAGIC ||
         (uint32_t)fs.f_type == 0xff534d42 /* cifs */)) {
        message_set("%s is on a network file system; a queue needs a local "
                    "one, for the memory that its users share",
                    path);
        return ROTA_INVALID;
    }
    return ROTA_OK;
}

static enum rota_error
path_create(const char *path)
{
    /* SQLite has no descriptor on the file yet, so closing ours is safe */
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0) {
        close(fd);
        return ROTA_OK;
    }
    if (errno == EEXIST)
        return ROTA_OK;
    message_set("cannot make %s: %s", path, strerror(errno));
    return ROTA_SYSTEM;
}

static enum rota_error
wal_begin(struct connection *connection)
{
    sqlite3_stmt *statement;
    const char *mode;
    bool is_wal = false;
    int keep = 1;

    if (sqlite3_prepare_v2(connection->db, "PRAGMA journal_mode=WAL", -1,
                           &statement, NULL) != SQLITE_OK)
        return connection_error(connection);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        mode = (const char *)sqlite3_column_text(statement, 0);
        is_wal = mode != NULL && strcmp(mode, "wal") == 0;
    }
    if (sqlite3_finalize(statement) != SQLITE_OK)
        return connection_error(connection);
    if (!is_wal) {
        message_set("%s: SQLite cannot keep a write-ahead log here",
                    connection->path);
        return ROTA_STORE;
    }
    /* the log stays, so that readers without write access can look */
    (void)sqlite3_file_control(connection->db, "main", SQLITE_FCNTL_PERSIST_WAL,
                               &keep);
    return connection_script(connection, "PRAGMA wal_autocheckpoint=0;"
                                         "PRAGMA journal_size_limit=67108864;"
                                         "PRAGMA synchronous=NORMAL");
}

static int
wal_committed(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct store *store = arg;

    (void)db;
    (void)name;
    store->wal_frames = frames;
    return SQLITE_OK;
}

static enum rota_error
instance_read(struct store *store)
{
    struct connection *connection = &store->connection;
    sqlite3_stmt *statement;
    enum rota_error error;
    char *text = NULL;
    bool row = false;

    if (sqlite3_prepare_v2(connection->db,
                           "SELECT value FROM _meta WHERE key = 'instance'", -1,
                           &statement, NULL) != SQLITE_OK)
        return connection_error(connection);
    error = connection_row(connection, statement, &row);
    if (row)
        error = column_text(statement, 0, &text);
    if (error == ROTA_OK && text == NULL) {
        message_set("%s: what it calls itself is gone", connection->path);
        error = ROTA_CORRUPT;
    }
    if (error == ROTA_OK)
        (void)snprintf(store->instance, sizeof(store->instance), "%s", text);
    free(text);
    (void)sqlite3_finalize(statement);
    return error;
}

static enum rota_error
open_for_writing(struct store *store, const char *path)
{
    int64_t version = 0;
    enum rota_error error = courtesy_begin(&store->courtesy, path);

    if (error == ROTA_OK)
        error =
            connection_open(&store->connection, path, true, store_statements);
    if (error == ROTA_OK)
        error = schema_check(&store->connection, &version);
    if (error == ROTA_OK)
        error = lockfile_open(store->courtesy.lock, &store->lockfile);
    if (error == ROTA_OK)
        error = lockfile_enter(store->lockfile);
    if (error == ROTA_OK) {
        error = wal_begin(&store->connection);
        if (error == ROTA_OK && version < SCHEMA_VERSION)
            error = schema_upgrade(&store->connection);
        lockfile_leave(store->lockfile);
    }
    if (error == ROTA_OK && store_has_moved(store))
        error = ROTA_STORE; /* already; and this notes which log it is */
    if (error != ROTA_OK)
        return error;
    (void)sqlite3_wal_hook(store->connection.db, wal_committed, store);
    if (sqlite3_create_function(store->connection.db, "julianday", 1,
                                SQLITE_UTF8 | SQLITE_INNOCUOUS, store,
                                julianday_now, NULL, NULL) != SQLITE_OK)
        return connection_error(&store->connection);
    /* to be had even when memory is not: an open transaction shuts others out
     */
    (void)store_statement(store, ROLLBACK, &error);
    return error;
}

static enum rota_error
open_for_reading(struct store *store, const char *path)
{
    int64_t version = 0;
    enum rota_error error = courtesy_begin(&store->courtesy, path);

    if (error == ROTA_OK)
        error =
            connection_open(&store->connection, path, false, store_statements);
    if (error == ROTA_OK)
        error = schema_check(&store->connection, &version);
    if (error == ROTA_OK && version == 0) {
        message_set("%s is empty: there is no queue in it, until a job is "
                    "submitted or somebody works on it",
                    path);
        error = ROTA_NOTFOUND;
    } else if (error == ROTA_OK && version < SCHEMA_VERSION) {
        message_set("%s was made by an older rota; open it once to write, with "
                    "rota work or rota add, and it is brought up to date",
                    path);
        error = ROTA_VERSION;
    }
    if (error == ROTA_OK)
        error = lockfile_open_look(store->courtesy.lock, &store->lockfile);
    return error;
}

enum rota_error
store_open(const char *path, bool readonly, struct store **ret_store)
{
    struct store *store = NULL;
    char *whole = NULL;
    enum rota_error error;

    if (path == NULL || path[0] == '\0' || strncmp(path, "file:", 5) == 0 ||
        strcmp(path, ":memory:") == 0) {
        message_set("a queue is a file: its path must not be empty, :memory: "
                    "or start with file:");
        return ROTA_INVALID;
    }
    error = path_resolve(path, &whole);
    if (error == ROTA_OK && was_open(whole))
        error = ROTA_INVALID;
    if (error == ROTA_OK && !readonly)
        error = path_create(whole);
    if (error == ROTA_OK)
        error = path_check(whole);
    if (error != ROTA_OK)
        goto out;
    store = calloc(1, sizeof(*store));
    error = store == NULL ? no_memory()
            : readonly    ? open_for_reading(store, whole)
                          : open_for_writing(store, whole);
    if (error == ROTA_OK)
        error = instance_read(store);
    if (error != ROTA_OK)
        goto out;
    store->clock = machine_clock;
    store->checkpoint_at = CHECKPOINT_FRAMES;
    store->durable = false;
    *ret_store = store;
    store = NULL;
out:
    store_close(store);
    free(whole);
    return error;
}

void
store_close(struct store *store)
{
    if (store == NULL)
        return;
    names_forget(store);
    arrivals_forget(store);
    free(store->arrivals.jobs.all);
    free(store->kinds.all);
    free(store->queues.all);
    free(store->batches.all);
    if (store->connection.db != NULL)
        connection_close(&store->connection);
    lockfile_close(store->lockfile);
    courtesy_end(&store->courtesy);
    free(store);
}

/* -- Statements ----------------------------------------------------------- */

sqlite3_stmt *
store_statement(struct store *store, enum statement n, enum rota_error *error)
{
    sqlite3_stmt *statement = connection_statement(&store->connection, (int)n);

    if (statement == NULL)
        *error = connection_error(&store->connection);
    return statement;
}

enum rota_error
store_run(struct store *store, enum statement n, int64_t *ret_changed,
          int count, const int64_t *values)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, n, &error);

    if (statement == NULL)
        return error;
    for (int i = 0; i < count; i++)
        (void)sqlite3_bind_int64(statement, i + 1, values[i]);
    return connection_run(&store->connection, statement, ret_changed);
}

void
bind_positive(sqlite3_stmt *statement, int at, int64_t value)
{
    if (value > 0)
        (void)sqlite3_bind_int64(statement, at, value);
    else
        (void)sqlite3_bind_null(statement, at);
}

void
bind_data(sqlite3_stmt *statement, int at, const void *data, size_t size,
          bool blob)
{
    if (data == NULL)
        (void)sqlite3_bind_null(statement, at);
    else if (!blob && text_is_utf8(data, size))
        (void)sqlite3_bind_text64(statement, at, data, size, SQLITE_STATIC,
                                  SQLITE_UTF8);
    else
        (void)sqlite3_bind_blob64(statement, at, data, size, SQLITE_STATIC);
}

void
bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

/* -- Transactions --------------------------------------------------------- */

/* The integer that a statement answers. */
static enum rota_error
ask_number(struct store *store, enum statement n, int64_t *ret_number)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, n, &error);
    bool row = false;

    if (statement == NULL)
        return error;
    error = connection_row(&store->connection, statement, &row);
    if (row)
        *ret_number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    return error;
}

/* When another process has written: names must be asked for anew, and the file
 * may be of a newer version by now. */
static enum rota_error
notice_others(struct store *store)
{
    int64_t changes = -1, version = 0;
    enum rota_error error = ask_number(store, DATA_VERSION, &changes);

    if (error != ROTA_OK || changes == store->data_version)
        return error;
    names_forget(store);
    error = ask_number(store, USER_VERSION, &version);
    if (error == ROTA_OK && version != SCHEMA_VERSION)
        error = schema_check(&store->connection, &version);
    if (error == ROTA_OK)
        store->data_version = changes;
    return error;
}

/* Say who keeps us waiting. */
static void
blame(struct store *store)
{
    struct holders holders;
    char who[128], message[512];

    if (!holders_read(store->courtesy.shm, store->courtesy.lock, &holders))
        return;
    pids_say(&holders.writers, who, sizeof(who));
    if (who[0] == '\0')
        return;
    (void)snprintf(message, sizeof(message), "%s", message_get());
    message_set("%s: %s has it", message, who);
}

enum rota_error
store_begin(struct store *store, bool durable)
{
    enum rota_error error;
    int64_t usual;

    courtesy_wait(&store->courtesy);
    error = lockfile_enter(store->lockfile);
    if (error != ROTA_OK)
        return error;
    if (store_has_moved(store)) {
        store_rollback(store);
        return ROTA_STORE;
    }
    if (durable != store->durable) {
        error = connection_script(&store->connection,
                                  durable ? "PRAGMA synchronous=FULL"
                                          : "PRAGMA synchronous=NORMAL");
        if (error == ROTA_OK)
            store->durable = durable;
    }
    if (error == ROTA_OK)
        error = store_run(store, BEGIN_IMMEDIATE, NULL, 0, NULL);
    if (error == ROTA_BUSY)
        blame(store);
    if (error == ROTA_OK)
        error = notice_others(store);
    if (error != ROTA_OK) {
        store_rollback(store);
        return error;
    }
    store->now = store_now(store);
    usual = store->ids.taken > 0 ? store->ids.taken : store->ids.usual;
    store->ids = (struct ids){
        .first = 1, .reserve = usual > 0 ? usual : 1, .usual = usual};
    store->made_ready = false;
    return ROTA_OK;
}

void
store_rollback(struct store *store)
{
    sqlite3_stmt *rollback = store->connection.statements[ROLLBACK];

    /* many errors have rolled it back already */
    if (!sqlite3_get_autocommit(store->connection.db)) {
        (void)sqlite3_step(rollback);
        (void)sqlite3_reset(rollback);
    }
    if (store->began_process != 0)
        lockfile_unlive(store->lockfile, store->began_process);
    store->began_process = 0;
    names_forget(store);
    arrivals_forget(store);
    lockfile_leave(store->lockfile);
    courtesy_wrote(&store->courtesy);
}

/* Move the log into the file while nobody can write: the gate is ours. */
static void
checkpoint(struct store *store)
{
    int frames = 0, moved = 0;
    int64_t now = store->retry_at == 0 ? 0 : ctx_now();

    if (store->wal_frames < store->checkpoint_at &&
        (store->retry_at == 0 || now < store->retry_at))
        return;
    /* its failure costs nothing: the next commit tries again */
    (void)sqlite3_wal_checkpoint_v2(store->connection.db, "main",
                                    SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    store->checkpoint_at = CHECKPOINT_FRAMES;
    store->retry_at = 0;
    if (moved == frames) {
        store->wal_frames = 0; /* who writes next begins it anew */
        return;
    }
    /* a reader that stays keeps the log; do not try at every commit then */
    store->checkpoint_at = store->wal_frames + CHECKPOINT_FRAMES;
    store->retry_at = ctx_now() + CHECKPOINT_AGAIN;
}

void
store_log_try(struct store *store)
{
    if (store->retry_at == 0 || ctx_now() < store->retry_at ||
        lockfile_enter(store->lockfile) != ROTA_OK)
        return;
    checkpoint(store);
    lockfile_leave(store->lockfile);
}

int64_t
store_log_size(const struct store *store, bool *ret_is_kept)
{
    *ret_is_kept = store->retry_at != 0;
    return (int64_t)store->wal_frames * (4096 + 24);
}

void
store_log_readers(const struct store *store, char *text, size_t size)
{
    struct holders holders;

    text[0] = '\0';
    if (holders_read(store->courtesy.shm, store->courtesy.lock, &holders))
        pids_say(&holders.readers, text, size);
}

bool
store_has_moved(struct store *store)
{
    return connection_has_moved(&store->connection);
}

enum rota_error
store_commit(struct store *store)
{
    int64_t unused = store->ids.last - store->ids.first + 1;
    enum rota_error error = store_line_up(store);

    arrivals_forget(store);
    if (error == ROTA_OK && unused > 0)
        error = RUN(store, RETURN_IDS, NULL, unused);
    if (error == ROTA_OK)
        error = store_run(store, COMMIT, NULL, 0, NULL);
    if (error != ROTA_OK) {
        store_rollback(store);
        return error;
    }
    store->began_process = 0;
    checkpoint(store);
    lockfile_leave(store->lockfile);
    courtesy_wrote(&store->courtesy);
    return ROTA_OK;
}

bool
store_made_ready(const struct store *store)
{
    return store->made_ready;
}

enum rota_error
store_touch(struct store *store)
{
    return store_run(store, TOUCH, NULL, 0, NULL);
}
