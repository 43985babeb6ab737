/*
 * What a kind of store is made of: its half of store.h, call by call. A store,
 * a reader and a watch begin with what store.c finds it by; what comes behind
 * is the kind's own. For the files of store/ alone.
 */
#ifndef OPS_H
#define OPS_H

#include <stdatomic.h>

#include "store/store.h"

struct store {
    const struct store_ops *ops;
    struct store_options options;
    struct store_identity identity; /* filled by open */
    size_t value_max;               /* the same: store_value_max() */
    /* what is wrong with it, once that has been noted, and for ever: release
     * here, acquire in store_damage(). Not freed before the store is closed */
    _Atomic(char *) damage;
};

struct reader {
    const struct store_ops *ops;
};

struct watch {
    const struct store_ops *ops;
};

/* Each as store.h says of the call with that name. open sets ops, options and
 * identity of what it makes; options->clock is never NULL there. */
struct store_ops {
    enum rota_error (*open)(const char *name,
                            const struct store_options *options,
                            struct store **ret_store);
    void (*close)(struct store *store);
    bool (*is_inherited)(const struct store *store);
    enum rota_error (*cycle)(struct store *store, struct work *work);

    enum rota_error (*reader_open)(struct store *store,
                                   struct reader **ret_reader);
    void (*reader_close)(struct reader *reader);
    enum rota_error (*reader_outcome)(struct reader *reader, int64_t id,
                                      struct rota_outcome *ret_outcome);
    enum rota_error (*reader_waiting)(struct reader *reader,
                                      const struct scope *scope,
                                      struct waiting *ret_waiting);
    enum rota_error (*reader_dead)(struct reader *reader, reader_dead_fn *fn,
                                   void *arg);
    enum rota_error (*reader_query)(struct ctx *ctx, struct reader *reader,
                                    const char *sql,
                                    const struct rota_value *params, int n,
                                    rota_row_fn *fn, void *arg);
    enum rota_error (*reader_retaining)(struct reader *reader, int64_t *queue,
                                        int64_t *ret_ms);
    enum rota_error (*reader_prunable)(struct reader *reader, int64_t queue,
                                       int64_t before, int64_t *last,
                                       int64_t *ids, size_t n, size_t *ret_n);

    enum rota_error (*watch_open)(struct store *store,
                                  struct watch **ret_watch);
    void (*watch_close)(struct watch *watch);
    size_t (*watch_descriptors)(const struct watch *watch, struct pollfd *fds,
                                size_t n);
    void (*watch_heard)(struct watch *watch, const struct pollfd *fds,
                        size_t n);
    void (*watch_look)(struct watch *watch, const struct scope *scope,
                       watch_cancel_fn *fn, void *arg, struct news *ret_news);
    int64_t (*watch_next)(const struct watch *watch);
};

/* By a kind's close. */
void store_damage_free(struct store *store);

/* The store is damaged, as message_get() says: nothing more is to be written to
 * it. Any thread; the first words stay. */
void store_damage_note(struct store *store);

extern const struct store_ops sqlite_ops; /* store/sqlite/sqlite.c */

/* Say a line about the store, to whom its options name. */
void store_say(const struct store *store, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
