# What the tests of the rota command have in common; sourced by them. Uses
# $ROTA, or ./rota. Needs sqlite3(1).
#
# A test is a function whose name is the sentence it proves, below the line
# "# == tests". It runs in a folder of its own with ROTA_DB=queue.db, and fails
# by calling fail.
# shellcheck shell=sh

set -u
rota=${ROTA:-./rota}
case $rota in
/*) ;;
*) rota=$PWD/$rota ;;
esac
unset NO_COLOR
LC_ALL=C
export LC_ALL
passed=0
failed=0
skipped=0

fail() {
    echo "    $*" >&2
    exit 1
}

# skip WHY: this test cannot be run here
skip() {
    echo "    $*" >&2
    exit 77
}

run_test() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/rota-cli-XXXXXX") || exit 99
    (cd "$folder" && ROTA_DB=queue.db && export ROTA_DB && "$1")
    case $? in
    0) passed=$((passed + 1)) ;;
    77)
        skipped=$((skipped + 1))
        echo "SKIPPED: $1" >&2
        ;;
    *)
        failed=$((failed + 1))
        echo "FAILED: $1" >&2
        ;;
    esac
    rm -rf "$folder"
}

# rows N: a CSV file of so many
rows() {
    echo id,text
    i=0
    while [ $i -lt "$1" ]; do
        i=$((i + 1))
        echo "$i,row $i"
    done
}

# many_rows N: quicker
many_rows() {
    echo id,text
    sqlite3 -csv :memory: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL
        SELECT i + 1 FROM n WHERE i < $1) SELECT i, 'row' FROM n"
}

# expect CODE COMMAND...: run it; what it prints is in ./out and ./err
expect() {
    want=$1
    shift
    "$@" >out 2>err </dev/null
    code=$?
    [ "$code" -eq "$want" ] ||
        fail "$*: ended with $code instead of $want: $(cat err)"
}

# The files say so: a fixed text, or a line that is exactly that
out_has() { grep -qF -- "$1" out || fail "no \"$1\" in: $(cat out)"; }
err_has() { grep -qF -- "$1" err || fail "no \"$1\" in: $(cat err)"; }
out_is() { [ "$(cat out)" = "$1" ] || fail "\"$1\" is not: $(cat out)"; }
err_is_one_line() {
    [ "$(wc -l <err)" -eq 1 ] || fail "not one line: $(cat err)"
}
out_is_json() {
    while IFS= read -r line; do
        printf '%s' "$line" >line
        [ "$(sqlite3 :memory: "SELECT json_valid(readfile('line'))")" = 1 ] ||
            fail "not JSON: $line"
    done <out
    [ -s out ] || fail "no JSON at all"
}

# json PATH: that value of the first line of ./out
json() {
    head -n 1 out >line
    sqlite3 :memory: "SELECT json_extract(CAST(readfile('line') AS TEXT), '$1')"
}

# ask DB SQL: as any client would
ask() { sqlite3 -cmd '.timeout 10000' "$1" "$2"; }

# within_10_s COMMAND...: until it succeeds
within_10_s() {
    tries=0
    until "$@" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 500 ] || return 1
        sleep 0.02
    done
}

# on_terminal COLUMNS COMMAND: what it shows there is in ./out
on_terminal() {
    TERM=xterm script -qec "stty cols $1; $2" /dev/null >out </dev/null
}

# in_background WORD...: rota in the background, saying things in ./run.err;
# $pid. A shell starts what it puts there with SIGINT ignored, and without an
# input: undo that.
in_background() {
    {
        env --default-signal=INT,TERM,HUP "$rota" "$@" <&4 4<&- \
            >run.out 2>run.err &
        pid=$!
    } 4<&0
}

# ended CODE: the background job ends so
ended() {
    wait "$pid"
    code=$?
    [ "$code" -eq "$1" ] ||
        fail "ended with $code instead of $1: $(cat run.err)"
}

# run_tests [NAME...]: these, or all of them. The last thing a file does.
run_tests() {
    command -v sqlite3 >/dev/null || {
        echo "no sqlite3: skipped"
        exit 77
    }
    if [ $# -eq 0 ]; then
        # shellcheck disable=SC2046 # names are words
        set -- $(sed -n '/^# == tests/,$s/^\([a-z0-9_]*\)() {.*/\1/p' "$0")
    fi
    for name; do
        run_test "$name"
    done
    [ "$skipped" -eq 0 ] || also=", $skipped skipped"
    echo "$passed passed, $failed failed${also-}"
    [ "$failed" -eq 0 ]
}
