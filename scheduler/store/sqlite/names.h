/*
 * Names as numbers: kinds, queues and batches have one in the file, which never
 * changes. What was looked up is remembered until somebody else has written.
 * One thread at a time, in a transaction.
 */
#ifndef NAMES_H
#define NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rota/error.h>

struct sqlite_store;

struct name {
    char *text;
    int64_t number;
    int64_t ageing_ms;  /* of a queue */
    int64_t timeout_ms; /* of a kind; 0: none */
    int max_attempts;   /* of a kind */
    bool is_isolated;   /* of a kind */
};

struct names {
    struct name *all;
    size_t n, room;
};

/* The kind, queue or batch so called, made if it is new. Valid until another of
 * the same sort is asked for. */
ROTA_MUST_USE enum rota_error
kind_find(struct sqlite_store *store, const char *text, struct name **ret_name);
ROTA_MUST_USE enum rota_error queue_find(struct sqlite_store *store,
                                         const char *text,
                                         struct name **ret_name);
ROTA_MUST_USE enum rota_error batch_find(struct sqlite_store *store,
                                         const char *text,
                                         struct name **ret_name);

/* Record how jobs of the kind are run, for the views and for who rescues them.
 */
struct joined_kind;
ROTA_MUST_USE enum rota_error kind_set(struct sqlite_store *store,
                                       struct name *kind,
                                       const struct joined_kind *joined);

/* They must be asked for anew. */
void names_forget(struct sqlite_store *store);

/* Free what they take, at the end. */
void names_fini(struct sqlite_store *store);

#endif
