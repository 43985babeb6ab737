#!/bin/sh
# gcc's analyzer knows who must end what: it reports a context that is not ended
# on some path, and is silent about one that is. (One that was given to a
# function that it cannot see may have been ended there, for all it knows.)
. "${srcdir:-.}/tests/harness.sh"

include=$(cd "${srcdir:-.}/include" && pwd)
gcc -fanalyzer -x c -c -o /dev/null /dev/null 2>/dev/null || {
    echo "no gcc with -fanalyzer: skipped"
    exit 77
}

# analyze BODY: what is said of a function with this body is in ./said
analyze() {
    cat >try.c <<END
#include <rota.h>
int work(struct ctx *ctx);
int try(struct ctx *parent, struct rota_pool *pool, int n);
int
try(struct ctx *parent, struct rota_pool *pool, int n)
{
    (void)parent, (void)pool, (void)n;
    $1
}
END
    gcc -std=gnu11 -Wall -Wextra -O1 -fanalyzer -I"$include" -c -o /dev/null \
        try.c 2>said || fail "does not compile: $(cat said)"
}

# reports WARNING BODY; is_silent_about BODY
reports() {
    analyze "$2"
    grep -q -- "$1" said || fail "no $1 in: $(cat said)"
}
is_silent_about() {
    analyze "$1"
    [ ! -s said ] || fail "$(cat said)"
}

# == tests

a_context_that_is_never_ended_is_reported() {
    reports Wanalyzer-malloc-leak '
    struct ctx *ctx = ctx_with_timeout(parent, ROTA_SEC(2));
    while (n > 0 && !ctx_done(ctx))
        n--;
    return n;'
}

a_context_that_one_path_forgets_is_reported() {
    reports Wanalyzer-malloc-leak '
    struct ctx *ctx = ctx_with_cancel(parent);
    if (n == 0)
        return 1;
    n = work(ctx);
    ctx_end(ctx);
    return n;'
}

a_context_that_is_ended_twice_is_reported() {
    reports Wanalyzer-double-free '
    struct ctx *ctx = ctx_merge(parent, NULL);
    ctx_end(ctx);
    ctx_end(ctx);
    return 0;'
}

a_context_that_is_used_after_its_end_is_reported() {
    reports use-after-free '
    struct ctx *ctx = ctx_with_cancel(parent);
    ctx_end(ctx);
    return ctx_done(ctx);'
}

a_context_that_nobody_takes_is_reported() {
    reports Wunused-result '
    ctx_with_peer(parent, n);
    return 0;'
}

a_reference_that_nobody_takes_is_reported() {
    reports Wunused-result '
    ctx_ref(parent);
    return 0;'
}

a_group_that_is_never_closed_is_reported() {
    reports Wanalyzer-malloc-leak '
    struct rota_group *group = rota_group_open(parent, pool, n);
    if (n == 0)
        return 1;
    return (int)rota_group_close(group);'
}

what_is_ended_on_every_path_is_fine() {
    is_silent_about '
    struct ctx *ctx = ctx_with_timeout(parent, ROTA_SEC(2));
    if (n > 0)
        n = work(ctx);
    ctx_end(ctx);
    return n;'
    is_silent_about '
    CTX_AUTO struct ctx *ctx = ctx_shield(parent, ROTA_SEC(2));
    if (n == 0)
        return 1;
    return work(ctx);'
    is_silent_about '
    ROTA_GROUP_AUTO struct rota_group *group = rota_group_open(parent, pool, 0);
    if (n == 0)
        return 1;
    return rota_group_wait(group);'
}

run_tests "$@"
