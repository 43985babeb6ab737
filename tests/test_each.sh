#!/bin/sh
# `rota each`: a command for each item, as its users meet it.
. "${srcdir:-.}/tests/harness.sh"

# show ARGUMENT...: a command that prints its arguments, each in brackets
show() {
    cat >show <<'END'
#!/bin/sh
for word; do printf '[%s]' "$word"; done
echo
END
    chmod +x show
}

# hang: a command that tells it began, and ends when a file "go" is there
hang() {
    cat >hang <<'END'
#!/bin/sh
echo "$1" >>began
until [ -e go ]; do sleep 0.02; done
echo "did $1"
END
    chmod +x hang
}

# began N: so many have begun to hang
began() { [ "$(wc -l <began)" -ge "$1" ]; }

count() { ask queue.db "SELECT count(*) FROM jobs WHERE $1"; }

# count_is N WHERE
has_succeeded() { [ "$(count "state = 'succeeded' AND batch = 'it'")" -eq "$1" ]; }
count_is() {
    [ "$(count "$2")" -eq "$1" ] || fail "$(count "$2") jobs, not $1: $2"
}

no_process_has() { ! grep -qasz -- "$1" /proc/[0-9]*/cmdline; }

# == tests

# -- items ----------------------------------------------------------------------

items_of_the_command_line_are_run_and_printed() {
    expect 0 "$rota" each -k -- echo a b ::: 1 2 3
    [ "$(cat out)" = "a b 1
a b 2
a b 3" ] || fail "$(cat out)"
    err_has "3 succeeded in"
    count_is 3 "state = 'succeeded' AND kind = 'exec'"
}

items_of_standard_input_are_lines() {
    printf 'a b\n\n  c\n$(d)\nlast' | "$rota" each -k -- printf '<%s>' {} \
        >out 2>err || fail "$(cat err)"
    out_is '<a b><><  c><$(d)><last>'
}

items_that_end_in_nul_may_have_newlines() {
    show
    printf 'a\nb\0-x\0' | "$rota" each -k -0 ./show >out 2>err ||
        fail "$(cat err)"
    [ "$(cat out)" = "[a
b]
[-x]" ] || fail "$(cat out)"
}

every_item_arrives_byte_for_byte() {
    i=0
    for item in 'a b' "it's" '"q"' '$(touch pwned)' '`id`' '-rf' '*' '{}' \
        "$(printf 'x\377y')" "$(printf 'tab\there')" '\\' ';ls' ''; do
        i=$((i + 1))
        printf '%s\0' "$item" >>items
        printf '%s' "$item" >want.$i
    done
    head -c 100000 /dev/zero | tr '\0' x >want.$((i + 1))
    cat want.$((i + 1)) >>items
    # shellcheck disable=SC2016 # for the other shell
    "$rota" each -0 -- sh -c 'printf %s "$1" >"got.$2"' sh {} '{#}' <items \
        >out 2>err || fail "$(cat err)"
    for want in want.*; do
        cmp "$want" "got.${want#want.}" || fail "$want"
    done
    [ ! -e pwned ] || fail "a shell saw it"
}

a_nul_in_a_line_is_named_and_what_came_before_it_is_done() {
    printf 'a\nb\0c\nd\n' | "$rota" each -- echo >out 2>err
    [ $? -eq 2 ] || fail "$(cat err)"
    out_is a
    err_has "item 2 has a NUL in it: is -0 meant?"
}

no_items_are_no_failure() {
    expect 0 "$rota" each -- echo
    err_has "no items"
    expect 0 "$rota" each -- echo :::
    out_is ""
}

items_start_before_the_input_has_ended() {
    hang
    mkfifo fifo
    exec 3<>fifo
    in_background each -- ./hang <fifo 3>&-
    echo one >&3
    within_10_s began 1 || fail "$(cat run.err)"
    touch go
    exec 3>&-
    ended 0
    grep -q "did one" run.out || fail "$(cat run.out)"
}

items_from_an_input_that_is_closed_are_none() {
    timeout 60 "$rota" each -- echo {} <&- >out 2>err
    [ $? -eq 125 ] || fail "ended with another code: $(cat err)"
    err_is_one_line
    err_has "standard input, which the items are to come from, is closed"
    out_is ""
    timeout 60 "$rota" each -- echo {} ::: a <&- >out 2>err || fail "$(cat err)"
    out_is a
}

# -- places ---------------------------------------------------------------------

places_are_filled_with_parts_of_the_item() {
    show
    expect 0 "$rota" each -k ./show {} {.} {/} {//} {/.} {#} x{}y{} ::: \
        /a/b.c.d plain .rc dir/ / ./x.y/z
    [ "$(cat out)" = "[/a/b.c.d][/a/b.c][b.c.d][/a][b.c][1][x/a/b.c.dy/a/b.c.d]
[plain][plain][plain][.][plain][2][xplainyplain]
[.rc][.rc][.rc][.][.rc][3][x.rcy.rc]
[dir/][dir/][dir][.][dir][4][xdir/ydir/]
[/][/][/][/][/][5][x/y/]
[./x.y/z][./x.y/z][z][./x.y][z][6][x./x.y/zy./x.y/z]" ] || fail "$(cat out)"
}

what_only_looks_like_a_place_is_left_alone() {
    show
    expect 0 "$rota" each ./show {a} '{1..3}' '{' '}{' '{{}}' ::: x
    out_is '[{a}][{1..3}][{][}{][{x}]'
}

an_item_in_a_shells_program_is_refused() {
    for words in "sh -c|echo {}" "bash -ec|echo '{}'" "env -i dash -c|{/}" \
        "/bin/sh -o pipefail -c|cat {}; wc"; do
        # shellcheck disable=SC2086 # words are words
        expect 2 "$rota" each ${words%|*} "${words#*|}" ::: a
        err_is_one_line
        err_has "would run the item in '${words#*|}' as a program"
    done
    [ ! -e queue.db ] || fail "a queue was made"
    expect 0 "$rota" each sh -c 'echo "$1"' sh {} ::: 'a b'
    out_is "a b"
    echo 'echo "$2"' >script
    expect 0 "$rota" each sh script -c {} ::: 'a b'
    out_is "a b"
}

options_behind_the_command_are_the_commands() {
    expect 0 "$rota" each -k echo -n -j ::: 1 2
    out_is "-j 1-j 2"
}

# -- output ---------------------------------------------------------------------

output_comes_whole_and_apart() {
    cat >talk <<'END'
#!/bin/sh
for i in 1 2 3; do
    echo "$1 $i"
    echo "$1 e$i" >&2
    sleep 0.01
done
END
    chmod +x talk
    expect 0 "$rota" each -j4 ./talk ::: a b c d e f
    for item in a b c d e f; do
        grep -A2 "^$item 1" out >part
        [ "$(cat part)" = "$item 1
$item 2
$item 3" ] || fail "$(cat out)"
    done
    [ "$(grep -c ' e[123]$' err)" -eq 18 ] || fail "$(cat err)"
}

keep_order_prints_in_the_order_of_the_items() {
    mkfifo fifo
    i=0
    while [ $i -lt 300 ]; do
        i=$((i + 1))
        echo $i
    done >items
    # the first one waits for the last
    # shellcheck disable=SC2016 # for the other shell
    "$rota" each -k -j3 -- sh -c '
        [ "$1" -ne 1 ] || read -r line <fifo
        echo "$1"
        [ "$1" -ne 300 ] || echo go >fifo' sh {} <items >out 2>err ||
        fail "$(cat err)"
    cmp items out || fail "$(cat out)"
}

output_of_any_size_comes_whole() {
    # shellcheck disable=SC2016 # for the other shell
    expect 0 "$rota" each -k -j2 -- sh -c \
        'head -c "$1" /dev/zero | tr "\0" "$2"' sh {} '{#}' ::: \
        3000000 65536 65537 0 200000
    [ "$(wc -c <out)" -eq 3331073 ] || fail "$(wc -c <out) bytes"
    [ "$(tr -s 1-5 <out)" = 1235 ] || fail "$(tr -s 1-5 <out)"
    [ "$(ask queue.db "SELECT max(length(result)) < 70000 FROM jobs")" = 1 ] ||
        fail "all of it is in the file"
}

a_reader_that_leaves_stops_the_batch() {
    seq 100000 >items
    {
        "$rota" each -- echo <items 2>err
        echo $? >code
    } | head -n 1 >out
    [ "$(cat code)" -eq 141 ] || fail "$(cat code): $(cat err)"
    [ "$(count "state = 'succeeded'")" -lt 50000 ] || fail "it went on"
}

what_cannot_be_printed_is_a_failure() {
    "$rota" each -- echo ::: 1 2 >/dev/full 2>err
    [ $? -eq 125 ] || fail "$(cat err)"
    err_has "cannot write the output"
}

json_has_a_line_for_each_item() {
    expect 1 "$rota" each --json -k -- sh -c 'echo "$1"; exit "$1"' sh {} ::: 0 3
    out_is_json
    [ "$(wc -l <out)" -eq 2 ] || fail "$(cat out)"
    [ "$(json $.item) $(json $.state)" = "0 succeeded" ] || fail "$(cat out)"
}

progress_on_a_terminal_has_a_bar_and_ends_clean() {
    on_terminal 100 "$rota each -j2 -- sleep ::: 0.2 0.2 0.2 0.2"
    out_has "/4  "
    out_has "running"
    tail -n 1 out >last
    grep -q "4 succeeded in" last || fail "$(cat -v out)"
}

# -- failure --------------------------------------------------------------------

failures_are_listed_and_are_the_exit_code() {
    expect 1 "$rota" each -k -- sh -c '[ "$1" != bad ] || { echo why >&2; exit 3; }' \
        sh {} ::: good bad fine
    err_has "rota: failed: bad: exit code 3: why"
    err_has "2 succeeded, 1 failed in"
}

many_failures_are_counted() {
    seq 30 | "$rota" each -j4 -- false >out 2>err
    [ $? -eq 1 ] || fail "$(cat err)"
    [ "$(grep -c 'rota: failed: ' err)" -eq 20 ] || fail "$(cat err)"
    err_has "and 10 more: rota ls --state failed --batch each-"
}

a_command_that_is_not_there_is_said_before_anything_is_made() {
    for name in nosuchcommand ./nosuch /; do
        expect 5 "$rota" each "$name" {} ::: a
        err_is_one_line
        err_has "there is no command $name"
    done
    [ ! -e queue.db ] || fail "a queue was made"
}

retries_run_a_failure_again_and_print_the_last_run_only() {
    # shellcheck disable=SC2016 # for the other shell
    expect 0 "$rota" each --retries 2 -- sh -c '
        echo run >>"runs.$1"
        echo "$1 $(grep -c . "runs.$1")"
        [ "$(grep -c . "runs.$1")" -ge 2 ]' sh {} ::: a
    out_is "a 2"
    count_is 1 "state = 'succeeded' AND attempt = 2 AND max_attempts = 3"
}

a_timeout_ends_a_run() {
    expect 1 "$rota" each -t 100ms -- sleep ::: 600.123
    err_has "failed: 600.123: its time was up"
    no_process_has 600.123 || fail "it still runs"
}

what_is_cancelled_from_outside_is_not_waited_for() {
    hang
    seq 4 >items
    in_background each -j1 ./hang <items
    within_10_s began 1 || fail "$(cat run.err)"
    within_10_s count_is 4 "state IN ('ready', 'running')" || fail "not fed"
    ask queue.db "INSERT INTO cancel(job) SELECT id FROM jobs WHERE id > 1"
    touch go
    ended 4
    grep -q "1 succeeded, 3 cancelled" run.err || fail "$(cat run.err)"
}

a_failure_says_why_however_long_its_item_is() {
    head -c 200000 /dev/zero | tr '\0' x >item
    "$rota" each -- echo <item >out 2>err
    [ $? -eq 1 ] || fail "ended with another code"
    err_has "xxx: cannot start echo: Argument list too long"
    [ "$(grep -c . err)" -eq 2 ] || fail "$(cat err)"
    [ "$(wc -c <err)" -lt 400 ] || fail "it is said at length: $(wc -c <err)"
}

a_command_that_fails_at_length_says_why() {
    expect 1 "$rota" each -- sh -c \
        'printf "%05000d: no such thing\n" 0 >&2; exit 3' ::: a
    tail -n 2 err >end
    grep -q '^rota: failed: a: exit code 3: 0000.*0: no such thing$' end ||
        fail "$(cat end)"
}

# -- stopping and going on ------------------------------------------------------

ctrl_c_stops_and_resume_does_the_rest() {
    hang
    seq 6 >items
    in_background each -j2 ./hang <items
    within_10_s began 2 || fail "$(cat run.err)"
    kill -INT "$pid"
    ended 130
    grep -q "6 left" run.err || fail "$(cat run.err)"
    grep -q "go on with: rota resume --db queue.db" run.err ||
        fail "$(cat run.err)"
    count_is 6 "state = 'ready' AND failures = 0"
    touch go
    expect 0 "$rota" resume
    count_is 6 "state = 'succeeded'"
    [ "$(sort -u began | wc -l)" -eq 6 ] || fail "$(cat began)"
}

the_batch_goes_on_by_what_its_items_are() {
    # shellcheck disable=SC2016 # for the other shell
    run='echo "$1" >>ran; [ "$1" != bad ]'
    printf '%s\n' a bad b >items
    "$rota" each -b nightly sh -c "$run" sh <items >out 2>err
    [ $? -eq 1 ] || fail "$(cat err)"
    printf '%s\n' c b bad a d >items # another order, and more
    "$rota" each -b nightly sh -c "$run" sh <items >out 2>err
    [ $? -eq 1 ] || fail "$(cat err)"
    err_has "2 succeeded, 1 failed, 2 done before in"
    [ "$(sort ran | tr '\n' ' ')" = "a b bad bad c d " ] || fail "$(cat ran)"
}

the_rest_of_a_stopped_batch_is_printed_in_order_by_the_same_command() {
    hang
    seq 5 >items
    in_background each -k -j2 -b it ./hang <items
    within_10_s began 2 || fail "$(cat run.err)"
    kill -TERM "$pid"
    ended 143
    touch go
    "$rota" each -k -b it ./hang <items >out 2>err || fail "$(cat err)"
    sed 's/^/did /' items >want
    cmp want out || fail "$(cat out)"
}

input_that_was_not_read_is_not_lost_silently() {
    hang
    mkfifo fifo
    exec 3<>fifo
    in_background each -b it ./hang <fifo 3>&-
    echo one >&3
    within_10_s began 1 || fail "$(cat run.err)"
    kill -INT "$pid"
    ended 130
    exec 3>&-
    grep -q "give them all again with --batch it" run.err || fail "$(cat run.err)"
    touch go
    printf 'one\ntwo\n' | "$rota" each -k -b it ./hang >out 2>err ||
        fail "$(cat err)"
    [ "$(cat out)" = "did one
did two" ] || fail "$(cat out)"
}

a_killed_each_loses_nothing_and_leaves_no_child() {
    hang
    seq 4 >items
    in_background each -j2 -b it ./hang <items
    within_10_s began 2 || fail "$(cat run.err)"
    kill -KILL "$pid"
    wait "$pid"
    touch go
    expect 0 "$rota" resume
    count_is 4 "state = 'succeeded'"
    count_is 4 "batch = 'it'"
}

after_two_kills_as_many_run_at_once_as_before() {
    hang
    seq 9 >items
    for kills in 1 2; do
        in_background each -j8 -b it ./hang <items
        within_10_s began $((kills * 8)) || fail "$(cat run.err)"
        kill -KILL "$pid"
        wait "$pid"
    done
    in_background each -j8 -b it ./hang <items
    within_10_s began 24 || fail "$(wc -l <began) began: $(cat run.err)"
    touch go
    ended 0
    count_is 8 "crashes = 2"
    count_is 9 "state = 'succeeded'"
}

it_ends_when_its_file_is_moved_away() {
    hang
    seq 2 >items
    in_background each -j1 -b it ./hang <items
    within_10_s began 1 || fail "$(cat run.err)"
    mv queue.db elsewhere.db
    ended 125
    grep -q "queue.db has been moved" run.err || fail "$(cat run.err)"
    grep -q "go on with" run.err && fail "$(cat run.err)"
    mv elsewhere.db queue.db
    touch go
    expect 0 "$rota" resume
    count_is 2 "state = 'succeeded'"
}

it_leaves_the_jobs_of_others_alone() {
    expect 0 "$rota" add exec -- touch others
    expect 0 "$rota" each echo ::: a
    [ ! -e others ] || fail "it ran"
    count_is 1 "state = 'ready'"
}

others_leave_its_jobs_alone_until_it_ends() {
    hang
    in_background work -j4
    worker=$pid
    within_10_s grep -q "working on" run.err || fail "$(cat run.err)"
    mv run.err work.err
    seq 300 | "$rota" each -j2 echo >out 2>err || fail "$(cat err)"
    [ "$(sort -n out)" = "$(seq 300)" ] || fail "not printed: $(wc -l <out)"
    seq 4 >items
    in_background each -j2 -b it ./hang <items
    within_10_s began 2 || fail "$(cat run.err)"
    expect 75 "$rota" each -b it ./hang ::: 1
    err_has "process $pid (worker"
    err_is_one_line
    touch go
    kill -KILL "$pid"
    wait "$pid"
    within_10_s has_succeeded 4 ||
        fail "the worker did not take them over"
    kill -TERM $worker
    wait $worker || fail "$(cat work.err)"
}

what_ended_elsewhere_counts_is_listed_and_is_printed_as_json() {
    hang
    seq 6 >items
    in_background each -j2 -b it --json ./hang <items
    within_10_s began 2 || fail "$(cat run.err)"
    expect 0 "$rota" cancel 4
    ask queue.db "INSERT INTO cancel(job) VALUES(6)"
    touch go
    ended 4
    grep -q '4 succeeded, 2 cancelled in' run.err || fail "$(cat run.err)"
    [ "$(grep -c '"state":"cancelled"' run.out)" -eq 2 ] || fail "$(cat run.out)"
}

an_item_that_kills_it_is_given_up_and_fails_the_batch() {
    for code in 137 137 137 137 137 137 137 137 137 137 1; do
        # shellcheck disable=SC2016 # the command's own
        "$rota" each -b it sh -c '[ "$ROTA_LEASE" -gt 10 ] || kill -9 $(ps -o ppid= $PPID)
            sleep 0.1' sh ::: bad >out 2>err
        [ $? -eq $code ] || fail "not $code: $(cat err)"
    done
    err_has 'failed: bad: poison: its process died ten times'
    err_has '1 failed in'
}

what_was_done_before_is_told_from_what_waits() {
    hang
    touch go
    seq 2 >items
    expect 0 "$rota" each -b it ./hang ::: 1 2
    rm go
    in_background each -j2 -b it ./hang ::: 1 2 3 4 5
    within_10_s began 4 || fail "$(cat run.err)"
    kill -INT "$pid"
    ended 130
    touch go
    expect 0 "$rota" each -b it ./hang ::: 1 2 3 4 5
    err_has '3 succeeded, 2 done before in'
}

jobs_of_the_batch_in_other_queues_are_not_waited_for() {
    expect 0 "$rota" add exec --batch b -- true
    timeout 60 "$rota" each --batch b -- echo ::: x >out 2>err </dev/null ||
        fail "ended with $?: $(cat err)"
    out_is x
    err_has "1 succeeded in"
}

# -- wrong usage ----------------------------------------------------------------

more_at_once_than_there_is_room_for_take_turns() {
    (
        ulimit -n 64
        seq 30 | "$rota" each -j30 -- sh -c 'sleep 0.05; echo "$1"' sh {} \
            >out 2>err
    ) || fail "$(cat err)"
    [ "$(sort -n out)" = "$(seq 30)" ] || fail "$(cat out)"
    [ "$(grep -c 'wait for room' err)" -eq 1 ] || fail "$(cat err)"
    count_is 30 "state = 'succeeded' AND failures = 0"
}

commands_have_the_soft_limit_of_open_files_and_we_the_hard_one() {
    (
        ulimit -Sn 50
        seq 30 | "$rota" each -j30 -- sh -c \
            '[ "$(ulimit -Sn)" = 50 ] && [ "$(ulimit -Hn)" = "$2" ]' \
            sh {} "$(ulimit -Hn)" >out 2>err
    ) || fail "$(cat err)"
    ! grep -q 'wait for room' err || fail "$(cat err)"
}

each_says_what_is_wrong_with_its_words() {
    while IFS='|' read -r words message; do
        # shellcheck disable=SC2086 # words are words
        expect 2 "$rota" each $words
        err_is_one_line
        err_has "$message"
    done <<'END'
|which command?
--|which command?
::: a|which command?
--nosuch echo|no option --nosuch
-j0 echo ::: a|--jobs
--batch= echo ::: a|--batch: a name of 1 to 250 bytes
--retries -1 echo ::: a|--retries
-q x echo ::: a|each takes no --queue
-0 echo ::: a|-0 is for items on standard input
echo ::: a ::: b|one list of items
END
    [ ! -e queue.db ] || fail "a queue was made"
}

run_tests "$@"
