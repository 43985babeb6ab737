#!/bin/sh
# ROTA_DEBUG=1: misuse of contexts ends the program with a line that says what
# it was, and ctx_dump() lists those that live.
. "${srcdir:-.}/tests/harness.sh"

: "${CC:=cc}"
include=$(cd "${srcdir:-.}/include" && pwd)
library=$(cd "${builddir:-.}/.libs" && pwd)

# build BODY: ./try runs it, with these helpers
build() {
    cat >try.c <<END
#include <rota.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
static struct ctx *a, *b;
static struct ctx_hook hook, other;
static void nothing(void *arg) { (void)arg; }
static void stop(void *arg) { ctx_hook_stop_wait(arg); }
static int both;
static void
meet_and_stop(void *arg)
{
    __atomic_add_fetch(&both, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&both, __ATOMIC_SEQ_CST) < 2)
        continue;
    ctx_hook_stop_wait(arg);
}
static void *wait_for(void *ctx) { ctx_wait(ctx, ROTA_FOREVER); return NULL; }
/* ends as abort() does, but leaves what was counted of coverage */
static void leave(int number) { exit(128 + number); }
static void *cancel(void *ctx) { ctx_cancel(ctx); return NULL; }
int
main(void)
{
    (void)a, (void)b, (void)hook, (void)other;
    (void)nothing, (void)stop, (void)meet_and_stop, (void)cancel;
    (void)wait_for;
    signal(SIGABRT, leave);
    $1
    return 0;
}
END
    # shellcheck disable=SC2086
    $CC ${SANITIZER_CFLAGS-} -std=gnu11 -I"$include" -pthread -o try try.c \
        -L"$library" -Wl,-rpath,"$library" -lrota || fail "does not compile"
}

# aborts MESSAGE BODY: with ROTA_DEBUG it does, with one line that says so
aborts() {
    build "$2"
    ROTA_DEBUG=1 ./try >out 2>err
    [ $? -eq 134 ] || fail "ended with $? and: $(cat err)"
    grep -v '^Aborted' err >said
    grep -q "^rota: bug: .*$1" said || fail "not \"$1\": $(cat err)"
}

# == tests

a_context_that_is_ended_twice_is_named() {
    aborts 'after its end, made at try.c:31$' '
    a = ctx_with_cancel(NULL);
    ctx_end(a);
    ctx_end(a);'
}

a_context_that_is_cancelled_after_its_end_is_named() {
    aborts 'after its end, made at try.c:31$' '
    a = ctx_with_timeout(NULL, ROTA_SEC(9));
    ctx_unref(a);
    ctx_cancel_cause(a, "too late");'
}

a_hook_that_is_registered_twice_is_told() {
    aborts 'a hook is registered that is registered already.*try.c:31$' '
    a = ctx_with_cancel(NULL); ctx_after(a, &hook, nothing, NULL);
    ctx_after(a, &hook, nothing, NULL);'
    aborts 'a hook is registered that is registered already, on a context$' '
    ctx_after(ctx_background(), &hook, nothing, NULL);
    ctx_after(ctx_todo(), &hook, nothing, NULL);'
}

two_callbacks_that_wait_for_each_other_are_told() {
    aborts 'a callback waits, by a long way round, for its own end' '
    pthread_t thread;

    a = ctx_with_cancel(NULL);
    b = ctx_with_cancel(NULL);
    ctx_after(a, &hook, meet_and_stop, &other);
    ctx_after(b, &other, meet_and_stop, &hook);
    pthread_create(&thread, NULL, cancel, a);
    ctx_cancel(b);
    pthread_join(thread, NULL);'
}

what_is_right_is_left_alone() {
    build '
    for (int i = 0; i < 20000; i++) {
        a = ctx_with_cancel(NULL);
        b = ctx_merge(a, NULL);
        ctx_after(a, &hook, stop, &hook);
        ctx_after(b, &other, nothing, NULL);
        if (i % 2 == 0)
            ctx_cancel(a);
        else
            ctx_hook_stop_wait(&hook);
        ctx_hook_stop(&other);
        ctx_end(ctx_ref(a));
        ctx_end(b);
        ctx_unref(a);
    }
    if (ctx_dump(stdout) != 0)
        abort();'
    ROTA_DEBUG=1 expect 0 ./try
    [ ! -s out ] || fail "$(cat out)"
    expect 0 env ROTA_DEBUG=0 ./try
}

the_dump_is_a_tree_that_says_where_each_was_made() {
    build '
    a = ctx_with_timeout(NULL, ROTA_SEC(100));
    b = ctx_with_value(a, &both, &both, NULL);
    struct ctx *c = ctx_with_cancel(b), *d = ctx_with_cancel(NULL);
    ctx_after(c, &hook, nothing, NULL);
    ctx_cancel_cause(c, "enough");
    ctx_after(d, &hook, nothing, NULL);
    return ctx_dump(stdout) != 4;'
    ROTA_DEBUG=1 expect 0 ./try
    sed 's/[0-9.]* s old/X s old/; s/[0-9.]* s left/X s left/' out >plain
    cat >wanted <<'END'
deadline try.c:31, X s old, X s left
  value try.c:32, X s old, X s left
    cancel try.c:33, X s old, ended: enough
cancel try.c:33, X s old, 1 callbacks
END
    cmp -s plain wanted || fail "$(cat out)"
}

two_hundred_thousand_are_listed_in_no_time_and_without_a_deep_stack() {
    build '
    struct ctx *all[200000];
    a = b = ctx_with_cancel(NULL);
    for (int i = 0; i < 100000; i++)
        all[i] = a = ctx_with_cancel(a);
    for (int i = 100000; i < 200000; i++)
        all[i] = ctx_with_cancel(b);
    if (ctx_dump(stdout) != 200001)
        abort();
    for (int i = 0; i < 200000; i++)
        ctx_unref(all[i]);
    ctx_end(b);'
    ROTA_DEBUG=1 expect 0 ./try
    [ "$(wc -l <out)" = 200001 ] || fail "$(wc -l <out) lines"
    [ "$(grep -c '^                 *(100000) cancel try.c' out)" = 1 ] ||
        fail "$(tail -n 3 out)"
    [ "$(grep -c '^  cancel try.c:36' out)" = 100000 ] ||
        fail "$(tail -n 3 out)"
}

the_dump_says_who_waits_and_what_the_library_made_for_itself() {
    build '
    pthread_t thread;
    char *text = NULL;
    size_t size;

    a = ctx_with_cancel(NULL);
    pthread_create(&thread, NULL, wait_for, a);
    do {
        free(text);
        FILE *file = open_memstream(&text, &size);
        if (ctx_dump(file) != 1 || fclose(file) != 0)
            abort();
    } while (strstr(text, ", 1 waiting\n") == NULL);
    free(text);
    b = ctx_shield(NULL, ROTA_SEC(100));
    ctx_dump(stdout);
    ctx_cancel(a);
    pthread_join(thread, NULL);'
    ROTA_DEBUG=1 expect 0 ./try
    out_has ' s old, 1 waiting'
    out_has 'detached try.c:44, '
    out_has '  deadline (inside the library), '
}

without_the_variable_nothing_is_listed() {
    build 'a = ctx_with_cancel(NULL); return (int)ctx_dump(stdout);'
    for unset in '-u ROTA_DEBUG' ROTA_DEBUG= ROTA_DEBUG=0; do
        # shellcheck disable=SC2086 # words
        expect 0 env $unset ./try
        out_has 'ROTA_DEBUG=1'
    done
}

run_tests "$@"
