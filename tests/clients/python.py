# What shell.sh does, by Python's own module sqlite3.
#
#   python.py QUEUE
import json
import sqlite3
import sys
import time

db = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
db.execute('PRAGMA wal_autocheckpoint=0')


def sql(statement, *values):
    return db.execute(statement, values).fetchall()


def submit(**columns):
    (row,) = sql(f'INSERT INTO submit({", ".join(columns)})'
                 f' VALUES({", ".join("?" * len(columns))}) RETURNING id',
                 *columns.values())
    return row[0]


def args(*words):
    return json.dumps(words)


def look(columns, job):
    return sql(f'SELECT {columns} FROM jobs WHERE id = ?', job)[0]


def comes_to(status, job):
    """Within 30 s."""
    until = time.monotonic() + 30
    while look('status', job) != (status,):
        assert time.monotonic() < until, look('status, why', job)
        time.sleep(0.02)


def is_refused(words, statement, *values):
    try:
        sql(statement, *values)
    except sqlite3.IntegrityError as error:
        assert str(error) == words, error
    else:
        raise AssertionError(f'not refused: {statement}')


# a row of its own and a job: neither, and then both
sql('CREATE TABLE app_order(what TEXT, job INTEGER)')
sql('BEGIN IMMEDIATE')
lost = submit(kind='exec', batch='orders')
sql('INSERT INTO app_order VALUES(?, ?)', 'socks', lost)
sql('ROLLBACK')
assert sql('SELECT * FROM app_order') == []
assert sql("SELECT id FROM jobs WHERE batch = 'orders'") == []
sql('BEGIN IMMEDIATE')
order = submit(kind='exec', batch='orders', args=args('echo', 'socks'))
sql('INSERT INTO app_order VALUES(?, ?)', 'socks', order)
sql('COMMIT')
print(order)
assert sql('SELECT job FROM app_order') == [(order,)]
comes_to('succeeded', order)
assert json.loads(look('result', order)[0])['out'] == 'socks\n'

# a job that runs is cancelled, and run again
long = submit(kind='exec', args=args('sleep', '600'))
print(long)
comes_to('running', long)
sql('INSERT INTO cancel(job, reason) VALUES(?, ?)', long, 'not needed')
comes_to('cancelled', long)
assert look('why', long) == ('not needed',)
sql('INSERT INTO retry(job) VALUES(?)', long)
comes_to('running', long)
sql('INSERT INTO cancel(job) VALUES(?)', long)
comes_to('cancelled', long)
assert sql('SELECT outcome FROM attempts WHERE job = ?',
           long) == [('cancelled',)] * 2

# a queue is paused and resumed
sql('INSERT INTO pause(queue) VALUES(?)', 'quiet')
quiet = submit(kind='exec', queue='quiet', args=args('true'))
print(quiet)
assert look('status, why', quiet) == ('paused', 'its queue is paused')
sql('INSERT INTO resume(queue) VALUES(?)', 'quiet')
comes_to('succeeded', quiet)

# what comes after another
after = submit(kind='exec', after=quiet, args=args('true'))
print(after)
assert sql('SELECT waits_for FROM dependencies WHERE job = ?',
           after) == [(quiet,)]
comes_to('succeeded', after)

# what makes no sense
is_refused('submit: args must be a text or a blob',
           'INSERT INTO submit(kind, args) VALUES(?, ?)', 'exec', 5)
is_refused('cancel: there is no job with that id',
           'INSERT INTO cancel(job) VALUES(?)', 0)
