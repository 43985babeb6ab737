/*
 * Contexts with two parents. The tree knows the first; the second is watched
 * with a hook, which ends the merged context with the second's error and cause.
 * Any thread.
 *
 * Locking: none of its own. The hard case is a second parent that ends while
 * the last reference on the merged context is dropped. Freeing stops the hook,
 * and waits for its callback if that is running; and the callback takes a
 * reference only if there is still one, and otherwise leaves the node alone.
 */
#include "context/node.h"

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
    bool has_hooks;

    if (!node_ref_unless_freed(node))
        return;
    list_init(&merged->later.pending);
    if (node_end(node, ctx_err(merged->second), cause_ref(second->cause, 1),
                 &merged->later.pending, &has_hooks) &&
        has_hooks)
        hooks_run_later(node, &merged->later);
    else
        node_unref(node);
}

void
merged_node_fini(struct node *node)
{
    ctx_hook_stop_wait(&merged_of(node)->hook);
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
    /* b's deadline gets a timer here, too: left to the hook on b, it would
     * wait behind other hooks, and a deadline waits for nobody */
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
