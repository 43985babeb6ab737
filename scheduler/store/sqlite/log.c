#include "store/sqlite/log.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/text.h"
#include "store/sqlite/sqlite.h"
#include "store/sqlite/users.h"

/* In frames; well below the 1,000 of foreign clients. */
#define CHECKPOINT_FRAMES 600
/* While a reader keeps the log it is tried again so often. */
#define CHECKPOINT_AGAIN ROTA_MS(500)
/* From this size on it is told of. */
#define LOG_LONG (INT64_C(64) << 20)
/* A page, and what the log adds to it. */
#define FRAME_BYTES (4096 + 24)

/* -- Keeping one ---------------------------------------------------------- */

STATEMENT(KEEP_LOG) = {"PRAGMA journal_mode=WAL"};

enum rota_error
log_begin(struct sqlite_store *store)
{
    struct connection *connection = &store->connection;
    struct stmt stmt = stmt_of(connection, &KEEP_LOG);
    const char *mode;
    bool is_kept = false;
    int stay = 1;

    if (stmt_next(&stmt)) {
        mode = (const char *)sqlite3_column_text(stmt.s, 0);
        is_kept = mode != NULL && strcmp(mode, "wal") == 0;
    }
    if (stmt_end(&stmt) != ROTA_OK)
        return stmt.error;
    if (!is_kept) {
        message_set("%s: SQLite cannot keep a write-ahead log here",
                    connection->path);
        return ROTA_STORE;
    }
    /* it stays behind, so that readers without write access can look */
    (void)sqlite3_file_control(connection->db, "main", SQLITE_FCNTL_PERSIST_WAL,
                               &stay);
    store->log.checkpoint_at = CHECKPOINT_FRAMES;
    return connection_script(connection, "PRAGMA wal_autocheckpoint=0;"
                                         "PRAGMA journal_size_limit=67108864;"
                                         "PRAGMA synchronous=NORMAL");
}

static int
count_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct sqlite_store *store = arg;

    (void)db;
    (void)name;
    store->log.frames = frames;
    return SQLITE_OK;
}

void
log_count(struct sqlite_store *store)
{
    (void)sqlite3_wal_hook(store->connection.db, count_frames, store);
}

void
log_checkpoint(struct sqlite_store *store)
{
    struct log *log = &store->log;
    int frames = 0, moved = 0;
    int64_t now = log->retry_at == 0 ? 0 : ctx_now();
    int code;

    if (log->frames < log->checkpoint_at &&
        (log->retry_at == 0 || now < log->retry_at))
        return;
    code =
        sqlite3_wal_checkpoint_v2(store->connection.db, "main",
                                  SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if (code != SQLITE_OK) {
        /* a full disk, say: nothing is known, and the next commit tries again,
         * or, while a reader keeps the log, the next try */
        if (log->retry_at != 0)
            log->retry_at = ctx_now() + CHECKPOINT_AGAIN;
        return;
    }
    log->checkpoint_at = CHECKPOINT_FRAMES;
    log->retry_at = 0;
    if (moved == frames) {
        log->frames = 0; /* who writes next begins it anew */
        return;
    }
    /* a reader that stays keeps it; do not try at every commit then */
    log->checkpoint_at = log->frames + CHECKPOINT_FRAMES;
    log->retry_at = ctx_now() + CHECKPOINT_AGAIN;
}

/* -- When it is too long --------------------------------------------------- */

static int64_t
log_size(const struct sqlite_store *store)
{
    return (int64_t)store->log.frames * FRAME_BYTES;
}

/* Whether a reader keeps it from being begun anew. */
static bool
is_kept(const struct sqlite_store *store)
{
    return store->log.retry_at != 0;
}

/* Who reads. */
static void
readers_say(const struct sqlite_store *store, char *text, size_t size)
{
    struct users users;

    text[0] = '\0';
    if (users_read(store->yield.shm, store->yield.lock, &users))
        pids_say(&users.readers, text, size);
    if (text[0] == '\0')
        (void)snprintf(text, size, "this process");
}

/* Say that it is kept and long, whenever it has doubled. size 0: it is not kept
 * any more. */
static void
log_tell(struct sqlite_store *store, int64_t size)
{
    struct log *log = &store->log;
    char who[128];

    if (size >= LOG_LONG && size / 2 >= log->told) {
        readers_say(store, who, sizeof(who));
        store_say(&store->base,
                  "%s-wal has grown to %jd MiB: it is kept by a long read of "
                  "%s",
                  store->connection.path, (intmax_t)(size >> 20), who);
        log->told = size;
    } else if (size == 0 && log->told > 0) {
        store_say(&store->base, "%s-wal is begun anew", store->connection.path);
        log->told = 0;
    }
}

void
log_try(struct sqlite_store *store)
{
    struct log *log = &store->log;

    if (!log->is_full)
        return;
    if (log->retry_at != 0 && ctx_now() >= log->retry_at &&
        lockfile_enter(store->lockfile, 0) == ROTA_OK) {
        log_checkpoint(store);
        lockfile_leave(store->lockfile);
    }
    log_watch(store);
}

void
log_watch(struct sqlite_store *store)
{
    int64_t size = log_size(store);
    bool is_full = is_kept(store) && size >= store->base.options.log_max;

    log_tell(store, is_kept(store) ? size : 0);
    if (is_full == store->log.is_full)
        return;
    store->log.is_full = is_full;
    store_say(&store->base, "jobs are %s",
              is_full ? "not taken any more" : "taken again");
}

void
log_refuse(struct sqlite_store *store, struct wish *wish)
{
    char who[128];

    readers_say(store, who, sizeof(who));
    wish->error = ROTA_FULL;
    text_print(wish->message, sizeof(wish->message),
               "%s-wal is %jd MiB long, and takes no more jobs until the "
               "long read of %s has ended",
               store->connection.path, (intmax_t)(log_size(store) >> 20), who);
}
