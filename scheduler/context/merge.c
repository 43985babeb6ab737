/*
 * Contexts with two parents. The tree knows the first; the second is watched
 * with a hook, which ends the merged context as its own end goes.
 *
 * Locking: none of its own. The hook's callback may come while the node is
 * being freed, which waits for it: so it takes a reference only if there is
 * still one.
 */
#include "context/context.h"

static struct merged_node *
merged_of(struct node *node)
{
    return OWNER_OF(node, struct merged_node, node);
}

/* The second parent has ended: a ctx_hook_fn. */
static void
on_second_end(void *arg)
{
    struct merged_node *merged = arg;
    struct node *node = &merged->node, *second = node_of(merged->second);
    struct link pending;
    bool has_hooks;

    if (!node_ref_unless_freed(node))
        return;
    list_init(&pending);
    if (node_end(node, ctx_err(merged->second), cause_ref(second->cause, 1),
                 &pending, &has_hooks) &&
        has_hooks)
        hooks_run(node, &pending);
    node_unref(node);
}

void
merged_node_fini(struct node *node)
{
    struct merged_node *merged = merged_of(node);

    ctx_hook_stop_wait(&merged->hook);
    node_unref(node_of(merged->second));
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
