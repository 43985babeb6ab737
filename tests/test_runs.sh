#!/bin/sh
# Jobs that the rota command runs: how they end, what stops them, who takes them
# up again, and what is in the file afterwards. A file's own helpers come before
# its tests.
. "${srcdir:-.}/tests/harness.sh"

state_is() { [ "$(ask queue.db 'SELECT state FROM jobs')" = "$1" ]; }

has_ones() { [ "$(ask b.db 'SELECT count(*) FROM t' 2>/dev/null)" = 1 ]; }
has_rows() { [ "$(ask b.db 'SELECT count(*) FROM a')" -gt "$1" ]; }

# An import in the background that takes minutes unless it is stopped; $pid
start_long_import() {
    many_rows 300000 >a.csv
    in_background run import file=a.csv into=b.db group=1
    within_10_s has_rows 5 || fail "the import never began: $(cat run.err)"
}

# interrupted_by SIGNAL CODE
interrupted_by() {
    start_long_import
    kill "-$1" "$pid"
    ended "$2"
    grep -q "go on with: rota resume --db queue.db" run.err ||
        fail "$(cat run.err)"
    done=$(ask queue.db "SELECT done FROM jobs WHERE state = 'ready'")
    [ "$done" = "$(ask b.db 'SELECT count(*) FROM a')" ] ||
        fail "$done done, $(ask b.db 'SELECT count(*) FROM a') there"
}

# all_run N: so many jobs are running
all_run() {
    [ "$(ask queue.db "SELECT count(*) FROM jobs
        WHERE state = 'running'")" -eq "$1" ]
}

# == tests

# -- running ------------------------------------------------------------------

run_prints_the_result_and_ends_with_0() {
    rows 3 >a.csv
    expect 0 "$rota" run import file=a.csv into=b.db table=t
    out_is "{\"rows\":3,\"bad\":0,\"table\":\"t\",\"into\":\"$PWD/b.db\"}"
    err_has "job 1 succeeded: 3 items in"
    [ "$(ask b.db 'SELECT count(*) FROM t')" = 3 ] || fail "rows"
    expect 0 "$rota" run import file=a.csv into=b.db table=t --json
    out_is_json
    [ "$(json '$.state')$(json '$.done')" = succeeded3 ] || fail "$(cat out)"
}

run_says_how_many_rows_were_bad() {
    printf 'a,b\n1,2\n3\n' >a.csv
    expect 0 "$rota" run import file=a.csv into=b.db
    err_has "bad rows, kept in _rota_import_bad of $PWD/b.db: 1"
}

run_ends_with_1_when_the_job_fails() {
    expect 1 "$rota" run import file=none.csv into=b.db
    err_is_one_line
    err_has "job 1 failed: cannot open $PWD/none.csv: No such file"
    out_is ""
}

run_ends_with_124_when_its_time_is_up() {
    many_rows 300000 >a.csv
    expect 124 "$rota" run import file=a.csv into=b.db group=1 --timeout 200ms
    expect 124 "$rota" run import file=a.csv into=b.db group=1 --deadline 200ms
    [ "$(ask queue.db 'SELECT group_concat(state) FROM jobs')" = \
        failed,failed ] || fail "state"
}

run_ends_with_4_when_somebody_cancels_it() {
    start_long_import
    expect 0 "$rota" cancel 1 "not needed"
    out_is "job 1 runs, and is told to stop"
    ended 4
    grep -q "job 1 was cancelled: not needed" run.err || fail "$(cat run.err)"
}

sql_from_outside_cancels_a_running_job() {
    start_long_import
    ask queue.db "INSERT INTO cancel(job, reason) VALUES(1, 'by hand')"
    ended 4
    grep -q "by hand" run.err || fail "$(cat run.err)"
}

sigint_gives_the_job_back_and_resume_ends_it() {
    interrupted_by INT 130
    # the rest in no time: the file is cut behind what was done
    keep=$((done + 1000))
    head -n $((keep + 1)) a.csv >short && mv short a.csv
    expect 0 "$rota" resume
    err_has "done: 1 succeeded"
    [ "$(ask b.db 'SELECT count(*), count(DISTINCT id) FROM a')" = \
        "$keep|$keep" ] || fail "rows"
    expect 0 "$rota" resume
    err_has "nothing to do"
}

sigterm_ends_a_run_with_143() { interrupted_by TERM 143; }

sighup_ends_a_run_with_129() { interrupted_by HUP 129; }

a_run_that_is_killed_is_taken_up_by_resume() {
    start_long_import
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    done=$(ask b.db 'SELECT count(*) FROM a')
    keep=$((done + 1000))
    head -n $((keep + 1)) a.csv >short && mv short a.csv
    expect 0 "$rota" resume
    [ "$(ask b.db 'SELECT count(*), count(DISTINCT id) FROM a')" = \
        "$keep|$keep" ] || fail "rows: $(cat err)"
}

looking_takes_back_what_a_killed_worker_ran() {
    expect 0 "$rota" add exec -- sleep 1000
    expect 0 "$rota" add exec -- sleep 1000
    in_background work -j 2
    within_10_s all_run 2 || fail "never began"
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    all_run 2 || fail "somebody looked already"
    expect 0 "$rota" ls
    [ "$(cut -f 3 out)" = "ready
ready" ] || fail "$(cat out)"
    expect 0 "$rota" cancel 1
    out_is "job 1 is cancelled"
}

exec_gets_its_arguments_as_they_are() {
    mkdir "a folder" && cd "a folder" || return
    expect 0 "$rota" run --db ../queue.db exec -- \
        printf '%s|' "it's" '$(so)' '' "$(printf 'b\377')" -x
    cd ..
    [ "$(ask queue.db "SELECT result ->> 'out_b64', typeof(args) FROM jobs")" = \
        "aXQnc3wkKHNvKXx8Yv98LXh8|blob" ] || fail "$(cat "a folder/out")"
    expect 1 "$rota" run exec -- sh -c 'echo why >&2; exit 3'
    err_has "exit code 3: why"
    expect 2 "$rota" run exec
    err_is_one_line
}

sigint_ends_the_command_and_resume_runs_it_again() {
    in_background run exec -- \
        sh -c 'echo x >>runs; [ "$(wc -l <runs)" -gt 1 ] || sleep 65432'
    within_10_s test -s runs
    kill -INT "$pid"
    ended 130
    ! pgrep -fx 'sleep 65432' >/dev/null || fail "it goes on"
    expect 0 "$rota" resume
    [ "$(wc -l <runs)" -eq 2 ] || fail "$(wc -l <runs) runs"
}

what_a_killed_worker_had_started_is_ended_before_it_runs_again() {
    in_background run exec -- \
        sh -c 'echo x >>runs; [ "$(wc -l <runs)" -gt 1 ] || setsid sleep 65431'
    within_10_s pgrep -fx 'sleep 65431' >/dev/null
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    expect 0 "$rota" resume # its keeper ends it, and resume waits for that
    ! pgrep -fx 'sleep 65431' >/dev/null || fail "it goes on"
    [ "$(wc -l <runs)" -eq 2 ] || fail "$(wc -l <runs) runs"
}

a_copy_of_the_queue_ends_nothing_of_the_original() {
    in_background run exec -- sleep 65430
    within_10_s pgrep -fx 'sleep 65430' >/dev/null
    ask queue.db '.backup copy.db'
    expect 0 "$rota" --db copy.db cancel 1
    expect 0 "$rota" --db copy.db resume
    pgrep -fx 'sleep 65430' >/dev/null || fail "it was ended: $(cat err)"
    kill -INT "$pid"
    ended 130
}

a_copy_is_adopted_with_its_jobs_or_without_them() {
    expect 0 "$rota" add exec -- true
    expect 0 "$rota" add exec -- true
    expect 0 "$rota" run exec -- true
    for copy in kept.db cancelled.db; do
        ask queue.db "VACUUM INTO '$copy'"
        chmod 600 $copy
    done
    expect 0 "$rota" --db kept.db adopt keep
    out_is "kept.db: jobs that will run here: 2; cancelled: 0"
    err_has "it is a queue of its own from now on"
    expect 0 "$rota" --db cancelled.db --json adopt cancel "for reading only"
    out_is '{"schema":1,"waiting":0,"cancelled":2}'
    [ "$(ask cancelled.db "SELECT group_concat(why) FROM jobs
            WHERE state = 'cancelled'")" = \
        "for reading only,for reading only" ] || fail "not for that"
    [ "$(ask queue.db "SELECT count(*) FROM jobs WHERE state = 'ready'")" = 2 ] ||
        fail "the original was touched"
    expect 2 "$rota" --db queue.db adopt cancel
    err_has "queue.db is no copy"
    [ "$(ask queue.db "SELECT count(*) FROM jobs WHERE state = 'ready'")" = 2 ] ||
        fail "the original was adopted"
    expect 2 "$rota" --db kept.db adopt both
    expect 2 "$rota" --db kept.db adopt keep it
    expect 5 "$rota" --db none.db adopt keep
}

sigint_takes_back_the_statement_that_ran() {
    echo "CREATE TABLE t(a); INSERT INTO t VALUES(1);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        INSERT INTO t SELECT i FROM n" >q.sql
    in_background run sql file=q.sql on=b.db
    within_10_s has_ones
    kill -INT "$pid"
    ended 130
    [ "$(ask b.db 'SELECT count(*) FROM t')" = 1 ] || fail "it left something"
    expect 0 "$rota" cancel 1
    expect 2 "$rota" run sql on=b.db
    err_has "file= is missing"
}

run_runs_it_here_though_there_are_workers() {
    WHO=worker
    export WHO
    in_background work -j 2
    within_10_s grep -q "working on queue.db" run.err || fail "no start"
    for i in 1 2 3 4 5 6 7 8 9 10; do
        WHO=here$i expect 0 "$rota" run exec -- sh -c 'echo $WHO'
        out_has "\"out\":\"here$i\\n\""
    done
    kill -TERM "$pid"
    ended 0
}

resume_ends_with_1_when_a_job_failed() {
    rows 3 >a.csv
    expect 0 "$rota" add import file=a.csv into=b.db
    expect 0 "$rota" add import file=none.csv into=b.db
    expect 1 "$rota" resume -j 1
    err_has "1 succeeded, 1 failed"
    err_has "failed: job 2 (import): cannot open $PWD/none.csv"
}

resume_says_what_it_leaves_and_why() {
    expect 0 "$rota" add --in 1h exec -- true
    ask queue.db "INSERT INTO submit(kind) VALUES('bear')"
    expect 0 "$rota" resume
    err_has 'nothing to do in queue.db'
    err_has 'left: 1 bear: in another'
    err_has 'left for later: 1 exec, the first at 2'
}

work_runs_what_comes_until_it_is_told_to_stop() {
    rows 3 >a.csv
    in_background work -j 2
    within_10_s grep -q "working on queue.db" run.err || fail "no start"
    expect 0 "$rota" add import file=a.csv into=b.db
    within_10_s state_is succeeded || fail "never done"
    kill -TERM "$pid"
    ended 0
    grep -q "stopped: 1 succeeded" run.err || fail "$(cat run.err)"
}

work_ends_when_its_file_is_moved_away() {
    in_background work
    within_10_s grep -q "working on queue.db" run.err || fail "no start"
    expect 0 "$rota" add exec -- sleep 60
    within_10_s all_run 1 || fail "it never ran"
    mv queue.db elsewhere.db
    ended 125
    grep -q "queue.db has been moved" run.err || fail "$(cat run.err)"
    grep -q "quitting all the same" run.err && fail "$(cat run.err)"
    mv elsewhere.db queue.db
    [ "$(ask queue.db "SELECT state FROM jobs")" = running ] ||
        fail "$(ask queue.db "SELECT state, why FROM jobs")"
    expect 0 "$rota" cancel 1
    [ "$(ask queue.db "SELECT state FROM jobs")" = cancelled ] ||
        fail "$(ask queue.db "SELECT state, why FROM jobs")"
}

work_says_each_failure_as_it_happens() {
    TZ=Etc/GMT-3 in_background work -j 2
    within_10_s grep -q "working on queue.db" run.err || fail "no start"
    expect 0 "$rota" add --attempts 2 exec -- sh -c 'echo boom >&2; exit 3'
    within_10_s grep -q 'not tried again' run.err || fail "$(cat run.err)"
    when='20[0-9]*-[0-9]*-[0-9]*T[0-9]*:[0-9]*:[0-9]*+03:00'
    what='job 1 (exec) failed: exit code 3: boom'
    for again in "attempt 1 of 2, tried again at $when" 'not tried again'; do
        [ "$(grep -c "^rota: $when $what; $again\$" run.err)" -eq 1 ] ||
            fail "not once $again: $(cat run.err)"
    done
    kill -TERM "$pid"
    ended 0
    [ "$(grep -c 'boom' run.err)" -eq 2 ] || fail "told again: $(cat run.err)"
}

a_worker_without_its_file_says_so_and_not_that_no_job_came() {
    in_background work
    within_10_s grep -q "working on queue.db" run.err || fail "no start"
    mv queue.db elsewhere.db
    ended 125
    grep -q "queue.db has been moved" run.err || fail "$(cat run.err)"
    grep -q "no job came" run.err && fail "$(cat run.err)"
    grep -q "stopped by that" run.err || fail "$(cat run.err)"
}

work_gives_back_what_does_not_end_within_its_grace() {
    many_rows 300000 >a.csv
    "$rota" add import file=a.csv into=b.db group=1 >/dev/null || fail "add"
    in_background work --grace 10ms
    within_10_s has_rows 5 || fail "never began"
    kill -INT "$pid"
    ended 0
    [ "$(ask queue.db 'SELECT state, attempt FROM jobs')" = "ready|0" ] ||
        fail "$(ask queue.db 'SELECT * FROM jobs')"
}

# -- cancelling ---------------------------------------------------------------

cancel_says_what_it_came_to() {
    rows 3 >a.csv
    expect 0 "$rota" add import file=a.csv into=b.db
    expect 0 "$rota" cancel 1 "wrong file"
    out_is "job 1 is cancelled"
    expect 0 "$rota" cancel 1
    out_is "job 1 had ended, cancelled: too late to cancel"
    expect 0 "$rota" cancel 1 --json
    out_is '{"schema":1,"id":1,"answer":"too_late","state":"cancelled"}'
    expect 5 "$rota" cancel 7
    err_is_one_line
    err_has "no job 7"
    expect 0 "$rota" sql "SELECT state, cancel_reason FROM jobs"
    out_is "cancelled	wrong file"
}

# -- retrying -----------------------------------------------------------------

what_has_ended_runs_again_when_it_is_retried() {
    expect 1 "$rota" run exec -- false
    expect 0 "$rota" run exec -- true
    expect 0 "$rota" retry 1 2
    out_is "job 1 will run again
job 2 will run again"
    expect 2 "$rota" retry 1
    err_has "job 1 has not ended"
    expect 0 "$rota" cancel 1
    expect 0 "$rota" retry 1 --json
    out_is '{"schema":1,"id":1,"answer":"ready"}'
    expect 5 "$rota" retry 7 2
    err_has "no job 7"
    expect 2 "$rota" retry 2 x
    err_has "x is not a job's id"
    expect 1 "$rota" resume
    expect 0 "$rota" sql "SELECT job, outcome FROM attempts ORDER BY job, lease"
    out_is "1	failed
1	failed
2	succeeded
2	succeeded"
}

a_retry_of_what_waits_for_a_failure_says_what_comes_of_it() {
    expect 1 "$rota" run exec -- false
    ask queue.db "INSERT INTO submit(kind, args, after)
        VALUES('exec', '[\"true\"]', 1)"
    expect 0 "$rota" resume
    expect 4 "$rota" retry 2
    err_has "job 2 is cancelled again: job 1, which it waits for, failed"
    expect 4 "$rota" retry 2 --json
    out_is '{"schema":1,"id":2,"answer":"cancelled"}'
}

a_paused_queue_waits_and_says_so() {
    expect 0 "$rota" add exec -- true
    ask queue.db "INSERT INTO pause VALUES('default')"
    expect 0 timeout 20 "$rota" resume
    err_has "left: 1 exec: the queue default is paused"
    expect 0 "$rota" sql "SELECT state, status, why FROM jobs"
    out_is "ready	paused	its queue is paused"
    ask queue.db "INSERT INTO resume VALUES('default')"
    expect 0 timeout 20 "$rota" resume
    expect 0 "$rota" sql "SELECT state FROM jobs"
    out_is "succeeded"
}

run_tests "$@"
