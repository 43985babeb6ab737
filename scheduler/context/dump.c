/*
 * ctx_dump(): the tree of live contexts, as text. Any thread.
 *
 * Locking: debug.lock (debug.c) is held all the time, so that no context comes
 * or goes; and for each context in turn its tree's lock, under it, to count who
 * waits on it. out is written to under debug.lock: it must not make contexts.
 */
#include "context/debug.h"

#include <stdlib.h>

#include "context/node.h"

/* What is further down is not indented further. */
#define DEEP 40

static size_t
length(const struct link *list)
{
    size_t n = 0;

    for (const struct link *l = list->next; l != list; l = l->next)
        n++;
    return n;
}

/* debug.lock held; takes the tree's lock. */
static void
print_node(FILE *out, const struct node *node, int depth)
{
    const struct trace *trace = trace_of(node);
    int64_t now = ctx_now(), left = ctx_remaining(&node->pub);
    size_t waiters, hooks;

    lock_take(&node->tree->lock);
    waiters = length(&node->waiters);
    hooks = length(&node->hooks);
    lock_drop(&node->tree->lock);
    if (depth > DEEP)
        (void)fprintf(out, "%*s(%d) ", 2 * DEEP, "", depth);
    else
        (void)fprintf(out, "%*s", 2 * depth, "");
    (void)fprintf(out, "%s %s", node_kinds[node->kind].name,
                  trace->where != NULL ? trace->where : "(inside the library)");
    (void)fprintf(out, ", %.3f s old", (double)(now - trace->made_at) / 1e9);
    if (ctx_done(&node->pub))
        (void)fprintf(out, ", ended: %s", ctx_cause(&node->pub));
    else if (left != ROTA_FOREVER)
        (void)fprintf(out, ", %.3f s left", (double)left / 1e9);
    if (waiters > 0)
        (void)fprintf(out, ", %zu waiting", waiters);
    if (hooks > 0)
        (void)fprintf(out, ", %zu callbacks", hooks);
    (void)fputc('\n', out);
}

/* The parent under which node is listed; NULL: under none. */
static const struct node *
above(const struct node *node)
{
    return node_is_static(node->parent) ? NULL : node->parent;
}

/* By address, for want of anything better: it only has to be some order. */
static int
compare(const void *a, const void *b)
{
    return (uintptr_t)a < (uintptr_t)b ? -1 : (uintptr_t)a > (uintptr_t)b;
}

/* By parents, and by age among siblings. */
static int
compare_nodes(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a;
    const struct node *y = *(struct node *const *)b;
    int by_parents = compare(above(x), above(y));

    return by_parents != 0 ? by_parents
                           : (trace_of(x)->at > trace_of(y)->at) -
                                 (trace_of(x)->at < trace_of(y)->at);
}

/* Where in the order the children of parent begin. */
static size_t
first_below(struct node *const *order, size_t n, const struct node *parent)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(above(order[middle]), parent) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Print the tree: down to the next child, or back up. A chain may be a million
 * long, so there is no recursion: each node's trace->at says which child is its
 * next. debug.lock held: a node that is freed leaves the list before it goes,
 * so all that is in order is whole. */
static void
print_tree(FILE *out, struct node *const *order, size_t n)
{
    size_t top = first_below(order, n, NULL);
    const struct node *node = NULL;
    int depth = 0;

    for (;;) {
        size_t *at = node != NULL ? &trace_of(node)->at : &top;

        if (*at < n && above(order[*at]) == node) {
            node = order[(*at)++];
            print_node(out, node, depth++);
            trace_of(node)->at = first_below(order, n, node);
        } else if (node != NULL) {
            node = above(node);
            depth--;
        } else {
            return;
        }
    }
}

/* Print the n contexts in live. debug.lock held. */
static void
print_all(FILE *out, const struct link *live, size_t n)
{
    struct node **order = malloc((n + 1) * sizeof(struct node *));
    size_t i = 0;

    for (const struct link *l = live->next; l != live; l = l->next) {
        struct trace *trace = OWNER_OF(l, struct trace, on_list);
        struct node *node = (struct node *)(void *)(trace + 1);

        trace->at = i;
        if (order != NULL)
            order[i++] = node;
        else
            print_node(out, node, 0); /* a list, for want of memory */
    }
    if (order == NULL)
        return;
    qsort(order, n, sizeof(struct node *), compare_nodes);
    print_tree(out, order, n);
    free(order);
}

size_t
ctx_dump(FILE *out)
{
    const struct link *live;
    size_t n;

    if (!debug_is_on()) {
        (void)fprintf(out, "contexts are listed with ROTA_DEBUG=1 in the "
                           "environment from the start\n");
        return 0;
    }
    live = debug_live_hold();
    n = length(live);
    print_all(out, live, n);
    debug_live_drop();
    return n;
}
