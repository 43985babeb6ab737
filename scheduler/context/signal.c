/*
 * Signals that end contexts. Any thread, with no lock of ours held.
 *
 * The handler only stores a flag and writes to an eventfd; the thread
 * "rota-signals" does the rest. It is started with the first context that
 * watches signals and lives as long as the process.
 *
 *   not installed ──first watcher──> installed ──signal──> fired
 *        ^                               │   ^                │
 *        └─────last watcher is gone──────┘   └──new watcher───┘
 *              (what was there before is put back)
 *
 * Once it has fired, the handler itself sees to it that a second signal takes
 * its default action, whatever our threads are doing. A repeat within a tenth
 * of a second is the same signal: timeout(1), for one, sends each of its
 * signals twice, to the process and to its group. A signal that arrives when
 * all of its watchers have ended otherwise, but are not yet freed, is lost;
 * the next one is not.
 *
 * Locking: signals.lock guards the watchers and the table; it is a leaf and no
 * context is ended or freed under it. A watcher is freed only after it passed
 * signals_node_fini(), which takes the lock.
 */
#define _GNU_SOURCE
#include "base/descriptor.h"
#include "context/node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIGNALS 65 /* 1 to 64, and no 0 */
#define REPEAT  ROTA_MS(100)

struct signals_node {
    struct node node;
    struct link on_watchers; /* under signals.lock */
    uint64_t set;            /* what it counts for in the table; likewise */
};

static struct {
    pthread_mutex_t lock;
    struct link watchers; /* contexts that no signal has ended */
    struct {
        uint32_t n_watchers; /* in the list that have it in their set */
        bool is_installed;   /* our handler, and it has not fired */
        struct sigaction before;
    } table[SIGNALS];
    bool is_served;
} signals = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .watchers = {&signals.watchers, &signals.watchers}};

/* For the handler, which takes no lock. The last two are set before a handler
 * is installed, and stay as they are. */
static _Atomic bool has_arrived[SIGNALS];
static _Atomic int64_t fired_at[SIGNALS]; /* 0: not since it was installed;
                                           * release, for has_arrived */
static int arrivals_fd = -1;
static pid_t arrivals_pid;

/* What would have happened without us. The signal is blocked while its handler
 * runs, so it takes effect when that returns. */
static void
act_unhandled(int number)
{
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void
on_signal(int number)
{
    const uint64_t one = 1;
    int saved = errno;
    int64_t now = ctx_now(), first = 0;

    if (getpid() != arrivals_pid) {
        act_unhandled(number); /* a forked child, without our threads */
    } else if (atomic_compare_exchange_strong(&fired_at[number], &first, now)) {
        atomic_store_explicit(&has_arrived[number], true, memory_order_release);
        (void)!write(arrivals_fd, &one, sizeof(one));
    } else if (now - first >= REPEAT) {
        act_unhandled(number);
    }
    errno = saved;
}

/* -- The table; signals.lock is held in all of this section ---------------- */

/* Install our handler if it is not. False for a signal that is ignored or that
 * cannot be handled. */
static bool
handler_install(int number)
{
    struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction *before = &signals.table[number].before, now;

    if (signals.table[number].is_installed)
        return true;
    if (sigaction(number, NULL, &now) != 0 || now.sa_handler == SIG_IGN)
        return false;
    if (now.sa_handler != on_signal)
        *before = now;
    else
        before->sa_handler = SIG_DFL; /* it has fired: unhandled, then */
    atomic_store(&fired_at[number], 0);
    sigemptyset(&ours.sa_mask);
    if (sigaction(number, &ours, NULL) != 0)
        return false;
    signals.table[number].is_installed = true;
    return true;
}

/* Put back what was there before, unless the program has since put something
 * of its own there. */
static void
handler_remove(int number)
{
    struct sigaction now;

    if (!signals.table[number].is_installed)
        return;
    signals.table[number].is_installed = false;
    MUST(sigaction(number, NULL, &now));
    if (now.sa_handler == on_signal)
        MUST(sigaction(number, &signals.table[number].before, NULL));
}

/* Count watcher for what it can watch of set. What is ignored or cannot be
 * handled is left out of watcher->set. */
static void
watcher_add(struct signals_node *watcher, const sigset_t *set)
{
    list_append(&signals.watchers, &watcher->on_watchers);
    for (int number = 1; number < SIGNALS; number++) {
        if (sigismember(set, number) != 1 || !handler_install(number))
            continue;
        watcher->set |= UINT64_C(1) << (number - 1);
        signals.table[number].n_watchers++;
    }
}

/* Take watcher out of list and table; nothing if it is out. */
static void
watcher_remove(struct signals_node *watcher)
{
    list_remove(&watcher->on_watchers);
    for (int number = 1; number < SIGNALS; number++) {
        if (!(watcher->set & UINT64_C(1) << (number - 1)))
            continue;
        if (--signals.table[number].n_watchers == 0)
            handler_remove(number);
    }
    watcher->set = 0;
}

/* number has arrived. Move to ended, each with a reference, the contexts that
 * watch it. */
static void
watchers_take(int number, struct link *ended)
{
    struct link *item = signals.watchers.next, *next;

    /* the handler was installed anew since, for watchers that came after the
     * signal: these are not to be ended by it, and no others are left */
    if (atomic_load(&fired_at[number]) == 0)
        return;
    signals.table[number].is_installed = false;
    for (; item != &signals.watchers; item = next) {
        struct signals_node *watcher =
            OWNER_OF(item, struct signals_node, on_watchers);

        next = item->next;
        if (!(watcher->set & UINT64_C(1) << (number - 1)) ||
            !node_ref_unless_freed(&watcher->node))
            continue; /* one that is being freed removes itself */
        watcher_remove(watcher);
        list_append(ended, item);
    }
}

/* -- The thread ------------------------------------------------------------ */

/* Who sees that a context has ended may rely on it that from then on the
 * signals in its set are unhandled: so the table is changed before any context
 * ends. No lock is held. */
static void
signal_arrived(int number)
{
    const char *name = sigabbrev_np(number);
    char text[32];
    struct link ended, *item;

    if (name != NULL)
        (void)snprintf(text, sizeof(text), "SIG%s", name);
    else
        (void)snprintf(text, sizeof(text), "signal %d", number);
    list_init(&ended);
    lock_take(&signals.lock);
    watchers_take(number, &ended);
    lock_drop(&signals.lock);
    while ((item = list_take(&ended)) != NULL) {
        struct signals_node *watcher =
            OWNER_OF(item, struct signals_node, on_watchers);

        (void)ctx_cancel_cause(&watcher->node.pub, "%s", text);
        node_unref(&watcher->node);
    }
}

/* rota-signals. No signal is left behind: a handler sets its flag before it
 * writes to the eventfd, and the flags are read here after the eventfd was. */
static void *
signals_body(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t arrivals;

        if (read(arrivals_fd, &arrivals, sizeof(arrivals)) < 0)
            MUST_BE(errno == EINTR);
        for (int number = 1; number < SIGNALS; number++) {
            if (atomic_exchange_explicit(&has_arrived[number], false,
                                         memory_order_acquire))
                signal_arrived(number);
        }
    }
    return NULL;
}

/* Start the thread if it is not running. signals.lock held. */
static bool
signals_are_served(void)
{
    pthread_t thread;

    if (signals.is_served)
        return true;
    if (arrivals_fd < 0)
        arrivals_fd = descriptor_above(eventfd(0, EFD_CLOEXEC));
    if (arrivals_fd < 0)
        return false;
    arrivals_pid = getpid(); /* before any handler can look at it */
    if (thread_start(&thread, "rota-signals", signals_body, NULL) != 0)
        return false;
    MUST(pthread_detach(thread));
    signals.is_served = true;
    return true;
}

/* -- Contexts -------------------------------------------------------------- */

void
signals_node_fini(struct node *node)
{
    struct signals_node *watcher = OWNER_OF(node, struct signals_node, node);

    lock_take(&signals.lock);
    watcher_remove(watcher);
    lock_drop(&signals.lock);
}

struct ctx *
ctx_with_signals(struct ctx *parent, const sigset_t *set)
{
    struct node *node =
        node_new(parent, NODE_SIGNALS, sizeof(struct signals_node));
    struct signals_node *watcher;
    bool is_served;

    if (node == NULL)
        return &node_nomem.pub;
    watcher = OWNER_OF(node, struct signals_node, node);
    list_init(&watcher->on_watchers);
    watcher->set = 0;
    node_join(node);
    if (ctx_done(&node->pub))
        return &node->pub; /* born done: no signal is touched */
    lock_take(&signals.lock);
    is_served = signals_are_served();
    if (is_served)
        watcher_add(watcher, set);
    lock_drop(&signals.lock);
    if (is_served)
        return &node->pub;
    node_unref(node);
    return &node_nomem.pub;
}
