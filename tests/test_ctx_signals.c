/*
 * What include/rota/ctx.h promises of ctx_with_signals(). Each test runs in a
 * process of its own, and those that end by a signal fork another.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "context/node.h"
#include "faults.h"
#include "support.h"

static struct ctx *
watch(struct ctx *parent, int one, int other)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, one);
    if (other != 0)
        sigaddset(&set, other);
    return ctx_with_signals(parent, &set);
}

/* What body, in a process of its own, was killed by; 0 if it returned. */
static int
killed_by(void (*body)(void))
{
    struct rlimit no_core = {0, 0};
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        body();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void (*disposition(int number))(int)
{
    struct sigaction now;

    ck_assert_int_eq(sigaction(number, NULL, &now), 0);
    return now.sa_handler;
}

static volatile sig_atomic_t handled;

static void
own_handler(int number)
{
    handled = number;
}

static const struct {
    int number;
    const char *name;
} names[] = {{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}};

START_TEST(signal_ends_the_context_with_its_name)
{
    struct ctx *ctx = watch(NULL, names[_i].number, SIGUSR1);
    struct ctx *child = ctx_with_cancel(ctx);

    ck_assert(!ctx_done(ctx));
    raise(names[_i].number);
    ck_assert_int_eq(ctx_wait(child, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_int_eq(ctx_err(ctx), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), names[_i].name);
    ck_assert_str_eq(ctx_cause(child), names[_i].name);
    ck_assert_int_eq(ctx_cause_code(ctx), ROTA_CANCELED);
    ctx_end(child);
    ctx_end(ctx);
}
END_TEST

START_TEST(realtime_signal_has_a_cause_too)
{
    struct ctx *ctx = watch(NULL, SIGRTMIN + 1, 0);

    raise(SIGRTMIN + 1);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_ptr_nonnull(ctx_cause(ctx));
    ctx_end(ctx);
}
END_TEST

/* Each of the following begins as a program does: Check handles these two. */
static void
signals_reset(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

/* Time is what is tested here: a repeat within 100 ms is the same signal. */
static void
second_comes_later(void)
{
    (void)ctx_sleep(ctx_background(), ROTA_MS(150));
}

static void
second_of_one(void)
{
    struct ctx *ctx;

    signals_reset();
    ctx = watch(NULL, SIGINT, 0);

    raise(SIGINT);
    (void)ctx_wait(ctx, ROTA_FOREVER);
    second_comes_later();
    raise(SIGINT);
}

static void
second_at_once(void)
{
    struct ctx *ctx;

    signals_reset();
    ctx = watch(NULL, SIGINT, 0);
    raise(SIGINT);
    raise(SIGINT); /* as timeout(1) does */
    (void)ctx_wait(ctx, ROTA_FOREVER);
}

static void
second_is_another(void)
{
    struct ctx *ctx;

    signals_reset();
    ctx = watch(NULL, SIGINT, SIGTERM);

    raise(SIGINT);
    (void)ctx_wait(ctx, ROTA_FOREVER);
    raise(SIGTERM);
}

static void
second_after_free(void)
{
    struct ctx *ctx;

    signals_reset();
    ctx = watch(NULL, SIGINT, SIGTERM);

    raise(SIGINT);
    (void)ctx_wait(ctx, ROTA_FOREVER);
    ctx_end(ctx);
    second_comes_later();
    raise(SIGINT);
}

static void
first_after_free(void)
{
    signals_reset();
    ctx_end(watch(NULL, SIGINT, SIGTERM));
    raise(SIGTERM);
}

START_TEST(second_signal_acts_as_if_unhandled)
{
    ck_assert_int_eq(killed_by(second_of_one), SIGINT);
    ck_assert_int_eq(killed_by(second_is_another), SIGTERM);
    ck_assert_int_eq(killed_by(second_after_free), SIGINT);
    ck_assert_int_eq(killed_by(first_after_free), SIGTERM);
}
END_TEST

START_TEST(repeat_at_once_is_the_same_signal)
{
    ck_assert_int_eq(killed_by(second_at_once), 0);
}
END_TEST

START_TEST(second_signal_whose_default_is_to_do_nothing_does_nothing)
{
    struct ctx *ctx = watch(NULL, SIGWINCH, 0);

    raise(SIGWINCH);
    raise(SIGWINCH); /* the same one */
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_ptr_ne(disposition(SIGWINCH), SIG_DFL);
    second_comes_later();
    raise(SIGWINCH);
    ck_assert_ptr_eq(disposition(SIGWINCH), SIG_DFL);
    ctx_end(ctx);
}
END_TEST

START_TEST(ignored_signal_stays_ignored)
{
    struct ctx *ctx;

    signal(SIGHUP, SIG_IGN);
    ctx = watch(NULL, SIGHUP, SIGUSR1);
    ck_assert_ptr_eq(disposition(SIGHUP), SIG_IGN);
    raise(SIGHUP);
    ck_assert(!ctx_done(ctx));
    raise(SIGUSR1);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "SIGUSR1");
    ctx_end(ctx);
    ck_assert_ptr_eq(disposition(SIGHUP), SIG_IGN);
}
END_TEST

START_TEST(signal_that_cannot_be_handled_is_skipped)
{
    struct ctx *ctx = watch(NULL, SIGKILL, SIGUSR1);

    raise(SIGUSR1);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ctx_end(ctx);
}
END_TEST

START_TEST(signal_that_the_system_keeps_for_itself_is_skipped)
{
    struct ctx *ctx;

    /* it may not even be looked at, or only not be set */
    faults_answer("sigaction", _i, EINVAL);
    ctx = watch(NULL, SIGUSR1, SIGUSR2);
    ck_assert(faults_disarm());
    ck_assert_ptr_eq(disposition(SIGUSR1), SIG_DFL);
    ck_assert(!ctx_done(ctx));
    raise(SIGUSR2);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "SIGUSR2");
    ctx_end(ctx);
}
END_TEST

START_TEST(signals_arrive_though_another_signal_wakes_who_reads_them)
{
    struct ctx *ctx;

    faults_answer("read", 0, EINTR); /* the thread's first */
    ctx = watch(NULL, SIGUSR1, 0);
    AWAIT(faults_have_answered());
    raise(SIGUSR1);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ctx_end(ctx);
}
END_TEST

START_TEST(last_watcher_puts_back_what_was_there)
{
    struct ctx *first, *second;

    signal(SIGUSR1, own_handler);
    first = watch(NULL, SIGUSR1, 0);
    second = watch(first, SIGUSR1, SIGUSR2);
    ck_assert_ptr_ne(disposition(SIGUSR1), own_handler);
    ctx_end(first);
    ck_assert_ptr_ne(disposition(SIGUSR1), own_handler);
    ctx_end(second);
    ck_assert_ptr_eq(disposition(SIGUSR1), own_handler);
    ck_assert_ptr_eq(disposition(SIGUSR2), SIG_DFL);
    raise(SIGUSR1);
    ck_assert_int_eq(handled, SIGUSR1);
}
END_TEST

START_TEST(what_the_program_has_put_there_since_is_left_alone)
{
    struct ctx *ctx = watch(NULL, SIGUSR1, 0);

    signal(SIGUSR1, own_handler);
    ctx_end(ctx);
    ck_assert_ptr_eq(disposition(SIGUSR1), own_handler);
}
END_TEST

START_TEST(one_signal_ends_all_that_watch_it_and_no_others)
{
    struct ctx *parent = ctx_with_cancel(NULL);
    struct ctx *ints[] = {watch(NULL, SIGINT, 0), watch(parent, SIGINT, 0),
                          watch(NULL, SIGINT, SIGTERM)};
    struct ctx *term = watch(NULL, SIGTERM, 0);

    raise(SIGINT);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ctx_wait(ints[i], ROTA_FOREVER), ROTA_CANCELED);
        ctx_end(ints[i]);
    }
    ck_assert(!ctx_done(term) && !ctx_done(parent));
    raise(SIGTERM); /* term still watches */
    ck_assert_int_eq(ctx_wait(term, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(term), "SIGTERM");
    ctx_end(term);
    ctx_end(parent);
}
END_TEST

START_TEST(new_context_watches_again_after_a_signal)
{
    for (int i = 0; i < MANY(2000); i++) {
        struct ctx *ctx = watch(NULL, SIGINT, SIGTERM);

        ck_assert(!ctx_done(ctx)); /* the last round's signal is not its */
        raise(i % 2 ? SIGINT : SIGTERM);
        ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
        ck_assert_str_eq(ctx_cause(ctx), i % 2 ? "SIGINT" : "SIGTERM");
        ctx_end(ctx);
    }
}
END_TEST

START_TEST(signal_may_race_with_the_end_of_its_context)
{
    for (int i = 0; i < MANY(2000); i++) {
        struct ctx *ctx = watch(NULL, SIGUSR1, 0);

        raise(SIGUSR1);
        if (i % 2)
            sched_yield();
        ctx_end(ctx);
    }
}
END_TEST

/* Until whoever looks through the watchers has seen the first, too. */
static void
raise_and_await(void *second)
{
    raise(SIGUSR1);
    AWAIT(ctx_done(second));
}

START_TEST(signal_ends_what_watches_and_not_what_nobody_holds_any_more)
{
    struct ctx *first = watch(NULL, SIGUSR1, 0);
    struct ctx *second = watch(NULL, SIGUSR1, 0);

    /* the first lock that freeing takes; the last reference has gone */
    faults_meet("pthread_mutex_lock", 0, raise_and_await, second);
    ctx_unref(first);
    ck_assert_str_eq(ctx_cause(second), "SIGUSR1");
    ctx_end(second);
}
END_TEST

START_TEST(child_of_an_ended_parent_touches_no_signal)
{
    struct ctx *parent = ctx_with_cancel(NULL), *ctx;

    ctx_cancel_cause(parent, "over");
    ctx = watch(parent, SIGUSR1, 0);
    ck_assert_str_eq(ctx_cause(ctx), "over");
    ck_assert_ptr_eq(disposition(SIGUSR1), SIG_DFL);
    ctx_end(ctx);
    ctx_end(parent);
}
END_TEST

struct note {
    struct ctx_hook hook;
    pthread_t thread;
    atomic_bool has_run;
};

static void
note_take(void *arg)
{
    struct note *note = arg;

    note->thread = pthread_self();
    atomic_store(&note->has_run, true);
}

START_TEST(hooks_of_a_signal_run_on_a_thread_of_ours)
{
    struct ctx *ctx = watch(NULL, SIGINT, 0);
    struct note note = {.has_run = false};

    ctx_after(ctx, &note.hook, note_take, &note);
    raise(SIGINT);
    AWAIT(atomic_load(&note.has_run));
    ctx_hook_stop_wait(&note.hook);
    ck_assert(!pthread_equal(note.thread, pthread_self()));
    ctx_end(ctx);
}
END_TEST

struct slow {
    struct ctx_hook hook;
    struct gate gate;
};

static void
slow_body(void *arg)
{
    struct slow *slow = arg;

    gate_pass(&slow->gate);
}

START_TEST(signal_ends_no_context_that_was_made_after_it)
{
    struct ctx *busy = watch(NULL, SIGUSR2, 0), *ctx, *later;
    struct slow slow = {.gate = GATE_INIT};

    ctx_after(busy, &slow.hook, slow_body, &slow);
    raise(SIGUSR2);
    gate_await(&slow.gate, 1); /* our thread is held, and SIGHUP lies there */
    ctx = watch(NULL, SIGHUP, 0);
    raise(SIGHUP);
    ctx_end(ctx);
    ctx = watch(NULL, SIGHUP, 0);
    later = watch(NULL, SIGTERM, 0);
    raise(SIGTERM);
    gate_open(&slow.gate);
    ck_assert_int_eq(ctx_wait(later, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert(!ctx_done(ctx)); /* 1 was looked at before 15 */
    raise(SIGHUP);
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ctx_end(ctx);
    ctx_end(later);
    ctx_hook_stop_wait(&slow.hook);
    ctx_end(busy);
}
END_TEST

START_TEST(handler_keeps_errno)
{
    struct ctx *ctx = watch(NULL, SIGINT, 0);

    errno = 77;
    raise(SIGINT);
    ck_assert_int_eq(errno, 77);
    ctx_end(ctx);
}
END_TEST

static void
raise_int(void)
{
    raise(SIGINT);
}

START_TEST(signal_to_a_forked_child_is_unhandled_there_and_not_ours)
{
    struct ctx *ctx = watch(NULL, SIGINT, SIGUSR1);

    ck_assert_int_eq(killed_by(raise_int), SIGINT);
    ck_assert(!ctx_done(ctx));
    raise(SIGUSR1); /* what the thread sees first is ours */
    ck_assert_int_eq(ctx_wait(ctx, ROTA_FOREVER), ROTA_CANCELED);
    ck_assert_str_eq(ctx_cause(ctx), "SIGUSR1");
    ctx_end(ctx);
}
END_TEST

START_TEST(forked_child_takes_its_default_and_goes_on_if_that_is_nothing)
{
    struct ctx *ctx = watch(NULL, SIGWINCH, SIGUSR1);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        /* exit() writes down what was counted of coverage; a leak checker
         * would look for our threads */
        raise(SIGWINCH);
        (IS_SANITIZED ? _exit : exit)(disposition(SIGWINCH) == SIG_DFL ? 7 : 8);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    ck_assert_ptr_ne(disposition(SIGWINCH), SIG_DFL); /* here it is watched */
    ck_assert(!ctx_done(ctx));
    ctx_end(ctx);
}
END_TEST

static Suite *
signals_suite(void)
{
    Suite *suite = suite_create("ctx signals");
    TCase *signals = tcase_create("signals");

    tcase_set_timeout(signals, 60);
    tcase_add_loop_test(signals, signal_ends_the_context_with_its_name, 0,
                        sizeof(names) / sizeof(names[0]));
    tcase_add_test(signals, realtime_signal_has_a_cause_too);
    tcase_add_test(signals, second_signal_acts_as_if_unhandled);
    tcase_add_test(signals, repeat_at_once_is_the_same_signal);
    tcase_add_test(signals,
                   second_signal_whose_default_is_to_do_nothing_does_nothing);
    tcase_add_test(signals, ignored_signal_stays_ignored);
    tcase_add_test(signals, signal_that_cannot_be_handled_is_skipped);
    tcase_add_loop_test(
        signals, signal_that_the_system_keeps_for_itself_is_skipped, 0, 2);
    tcase_add_test(signals,
                   signals_arrive_though_another_signal_wakes_who_reads_them);
    tcase_add_test(signals, last_watcher_puts_back_what_was_there);
    tcase_add_test(signals, what_the_program_has_put_there_since_is_left_alone);
    tcase_add_test(signals, one_signal_ends_all_that_watch_it_and_no_others);
    tcase_add_test(signals, new_context_watches_again_after_a_signal);
    tcase_add_test(signals, signal_may_race_with_the_end_of_its_context);
    tcase_add_test(signals,
                   signal_ends_what_watches_and_not_what_nobody_holds_any_more);
    tcase_add_test(signals, child_of_an_ended_parent_touches_no_signal);
    tcase_add_test(signals, hooks_of_a_signal_run_on_a_thread_of_ours);
    tcase_add_test(signals, signal_ends_no_context_that_was_made_after_it);
    tcase_add_test(signals, handler_keeps_errno);
    /* the thread sanitizer delivers no signal to the forked child of a process
     * with threads */
    if (!IS_THREAD_SANITIZED) {
        tcase_add_test(
            signals, signal_to_a_forked_child_is_unhandled_there_and_not_ours);
        tcase_add_test(
            signals,
            forked_child_takes_its_default_and_goes_on_if_that_is_nothing);
    }
    suite_add_tcase(suite, signals);
    return suite;
}

int
main(void)
{
    return suite_run(signals_suite());
}
