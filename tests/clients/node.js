// What shell.sh does, by what this Node has for SQLite.
//
//   node.js QUEUE
'use strict';
const assert = require('assert');
const sql = require('./database.js')(process.argv[2]);

const rows = async (statement, ...values) =>
  (await sql(statement, ...values)).map((row) => Object.values(row));

async function submit(columns) {
  const names = Object.keys(columns);
  const [[id]] = await rows(
    `INSERT INTO submit(${names.join(', ')})` +
    ` VALUES(${names.map(() => '?').join(', ')}) RETURNING id`,
    ...Object.values(columns));

  return id;
}

const args = (...words) => JSON.stringify(words);

async function look(columns, job) {
  return (await rows(`SELECT ${columns} FROM jobs WHERE id = ?`, job))[0];
}

// Within 30 s
async function comesTo(status, job) {
  const until = Date.now() + 30000;

  while ((await look('status', job))[0] !== status) {
    assert(Date.now() < until, String(await look('status, why', job)));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function isRefused(words, ...statement) {
  await assert.rejects(() => rows(...statement),
    (error) => error.message.includes(words));
}

async function main() {
  await rows('PRAGMA busy_timeout=10000');
  await rows('PRAGMA wal_autocheckpoint=0');

  // a row of its own and a job: neither, and then both
  await rows('CREATE TABLE app_order(what TEXT, job INTEGER)');
  await rows('BEGIN IMMEDIATE');
  const lost = await submit({ kind: 'exec', batch: 'orders' });
  await rows('INSERT INTO app_order VALUES(?, ?)', 'socks', lost);
  await rows('ROLLBACK');
  assert.deepEqual(await rows('SELECT * FROM app_order'), []);
  assert.deepEqual(
    await rows("SELECT id FROM jobs WHERE batch = 'orders'"), []);
  await rows('BEGIN IMMEDIATE');
  const order = await submit(
    { kind: 'exec', batch: 'orders', args: args('echo', 'socks') });
  await rows('INSERT INTO app_order VALUES(?, ?)', 'socks', order);
  await rows('COMMIT');
  console.log(order);
  assert.deepEqual(await rows('SELECT job FROM app_order'), [[order]]);
  await comesTo('succeeded', order);
  assert.equal(JSON.parse((await look('result', order))[0]).out, 'socks\n');

  // a job that runs is cancelled, and run again
  const long = await submit({ kind: 'exec', args: args('sleep', '600') });
  console.log(long);
  await comesTo('running', long);
  await rows('INSERT INTO cancel(job, reason) VALUES(?, ?)', long,
    'not needed');
  await comesTo('cancelled', long);
  assert.deepEqual(await look('why', long), ['not needed']);
  await rows('INSERT INTO retry(job) VALUES(?)', long);
  await comesTo('running', long);
  await rows('INSERT INTO cancel(job) VALUES(?)', long);
  await comesTo('cancelled', long);
  assert.deepEqual(
    await rows('SELECT outcome FROM attempts WHERE job = ?', long),
    [['cancelled'], ['cancelled']]);

  // a queue is paused and resumed
  await rows('INSERT INTO pause(queue) VALUES(?)', 'quiet');
  const quiet = await submit(
    { kind: 'exec', queue: 'quiet', args: args('true') });
  console.log(quiet);
  assert.deepEqual(await look('status, why', quiet),
    ['paused', 'its queue is paused']);
  await rows('INSERT INTO resume(queue) VALUES(?)', 'quiet');
  await comesTo('succeeded', quiet);

  // what comes after another
  const after = await submit(
    { kind: 'exec', after: quiet, args: args('true') });
  console.log(after);
  assert.deepEqual(
    await rows('SELECT waits_for FROM dependencies WHERE job = ?', after),
    [[quiet]]);
  await comesTo('succeeded', after);

  // what makes no sense
  await isRefused('submit: args must be a text or a blob',
    'INSERT INTO submit(kind, args) VALUES(?, ?)', 'exec', 5);
  await isRefused('cancel: there is no job with that id',
    'INSERT INTO cancel(job) VALUES(?)', 0);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
