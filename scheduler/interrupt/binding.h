/*
 * A SQLite connection that is bound to a context: what binding.c, which stops
 * its statements, and sqlite.c, which runs them, share.
 *
 * Nobody else includes this. One thread at a time for each connection; hooks on
 * contexts come from any thread: see binding.c.
 */
#ifndef BINDING_H
#define BINDING_H

#include <rota/interrupt.h>

#include "base/base.h"

struct binding {
    struct ctx_hook hook;
    struct ctx *ctx;
    struct sqlite3 *db;
    struct binding *outer; /* of the same connection; read-only */
    struct binding *next;  /* of another connection; under the shard's lock */
    struct sqlite3_stmt *its; /* among others: whose turn it is; may be gone */
    int busy_ms;              /* the timeout before the binding; read-only */
    bool is_among;   /* statements of others stand at a row; read-only */
    bool is_callers; /* and not a call's of ours; read-only */
    bool is_open; /* the hook may interrupt; written under the shard's lock */
    bool has_stopped; /* something, some way; under the shard's lock */
    bool hears_ends;  /* the trace callback is called at ends, too */
};
_Static_assert(sizeof(struct binding) <= sizeof(struct rota_sqlite),
               "struct rota_sqlite is too small");

static inline struct binding *
binding_of(struct rota_sqlite *bound)
{
    return (struct binding *)(void *)bound;
}

/* Bind db to ctx; end the innermost binding of its connection. is_callers: a
 * ROLLBACK may be run without a word to us. */
void binding_init(struct binding *b, struct ctx *ctx, struct sqlite3 *db,
                  bool is_callers);
void binding_fini(struct binding *b);

/* A ROLLBACK is about to be prepared or stepped: nothing is stopped until
 * another statement starts or goes on. */
void binding_quiet(struct binding *b);

/* statement is about to be stepped. To be asked before the context is. */
void binding_go_on(struct binding *b, struct sqlite3_stmt *statement);

/* Interrupt what db is at. Not among others. */
void binding_interrupt(struct binding *b);

/* Whether something was stopped under the binding: an interrupt was sent, a
 * wait for a lock was given up. */
bool binding_has_stopped(const struct binding *b);

/* Whether sql begins with a ROLLBACK, also TO a savepoint; whether it is one of
 * the whole transaction, and nothing else. */
bool is_rollback(const char *sql);
bool is_rollback_of_all(const char *sql);

#endif
