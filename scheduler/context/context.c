/*
 * The tree of contexts: making, counting and asking.
 *
 * Locking: tree->lock is taken to join the parent's list of children and to
 * leave it. A new node looks at its parent's state in the same hold that links
 * it: a sweep finds it in the list, or it finds the sweep's result. What asking
 * reads is read-only, or published by pub.state_.
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

/* All but the tree. Not calloc(): every field has its value here. */
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

struct ctx *
ctx_shield(struct ctx *parent, int64_t grace)
{
    struct ctx *detached = ctx_without_cancel(parent), *ctx;

    ctx = ctx_with_timeout(detached, grace);
    ctx_unref(detached);
    return ctx == &node_nomem.pub ? &background.pub : ctx;
}

/* Relaxed: who has a reference to copy is ordered with the rest already. */
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

/* The end of a node whose count is 0, but for its memory. Until the lock below
 * was held the services and a sweep may still find it, and leave it in place.
 */
static void
node_fini(struct node *node)
{
    if (debug_is_on())
        debug_node_gone(node);
    if (node->kind == NODE_TIMED)
        timed_node_fini(node);
    else if (node->kind == NODE_SIGNALS)
        signals_node_fini(node);
    else if (node->kind == NODE_PEER)
        peer_node_fini(node);
    else if (node->kind == NODE_MERGED)
        merged_node_fini(node);
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

/* Upwards in a loop: a chain may be a million long. Those with a second parent
 * wait for their turn, linked by parent. */
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
        node = merged_second(done);
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

/* True if nobody would notice node's end: whoever is below it or has a callback
 * on it has a reference, too. Who waits has one as a rule, but forgives. */
static bool
node_is_alone(const struct node *node)
{
    return atomic_load_explicit(&node->refs, memory_order_acquire) == 1 &&
           list_is_empty(&node->waiters);
}

void
ctx_end(struct ctx *ctx)
{
    if (ctx == NULL)
        return;
    if (debug_is_on() || node_is_static(node_of(ctx)) ||
        !node_is_alone(node_of(ctx)))
        ctx_cancel(ctx);
    ctx_unref(ctx);
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

/* Parents are read-only and held, so the way up needs no lock; it leads
 * through NODE_DETACHED too. First parents all the way, then what their second
 * ones know, the nearest first; the last of those in a loop, as there may be a
 * long chain of them. */
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
                with = value_find(merged_second(n), key);
        }
        if (last != NULL)
            from = merged_second(last);
    } while (with == NULL && last != NULL);
    return with;
}

void *
ctx_value(const struct ctx *ctx, const void *key)
{
    const struct value_node *with = value_find(node_of(ctx), key);

    return with != NULL ? with->value : NULL;
}
