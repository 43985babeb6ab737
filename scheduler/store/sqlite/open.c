/*
 * Opening the queue's file: which one a path means, whether it may be one,
 * whose it is, and of which version. By the thread that opens or closes; the
 * one call for any thread is sqlite_is_inherited(), which reads what is set by
 * fork alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/base.h"
#include "base/companions.h"
#include "base/descriptor.h"
#include "store/sqlite/schema.h"
#include "store/sqlite/sqlite.h"

/* julianday() of the writing connection, so that the triggers' time is the
 * transaction's. */
static void
julianday_now(sqlite3_context *context, int n, sqlite3_value **values)
{
    const struct sqlite_store *store = sqlite3_user_data(context);

    (void)n;
    (void)values;
    sqlite3_result_double(context, (double)store->now / 86400000.0 + 2440587.5);
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
sqlite_is_inherited(const struct store *base)
{
    const struct sqlite_store *store = (const struct sqlite_store *)base;

    if (!lockfile_is_inherited(store->lockfile))
        return false;
    forked_say(store->connection.path);
    return true;
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

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000 /* Linux 5.8 */
#endif

/* Whether it is the file itself that is mounted, as containers do, and not a
 * folder that it is in: then what SQLite keeps beside it is beside this name,
 * and who has it by another name keeps his own there. Before Linux 5.8 it
 * cannot be told. */
static bool
is_mounted_alone(const char *path)
{
    struct statx file;

    return statx(AT_FDCWD, path, 0, 0, &file) == 0 &&
           (file.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
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
    if (is_mounted_alone(path)) {
        message_set("%s is mounted by itself, and is there under another name "
                    "too: each would get a log of its own and damage the file; "
                    "mount the folder that it is in",
                    path);
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
    int fd = descriptor_above(
        open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));

    if (fd >= 0) {
        close(fd);
        return ROTA_OK;
    }
    if (errno == EEXIST)
        return ROTA_OK;
    message_set("cannot make %s: %s", path, strerror(errno));
    return ROTA_SYSTEM;
}

/* What a row takes at most besides its largest value: words, a key. */
#define ROW_REST 65536

STATEMENT(INSTANCE) = {"SELECT value FROM _meta WHERE key = 'instance'"};

/* Which queue it is: what it calls itself, and where it is. */
static enum rota_error
identity_read(struct sqlite_store *store)
{
    struct store_identity *identity = &store->base.identity;
    struct stmt stmt = stmt_of(&store->connection, &INSTANCE);
    struct stat file = {.st_ino = 0};
    char *text = NULL;

    if (stmt_next(&stmt))
        text = stmt_key(&stmt, 0);
    if (stmt_end(&stmt) == ROTA_OK && text == NULL)
        return connection_damage(&store->connection,
                                 "what it calls itself is gone");
    if (text != NULL)
        (void)snprintf(identity->instance, sizeof(identity->instance), "%s",
                       text);
    free(text);
    identity->name = identity->file = store->connection.path;
    (void)stat(identity->file, &file);
    identity->place = file.st_ino;
    return stmt.error == ROTA_OK ? origin_read(store) : stmt.error;
}

/* The file made, or brought up to this version. The gate is held. */
static enum rota_error
file_prepare(struct sqlite_store *store, int64_t version)
{
    enum rota_error error = log_begin(store);

    return error == ROTA_OK && version < SCHEMA_VERSION
               ? schema_upgrade(&store->connection)
               : error;
}

static enum rota_error
open_for_writing(struct sqlite_store *store, const char *path)
{
    int64_t version = 0;
    enum rota_error error = connection_open(&store->connection, path, true);

    if (error == ROTA_OK && store->base.options.waits_for_none)
        (void)sqlite3_busy_handler(store->connection.db, NULL, NULL);
    if (error == ROTA_OK)
        error = schema_check(&store->connection, &version);
    if (error == ROTA_OK) {
        companions_make_lock(path, store->yield.lock);
        error = lockfile_open(store->yield.lock, &store->lockfile);
    }
    if (error == ROTA_OK)
        error = transaction_gate(store);
    if (error == ROTA_OK) {
        error = file_prepare(store, version);
        if (error == ROTA_OK)
            error = origin_settle(store);
        lockfile_leave(store->lockfile);
    }
    if (error == ROTA_OK && connection_has_moved(&store->connection))
        error = ROTA_STORE; /* already; and this notes which log it is */
    if (error != ROTA_OK)
        return error;
    log_count(store);
    if (sqlite3_create_function(store->connection.db, "julianday", 1,
                                SQLITE_UTF8 | SQLITE_INNOCUOUS, store,
                                julianday_now, NULL, NULL) != SQLITE_OK)
        return connection_error(&store->connection);
    return transaction_prepare(store);
}

static enum rota_error
open_for_reading(struct sqlite_store *store, const char *path)
{
    int64_t version = 0;
    enum rota_error error = connection_open(&store->connection, path, false);

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
        error = lockfile_open_look(store->yield.lock, &store->lockfile);
    return error;
}

/* The whole path of the file, which is there. malloc'd. */
static enum rota_error
file_find(const char *path, bool is_readonly, char **ret_whole)
{
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
    if (error == ROTA_OK)
        error = companions_check(whole);
    if (error == ROTA_OK && !is_readonly)
        error = path_create(whole);
    if (error == ROTA_OK)
        error = path_check(whole);
    if (error != ROTA_OK) {
        free(whole);
        return error;
    }
    *ret_whole = whole;
    return ROTA_OK;
}

enum rota_error
sqlite_open(const char *path, const struct store_options *options,
            struct store **ret_store)
{
    struct sqlite_store *store = NULL;
    char *whole = NULL;
    enum rota_error error = file_find(path, options->is_readonly, &whole);

    if (error != ROTA_OK)
        goto out;
    store = calloc(1, sizeof(*store));
    error = store == NULL ? no_memory() : yield_begin(&store->yield, whole);
    if (error != ROTA_OK)
        goto out;
    store->base.ops = &sqlite_ops;
    store->base.options = *options;
    error = options->is_readonly ? open_for_reading(store, whole)
                                 : open_for_writing(store, whole);
    if (error == ROTA_OK)
        error = companions_check(whole); /* also those that came meanwhile */
    if (error == ROTA_OK)
        error = identity_read(store);
    if (error == ROTA_OK)
        store->base.value_max = (size_t)sqlite3_limit(store->connection.db,
                                                      SQLITE_LIMIT_LENGTH, -1) -
                                ROW_REST;
    if (error != ROTA_OK)
        goto out;
    *ret_store = &store->base;
    store = NULL;
out:
    if (store != NULL)
        sqlite_close(&store->base);
    free(whole);
    return error;
}

void
sqlite_close(struct store *base)
{
    struct sqlite_store *store = sqlite_store_of(base);

    names_fini(store);
    arrivals_forget(store);
    free(store->arrivals.jobs.all);
    if (store->connection.db != NULL)
        connection_close(&store->connection);
    lockfile_close(store->lockfile);
    yield_end(&store->yield);
    store_damage_free(base);
    free(base->identity.former);
    free(store);
}
