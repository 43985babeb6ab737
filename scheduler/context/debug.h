/*
 * With ROTA_DEBUG=1 in the environment: the list of live contexts, and the
 * detection of misuse. Nothing here is called unless debug_is_on(), so that
 * without it all of this costs one load and a branch that is not taken. Any
 * thread; no lock is held but where it is said.
 */
#ifndef DEBUG_H
#define DEBUG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

struct node;

enum debug_state { DEBUG_UNKNOWN, DEBUG_OFF, DEBUG_ON };

/* Looked up in the environment once. Relaxed: whoever looks finds the same. */
extern _Atomic int debug_state;
bool debug_look(void);

static inline bool
debug_is_on(void)
{
    int state = atomic_load_explicit(&debug_state, memory_order_relaxed);

    if (__builtin_expect(state == DEBUG_OFF, 1))
        return false;
    return state == DEBUG_ON || debug_look();
}

/* In front of each node that was made with ROTA_DEBUG=1. */
struct trace {
    _Alignas(max_align_t) struct link on_list; /* live, or kept though freed */
    const char *where; /* a literal of the caller's, or NULL */
    int64_t made_at;
    size_t at; /* ctx_dump()'s: in its order, first of itself, then of the next
                * child that it has to print */
};

static inline struct trace *
trace_of(const struct node *node)
{
    return (struct trace *)(void *)((uintptr_t)node - sizeof(struct trace));
}

/* Memory for a node; NULL without. It is listed by debug_node_made(), when it
 * is whole, and taken off by debug_node_gone(), before it is not. */
struct node *debug_node_new(size_t size);
void debug_node_made(struct node *node);
void debug_node_gone(struct node *node);
void debug_node_free(struct node *node);

/* Abort if node's last reference is gone. */
void debug_check(const struct node *node);

/* The list of the live ones, struct trace in the order they were made, for
 * ctx_dump(): it stays as it is until it is dropped, by the same thread. A
 * tree's lock may be taken meanwhile. */
struct link *debug_live_hold(void);
void debug_live_drop(void);

/* hook is being registered on node: abort if it is already. And it is stopped,
 * or about to be run. */
void debug_hook_armed(const void *hook, const struct node *node);
void debug_hook_over(const void *hook);

/* This thread runs a hook. */
struct debug_run {
    struct link on_runs;
    const void *hook;
    pthread_t thread;
};
void debug_run_begin(struct debug_run *run, const void *hook);
void debug_run_end(struct debug_run *run);

/* This thread waits for a hook that runs elsewhere: abort if that one waits,
 * at however many removes, for one that this thread runs. */
struct debug_wait {
    struct link on_waits;
    const void *hook;
    pthread_t thread;
};
void debug_wait_begin(struct debug_wait *wait, const void *hook);
void debug_wait_end(struct debug_wait *wait);

#endif
