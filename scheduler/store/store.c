/*
 * Which store a name means, and the calls of store.h handed on to it. No state
 * and no lock of its own: each call is for the thread that store.h says.
 */
#define _GNU_SOURCE
#include "store/store.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "store/ops.h"

static bool
begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* NULL, after saying why, if no kind of store that is built in goes by such a
 * name. */
static const struct store_ops *
ops_of(const char *name)
{
    if (name != NULL && (begins_with(name, "postgres://") ||
                         begins_with(name, "postgresql://"))) {
        message_set("this rota has no PostgreSQL built in: a queue is a file, "
                    "give its path");
        return NULL;
    }
    return &sqlite_ops;
}

enum rota_error
store_open(const char *name, const struct store_options *options,
           struct store **ret_store)
{
    const struct store_ops *ops = ops_of(name);
    struct store_options own = *options;

    if (ops == NULL)
        return ROTA_INVALID;
    if (own.clock == NULL)
        own.clock = machine_clock;
    return ops->open(name, &own, ret_store);
}

void
store_close(struct store *store)
{
    if (store != NULL)
        store->ops->close(store);
}

size_t
store_value_max(const struct store *store)
{
    return store->value_max;
}

/* -- Damage --------------------------------------------------------------- */

/* What is said when there is no memory for what should be. */
static char plain_words[] = "the queue is damaged";

void
store_damage_note(struct store *store)
{
    char *words = strdup(message_get()), *none = NULL;

    if (words == NULL)
        words = plain_words;
    if (!atomic_compare_exchange_strong_explicit(&store->damage, &none, words,
                                                 memory_order_release,
                                                 memory_order_relaxed) &&
        words != plain_words)
        free(words);
}

const char *
store_damage(const struct store *store)
{
    const char *words =
        atomic_load_explicit(&store->damage, memory_order_acquire);

    if (words != NULL)
        message_set("%s", words);
    return words;
}

void
store_damage_free(struct store *store)
{
    char *words = atomic_load_explicit(&store->damage, memory_order_relaxed);

    if (words != plain_words)
        free(words);
}

const struct store_identity *
store_identity(const struct store *store)
{
    return &store->identity;
}

const char *
identity_of_job(const struct store_identity *identity, int64_t id)
{
    for (size_t i = 0; i < identity->n_former; i++)
        if (id <= identity->former[i].last)
            return identity->former[i].instance;
    return identity->instance;
}

bool
store_is_inherited(const struct store *store)
{
    return store->ops->is_inherited(store);
}

int64_t
store_now(const struct store *store)
{
    return store->options.clock(store->options.clock_arg);
}

void
store_say(const struct store *store, const char *format, ...)
{
    char line[1280];
    va_list args;

    if (store->options.say == NULL)
        return;
    va_start(args, format);
    text_vprint(line, sizeof(line), format, args);
    va_end(args);
    store->options.say(store->options.say_arg, line);
}

enum rota_error
store_cycle(struct store *store, struct work *work)
{
    return store->ops->cycle(store, work);
}

/* -- Reading -------------------------------------------------------------- */

enum rota_error
reader_open(struct store *store, struct reader **ret_reader)
{
    return store->ops->reader_open(store, ret_reader);
}

void
reader_close(struct reader *reader)
{
    if (reader != NULL)
        reader->ops->reader_close(reader);
}

enum rota_error
reader_outcome(struct reader *reader, int64_t id,
               struct rota_outcome *ret_outcome)
{
    return reader->ops->reader_outcome(reader, id, ret_outcome);
}

enum rota_error
reader_waiting(struct reader *reader, const struct scope *scope,
               struct waiting *ret_waiting)
{
    return reader->ops->reader_waiting(reader, scope, ret_waiting);
}

enum rota_error
reader_dead(struct reader *reader, reader_dead_fn *fn, void *arg)
{
    return reader->ops->reader_dead(reader, fn, arg);
}

enum rota_error
reader_query(struct ctx *ctx, struct reader *reader, const char *sql,
             const struct rota_value *params, int n, rota_row_fn *fn, void *arg)
{
    return reader->ops->reader_query(ctx, reader, sql, params, n, fn, arg);
}

enum rota_error
reader_retaining(struct reader *reader, int64_t *queue, int64_t *ret_ms)
{
    return reader->ops->reader_retaining(reader, queue, ret_ms);
}

enum rota_error
reader_prunable(struct reader *reader, int64_t queue, int64_t before,
                int64_t *last, int64_t *ids, size_t n, size_t *ret_n)
{
    return reader->ops->reader_prunable(reader, queue, before, last, ids, n,
                                        ret_n);
}

/* -- Watching ------------------------------------------------------------- */

enum rota_error
watch_open(struct store *store, struct watch **ret_watch)
{
    return store->ops->watch_open(store, ret_watch);
}

void
watch_close(struct watch *watch)
{
    if (watch != NULL)
        watch->ops->watch_close(watch);
}

size_t
watch_descriptors(const struct watch *watch, struct pollfd *fds, size_t n)
{
    return watch->ops->watch_descriptors(watch, fds, n);
}

void
watch_heard(struct watch *watch, const struct pollfd *fds, size_t n)
{
    watch->ops->watch_heard(watch, fds, n);
}

void
watch_look(struct watch *watch, const struct scope *scope, watch_cancel_fn *fn,
           void *arg, struct news *ret_news)
{
    watch->ops->watch_look(watch, scope, fn, arg, ret_news);
}

int64_t
watch_next(const struct watch *watch)
{
    return watch->ops->watch_next(watch);
}
