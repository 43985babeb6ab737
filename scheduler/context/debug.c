/*
 * What is only done with ROTA_DEBUG=1 in the environment: contexts are kept in
 * a list, with where they were made, and misuse ends the program with a line
 * that says which context or hook it was.
 *
 * Locking: debug.lock guards all of it. It comes before tree->lock, which
 * ctx_dump() takes under it, and is never asked for under any other lock.
 *
 * Memory: what is freed is kept for a while, so that who uses it afterwards is
 * caught at it.
 */
#define _GNU_SOURCE
#include "context/debug.h"

#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context/node.h"

/* So many freed contexts are kept. */
#define KEPT 10000

/* What is further down is not indented further. */
#define DEEP 40

/* In front of each node. */
struct trace {
    _Alignas(max_align_t) struct link on_list; /* live, or kept */
    const char *where; /* a literal of the caller's, or NULL */
    int64_t made_at;
    size_t at; /* ctx_dump()'s: in its order, first of itself, then of the next
                * child that it has to print */
};

static struct {
    pthread_mutex_t lock;
    struct link live, kept; /* struct trace, in the order they were made */
    size_t n_kept;
    void *hooks;       /* tsearch(): those that are registered */
    struct link waits; /* struct debug_wait */
    struct link runs;  /* struct debug_run */
} debug = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .live = {&debug.live, &debug.live},
           .kept = {&debug.kept, &debug.kept},
           .waits = {&debug.waits, &debug.waits},
           .runs = {&debug.runs, &debug.runs}};

_Atomic int debug_state;

/* Where the next context of this thread is made. */
static _Thread_local const char *here;

bool
debug_look(void)
{
    const char *value = getenv("ROTA_DEBUG");
    int state = value != NULL && value[0] != '\0' && strcmp(value, "0") != 0
                    ? DEBUG_ON
                    : DEBUG_OFF;

    atomic_store_explicit(&debug_state, state, memory_order_relaxed);
    return state == DEBUG_ON;
}

void
ctx_here_(const char *where)
{
    if (debug_is_on())
        here = where;
}

static struct trace *
trace_of(const struct node *node)
{
    return (struct trace *)(void *)((uintptr_t)node - sizeof(struct trace));
}

__attribute__((noreturn)) static void
die(const char *what, const char *where)
{
    (void)fprintf(stderr, "rota: bug: %s%s%s\n", what,
                  where != NULL ? ", made at " : "",
                  where != NULL ? where : "");
    abort();
}

/* -- Contexts -------------------------------------------------------------- */

struct node *
debug_node_new(size_t size)
{
    struct trace *trace = malloc(sizeof(*trace) + size);

    if (trace == NULL)
        return NULL;
    trace->where = here;
    trace->made_at = ctx_now();
    list_init(&trace->on_list);
    here = NULL;
    return (struct node *)(void *)(trace + 1);
}

void
debug_node_made(struct node *node)
{
    lock_take(&debug.lock);
    list_append(&debug.live, &trace_of(node)->on_list);
    lock_drop(&debug.lock);
}

/* Before anything of node goes. */
void
debug_node_gone(struct node *node)
{
    lock_take(&debug.lock);
    list_remove(&trace_of(node)->on_list);
    lock_drop(&debug.lock);
}

void
debug_node_free(struct node *node)
{
    struct link *oldest = NULL;

    lock_take(&debug.lock);
    list_append(&debug.kept, &trace_of(node)->on_list);
    if (debug.n_kept++ >= KEPT)
        oldest = list_take(&debug.kept);
    lock_drop(&debug.lock);
    if (oldest != NULL)
        free(OWNER_OF(oldest, struct trace, on_list));
}

void
debug_check(const struct node *node)
{
    if (!node_is_static(node) &&
        atomic_load_explicit(&node->refs, memory_order_relaxed) == 0)
        die("a context is used, or ended once more, after its end",
            trace_of(node)->where);
}

/* -- Hooks ----------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
    return (uintptr_t)a < (uintptr_t)b ? -1 : (uintptr_t)a > (uintptr_t)b;
}

void
debug_hook_armed(const void *hook, const struct node *node)
{
    const void *const *slot;

    lock_take(&debug.lock);
    if (tfind(hook, &debug.hooks, compare) != NULL)
        die("a hook is registered that is registered already, on a context",
            node_is_static(node) ? NULL : trace_of(node)->where);
    slot = tsearch(hook, &debug.hooks, compare);
    (void)slot; /* without memory it is not watched */
    lock_drop(&debug.lock);
}

void
debug_hook_over(const void *hook)
{
    lock_take(&debug.lock);
    (void)tdelete(hook, &debug.hooks, compare);
    lock_drop(&debug.lock);
}

void
debug_run_begin(struct debug_run *run, const void *hook)
{
    run->hook = hook;
    run->thread = pthread_self();
    lock_take(&debug.lock);
    list_append(&debug.runs, &run->on_runs);
    lock_drop(&debug.lock);
}

void
debug_run_end(struct debug_run *run)
{
    lock_take(&debug.lock);
    list_remove(&run->on_runs);
    lock_drop(&debug.lock);
}

/* The thread that runs hook; false: none does. debug.lock held. */
static bool
runner_of(const void *hook, pthread_t *ret_thread)
{
    for (struct link *l = debug.runs.next; l != &debug.runs; l = l->next) {
        struct debug_run *run = OWNER_OF(l, struct debug_run, on_runs);

        if (run->hook != hook)
            continue;
        *ret_thread = run->thread;
        return true;
    }
    return false;
}

/* The hook that thread waits for; NULL: for none. debug.lock held. */
static const void *
awaited_by(pthread_t thread)
{
    for (struct link *l = debug.waits.next; l != &debug.waits; l = l->next) {
        struct debug_wait *wait = OWNER_OF(l, struct debug_wait, on_waits);

        if (pthread_equal(wait->thread, thread))
            return wait->hook;
    }
    return NULL;
}

void
debug_wait_begin(struct debug_wait *wait, const void *hook)
{
    pthread_t self = pthread_self(), thread;

    wait->hook = hook;
    wait->thread = self;
    lock_take(&debug.lock);
    while (hook != NULL && runner_of(hook, &thread)) {
        if (pthread_equal(thread, self))
            die("a callback waits, by a long way round, for its own end", NULL);
        hook = awaited_by(thread);
    }
    list_append(&debug.waits, &wait->on_waits);
    lock_drop(&debug.lock);
}

void
debug_wait_end(struct debug_wait *wait)
{
    lock_take(&debug.lock);
    list_remove(&wait->on_waits);
    lock_drop(&debug.lock);
}

/* -- ctx_dump() ------------------------------------------------------------ */

static size_t
length(const struct link *list)
{
    size_t n = 0;

    for (const struct link *l = list->next; l != list; l = l->next)
        n++;
    return n;
}

static void
print_node(FILE *out, const struct node *node, int depth)
{
    static const char *const kinds[] = {
        [NODE_STATIC] = "root",       [NODE_PLAIN] = "cancel",
        [NODE_DETACHED] = "detached", [NODE_VALUE] = "value",
        [NODE_TIMED] = "deadline",    [NODE_SIGNALS] = "signals",
        [NODE_PEER] = "peer",         [NODE_MERGED] = "merge"};
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
    (void)fprintf(out, "%s %s", kinds[node->kind],
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

/* Print the tree: down to the next child, or back up; no stack is needed but
 * what the nodes know. debug.lock held: those that are freed leave the list
 * before they go, so all here are whole. */
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

/* debug.lock held. */
static void
print_all(FILE *out, size_t n)
{
    struct node **order = malloc((n + 1) * sizeof(struct node *));
    size_t i = 0;

    for (struct link *l = debug.live.next; l != &debug.live; l = l->next) {
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
    size_t n;

    if (!debug_is_on()) {
        (void)fprintf(out, "contexts are listed with ROTA_DEBUG=1 in the "
                           "environment from the start\n");
        return 0;
    }
    lock_take(&debug.lock);
    n = length(&debug.live);
    print_all(out, n);
    lock_drop(&debug.lock);
    return n;
}
