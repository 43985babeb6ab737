#!/bin/sh
# What a client does with a queue that somebody works on, by sqlite3(1) alone.
# Prints the ids that it was given. python.py and node.js do the same.
#
#   shell.sh QUEUE
# shellcheck disable=SC2005 # a failure of $( ) is to end the script
set -eu
queue=$1

sql() { sqlite3 -bail -cmd '.timeout 10000' "$queue" "$1"; }

die() {
    echo "shell.sh: $*" >&2
    exit 1
}

# is VALUE QUERY
is() {
    value=$(sql "$2")
    [ "$value" = "$1" ] || die "$value is not $1: $2"
}

# comes_to VALUE COLUMN ID: within 30 s
comes_to() {
    tries=0
    until [ "$(sql "SELECT $2 FROM jobs WHERE id = $3")" = "$1" ]; do
        tries=$((tries + 1))
        [ $tries -lt 1500 ] || die "$2 of job $3 does not come to $1"
        sleep 0.02
    done
}

# is_refused WORDS STATEMENT
is_refused() {
    if said=$(sql "$2" 2>&1); then
        die "not refused: $2"
    fi
    case $said in
    *"$1"*) ;;
    *) die "$said: not $1" ;;
    esac
}

# a row of its own and a job: neither, and then both
sql "CREATE TABLE app_order(what TEXT, job INTEGER)"
sql "BEGIN IMMEDIATE;
    INSERT INTO submit(kind, batch) VALUES('exec', 'orders');
    INSERT INTO app_order VALUES('socks', last_insert_rowid());
    ROLLBACK"
is 0 "SELECT (SELECT count(*) FROM app_order)
    + (SELECT count(*) FROM jobs WHERE batch = 'orders')"
order=$(sql "BEGIN IMMEDIATE;
    INSERT INTO submit(kind, batch, args)
        VALUES('exec', 'orders', '[\"echo\", \"socks\"]') RETURNING id;
    INSERT INTO app_order VALUES('socks', last_insert_rowid());
    COMMIT")
echo "$order"
is "$order" "SELECT job FROM app_order"
comes_to succeeded status "$order"
is socks "SELECT trim(json_extract(result, '\$.out'), char(10))
    FROM jobs WHERE id = $order"

# a job that runs is cancelled, and run again
long=$(sql "INSERT INTO submit(kind, args)
    VALUES('exec', '[\"sleep\", \"600\"]') RETURNING id")
echo "$long"
comes_to running status "$long"
sql "INSERT INTO cancel(job, reason) VALUES($long, 'not needed')"
comes_to cancelled status "$long"
is 'not needed' "SELECT why FROM jobs WHERE id = $long"
sql "INSERT INTO retry(job) VALUES($long)"
comes_to running status "$long"
sql "INSERT INTO cancel(job) VALUES($long)"
comes_to cancelled status "$long"
is 'cancelled,cancelled' "SELECT group_concat(outcome) FROM attempts
    WHERE job = $long"

# a queue is paused and resumed
sql "INSERT INTO pause(queue) VALUES('quiet')"
quiet=$(sql "INSERT INTO submit(kind, queue, args)
    VALUES('exec', 'quiet', '[\"true\"]') RETURNING id")
echo "$quiet"
is 'paused|its queue is paused' "SELECT status, why FROM jobs
    WHERE id = $quiet"
sql "INSERT INTO resume(queue) VALUES('quiet')"
comes_to succeeded status "$quiet"

# what comes after another
after=$(sql "INSERT INTO submit(kind, after, args)
    VALUES('exec', $quiet, '[\"true\"]') RETURNING id")
echo "$after"
is "$quiet" "SELECT waits_for FROM dependencies WHERE job = $after"
comes_to succeeded status "$after"

# what makes no sense
is_refused 'submit: args must be a text or a blob' \
    "INSERT INTO submit(kind, args) VALUES('exec', 5)"
is_refused 'cancel: there is no job with that id' \
    "INSERT INTO cancel(job) VALUES(0)"
