/*
 * Contexts carry "I changed my mind" from whoever asked to whatever is running.
 * They are Go's context.Context brought to C: a tree of contexts, each ended
 * once, by a call, by its deadline or by its parent's end.
 *
 *   CTX_AUTO struct ctx *ctx = ctx_with_timeout(parent, ROTA_SEC(2));
 *   for (i = 0; i < n; i++) {
 *       if (ctx_done(ctx))
 *           return ctx_err(ctx);     // ROTA_CANCELED or ROTA_DEADLINE
 *       work(i);
 *   }
 *
 * Rules that hold for every call below
 *   - Any thread may call anything, unless it says otherwise.
 *   - A constructor never returns NULL. Without memory, or when the service
 *     thread that deadlines and signals need cannot be started, it returns one
 *     static context that is done with ROTA_NOMEM: no values, no deadline, and
 *     ending it is a no-op. ctx_without_cancel() returns background instead.
 *   - NULL as a parent means ctx_background(). Nowhere else is NULL a context,
 *     except that ctx_unref() and ctx_end() ignore it.
 *   - Whoever constructs a context ends it with ctx_end() (or CTX_AUTO), on
 *     every path. A context that was lent, as a job's is, is never ended.
 *   - Cancelling, ending or unreferencing a root is a no-op.
 *   - Durations and deadlines are int64_t nanoseconds; deadlines are absolute
 *     on the monotonic clock ctx_now(). Sums saturate; "none" is ROTA_FOREVER.
 *     The monotonic clock stands still while the machine is suspended.
 *   - In a forked child only ctx_done() may be called.
 */
#ifndef ROTA_CTX_H
#define ROTA_CTX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/select.h> /* sigset_t, also without feature macros */

#include <rota/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ROTA_FOREVER INT64_MAX
#define ROTA_US(n)   ((int64_t)(n)*1000)
#define ROTA_MS(n)   ((int64_t)(n)*1000000)
#define ROTA_SEC(n)  ((int64_t)(n)*1000000000)

/* One word is public, for ctx_done(); the rest of a context is private. */
struct ctx {
    uint32_t state_;
};

/* -- Life ---------------------------------------------------------------- */

ROTA_API void ctx_unref(struct ctx *ctx);
ROTA_API void ctx_end(struct ctx *ctx);

/* gcc's analyzer then reports a context that is never ended: what `go vet`
 * calls lostcancel. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define CTX_MADE_                                                             \
    __attribute__((malloc(ctx_end, 1), malloc(ctx_unref, 1), returns_nonnull, \
                   warn_unused_result))
#elif defined(__GNUC__)
#define CTX_MADE_ __attribute__((returns_nonnull, warn_unused_result))
#else
#define CTX_MADE_
#endif

/* The root of most trees: never done, no deadline, no values. Static. */
ROTA_API struct ctx *ctx_background(void);

/* The same, for code that does not know its context yet. Static. */
ROTA_API struct ctx *ctx_todo(void);

/* Derive a context that ends when ctx_cancel() or ctx_end() is called on it or
 * when parent ends. A child of a done parent is born done, with the parent's
 * error and cause. */
ROTA_API struct ctx *ctx_with_cancel(struct ctx *parent) CTX_MADE_;

/* Derive a context that also ends by itself, with ROTA_DEADLINE, at deadline.
 * A deadline that is not earlier than the parent's arms no timer; one that has
 * passed gives a context that is born done. */
ROTA_API struct ctx *ctx_with_deadline(struct ctx *parent,
                                       int64_t deadline) CTX_MADE_;

/* ctx_with_deadline(parent, ctx_now() + timeout). */
ROTA_API struct ctx *ctx_with_timeout(struct ctx *parent,
                                      int64_t timeout) CTX_MADE_;

/* The same two, with the text that ctx_cause() gives if the deadline is what
 * ends the context. cause is copied; NULL means the usual words. */
ROTA_API struct ctx *ctx_with_deadline_cause(struct ctx *parent,
                                             int64_t deadline,
                                             const char *cause) CTX_MADE_;
ROTA_API struct ctx *ctx_with_timeout_cause(struct ctx *parent, int64_t timeout,
                                            const char *cause) CTX_MADE_;

/* Derive a context in which ctx_value(key) is value. Keys are compared as
 * addresses: use the address of a static variable of yours. destroy, unless
 * NULL, is called with value when the context is freed, on whichever thread
 * drops it last; if the context could not be made, it is called at once. */
ROTA_API struct ctx *ctx_with_value(struct ctx *parent, const void *key,
                                    void *value,
                                    void (*destroy)(void *value)) CTX_MADE_;

/* Derive a context that keeps parent's values and none of its ends: no
 * deadline, not done when parent is. For cleaning up after a cancel. */
ROTA_API struct ctx *ctx_without_cancel(struct ctx *parent) CTX_MADE_;

/* The same, but for so long: it ends, with ROTA_DEADLINE, when grace has passed
 * from now. Cleaning up is allowed, and not for ever. From trio's shields. */
ROTA_API struct ctx *ctx_shield(struct ctx *parent, int64_t grace) CTX_MADE_;

/* Derive a context that ends when a or b does, with the error and the cause of
 * the one that was first, and has the earlier of their deadlines. Values are
 * a's, and where a has none for a key, b's. It is done before b's own callbacks
 * that were registered later are run. From .NET's linked tokens. */
ROTA_API struct ctx *ctx_merge(struct ctx *a, struct ctx *b) CTX_MADE_;

/* Derive a context that ends when the peer of the connected socket fd hangs up:
 * it has closed its side, or the connection broke. What it had sent before may
 * be read all the same. A duplicate of fd is kept until the context is freed,
 * so that fd may be closed meanwhile; the other side then sees the connection
 * end only when both are closed. */
ROTA_API struct ctx *ctx_with_peer(struct ctx *parent, int fd) CTX_MADE_;

/*
 * Derive a context that ends when one of signals arrives, with the signal's
 * name as its cause ("SIGINT"). From then on, and after the context is freed,
 * each of these signals acts as if it were unhandled: a second Ctrl-C ends the
 * program at once. (A repeat within a tenth of a second is the same signal:
 * timeout(1) sends each of its signals twice.) A signal that is ignored when
 * this is called (as nohup does) stays ignored. From Go's
 * signal.NotifyContext.
 */
ROTA_API struct ctx *ctx_with_signals(struct ctx *parent,
                                      const sigset_t *signals) CTX_MADE_;

/* Take another reference; drop it with ctx_unref(). Returns ctx. */
ROTA_API struct ctx *ctx_ref(struct ctx *ctx) ROTA_MUST_USE;

/* ctx_unref: drop a reference. Dropping the last one frees the context and
 * cancels nobody: living children keep the chain above them alive.
 * ctx_end:   cancel, then drop a reference: Go's `defer cancel()`. */

static inline void
ctx_auto_end_(struct ctx **ctx)
{
    ctx_end(*ctx);
}

#if defined(__GNUC__)
/* Ends the context on every way out of the scope:
 *   CTX_AUTO struct ctx *ctx = ctx_with_cancel(parent); */
#define CTX_AUTO __attribute__((cleanup(ctx_auto_end_)))
#endif

/* -- Asking -------------------------------------------------------------- */

/* True once ctx has ended. One acquire load, for the inside of loops: no lock,
 * no call, no clock. What the ender did before is visible to who sees true. */
static inline bool
ctx_done(const struct ctx *ctx)
{
    return __atomic_load_n(&ctx->state_, __ATOMIC_ACQUIRE) != 0;
}

/* ROTA_OK while live; then ROTA_CANCELED, ROTA_DEADLINE or ROTA_NOMEM, for
 * ever. */
ROTA_API enum rota_error ctx_err(const struct ctx *ctx);

/* NULL while live; then why, in words. Valid as long as ctx is. */
ROTA_API const char *ctx_cause(const struct ctx *ctx);

/* The error behind the end: what ctx_cancel_error() was given, otherwise
 * ctx_err()'s answer. */
ROTA_API enum rota_error ctx_cause_code(const struct ctx *ctx);

/* When ctx will end by itself: the earliest deadline from here to the root.
 * ROTA_FOREVER if there is none. */
ROTA_API int64_t ctx_deadline(const struct ctx *ctx);

/* ctx_deadline() - ctx_now(), not below 0; ROTA_FOREVER if there is none. */
ROTA_API int64_t ctx_remaining(const struct ctx *ctx);

/* The value of the nearest context from here to the root that was given one
 * for key; NULL if none was. The value is the context's: valid as long as it.
 */
ROTA_API void *ctx_value(const struct ctx *ctx, const void *key);

/* A descriptor that is readable once ctx has ended, and stays so: for poll(),
 * epoll, io_uring. Made when it is first asked for, the same from then on, and
 * closed when ctx is freed; it must not be read, written or closed. -1, with
 * errno and rota_errmsg(NULL), if there is none to be had. */
ROTA_API int ctx_fd(struct ctx *ctx);

/* Print the tree of live contexts: what each is, the file and line that made
 * it, its age, the time it has left or why it ended, how many wait and how many
 * callbacks it has. Returns how many there are. Only if ROTA_DEBUG=1 was in the
 * environment when the first one was made; then, too, the program is aborted,
 * with a line that says why, when a context is ended once more or used after
 * its end, when a hook is registered that is registered, and when a callback
 * waits, by whatever way round, for itself. */
ROTA_API size_t ctx_dump(FILE *out);

/* Nanoseconds on CLOCK_MONOTONIC. */
ROTA_API int64_t ctx_now(void);

/* -- Ending -------------------------------------------------------------- */

/*
 * End ctx and everything derived from it. True for the one call that ended it.
 * When it returns, true or false, the whole subtree is done. The first end
 * wins for both error and cause and is final. Callbacks registered with
 * ctx_after() run before the winning call returns, after the whole subtree is
 * done, on this thread. May be called from inside a callback. Never fails: a
 * cause that cannot be copied for want of memory becomes the usual words.
 */
ROTA_API bool ctx_cancel(struct ctx *ctx);
ROTA_API bool ctx_cancel_cause(struct ctx *ctx, const char *format, ...)
    ROTA_PRINTF(2, 3);
/* code is what ctx_cause_code() answers; ctx_err() is ROTA_CANCELED. */
ROTA_API bool ctx_cancel_error(struct ctx *ctx, enum rota_error code,
                               const char *format, ...) ROTA_PRINTF(3, 4);

/* -- Callbacks ----------------------------------------------------------- */

/*
 * Called once when a context has ended, on the thread that ended it (for a
 * deadline or a signal: a service thread of ours, one callback at a time; if
 * the context is done already: inside ctx_after()). The whole subtree is done
 * and none of our locks is held. Keep it short; it must not call rota_*.
 */
typedef void ctx_hook_fn(void *arg);

/* Storage for one registration, the caller's. Needs no initialisation. */
struct ctx_hook {
    void *opaque_[8];
};

/* Have fn(arg) called when ctx ends. Cannot fail. hook must stay in place
 * until it was stopped, or until fn has returned; it holds a reference on ctx
 * until then. Registering a hook that is registered is a bug. */
ROTA_API void ctx_after(struct ctx *ctx, struct ctx_hook *hook, ctx_hook_fn *fn,
                        void *arg);

/* True, for one call, if fn will now never run. False if it has run, is
 * running, or was stopped before. Never waits: after false the callback may
 * still be running, so hook and what it touches must stay. */
ROTA_API bool ctx_hook_stop(struct ctx_hook *hook);

/* Stop, and wait for a callback that is running: on return fn is not running
 * and never will, and hook may be reused. Called from inside that very
 * callback it returns at once, and the callback may then free the hook. Do not
 * hold a lock that the callback takes. From C++20's ~stop_callback. */
ROTA_API void ctx_hook_stop_wait(struct ctx_hook *hook);

/* -- Waiting ------------------------------------------------------------- */

/* Sleep for duration. ROTA_OK if it was slept through, else ctx_err(ctx). */
ROTA_API enum rota_error ctx_sleep(struct ctx *ctx, int64_t duration);

/* Wait until ctx ends, and give ctx_err(ctx); ROTA_TIMEOUT if it is still live
 * at deadline. Waiting past the context's own deadline ends the context. */
ROTA_API enum rota_error ctx_wait(struct ctx *ctx, int64_t deadline);

/* A condition variable, the caller's. */
struct ctx_cond {
    void *opaque_[10];
};

/* Before anything else. There is nothing to undo; nobody may wait on it when
 * its memory goes. */
ROTA_API void ctx_cond_init(struct ctx_cond *cond);

/* Wake the one that has waited longest; all. With or without the mutex. A
 * signal wakes somebody who was waiting, for ROTA_OK: it is never spent on one
 * whose context ended. */
ROTA_API void ctx_cond_signal(struct ctx_cond *cond);
ROTA_API void ctx_cond_broadcast(struct ctx_cond *cond);

/* pthread_cond_timedwait() that ends with ctx, too. mutex is held by the
 * caller, let go while it waits, and held again on return, whatever that is:
 * ROTA_OK (signalled, or, as with every condition variable, for no reason),
 * ctx_err(ctx), or ROTA_TIMEOUT. A cancel needs none of the caller's locks, and
 * wakes those that wait under what it ended and no others. From nsync's
 * nsync_cv_wait_with_deadline(). */
ROTA_API enum rota_error ctx_cond_wait(struct ctx *ctx, struct ctx_cond *cond,
                                       pthread_mutex_t *mutex,
                                       int64_t deadline);

/* -- Where it was made --------------------------------------------------- */

/* For ctx_dump(). */
ROTA_API void ctx_here_(const char *where);

#ifndef CTX_PLAIN_
#define CTX_TEXT_(x) #x
#define CTX_LINE_(x) CTX_TEXT_(x)
#define CTX_HERE_(call) (ctx_here_(__FILE__ ":" CTX_LINE_(__LINE__)), call)
#define ctx_with_cancel(parent) CTX_HERE_(ctx_with_cancel(parent))
#define ctx_with_deadline(parent, deadline)                                    \
    CTX_HERE_(ctx_with_deadline(parent, deadline))
#define ctx_with_timeout(parent, timeout)                                      \
    CTX_HERE_(ctx_with_timeout(parent, timeout))
#define ctx_with_deadline_cause(parent, deadline, cause)                       \
    CTX_HERE_(ctx_with_deadline_cause(parent, deadline, cause))
#define ctx_with_timeout_cause(parent, timeout, cause)                         \
    CTX_HERE_(ctx_with_timeout_cause(parent, timeout, cause))
#define ctx_with_value(parent, key, value, destroy)                            \
    CTX_HERE_(ctx_with_value(parent, key, value, destroy))
#define ctx_without_cancel(parent) CTX_HERE_(ctx_without_cancel(parent))
#define ctx_shield(parent, grace) CTX_HERE_(ctx_shield(parent, grace))
#define ctx_merge(a, b) CTX_HERE_(ctx_merge(a, b))
#define ctx_with_peer(parent, fd) CTX_HERE_(ctx_with_peer(parent, fd))
#define ctx_with_signals(parent, signals)                                      \
    CTX_HERE_(ctx_with_signals(parent, signals))
#endif

#ifdef __cplusplus
}
#endif
#endif
