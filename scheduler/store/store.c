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

#include "base.h"
#include "store/private.h"
#include "store/schema.h"

/* In frames of the WAL; well below the 1,000 of foreign clients. */
#define CHECKPOINT_FRAMES 600

int64_t
store_now(void)
{
    static _Atomic int64_t latest; /* relaxed: orders nothing but itself */
    int64_t seen = atomic_load_explicit(&latest, memory_order_relaxed);
    struct timespec time;
    int64_t now;

    (void)clock_gettime(CLOCK_REALTIME, &time);
    now = (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
    while (now > seen)
        if (atomic_compare_exchange_weak_explicit(&latest, &seen, now,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
            return now;
    return seen;
}

const char *
store_path(const struct store *store)
{
    return store->connection.path;
}

const char *
store_instance(const struct store *store)
{
    return store->instance;
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
        return ROTA_NOMEM;
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
        return ROTA_NOMEM;
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

/* The integer that a pragma or a count answers. */
static enum rota_error
ask_number(struct connection *connection, const char *sql, int64_t *ret_number)
{
    sqlite3_stmt *statement;
    enum rota_error error = ROTA_OK;

    if (sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL) !=
        SQLITE_OK)
        return connection_error(connection);
    if (sqlite3_step(statement) == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(statement, 0);
    else
        error = connection_error(connection);
    (void)sqlite3_finalize(statement);
    return error;
}

struct stamps {
    int64_t application, version, objects;
};

/* All three as of one moment: somebody may be making the schema. */
static enum rota_error
stamps_read(struct connection *connection, struct stamps *ret_stamps)
{
    enum rota_error error = connection_script(connection, "SAVEPOINT stamps");

    if (error != ROTA_OK)
        return error;
    error = ask_number(connection, "PRAGMA application_id",
                       &ret_stamps->application);
    if (error == ROTA_OK)
        error =
            ask_number(connection, "PRAGMA user_version", &ret_stamps->version);
    if (error == ROTA_OK)
        error = ask_number(connection, "SELECT count(*) FROM sqlite_schema",
                           &ret_stamps->objects);
    (void)sqlite3_exec(connection->db, "RELEASE stamps", NULL, NULL, NULL);
    return error;
}

/* Whose file it is. *ret_new: nobody's yet. */
static enum rota_error
schema_check(struct connection *connection, bool *ret_new)
{
    struct stamps stamps = {0};
    enum rota_error error = stamps_read(connection, &stamps);

    if (error != ROTA_OK)
        return error;
    *ret_new =
        stamps.application == 0 && stamps.version == 0 && stamps.objects == 0;
    if (*ret_new)
        return ROTA_OK;
    if (stamps.application != SCHEMA_APPLICATION_ID) {
        message_set("%s is a SQLite file of something else; name another file",
                    connection->path);
        return ROTA_CORRUPT;
    }
    if (stamps.version > SCHEMA_VERSION) {
        message_set("%s was made by a newer rota (version %jd of the file, "
                    "this one knows %d); upgrade rota",
                    connection->path, (intmax_t)stamps.version, SCHEMA_VERSION);
        return ROTA_VERSION;
    }
    return ROTA_OK;
}

/* Make the schema, unless somebody else did while we waited for the lock. */
static enum rota_error
schema_make(struct connection *connection)
{
    char stamp[96];
    bool is_new = false;
    enum rota_error error;

    error = connection_script(connection,
                              "PRAGMA synchronous=FULL; BEGIN IMMEDIATE");
    if (error != ROTA_OK)
        return error;
    error = schema_check(connection, &is_new);
    for (int i = 0; error == ROTA_OK && is_new && schema_parts[i] != NULL; i++)
        error = connection_script(connection, schema_parts[i]);
    (void)snprintf(stamp, sizeof(stamp),
                   "PRAGMA application_id=%d; PRAGMA user_version=%d",
                   SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
    if (error == ROTA_OK && is_new)
        error = connection_script(connection, stamp);
    if (error == ROTA_OK)
        error = connection_script(connection, "COMMIT");
    if (error != ROTA_OK && !sqlite3_get_autocommit(connection->db))
        (void)sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL);
    return error == ROTA_OK
               ? connection_script(connection, "PRAGMA synchronous=NORMAL")
               : error;
}

static enum rota_error
wal_begin(struct connection *connection)
{
    sqlite3_stmt *statement;
    bool is_wal = false;
    int keep = 1;

    if (sqlite3_prepare_v2(connection->db, "PRAGMA journal_mode=WAL", -1,
                           &statement, NULL) != SQLITE_OK)
        return connection_error(connection);
    if (sqlite3_step(statement) == SQLITE_ROW)
        is_wal =
            strcmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0;
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
    enum rota_error error = ROTA_OK;

    if (sqlite3_prepare_v2(connection->db,
                           "SELECT value FROM _meta WHERE key = 'instance'", -1,
                           &statement, NULL) != SQLITE_OK)
        return connection_error(connection);
    if (sqlite3_step(statement) == SQLITE_ROW)
        (void)snprintf(store->instance, sizeof(store->instance), "%s",
                       (const char *)sqlite3_column_text(statement, 0));
    else
        error = ROTA_CORRUPT;
    (void)sqlite3_finalize(statement);
    return error;
}

static enum rota_error
open_for_writing(struct store *store, const char *path)
{
    char *lock_path = NULL;
    bool is_new = false;
    enum rota_error error;

    if (asprintf(&lock_path, "%s-lock", path) < 0)
        return ROTA_NOMEM;
    error = connection_open(&store->connection, path, true, store_statements);
    if (error == ROTA_OK)
        error = schema_check(&store->connection, &is_new);
    if (error == ROTA_OK)
        error = lockfile_open(lock_path, &store->lockfile);
    if (error == ROTA_OK)
        error = lockfile_enter(store->lockfile);
    if (error == ROTA_OK) {
        error = wal_begin(&store->connection);
        if (error == ROTA_OK && is_new)
            error = schema_make(&store->connection);
        lockfile_leave(store->lockfile);
    }
    free(lock_path);
    if (error == ROTA_OK)
        (void)sqlite3_wal_hook(store->connection.db, wal_committed, store);
    return error;
}

static enum rota_error
open_for_reading(struct store *store, const char *path)
{
    bool is_new = false;
    enum rota_error error;

    error = connection_open(&store->connection, path, false, store_statements);
    if (error == ROTA_OK)
        error = schema_check(&store->connection, &is_new);
    if (error == ROTA_OK && is_new) {
        message_set("%s is empty: there is no queue in it", path);
        error = ROTA_NOTFOUND;
    }
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
    if (error == ROTA_OK && !readonly)
        error = path_create(whole);
    if (error == ROTA_OK)
        error = path_check(whole);
    if (error != ROTA_OK)
        goto out;
    store = calloc(1, sizeof(*store));
    error = store == NULL ? ROTA_NOMEM
            : readonly    ? open_for_reading(store, whole)
                          : open_for_writing(store, whole);
    if (error == ROTA_OK)
        error = instance_read(store);
    if (error != ROTA_OK)
        goto out;
    store->checkpoint_at = CHECKPOINT_FRAMES;
    store->durable = false;
    *ret_store = store;
    store = NULL;
out:
    store_close(store);
    free(whole);
    return error;
}

static void
names_clear(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->all[i].text);
    names->n = 0;
}

static void
names_forget(struct store *store)
{
    names_clear(&store->kinds);
    names_clear(&store->queues);
    names_clear(&store->batches);
}

void
store_close(struct store *store)
{
    if (store == NULL)
        return;
    names_forget(store);
    free(store->kinds.all);
    free(store->queues.all);
    free(store->batches.all);
    if (store->connection.db != NULL)
        connection_close(&store->connection);
    lockfile_close(store->lockfile);
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

/* -- Transactions --------------------------------------------------------- */

/* Names that another process has changed must be asked for anew. */
static enum rota_error
names_refresh(struct store *store)
{
    enum rota_error error = ROTA_OK;
    sqlite3_stmt *statement = store_statement(store, DATA_VERSION, &error);
    int64_t version = -1;

    if (statement == NULL)
        return error;
    if (sqlite3_step(statement) == SQLITE_ROW)
        version = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    if (version != store->data_version || version < 0)
        names_forget(store);
    store->data_version = version;
    return ROTA_OK;
}

enum rota_error
store_begin(struct store *store, bool durable)
{
    enum rota_error error = lockfile_enter(store->lockfile);

    if (error != ROTA_OK)
        return error;
    if (durable != store->durable) {
        error = connection_script(&store->connection,
                                  durable ? "PRAGMA synchronous=FULL"
                                          : "PRAGMA synchronous=NORMAL");
        store->durable = durable;
    }
    if (error == ROTA_OK)
        error = store_run(store, BEGIN_IMMEDIATE, NULL, 0, NULL);
    if (error == ROTA_OK)
        error = names_refresh(store);
    if (error != ROTA_OK) {
        store_rollback(store);
        return error;
    }
    store->now = store_now();
    store->first_id = 1;
    store->last_id = 0;
    store->reserve = 1;
    return ROTA_OK;
}

void
store_rollback(struct store *store)
{
    /* many errors have rolled it back already */
    if (!sqlite3_get_autocommit(store->connection.db))
        (void)sqlite3_exec(store->connection.db, "ROLLBACK", NULL, NULL, NULL);
    names_forget(store);
    lockfile_leave(store->lockfile);
}

/* Move the log into the file while nobody can write: the gate is ours. */
static void
checkpoint(struct store *store)
{
    int frames = 0, moved = 0;

    if (store->wal_frames < store->checkpoint_at)
        return;
    /* its failure costs nothing: the next commit tries again */
    (void)sqlite3_wal_checkpoint_v2(store->connection.db, "main",
                                    SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    /* a reader that stays keeps the log; do not try at every commit then */
    store->checkpoint_at = moved == frames
                               ? CHECKPOINT_FRAMES
                               : store->wal_frames + CHECKPOINT_FRAMES;
}

enum rota_error
store_commit(struct store *store)
{
    int64_t unused = store->last_id - store->first_id + 1;
    enum rota_error error = ROTA_OK;

    if (unused > 0)
        error = RUN(store, RETURN_IDS, NULL, unused);
    if (error == ROTA_OK)
        error = store_run(store, COMMIT, NULL, 0, NULL);
    if (error != ROTA_OK) {
        store_rollback(store);
        return error;
    }
    checkpoint(store);
    lockfile_leave(store->lockfile);
    return ROTA_OK;
}

enum rota_error
store_touch(struct store *store)
{
    return store_run(store, TOUCH, NULL, 0, NULL);
}
