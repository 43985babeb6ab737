#!/bin/sh
# The models, one of cancel, child removal, hooks and deadlines, one of who in a
# pool sleeps and who is called, through every order of their steps; and with a
# mistake put in, to see that it would be found.
set -u

: "${srcdir:=.}"
model=$(cd "$srcdir/tests/model" && pwd)/cancel.pml
command -v spin >/dev/null || {
    echo "no spin: skipped"
    exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/rota-model-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
passed=0
failed=0

# explore OWNER FILE: what the checker says is in ./said
explore() {
    rm -f pan*
    spin -DOWNER="$1" -a "$2" >said 2>&1 &&
        cc -O0 -w -DSAFETY -DNOREDUCE -o pan pan.c >>said 2>&1 &&
        timeout 300 ./pan -m1000000 >>said 2>&1
    # pan ends with 0 whatever it finds
    grep -q 'errors: ' said
}

# holds OWNER: every order is right
holds() {
    if explore "$1" "$model" && grep -q 'errors: 0' said &&
        ! grep -q 'max search depth too small\|out of memory' said; then
        passed=$((passed + 1))
        grep 'states, stored' said | sed "s/^/owner $1: /"
    else
        failed=$((failed + 1))
        echo "FAILED: owner $1"
        cat said
    fi
}

# finds OWNER WHAT SED-SCRIPT: with that mistake, an order that is wrong
finds() {
    sed "$3" "$model" >wrong.pml
    if cmp -s wrong.pml "$model"; then
        failed=$((failed + 1))
        echo "FAILED: $2: nothing was changed"
    elif explore "$1" wrong.pml && ! grep -q 'errors: 0' said; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: not found: $2"
        tail -5 said
    fi
}

for owner in 1 2 3; do
    holds $owner
done
finds 1 'a reference taken of what is about to be freed' \
    's/:: child_refs > 0 -> child_refs++/:: true -> child_refs++/'
finds 1 'stop that does not wait' \
    's/^    hook_stop_wait(stopped, is_last);/    hook_stop(stopped, is_last);/'
finds 1 'a runner that does not look whether it was stopped' \
    's/:: hook_state == ARMED -> hook_state = RUNNING/:: true -> hook_state = RUNNING/'
finds 1 'a waiter that is not woken' \
    's/:: hook_state == WAITED -> hook_state = DONE .*/:: hook_state == WAITED -> skip/'
finds 1 'a node that is freed while it is in the heap' \
    '/timed_node_fini/,/DROP/d'
finds 2 'a sleeper that leaves before the ender has let go' \
    's/:: joined -> wake_done .*/:: joined/'
finds 2 'looking and joining in two steps' \
    's/^    joined = !child_done;/    joined = true;/'
finds 3 'a node that is freed in the middle of a sweep' \
    '/the sweep may be at it/,/DROP/d'

model=${model%/*}/pool.pml
holds pool
finds pool 'who is about to sleep does not look once more' \
    '/^        idle++;/{n;s/fill(me, is_filled)/skip/}'
finds pool 'who leaves tasks behind calls nobody' \
    's/:: idle > 0 && (shared/:: false \&\& (shared/'
finds pool 'who queues a task with itself calls nobody' \
    '/^    own\[me\]++;/{n;n;n;s/:: idle > 0 ->/:: false ->/}'
finds pool 'nobody steals' 's/own\[me\] = (own\[1 - me\] + 1) \/ 2/own[me] = 0/'
finds pool 'who fills the empty queue calls nobody' \
    's/:: shared == 0 -> call(is_due)/:: shared == 1 -> call(is_due)/'
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
