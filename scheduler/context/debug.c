/*
 * What is only done with ROTA_DEBUG=1 in the environment: contexts are kept in
 * a list, with where they were made, and misuse ends the program with a line
 * that says which context or hook it was. dump.c prints the list. Called by the
 * files of this folder, from any thread, with no lock of ours held.
 *
 * Locking: debug.lock guards all of it. It comes before tree->lock, which
 * ctx_dump() takes under it, and is never asked for under any other lock.
 *
 * Memory: what is freed is kept for a while, so that who uses it afterwards is
 * caught at it.
 */
#define _GNU_SOURCE
#include "context/debug.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context/node.h"

/* So many freed contexts are kept. */
#define KEPT 10000

static struct {
    pthread_mutex_t lock;
    struct link live, kept; /* struct trace, in the order they were made */
    size_t n_kept;
    void *hooks;       /* those that are registered: a tree of tsearch()'s */
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

struct link *
debug_live_hold(void)
{
    lock_take(&debug.lock);
    return &debug.live;
}

void
debug_live_drop(void)
{
    lock_drop(&debug.lock);
}

/* -- Hooks ----------------------------------------------------------------- */

/* By address, for tsearch(). */
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
