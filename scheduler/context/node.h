/*
 * What a context is inside, a node of a tree, and what the files of this folder
 * share. Nobody else includes it but groups, which want node_nomem, and tests.
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
 * Locks. tree->lock, timers.lock and due.lock (deadline.c), signals.lock
 * (signal.c), peers.lock (peer.c) and a condition's lock (cond.c) are all
 * leaves: none is ever taken while another is held, and none is held while a
 * callback, a destroy function or a wake-up runs. Only debug.lock (debug.c) may
 * be held when a tree's lock is taken.
 */
#ifndef NODE_H
#define NODE_H

#include <stdarg.h>
#include <stdatomic.h>

#include <rota/ctx.h>

#include "base/base.h"
#include "context/wake.h"

struct node;

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
    NODE_MERGED,   /* struct merged_node (merge.c), below */
};

/* What a kind of node is to those who do not know it. */
struct kind {
    const char *name; /* as ctx_dump() prints it */
    /* Undo what the kind's own file did for node, whose count is 0 and which is
     * about to be freed; NULL: nothing. No lock is held. */
    void (*fini)(struct node *node);
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
    struct link waiters;   /* struct waiter */
    enum node_kind kind;   /* read-only */
    int fd;                /* ctx_fd()'s; -1: nobody has asked. Under
                            * tree->lock */
};

/* A thread that sleeps until a context ends. On its stack. */
struct waiter {
    struct link on_node; /* under tree->lock while the context is live; then
                          * the ender's, until he has set WAKE_DONE */
    struct wake *wake;
};

/* The hooks of a context that has ended, while they wait to be run on the
 * thread that ended it. The thread's (hook.c). */
struct hooks_later {
    struct link pending; /* under tree->lock, as its hooks are */
    struct node *node;   /* a reference */
    struct hooks_later *next;
};

/* A node with a second parent. The tree knows it below its first parent only:
 * no lock is shared with the second, and no deadline. */
struct merged_node {
    struct node node;
    struct ctx *second;       /* read-only; a reference */
    struct ctx_hook hook;     /* on second; read-only */
    struct hooks_later later; /* for when it has ended as second has */
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

/* The other parent of a NODE_MERGED, on which it has a reference. */
static inline struct node *
node_second(const struct node *node)
{
    return node_of(OWNER_OF(node, struct merged_node, node)->second);
}

/* True if node, which is no NODE_STATIC, is in its parent's list of
 * children. */
static inline bool
node_is_linked(const struct node *node)
{
    return node->parent->tree == node->tree;
}

/* -- context.c ----------------------------------------------------------- */

/* What a constructor returns without memory, threads or descriptors. */
extern struct node node_nomem;

/* A live node below parent (NULL: background) of size bytes, which begin with
 * a struct node. One reference, the caller's; nobody else knows it before
 * node_join(). NULL without memory. */
struct node *node_new(struct ctx *parent, enum node_kind kind, size_t size);

/* Link node below its parent. If that is done, node is done too. No lock is
 * held, as with all of these. */
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

/* Run what is in pending, one by one, on this thread, with all that it puts
 * off. node is any node of the tree; the caller holds a reference on it and no
 * lock. */
void hooks_run(struct node *node, struct link *pending);

/* Have the hooks in later->pending, those of node's subtree, run on this
 * thread: here and now, unless another call of this function is under way
 * further out on it, which then does it. Takes over a reference on node, in
 * whose memory later is. No lock is held. */
void hooks_run_later(struct node *node, struct hooks_later *later);

/* -- wake.c -------------------------------------------------------------- */

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

/* Make the descriptor of a context that has ended readable. tree->lock held. */
void fd_make_readable(int fd);

/* -- deadline.c ---------------------------------------------------------- */

/* node's deadline, which is not ROTA_FOREVER, has passed: end with
 * ROTA_DEADLINE the node that it came from. On return node is done. No lock is
 * held. */
void deadline_reach(struct node *node);

/* -- kind.c -------------------------------------------------------------- */

extern const struct kind node_kinds[]; /* by enum node_kind */

/* Each is its kind's fini. */
void timed_node_fini(struct node *node);
void signals_node_fini(struct node *node);
void peer_node_fini(struct node *node);
void merged_node_fini(struct node *node);

#endif
