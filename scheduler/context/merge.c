/*
 * Contexts with two parents. The tree knows the first; the second is watched
 * with a hook, which ends the merged context as its own end goes.
 *
 * Locking: none of its own. The hook's callback may come while the node is
 * being freed, which waits for it: so it takes a reference only if there is
 * still one.
 */
#include "context/node.h"

static struct merged_node *
merged_of(struct node *node)
{
    return OWNER_OF(node, struct merged_node, node);
}

/* Those merged contexts that have ended on this thread and whose callbacks are
 * yet to run, for whoever runs those of the first. A chain of merged contexts
 * may be a million long, and is not to need as deep a stack. */
static _Thread_local struct {
    struct merged_node *first, **last;
    bool is_served;
} deferred;

static void
defer(struct merged_node *merged)
{
    if (deferred.first == NULL)
        deferred.last = &deferred.first;
    merged->next = NULL;
    *deferred.last = merged;
    deferred.last = &merged->next;
}

/* The second parent has ended: a ctx_hook_fn. */
static void
on_second_end(void *arg)
{
    struct merged_node *merged = arg;
    struct node *node = &merged->node, *second = node_of(merged->second);
    bool has_hooks;

    if (!node_ref_unless_freed(node))
        return;
    list_init(&merged->pending);
    if (!node_end(node, ctx_err(merged->second), cause_ref(second->cause, 1),
                  &merged->pending, &has_hooks) ||
        !has_hooks) {
        node_unref(node);
        return;
    }
    defer(merged);
    if (deferred.is_served)
        return;
    deferred.is_served = true;
    while ((merged = deferred.first) != NULL) {
        deferred.first = merged->next;
        hooks_run(&merged->node, &merged->pending);
        node_unref(&merged->node);
    }
    deferred.is_served = false;
}

bool
merged_are_served(bool is_served)
{
    bool before = deferred.is_served;

    deferred.is_served = is_served;
    return before;
}

void
merged_node_fini(struct node *node)
{
    ctx_hook_stop_wait(&merged_of(node)->hook);
}

struct node *
merged_second(const struct node *node)
{
    return node_of(OWNER_OF(node, struct merged_node, node)->second);
}

struct ctx *
ctx_merge(struct ctx *a, struct ctx *b)
{
    struct ctx *timed = NULL;
    struct node *node;
    struct merged_node *merged;

    if (b == NULL)
        b = ctx_background();
    if (a == NULL)
        a = ctx_background();
    /* a timer of its own: hooks wait for one another, deadlines do not */
    if (ctx_deadline(b) < ctx_deadline(a))
        a = timed = ctx_with_deadline(a, ctx_deadline(b));
    node = node_new(a, NODE_MERGED, sizeof(struct merged_node));
    if (node != NULL) {
        merged = merged_of(node);
        merged->second = ctx_ref(b);
        node_join(node);
        ctx_after(b, &merged->hook, on_second_end, merged);
    }
    ctx_unref(timed);
    return node != NULL ? &node->pub : &node_nomem.pub;
}
