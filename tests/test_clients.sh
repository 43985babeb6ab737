#!/bin/sh
# The public interface as clients use it that know nothing of rota: while it
# works on the file, and without any extension. What they do is in
# tests/clients/, once in each language.
. "${srcdir:-.}/tests/harness.sh"

clients=$(cd "${srcdir:-.}/tests/clients" && pwd)

# serves COMMAND...: it gets along with a worker, and the ids that it prints,
# all beyond 32 bits, are those of the jobs that it made
serves() {
    expect 0 "$rota" add exec -- true
    ask queue.db "UPDATE sqlite_sequence SET seq = 9007199254740000
        WHERE name = 'submit'"
    in_background work -j4
    within_10_s grep -q 'working on' run.err || fail "$(cat run.err)"
    "$@" queue.db >out 2>err </dev/null
    answer=$?
    kill -TERM "$pid"
    ended 0
    [ "$answer" -eq 0 ] || fail "$* ended with $answer: $(cat err)"
    ask queue.db "SELECT id FROM jobs WHERE id > 1 ORDER BY id" >want
    [ "$(wc -l <want)" -eq 4 ] || fail "not its jobs: $(cat want)"
    cmp -s want out || fail "$(cat out) are not: $(cat want)"
}

# == tests

the_sqlite3_shell_is_served_while_rota_works() {
    serves sh "$clients/shell.sh"
}

python_is_served_while_rota_works() {
    python3 -c 'import sqlite3' 2>/dev/null ||
        skip "no python3 with its module sqlite3"
    serves python3 "$clients/python.py"
}

node_is_served_while_rota_works() {
    node "$clients/database.js" >/dev/null 2>&1 ||
        skip "no node, or none with a client of SQLite"
    serves node "$clients/node.js"
}

run_tests "$@"
