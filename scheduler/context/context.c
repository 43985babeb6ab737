/*
 * The tree of contexts: making, counting and asking. Any thread.
 *
 * What is special about a kind of node is not known here, only what shape it
 * gives the tree: a static node is in no tree, a detached one is the top of a
 * new one, a merged one has two parents. A kind's file makes its nodes with
 * node_new() and node_join(), and is called back through node_kinds[] (kind.c)
 * before one is freed.
 *
 * Locking: tree->lock is taken to join the parent's list of children and to
 * leave it. The hard case is a child that is made while its parent is being
 * ended. A new node looks at its parent's state in the same hold of the lock
 * that links it: so either the sweep that ends the parent comes later and finds
 * it in the list, or the node finds the parent done and is born done. What
 * asking reads is read-only, or published by pub.state_.
 */
#include "context/node.h"

#include <stdlib.h>
#include <unistd.h>

#include "context/debug.h"

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(struct node) <= 120, "128 with malloc's share");
#endif

struct value_node {
    struct node node;
    const void *key;
    void *value;
    void (*destroy)(void *value);
};

/* The three that are static. Nobody counts them, nobody locks them, and the
 * first two never change; todo differs from background in its address only. */
static struct node background = {.deadline = ROTA_FOREVER};
static struct node todo = {.deadline = ROTA_FOREVER};
static struct cause no_memory = {.code = ROTA_NOMEM, .text = "out of memory"};
struct node node_nomem = {
    .pub = {ROTA_NOMEM}, .cause = &no_memory, .deadline = ROTA_FOREVER};

/* -- Life ---------------------------------------------------------------- */

struct ctx *
ctx_background(void)
{
    return &background.pub;
}

struct ctx *
ctx_todo(void)
{
    return &todo.pub;
}

/* Every field but the tree has its value here, so that the memory need not be
 * zeroed first. */
static void
node_init(struct node *node, struct node *parent, enum node_kind kind)
{
    node->pub.state_ = 0;
    atomic_init(&node->refs, 1);
    node->parent = node_ref(parent);
    node->cause = NULL;
    list_init(&node->on_parent);
    list_init(&node->children);
    list_init(&node->hooks);
    list_init(&node->waiters);
    node->kind = kind;
    node->fd = -1;
    node->deadline = kind == NODE_DETACHED ? ROTA_FOREVER : parent->deadline;
}

/* A top carries its tree behind itself, in the same piece of memory: one
 * allocation whatever the kind, and a plain child pays for no lock. */
struct node *
node_new(struct ctx *parent_ctx, enum node_kind kind, size_t size)
{
    struct node *parent = parent_ctx ? node_of(parent_ctx) : &background;
    bool is_top = node_is_static(parent) || kind == NODE_DETACHED;
    size_t all = size + (is_top ? sizeof(struct tree) : 0);
    struct node *node = debug_is_on() ? debug_node_new(all) : malloc(all);

    if (node == NULL)
        return NULL;
    node_init(node, parent, kind);
    if (is_top) {
        node->tree = (struct tree *)(void *)((char *)node + size);
        lock_init(&node->tree->lock);
    } else {
        node->tree = parent->tree;
    }
    return node;
}

/* Make node, which nobody else can see or which is under tree->lock, as done
 * as its parent is. */
static void
node_inherit_end(struct node *node)
{
    const struct node *parent = node->parent;

    if (!ctx_done(&parent->pub))
        return;
    node->cause = cause_ref(parent->cause, 1);
    __atomic_store_n(&node->pub.state_, parent->pub.state_, __ATOMIC_RELEASE);
}

void
node_join(struct node *node)
{
    if (debug_is_on())
        debug_node_made(node);
    if (node_is_linked(node)) {
        lock_take(&node->tree->lock);
        node_inherit_end(node);
        list_append(&node->parent->children, &node->on_parent);
        lock_drop(&node->tree->lock);
    } else if (node->kind != NODE_DETACHED) {
        /* a top: of the roots only node_nomem has an end to inherit, and no
         * lock is needed, for it has always been done */
        node_inherit_end(node);
    }
}

struct ctx *
ctx_with_cancel(struct ctx *parent)
{
    struct node *node = node_new(parent, NODE_PLAIN, sizeof(*node));

    if (node == NULL)
        return &node_nomem.pub;
    node_join(node);
    return &node->pub;
}

struct ctx *
ctx_with_value(struct ctx *parent, const void *key, void *value,
               void (*destroy)(void *value))
{
    struct node *node = node_new(parent, NODE_VALUE, sizeof(struct value_node));
    struct value_node *with;

    if (node == NULL) {
        /* taken over in any case, so the caller has nothing to undo */
        if (destroy != NULL)
            destroy(value);
        return &node_nomem.pub;
    }
    with = OWNER_OF(node, struct value_node, node);
    with->key = key;
    with->value = value;
    with->destroy = destroy;
    node_join(node);
    return &node->pub;
}

struct ctx *
ctx_without_cancel(struct ctx *parent)
{
    struct node *node = node_new(parent, NODE_DETACHED, sizeof(*node));

    if (node == NULL)
        return &background.pub;
    node_join(node);
    return &node->pub;
}

/* Relaxed: who has a reference to copy is ordered already with whoever gave it
 * to him. */
struct node *
node_ref(struct node *node)
{
    if (!node_is_static(node))
        atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
    return node;
}

bool
node_ref_unless_freed(struct node *node)
{
    uint32_t refs = atomic_load_explicit(&node->refs, memory_order_relaxed);

    while (refs != 0) {
        if (atomic_compare_exchange_weak_explicit(&node->refs, &refs, refs + 1,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
    return false;
}

static void
node_release(struct node *node)
{
    if (debug_is_on())
        debug_node_free(node);
    else
        free(node);
}

/* The end of a node whose count is 0, but for its memory. A service thread
 * may still find it until its kind's fini() has returned, and a sweep until it
 * has left its parent's list. Both look for it under the lock that is taken
 * here to leave, and are through with it when they drop the lock: so its memory
 * may go afterwards. No lock is held. */
static void
node_fini(struct node *node)
{
    if (debug_is_on())
        debug_node_gone(node);
    if (node_kinds[node->kind].fini != NULL)
        node_kinds[node->kind].fini(node);
    if (node_is_linked(node)) {
        /* a sweep may be flipping it right now; after this none can */
        lock_take(&node->tree->lock);
        list_remove(&node->on_parent);
        lock_drop(&node->tree->lock);
    } else {
        /* a top whose count is 0: nobody is below it, or in its lock */
        MUST(pthread_mutex_destroy(&node->tree->lock));
    }
    if (node->kind == NODE_VALUE) {
        struct value_node *with = OWNER_OF(node, struct value_node, node);

        if (with->destroy != NULL)
            with->destroy(with->value);
    }
    if (node->fd >= 0)
        (void)close(node->fd);
    cause_unref(node->cause);
}

/* Dropping the last reference on a node drops its reference on its parent, and
 * so on upwards. A chain may be a million long, so this is a loop and no
 * recursion. A node with a second parent leads two ways: the loop goes on with
 * the first, and the node is kept in a list, linked by its parent field, which
 * is no longer needed, until the loop comes back for the second. */
void
node_unref(struct node *node)
{
    struct node *merged = NULL, *done;

    for (;;) {
        /* acq_rel: what other holders did to the node comes before its end */
        while (!node_is_static(node) &&
               atomic_fetch_sub_explicit(&node->refs, 1,
                                         memory_order_acq_rel) == 1) {
            struct node *gone = node;

            node = gone->parent;
            node_fini(gone);
            if (gone->kind == NODE_MERGED) {
                gone->parent = merged;
                merged = gone;
            } else {
                node_release(gone);
            }
        }
        if (merged == NULL)
            return;
        done = merged;
        merged = done->parent;
        node = node_second(done);
        node_release(done);
    }
}

struct ctx *
ctx_ref(struct ctx *ctx)
{
    if (debug_is_on())
        debug_check(node_of(ctx));
    node_ref(node_of(ctx));
    return ctx;
}

void
ctx_unref(struct ctx *ctx)
{
    if (ctx == NULL)
        return;
    if (debug_is_on())
        debug_check(node_of(ctx));
    node_unref(node_of(ctx));
}

/* -- Asking -------------------------------------------------------------- */

enum rota_error
ctx_err(const struct ctx *ctx)
{
    return (enum rota_error)__atomic_load_n(&ctx->state_, __ATOMIC_ACQUIRE);
}

/* What is behind node->cause was written before the state that these two have
 * just seen, and is as immutable as it. */
const char *
ctx_cause(const struct ctx *ctx)
{
    return ctx_done(ctx) ? node_of(ctx)->cause->text : NULL;
}

enum rota_error
ctx_cause_code(const struct ctx *ctx)
{
    return ctx_done(ctx) ? node_of(ctx)->cause->code : ROTA_OK;
}

int64_t
ctx_deadline(const struct ctx *ctx)
{
    return node_of(ctx)->deadline;
}

int64_t
ctx_remaining(const struct ctx *ctx)
{
    /* a deadline may be INT64_MIN, so the difference must saturate */
    int64_t deadline = ctx_deadline(ctx), left;

    if (deadline == ROTA_FOREVER)
        return ROTA_FOREVER;
    left = saturating_add(deadline, -ctx_now());
    return left < 0 ? 0 : left;
}

/* The value of key that is nearest to from. Parents are read-only and held, so
 * the way up needs no lock; it leads through detached nodes too.
 *
 * First the chain of first parents is searched to its end, then what the second
 * parents on that chain know, the nearest first. Each of these is a search of
 * its own, by recursion, except the last: as a chain may be a million merged
 * nodes long, each the second parent of the next, that one goes on in the
 * loop. */
static const struct value_node *
value_find(const struct node *from, const void *key)
{
    const struct value_node *with = NULL;
    const struct node *last;

    do {
        last = NULL;
        for (const struct node *n = from; n != NULL; n = n->parent) {
            if (n->kind == NODE_MERGED)
                last = n;
            if (n->kind != NODE_VALUE)
                continue;
            with = OWNER_OF(n, struct value_node, node);
            if (with->key == key)
                return with;
        }
        with = NULL;
        for (const struct node *n = from; n != last && with == NULL;
             n = n->parent) {
            if (n->kind == NODE_MERGED)
                with = value_find(node_second(n), key);
        }
        if (last != NULL)
            from = node_second(last);
    } while (with == NULL && last != NULL);
    return with;
}

void *
ctx_value(const struct ctx *ctx, const void *key)
{
    const struct value_node *with = value_find(node_of(ctx), key);

    return with != NULL ? with->value : NULL;
}
