/*
 * What a context is inside: a node of a tree.
 *
 * Contexts derived from one another form a tree. The top of a tree is what was
 * derived from a root (or by ctx_without_cancel(), from anything); the roots
 * are static and belong to no tree, so that unrelated work shares no lock.
 *
 *   background    (static)
 *      ├── A      a top: its memory holds the tree's one lock
 *      │   ├── B ── D
 *      │   └── C
 *      └── E      another top, another lock
 *
 * A node holds a reference on its parent, so the top, and the lock with it,
 * outlives every node of the tree. The parent's list of children owns nobody:
 * a node whose count has reached 0 takes itself out of it. Whoever takes a
 * tree's lock holds a reference on some node of it until after the unlock.
 *
 * Locks. tree->lock, timers.lock and due.lock (deadline.c) and signals.lock
 * (signal.c) are all leaves: none is ever taken while another is held, and
 * none is held while a callback, a destroy function or a wake-up runs. A
 * condition's lock (cond.c) is a leaf, too.
 */
#ifndef CONTEXT_H
#define CONTEXT_H

#include <stdarg.h>
#include <stdatomic.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "context/wake.h"

/* Why a context ended. Never changes; shared by the nodes that one call ended.
 * The usual ones are static and are not counted. */
struct cause {
    _Atomic uint32_t refs; /* 0: static */
    enum rota_error code;
    const char *text; /* literal, or what follows this struct */
};

struct tree {
    pthread_mutex_t lock;
};

enum node_kind {
    NODE_STATIC,   /* a root, or the one that stands for "no memory" */
    NODE_PLAIN,    /* struct node and no more */
    NODE_DETACHED, /* a top that is below its parent for values only */
    NODE_VALUE,    /* struct value_node (context.c) */
    NODE_TIMED,    /* struct timed_node (deadline.c) */
    NODE_SIGNALS,  /* struct signals_node (signal.c) */
    NODE_PEER,     /* struct peer_node (peer.c) */
    NODE_MERGED,   /* struct merged_node */
};

/* 112 bytes where pointers have 8, so 128 with malloc's share. */
struct node {
    struct ctx pub;        /* pub.state_ is 0 while live, then an enum
                            * rota_error. Set once, under tree->lock, with
                            * release; ctx_done() reads it with acquire */
    _Atomic uint32_t refs; /* not used on NODE_STATIC */
    struct node *parent;   /* read-only; a reference. NULL on NODE_STATIC */
    struct tree *tree;     /* read-only; NULL on NODE_STATIC */
    struct cause *cause;   /* a reference; set once, before pub.state_ */
    int64_t deadline;      /* read-only; the earliest from here to the top */
    struct link on_parent; /* under tree->lock, as the next three are */
    struct link children;  /* in the order of their creation */
    struct link hooks;     /* in the order of their registration */
    struct link waiters;   /* struct waiter (wait.c) */
    enum node_kind kind;   /* read-only */
    int fd;                /* ctx_fd()'s; -1: nobody has asked. Under
                            * tree->lock */
};

/* A node with a second parent, to which the tree's rules do not apply. */
struct merged_node {
    struct node node;
    struct ctx *second; /* read-only; a reference */
    struct ctx_hook hook;
    struct link pending; /* its hooks, once it has ended as second has */
    struct merged_node *next; /* that has ended and whose hooks are to run */
};

static inline struct node *
node_of(const struct ctx *ctx)
{
    return OWNER_OF(ctx, struct node, pub);
}

/* A live root stays so: nothing is linked to it and nothing is locked. */
static inline bool
node_is_static(const struct node *node)
{
    return node->kind == NODE_STATIC;
}

/* True if node, which is no NODE_STATIC, is in its parent's list of
 * children. */
static inline bool
node_is_linked(const struct node *node)
{
    return node->parent->tree == node->tree;
}

/* -- context.c ----------------------------------------------------------- */

/* What a constructor returns that has nothing better. */
extern struct node node_nomem;

/* A live node below parent (NULL: background) of size bytes, which begin with
 * a struct node. One reference, the caller's; nobody else knows it before
 * node_join(). NULL without memory. */
struct node *node_new(struct ctx *parent, enum node_kind kind, size_t size);

/* Link node below its parent. If that is done, node is done too. */
void node_join(struct node *node);

struct node *node_ref(struct node *node);

/* Take a reference unless the last one is gone. The caller keeps node's memory
 * in place by a lock that freeing it takes first. */
bool node_ref_unless_freed(struct node *node);

/* Drop a reference, and free upwards what nobody holds. No lock is held. */
void node_unref(struct node *node);

/* -- cancel.c ------------------------------------------------------------ */

/*
 * End node and what is below it; takes over cause. False if it was done
 * already, and then too the whole subtree is done on return. The subtree's
 * hooks are moved to pending, which is under tree->lock from then on; the
 * caller has them run with hooks_run() if *ret_has_hooks, set on true only.
 */
bool node_end(struct node *node, enum rota_error error, struct cause *cause,
              struct link *pending, bool *ret_has_hooks);

/* End node with ROTA_CANCELED and run the hooks. As ctx_cancel(). */
bool node_cancel(struct node *node, struct cause *cause);

/* -- cause.c ------------------------------------------------------------- */

/* The static cause with the words of rota_strerror(). */
struct cause *cause_usual(enum rota_error code);

/* NULL without memory. */
struct cause *cause_copy(enum rota_error code, const char *text);

/* The usual cause if format is NULL, and without memory. */
struct cause *cause_format(enum rota_error code, const char *format,
                           va_list args) __attribute__((format(printf, 2, 0)));

/* n more references at once. Returns cause. */
struct cause *cause_ref(struct cause *cause, uint32_t n);
void cause_unref(struct cause *cause);

/* -- hook.c -------------------------------------------------------------- */

/* Run what is in pending, one by one, on this thread. node is any node of the
 * tree; the caller holds a reference on it and no lock. */
void hooks_run(struct node *node, struct link *pending);

/* -- wait.c -------------------------------------------------------------- */

/* Wake the waiters that node_end() moved to woken. No lock is held. Their
 * memory is theirs again afterwards. */
void waiters_wake(struct link *woken);

/* Sleep while *word is expected, until deadline, which was yet to come. May
 * return early. */
void futex_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);

/* Wake who sleeps on word. Only the address is used, the memory may be gone:
 * sleepers check what they slept for. */
void futex_wake_all(_Atomic uint32_t *word);

/* -- fd.c ---------------------------------------------------------------- */

/* Make the descriptor of a context that has ended readable. */
void fd_tell(int fd);

/* -- deadline.c ---------------------------------------------------------- */

/* End with ROTA_DEADLINE the node that gave node its deadline, which is not
 * ROTA_FOREVER. On return node is done. */
void deadline_reach(struct node *node);

/* A NODE_TIMED is about to be freed. */
void timed_node_fini(struct node *node);

/* -- signal.c ------------------------------------------------------------ */

/* A NODE_SIGNALS is about to be freed. */
void signals_node_fini(struct node *node);

/* -- peer.c, merge.c ------------------------------------------------------ */

/* A NODE_PEER, a NODE_MERGED is about to be freed. */
void peer_node_fini(struct node *node);
void merged_node_fini(struct node *node);

/* The other parent of a NODE_MERGED, on which it has a reference. */
struct node *merged_second(const struct node *node);

/* Whether merged contexts that end on this thread leave their callbacks to who
 * is further out. Returns whether they did. */
bool merged_are_served(bool is_served);

#endif
