#!/bin/sh
# rota(5) says of the public interface what is there, and nothing else.
. "${srcdir:-.}/tests/harness.sh"

manual=$(cd "${srcdir:-.}/man" && pwd)

make_queue() { expect 0 "$rota" add exec -- true; }

# Of a view or table of the manual: "name column" for each item of its list
described() {
    sed -e ':more' -e '/\\$/{N;s/\\\n//;b more' -e '}' "$manual/rota.5" | awk '
        $1 == ".Sh" {section = $2}
        $1 ~ /^\.S[hs]$/ {name = ""}
        $1 == ".Ss" && NF == 2 && section ~ /^(VIEWS|COMMANDS)$/ {name = $2}
        $1 == ".It" && name != "" {
            for (i = 3; i <= NF; i++) if ($i != ",") print name, $i
        }' | sort -s -k 1,1
}

# All that is public in the file, likewise
there() {
    ask queue.db "SELECT t.name || ' ' || c.name
        FROM sqlite_schema t, pragma_table_info(t.name) c
        WHERE t.type IN ('table', 'view') AND t.name NOT GLOB '_*'
        AND t.name NOT GLOB 'sqlite_*' ORDER BY t.name, c.cid" |
        sort -s -k 1,1
}

# The manual on one line
read_manual() {
    mandoc -T ascii -O width=900 "$manual/rota.5" | sed 's/.\x08//g' |
        tr -s '[:space:]' ' ' >page
}

need_mandoc() { command -v mandoc >/dev/null || skip "no mandoc"; }

# example LANGUAGE N: the Nth that stands below that heading
example() {
    awk -v heading="$1" -v wanted="$2" '
        $1 == ".Ss" || $1 == ".Sh" {on = $0 == ".Ss " heading; n = 0}
        on && $1 == ".Ed" {inside = 0}
        inside && n == wanted
        on && $1 == ".Bd" {inside = 1; n++}' "$manual/rota.5" |
        sed -e 's/\\(dq/"/g' -e 's/^\\&//' -e '/^\$ /d'
}

# == tests

every_column_is_described_in_its_place_and_none_that_is_not_there() {
    make_queue
    there >columns
    described >words
    [ "$(wc -l <columns)" -ge 100 ] || fail "only $(wc -l <columns) columns"
    diff columns words >differ || fail "is there, is described: $(cat differ)"
}

every_refusal_is_described_and_none_that_is_not_made() {
    need_mandoc
    make_queue
    read_manual
    ask queue.db "SELECT sql FROM sqlite_schema WHERE type = 'trigger'" |
        tr '\n' ' ' | sed "s/RAISE(ABORT, '/\n&/g" |
        sed -n "s/''/\x01/g; s/^RAISE(ABORT, '\([^']*\)').*/\1/p" |
        tr '\001' "'" | sort -u >made
    [ "$(wc -l <made)" -ge 20 ] || fail "only $(wc -l <made) are made"
    while IFS= read -r words; do
        grep -qF -- "$words" page || fail "not described: $words"
    done <made
    # a line each, the second line of one indented further
    sed -n '/^Refused with/,/^\.Ed/{/^\./!p;}' "$manual/rota.5" |
        sed -e '/^Refused/d' -e ':more' -e '$!{N;s/\n  */ /;t more' -e '}' \
            -e 'P;D' | sort -u >words
    diff made words >differ || fail "is made, is described: $(cat differ)"
}

every_text_of_a_state_a_status_or_a_why_is_described() {
    need_mandoc
    make_queue
    read_manual
    # what SQL says in quotes, but for formats of time and empty texts
    ask queue.db "SELECT sql FROM sqlite_schema WHERE type = 'view'" |
        grep -o "'[^']*'" | tr -d "'" | grep '[a-z]' |
        grep -v '[%]\|^text$\|^unixepoch$\|^now$' | sort -u >said
    [ "$(wc -l <said)" -ge 30 ] || fail "only $(wc -l <said) texts"
    while IFS= read -r words; do
        grep -qF -- "$words" page || fail "not described: '$words'"
    done <said
}

the_pages_are_well_formed() {
    need_mandoc
    for page in rota.1 rota.5; do
        expect 0 mandoc -T lint -W warning "$manual/$page"
        out_is ""
    done
}

the_examples_for_the_shell_work() {
    make_queue
    for n in 1 2; do
        example 'The sqlite3 shell' $n >input
        [ -s input ] || fail "no example $n"
        sqlite3 -bail queue.db <input >out 2>err || fail "$(cat input err)"
    done
    [ "$(ask queue.db "SELECT count(*) FROM jobs")" = 5 ] ||
        fail "not all were submitted"
}

the_example_for_python_works() {
    python3 -c 'import sqlite3' 2>/dev/null ||
        skip "no python3 with its module sqlite3"
    make_queue
    example Python 1 >example.py
    expect 0 python3 example.py
    out_is "('ready', 'no worker runs')
submit: a job with this unique_key is there and has not ended;\
 the view unique_keys says which"
}

run_tests "$@"
