#!/bin/sh
# Kinds of one's own: the template, built as the README says, and loaded.
. "${srcdir:-.}/tests/harness.sh"

: "${srcdir:=.}"
: "${CC:=cc}"
source=$(cd "$srcdir" && pwd)
library=$(cd "${builddir:-.}/.libs" && pwd)

# What pkg-config says when rota is installed, and nothing that is not there
flags="-I$source/include -L$library -Wl,-rpath,$library -lrota -ljansson"

# build OBJECT FILE: the README's first line
build() {
    # shellcheck disable=SC2086
    $CC ${SANITIZER_CFLAGS-} -std=gnu11 -Wall -Wextra -Werror -shared -fPIC \
        -o "$1" "$2" $flags || fail "$2 does not compile"
}

# make_logs N: as many files in ./logs
make_logs() {
    mkdir logs
    i=0
    while [ "$i" -lt "$1" ]; do
        i=$((i + 1))
        echo "line $i" >"logs/$i.log"
    done
}

# == tests

a_worker_that_loaded_it_runs_the_kind_of_the_template() {
    build libmine.so "$source/jobs/template.c"
    make_logs 20
    expect 0 "$rota" add --load ./libmine.so compress folder="$PWD/logs"
    expect 0 "$rota" resume --load ./libmine.so
    [ "$(find logs -name '*.gz' | wc -l)" -eq 20 ] || fail "not all: $(ls logs)"
    [ "$(zcat logs/7.log.gz)" = 'line 7' ] || fail "not what was in it"
    expect 0 "$rota" sql "SELECT state, done, total FROM jobs"
    out_has 'succeeded'
}

work_takes_a_job_that_plain_sql_submitted_of_a_loaded_kind() {
    build libmine.so "$source/jobs/template.c"
    make_logs 3
    "$rota" work --load libmine.so 2>err &
    worker=$!
    until grep -q 'working on' err; do kill -0 $worker || fail "$(cat err)"; done
    sqlite3 -cmd '.timeout 5000' queue.db "INSERT INTO submit(kind, args)
        VALUES('compress', json_object('folder', '$PWD/logs'))"
    until [ "$(sqlite3 queue.db 'SELECT state FROM jobs')" = succeeded ]; do
        kill -0 $worker || fail "$(cat err)"
    done
    kill -TERM $worker
    wait $worker || fail "ended with $?: $(cat err)"
    [ -e logs/3.log.gz ] || fail "not compressed: $(ls logs)"
}

run_loads_too_and_says_what_the_job_says() {
    build libmine.so "$source/jobs/template.c"
    expect 1 "$rota" run --load ./libmine.so compress folder=/no/such/folder
    err_has 'job 1 failed: /no/such/folder: No such file or directory'
    expect 1 "$rota" run --load ./libmine.so compress
    err_has 'folder= is missing'
}

what_cannot_be_loaded_is_refused_in_one_line() {
    build libmine.so "$source/jobs/template.c"
    expect 5 "$rota" work --load ./nothing.so
    err_has 'cannot load ./nothing.so: No such file or directory'
    err_is_one_line
    echo 'no object' >text.so
    expect 2 "$rota" work --load text.so
    err_has 'cannot load text.so'
    err_is_one_line
    echo 'int x;' >empty.c
    build empty.so empty.c
    expect 2 "$rota" resume --load ./empty.so
    err_has 'it exports no rota_register()'
    err_is_one_line
    expect 2 "$rota" resume --load ./libmine.so --load ./libmine.so
    err_has 'cannot use ./libmine.so: kind compress has a function already'
    err_is_one_line
}

a_kind_that_nothing_loaded_has_is_refused() {
    build libmine.so "$source/jobs/template.c"
    expect 2 "$rota" add compress folder=x
    err_has 'no kind compress'
    [ ! -e queue.db ] || fail "a file was made"
    expect 2 "$rota" add --load ./libmine.so compres folder=x
    err_has 'no kind compres'
    expect 2 "$rota" add --load ./libmine.so compress folder
    err_has 'compress: folder is not key=value'
    expect 2 "$rota" add --load ./libmine.so compress folder=a folder=b
    err_has 'folder= is given twice'
}

a_job_that_crashes_its_process_is_given_up_and_named() {
    cat >crash.c <<'END'
#include <rota.h>
#include <signal.h>
static enum rota_error
crash(struct ctx *ctx, struct rota_job *job)
{
    (void)ctx, (void)job;
    return (enum rota_error)raise(SIGKILL);
}
static enum rota_error
lean(struct ctx *ctx, struct rota_job *job)
{
    struct sqlite3 *db;

    (void)ctx;
    return rota_job_db(job, "/no/such/folder/x.db", &db);
}
enum rota_error
rota_register(struct rota *rota)
{
    enum rota_error error = rota_handle(rota, "crash", crash, NULL, NULL);

    return error != ROTA_OK ? error
                            : rota_handle(rota, "lean", lean, NULL, NULL);
}
END
    build crash.so crash.c
    expect 1 "$rota" run --load crash.so lean
    err_has 'failed: /no/such/folder/x.db: unable to open database file'
    expect 0 "$rota" add --load crash.so crash
    for i in 1 2 3; do
        "$rota" resume --load crash.so >out 2>err
        [ $? -eq 137 ] || fail "not killed: $(cat err)"
    done
    expect 1 "$rota" resume --load crash.so
    err_has 'failed: job 2 (crash): poison'
}

two_objects_are_loaded_side_by_side() {
    build libmine.so "$source/jobs/template.c"
    sed 's/"compress"/"squeeze"/' "$source/jobs/template.c" >other.c
    build other.so other.c
    make_logs 2
    for kind in compress squeeze; do
        expect 0 "$rota" add --load ./other.so --load ./libmine.so $kind \
            folder="$PWD/logs"
    done
    expect 0 "$rota" resume --load ./other.so --load ./libmine.so
    err_has '2 succeeded'
}

run_tests "$@"
