#!/bin/sh
# The four shapes that people need, as programs: each does what it says.
. "${srcdir:-.}/tests/harness.sh"

examples=$(cd "${builddir:-.}/tests/examples" && pwd)
endless='WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT count(*) FROM n'

# Whether the process has a thread for signals by now
listens() { grep -q rota-signals "/proc/$1/task/"*/comm; }

# == tests

a_query_ends_at_its_timeout_and_says_so() {
    expect 0 "$examples/query" :memory: "$endless" 50
    out_is 'too slow: 0 rows by then'
}

a_query_tells_other_errors_from_the_timeout() {
    expect 0 "$examples/query" :memory: 'SELECT * FROM absent'
    out_is 'failed: database: no such table: absent (SQLite 1)'
    expect 0 "$examples/query" :memory: 'VALUES (1), (2), (3)'
    out_is '3 rows'
}

a_loop_polls_and_stops_between_two_items() {
    expect 0 "$examples/loop" 1000
    out_is 'all 1000 done'
    env --default-signal=INT "$examples/loop" 1000000000000 >out &
    pid=$!
    within_10_s listens $pid
    kill -INT $pid
    wait $pid || fail "ended with $?"
    out_has 'of 1000000000000: SIGINT'
}

a_loop_stops_at_its_deadline() {
    expect 0 "$examples/loop" 1000000000000
    out_has 'context deadline exceeded'
}

a_pipeline_adds_up() {
    # shellcheck disable=SC2046 # numbers are words
    expect 0 "$examples/pipeline" $(seq 1000)
    out_is 333833500
    expect 0 "$examples/pipeline"
    out_is 0
}

the_first_stage_that_fails_calls_the_others_off() {
    # shellcheck disable=SC2046 # numbers are words
    expect 1 "$examples/pipeline" $(seq 100) 9999999999 $(seq 100000)
    out_is 'failed: 9999999999 is too big'
}

a_page_goes_without_what_is_optional() {
    expect 0 "$examples/fan_out" 1 2 3
    out_is 'a page with price, reviews, picture'
    expect 0 "$examples/fan_out" 1 2 -3
    out_has 'picture: failed'
    out_has 'a page with price, reviews'
    expect 0 "$examples/fan_out" 1 60000 3
    out_has 'reviews: context deadline exceeded'
    out_has 'a page with price, picture'
}

a_page_does_not_go_without_what_is_required() {
    expect 1 "$examples/fan_out" -1 60000 60000
    out_has 'price: failed'
    out_has 'reviews: context canceled'
    out_has 'no page'
    expect 1 "$examples/fan_out" 60000 1 2
    out_has 'price: context deadline exceeded'
}

run_tests "$@"
