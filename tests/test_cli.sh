#!/bin/sh
# The rota command, as its users meet it: its words, what it prints of the queue,
# and what it answers. How jobs run: test_runs.sh. A file's own helpers come before
# its tests.
. "${srcdir:-.}/tests/harness.sh"

# without REDIRECTIONS CODE WORD...: rota with these descriptors closed. CODE is
# what it ends with if it can print, none if it prints nothing.
without() {
    closed=$1
    want=$2
    shift 2
    case $closed in
    *' >&-'*) [ "$want" = none ] || want=125 ;;
    esac
    [ "$want" != none ] || want=0
    rm -f out err
    eval "timeout 60 \"\$rota\" \"\$@\" </dev/null >out 2>err $closed"
    code=$?
    [ "$code" -eq "$want" ] ||
        fail "$* $closed: ended with $code instead of $want: $(cat err)"
}

# in_mounts COMMAND: where what it mounts is seen by itself alone
in_mounts() {
    if [ "$(id -u)" -eq 0 ]; then
        unshare -m sh -c "$1"
    else
        unshare -rm sh -c "$1"
    fi
}

# with_files N WORD...: rota, with so few descriptors; not libtool's wrapper,
# which needs more than that itself
with_files() {
    n=$1
    shift
    real=$(dirname "$rota")/.libs/rota
    [ -x "$real" ] || real=$rota
    LD_LIBRARY_PATH=$(dirname "$rota")/.libs \
        sh -c 'ulimit -n "$1"; shift; exec "$@"' sh "$n" "$real" "$@"
}

# == tests

# -- the command line ---------------------------------------------------------

usage_errors_are_one_line_and_code_2() {
    touch a.csv
    while IFS='|' read -r words message; do
        # shellcheck disable=SC2086 # words are words
        expect 2 "$rota" $words
        err_is_one_line
        err_has "$message"
        out_is ""
        [ ! -e queue.db ] || fail "$words made a file"
    done <<'END'
|which command?
lst|did you mean ls?
frobnicate|no command frobnicate
ls extra|one word too many: extra
show|usage: rota show ID
show x|x is not a job's id
show 0|0 is not a job's id
cancel 1x|1x is not a job's id
ls --priority 3|ls takes no --priority
ls --frob|no option --frob
ls -z|no option -z
ls -n|-n needs a value
ls -n 0|a number from 1
ls --state done|blocked, scheduled, ready
add|usage: rota add KIND
add imprt file=a|did you mean import?
add nothing|no kind nothing
add import|file= is missing
add import file=a.csv|into= is missing
add import file=a.csv into=b colour=red|import takes no colour=; it takes file= into=
add import file=a.csv file=b into=c|file= is given twice
add import file=a.csv into=|into= has no value
add import a.csv into=b|a.csv is not key=value
add import file=a into=b --timeout 3x|a time like
add import file=a into=b --timeout -3s|a time like
add import file=a into=b --timeout 1h30|a time like
add import file=a into=b --at 26-01-31|a time from 1974 to 5138
add import file=a into=b --at 9999-12-31|a time from 1974 to 5138
add import file=a into=b --at @1|a time from 1974 to 5138
ls --all=x|no option --all=x
add import file=a into=b --priority high|a number from
add import file=a into=b --at tomorrow|a time like
add import file=a into=b --at 12:00 --in 3s|one of them
add import file=a into=b --at 2027-02-30|there is no such day
add import file=a into=b --at 2027-02-29T12:00Z|there is no such day
add import file=a into=b --timeout 0|--timeout 0: nothing would ever run
add import file=a into=b --deadline 0s|--deadline 0s: nothing would ever run
run exec ls -l|put -- before a command that has options
run import file=a into=b --at 12:00|run takes no --at
run import file=a into=b --attempts 0|a number from 1
help frob|no help for frob
END
}

words_of_any_length_leave_room_for_what_is_wrong() {
    word=$(head -c 100000 /dev/zero | tr '\0' x)
    while IFS='|' read -r words message; do
        # shellcheck disable=SC2086 # words are words
        expect 2 "$rota" $words
        err_is_one_line
        err_has "$message"
    done <<END
$word|: \`rota help\` lists them
add $word|brings your own
add import $word|import takes file= into=
add import file=$word|into= is missing
show $word|is not a job's id
ls -n $word|is needed
ls --$word|lists what a command takes
ls $word|usage: rota ls
add exec --at $word -- true|is needed
add exec -t $word -- true|is needed
END
}

without_a_file_it_says_how_to_name_one() {
    unset ROTA_DB
    expect 2 "$rota" ls
    err_is_one_line
    err_has "--db FILE, or set ROTA_DB"
}

db_may_stand_before_or_after_the_command() {
    unset ROTA_DB
    expect 0 "$rota" --db one.db add import file=a into=b
    expect 0 "$rota" add import file=a into=b --db=one.db
    out_is 2
}

help_needs_no_file_and_names_commands_kinds_and_codes() {
    unset ROTA_DB
    expect 0 "$rota" help
    out_has "  run "
    out_has "  import "
    out_has "124"
    expect 0 "$rota" --help
    out_has "exit codes"
    expect 0 "$rota" ls --help
    out_has "--state STATE"
    expect 0 "$rota" help import
    out_has "max_bad="
    expect 0 "$rota" --version
    out_has "rota "
}

a_full_disk_or_a_closed_pipe_at_the_output_is_no_success() {
    expect 0 "$rota" add import file=a into=b
    if [ -c /dev/full ]; then
        "$rota" ls >/dev/full 2>err
        [ $? -eq 125 ] || fail "/dev/full was a success"
        err_has "cannot write the output"
    fi
    code=$({ {
        "$rota" sql "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1
            FROM n WHERE i < 1000000) SELECT i FROM n"
        echo $? >&3
    } | head -n 1 >/dev/null; } 3>&1)
    [ "$code" = 141 ] || fail "closed pipe: $code"
}

closed_standard_descriptors_are_nobody_elses() {
    for closed in '<&-' ' >&-' ' 2>&-' '<&- >&-' '<&- 2>&-' ' >&- 2>&-' \
        '<&- >&- 2>&-'; do
        without "$closed" 0 --version
        without "$closed" 0 add exec -- true
        without "$closed" none resume
        without "$closed" 0 run exec -- sh -c 'cat; echo out; echo err >&2'
        without "$closed" 0 retry 1
        without "$closed" 0 cancel 1
        without "$closed" 0 ls
        without "$closed" 0 show 1
        without "$closed" 0 sql 'SELECT 1'
        without "$closed" none each -- true ::: a b
        without "$closed" 0 each -- echo ::: a b
    done
    [ "$(ask queue.db "PRAGMA integrity_check;
        SELECT count(*) FROM jobs WHERE kind = 'exec'
        AND state IN ('succeeded', 'cancelled')")" = "ok
42" ] || fail "$(ask queue.db 'SELECT id, state, cause FROM jobs')"
}

what_cannot_be_printed_is_said() {
    "$rota" add exec -- true >&- 2>err </dev/null
    [ $? -eq 125 ] || fail "ended with another code"
    err_is_one_line
    err_has "cannot write the output: Bad file descriptor"
}

# -- adding and looking -------------------------------------------------------

add_prints_the_id_and_nothing_else() {
    expect 0 "$rota" add import file=a.csv into=b.db
    out_is 1
    [ ! -s err ] || fail "$(cat err)"
    expect 0 "$rota" add import file=a.csv into=b.db --json
    out_is '{"schema":1,"id":2}'
}

paths_are_made_absolute_when_a_job_is_added() {
    expect 0 "$rota" add import file=a.csv into=/tmp/b.db table=t
    expect 0 "$rota" sql "SELECT args FROM jobs"
    out_is "{\"file\":\"$PWD/a.csv\",\"into\":\"/tmp/b.db\",\"table\":\"t\"}"
}

an_empty_null_says_that_empty_fields_are_null() {
    printf 'a,b\n1,\n' >a.csv
    expect 0 "$rota" run import file=a.csv into=b.db null=
    [ "$(sqlite3 b.db "SELECT b IS NULL FROM a")" = 1 ] || fail "not NULL"
}

a_dump_of_what_a_job_has_written_is_restored() {
    printf 'a,b\n1,x\n2\n' >a.csv
    expect 0 "$rota" run import file=a.csv into=b.db
    for from in b c d; do # the second is one that a restore has written
        to=$(printf %s "$from" | tr bcd cde)
        sqlite3 "$from.db" .dump >dump.sql
        [ "$from" != d ] || sed -i '/^BEGIN/d; /^COMMIT/d' dump.sql
        expect 0 "$rota" run sql file=dump.sql on="$to.db"
        [ "$(sqlite3 "$to.db" "SELECT * FROM a")" = '1|x' ] || fail "no row"
        [ "$(sqlite3 "$to.db" "SELECT line FROM _rota_import_bad")" = 3 ] ||
            fail "the bad row is gone"
    done
}

the_queue_is_no_argument_for_a_job() {
    expect 0 "$rota" add import file=a.csv into=b.db
    for name in queue.db queue.db-wal queue.db-shm queue.db-lock \
        queue.db-journal; do
        expect 2 "$rota" add import file=a.csv into="$name"
        err_has "is the queue's own file"
        expect 2 "$rota" run sql file=a.sql on=b.db out="$PWD/./$name"
        err_has "is the queue's own file"
    done
}

a_queue_that_is_mounted_without_its_folder_is_refused() {
    expect 0 "$rota" add exec true
    mkdir box folder
    touch box/q.db
    in_mounts "mount --bind queue.db box/q.db" 2>/dev/null ||
        skip "nothing may be mounted here"
    expect 2 in_mounts "mount --bind queue.db box/q.db &&
        '$rota' add exec true --db box/q.db"
    err_is_one_line
    err_has "mount the folder"
    expect 2 in_mounts "mount --bind queue.db box/q.db &&
        '$rota' ls --db box/q.db"
    err_has "mount the folder"
    [ "$(ls box)" = q.db ] || fail "$(ls box)"
    expect 0 in_mounts "mount --bind . folder &&
        '$rota' add exec true --db folder/queue.db"
    out_is 2
}

too_few_descriptors_are_not_called_a_lack_of_memory() {
    rows 3 >a.csv
    expect 0 "$rota" add exec true
    for n in 5 6 7 8 9 10; do
        for words in "add exec true" ls "run import file=a.csv into=b.db"; do
            # shellcheck disable=SC2086 # words are words
            with_files $n $words >out 2>err </dev/null && continue
            err_has "Too many open files"
        done
    done
    expect 125 with_files 5 ls
}

a_file_that_may_grow_no_further_is_full_and_ends_nobody() {
    many_rows 100000 >a.csv
    expect 0 "$rota" add exec true
    expect 1 sh -c 'ulimit -f 700; exec "$@"' sh "$rota" run import \
        file=a.csv into=b.db
    err_has "File too large"
    expect 125 sh -c 'ulimit -f 100; exec "$@"' sh "$rota" add exec true \
        --db new.db
    err_is_one_line
    err_has "File too large"
    err_has "ulimit -f"
    expect 0 "$rota" add exec true --db new.db
    # a command has the signal as it was
    expect 1 "$rota" run exec -- sh -c 'ulimit -f 0; exec head -c 1 a.csv >big'
    err_has "killed by signal 25"
}

a_disk_with_no_room_for_the_shared_memory_is_full() {
    expect 0 "$rota" add exec true
    mkdir disk
    in_mounts "mount -t tmpfs -o size=1m none disk" 2>/dev/null ||
        skip "nothing may be mounted here"
    ask queue.db 'PRAGMA wal_checkpoint(TRUNCATE)' >out
    expect 125 in_mounts "mount -t tmpfs -o size=1m none disk &&
        cp queue.db disk/q.db && { head -c 1m /dev/zero >disk/fill 2>/dev/null;
            '$rota' ls --db disk/q.db; }"
    err_has "No space left on device"
}

options_of_add_are_in_the_file() {
    expect 0 "$rota" add import file=a into=b -q q -b night -p -3 \
        -t 1m30s --attempts 4 --in 2h --deadline 1d
    expect 0 "$rota" sql "SELECT queue, batch, priority, timeout_ms,
        max_attempts, state,
        abs(run_at - created_at - 7200000) < 60000,
        abs(deadline_at - created_at - 86400000) < 60000 FROM jobs"
    out_is "q	night	-3	90000	4	scheduled	1	1"
    expect 0 "$rota" add import file=a into=b --at 2100-01-02T03:04Z
    expect 0 "$rota" sql "SELECT run_at_iso FROM jobs WHERE id = 2"
    out_is "2100-01-02T03:04:00.000Z"
    expect 0 "$rota" add import file=a into=b --at @4102444800
    expect 0 "$rota" sql "SELECT run_at FROM jobs WHERE id = 3"
    out_is "4102444800000"
}

a_local_time_minds_the_change_of_the_clocks() {
    TZ=CET-1CEST,M3.5.0,M10.5.0/3
    export TZ
    expect 2 "$rota" add import file=a into=b --at 2100-03-28T02:30
    err_is_one_line
    err_has "--at 2100-03-28T02:30: there is no such time that day"
    [ ! -e queue.db ] || fail "it made a file"
    expect 0 "$rota" add import file=a into=b --at 2100-03-28T03:00
    expect 0 "$rota" add import file=a into=b --at 2100-10-31T02:30
    expect 0 "$rota" add import file=a into=b --at 2100-07-01
    expect 0 "$rota" sql "SELECT run_at_iso FROM jobs ORDER BY id"
    out_is "2100-03-28T01:00:00.000Z
2100-10-31T00:30:00.000Z
2100-06-30T22:00:00.000Z"
}

ls_lists_the_newest_first_and_20_at_most() {
    i=0
    while [ $i -lt 22 ]; do
        "$rota" add import file=a into=b -b "b$((i % 2))" >/dev/null ||
            fail "add"
        i=$((i + 1))
    done
    expect 0 "$rota" ls
    [ "$(wc -l <out)" -eq 20 ] || fail "$(wc -l <out) lines"
    [ "$(head -n 1 out | cut -f 1-5)" = "22	import	ready	ready	0" ] ||
        fail "$(head -n 1 out)"
    [ "$(head -n 1 out | cut -f 8-9)" = "default	b1" ] || fail "$(cat out)"
    expect 0 "$rota" ls -n 3
    [ "$(wc -l <out)" -eq 3 ] || fail "-n 3"
    expect 0 "$rota" ls --all
    [ "$(wc -l <out)" -eq 22 ] || fail "--all"
    expect 0 "$rota" ls --batch b1
    [ "$(wc -l <out)" -eq 11 ] || fail "--batch"
    expect 0 "$rota" ls --state failed
    out_is ""
    expect 0 "$rota" ls --json -n 2
    out_is_json
    [ "$(json '$.schema')$(json '$.state')" = 1ready ] || fail "$(cat out)"
}

show_says_everything() {
    rows 3 >a.csv
    expect 0 "$rota" run import file=a.csv into=b.db
    expect 0 "$rota" show 1
    out_has "state	succeeded"
    out_has "done	3"
    out_has "attempt	1	1	succeeded"
    expect 0 "$rota" show 1 --json
    out_is_json
    [ "$(json '$.job.state')" = succeeded ] || fail "$(cat out)"
    [ "$(json '$.attempts[0].outcome')" = succeeded ] || fail "$(cat out)"
    expect 5 "$rota" show 9
    err_is_one_line
    err_has "no job 9"
}

looking_where_no_queue_is_says_so_and_makes_none() {
    for words in ls "show 1" "sql SELECT" "cancel 1" resume; do
        # shellcheck disable=SC2086
        expect 5 "$rota" $words
        err_is_one_line
        err_has "no queue at queue.db"
    done
    [ ! -e queue.db ] || fail "it made one"
}

sql_prints_all_types_and_escapes_what_could_hurt() {
    expect 0 "$rota" add import file=a into=b
    expect 0 "$rota" sql "SELECT NULL, 1, 1.5, 0.1, 'a' || char(9, 10, 27, 92),
        x'00ff', CAST(x'ff' AS TEXT), 'é' || char(0x202e)"
    out_is "	1	1.5	0.1	a\\t\\n\\x1b\\\\	x'00ff'	\\xff	é\\u202e"
    expect 0 "$rota" sql --json "SELECT NULL AS n, 9007199254740993 AS i,
        0.1 AS r, 1.0 / 3 AS third, x'00ff10' AS b, CAST(x'ff' AS TEXT) AS t,
        'x' AS d, 'y' AS d"
    out_is_json
    out_is '{"n":null,"i":9007199254740993,"r":0.10000000000000001,"third":0.33333333333333331,"b_b64":"AP8Q","t_b64":"/w==","d":"x","d_2":"y"}'
    expect 0 "$rota" sql --json "SELECT 0.1 AS r"
    out_is '{"r":0.1}'
}

sql_only_reads() {
    expect 0 "$rota" add import file=a into=b
    for query in "INSERT INTO cancel(job) VALUES(1)" "DELETE FROM _job" \
        "CREATE TABLE x(a)" "UPDATE _ready SET id = 7" "DROP VIEW jobs" \
        "SELECT 1; SELECT 2" "SELEC" "PRAGMA journal_mode = DELETE"; do
        expect 2 "$rota" sql "$query"
        err_is_one_line
    done
    expect 0 "$rota" sql "SELECT state FROM jobs"
    out_is ready
}

a_file_that_is_no_queue_is_refused_and_left_alone() {
    head -c 4000 /dev/urandom >queue.db
    cp queue.db before
    for words in ls "show 1" "add import file=a into=b" work \
        "run import file=a into=b" resume "cancel 1"; do
        # shellcheck disable=SC2086
        expect 125 "$rota" $words
        err_has "queue.db"
        cmp -s queue.db before || fail "$words changed it"
    done
    rm queue.db
    sqlite3 queue.db "CREATE TABLE t(a)"
    expect 125 "$rota" add import file=a into=b
    err_is_one_line
    mkdir folder
    expect 2 "$rota" --db folder ls
    err_is_one_line
}

a_damaged_queue_is_told_not_crashed_on() {
    i=0
    while [ $i -lt 30 ]; do
        "$rota" add import file=a into=b >/dev/null || fail "add"
        i=$((i + 1))
    done
    sqlite3 queue.db "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
    size=$(wc -c <queue.db)
    # all pages but the first
    dd if=/dev/urandom of=queue.db bs=4096 seek=1 conv=notrunc \
        count=$((size / 4096 - 1)) 2>/dev/null
    expect 125 "$rota" ls --all
    err_is_one_line
}

# Whether a flipped byte or a stranger's row: nobody goes on for ever.
who_works_on_a_damaged_queue_is_told_and_ends_with_125() {
    expect 0 "$rota" add exec true
    sqlite3 queue.db "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
    page=$(ask queue.db "SELECT rootpage FROM sqlite_schema
        WHERE name = '_ready'")
    cp queue.db whole
    printf '\377\377' | dd of=queue.db bs=1 seek=$(((page - 1) * 4096)) \
        conv=notrunc 2>/dev/null
    cp queue.db flipped
    for words in work resume "run exec true"; do
        cp flipped queue.db
        rm -f queue.db-*
        # shellcheck disable=SC2086
        expect 125 timeout 20 "$rota" $words
        err_has "queue.db is damaged: "
        # a run reads its own job's row, and may have ended before anybody
        # meets the other one
        [ "$words" != "run exec true" ] || continue
        cp whole queue.db
        rm -f queue.db-*
        sqlite3 queue.db "UPDATE _ready SET queue = 'x'"
        # shellcheck disable=SC2086
        expect 125 timeout 20 "$rota" $words
        err_has "queue.db is damaged: queue of a row is no integer"
    done
}

on_a_terminal_ls_is_a_table_cut_to_its_width() {
    command -v script >/dev/null || return 0
    expect 1 "$rota" run import into=b.db \
        file="a-name-that-is-much-too-long-for-the-table-to-show-it-all"
    on_terminal 60 "$rota ls"
    out_has "$(printf '\033[31mfailed')"
    NO_COLOR=1 on_terminal 60 "$rota ls"
    grep -q "$(printf '\033')" out && fail "colours: $(cat out)"
    tr -d '\r' <out | awk 'length > 60 { exit 1 }' || fail "wide: $(cat out)"
    out_has "cannot open"
    out_has "~"
}

nothing_from_the_file_controls_the_terminal() {
    command -v script >/dev/null || return 0
    expect 0 "$rota" add import file=a into=b
    on_terminal 80 "$rota sql \"SELECT 'a' || char(27) || '[31m' || char(10)\""
    grep -q "$(printf '\033')\[31m" out && fail "$(cat out)"
    out_has 'a\x1b[31m\n'
}

json_spells_out_what_could_control_a_terminal() {
    expect 0 "$rota" add exec -- true
    all="char(27, 1, 127, 0x9b, 0x200e, 0x200f, 0x202e, 0x2028, 0x2066, 0xfeff,
        233, 0x1f600, 34, 92)"
    expect 0 "$rota" sql --json "SELECT $all AS a, $all AS \"$(printf 'b\302\233\033')\""
    out_is_json
    grep -qiF '\u001b\u0001\u007f\u009b\u200e\u200f\u202e\u2028\u2066\ufeff' out ||
        fail "$(cat -v out)"
    grep -qiF '"b\u009b\u001b":' out || fail "$(cat -v out)"
    out_has "$(printf '\303\251\360\237\230\200')"
    [ "$(sqlite3 :memory: "SELECT count(*) FROM json_each(
        CAST(readfile('out') AS TEXT)) WHERE value = $all")" = 2 ] ||
        fail "another value: $(cat out)"
    expect 1 "$rota" run exec --attempts 1 --json -- \
        sh -c 'printf "\302\233\342\200\256\177x\n" >&2; exit 1'
    out_has '\u009b\u202e\u007fx'
    expect 0 "$rota" show 2 --json
    out_has '\u009b\u202e\u007fx'
    out_is_json
    expect 0 "$rota" ls --json
    out_has '\u009b\u202e\u007fx'
    "$rota" show 2 --json | LC_ALL=C grep -q "$(printf '\302\233')" &&
        fail "it came through"
    return 0
}

a_failure_that_is_repeated_does_not_control_the_terminal() {
    command -v script >/dev/null || return 0
    on_terminal 200 "$rota run exec --attempts 2 -- sh -c \
        'printf \"\\033[31mboom\\342\\200\\256\n\" >&2; exit 1'"
    out_has 'failed 1 of 2 times (exit code 1: \x1b[31mboom\u202e)'
    grep -qF "$(printf '\033[31m')" out && fail "$(cat -v out)"
    grep -qF "$(printf '\342\200\256')" out && fail "$(cat -v out)"
    return 0
}

a_row_is_in_json_whatever_its_names_are() {
    expect 0 "$rota" add exec -- true
    name=$(printf '%0150d' 0 | sed "s/0/$(printf '\303\251')/g")
    expect 0 "$rota" sql --json "SELECT 1 AS \"$name\", 2 AS \"$name\""
    out_is "{\"$name\":1,\"${name}_2\":2}"
    expect 0 "$rota" sql --json "SELECT '$(printf 'a\377b')', 2"
    out_is_json
    [ "$(sqlite3 :memory: "SELECT group_concat(value) FROM json_each(
        CAST(readfile('out') AS TEXT))")" = "Yf9i,2" ] || fail "$(cat -v out)"
}

a_command_without_a_name_is_refused() {
    expect 2 "$rota" add exec -- ''
    err_has "exec: the command has no name"
    [ ! -e queue.db ] || fail "it made a file"
}

run_tests "$@"
