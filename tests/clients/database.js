// A client of SQLite, the first that this Node has: its own, from 22.5 on, or
// one that is installed. database(path) gives a function: statement and values
// in, a promise of the rows out. By itself the file says which it is, and ends
// with 1 if there is none.
'use strict';
const path = require('path');

const synchronous = (db, prepare = (sql) => db.prepare(sql)) =>
  async (sql, ...values) => {
    const statement = prepare(sql);

    return statement.reader === false
      ? (statement.run(...values), []) : statement.all(...values);
  };

const clients = {
  'node:sqlite': ({ DatabaseSync }, file) =>
    synchronous(new DatabaseSync(file)),
  '@photostructure/sqlite': ({ DatabaseSync }, file) =>
    synchronous(new DatabaseSync(file)),
  'better-sqlite3': (Database, file) => synchronous(new Database(file)),
  'sqlite3': ({ Database }, file) => {
    const db = new Database(file);

    return (sql, ...values) => new Promise((resolve, reject) => {
      db.all(sql, values, (error, rows) =>
        error ? reject(error) : resolve(rows));
    });
  },
};

// Debian's, what scripts/setup has got, or what npm has installed for all
const paths = [__dirname, path.join(__dirname, '../../build/clients'),
  path.join(path.dirname(process.execPath), '../lib')];

function find() {
  for (const name of Object.keys(clients)) {
    try {
      return [name, require(name.startsWith('node:')
        ? name : require.resolve(name, { paths }))];
    } catch {
      continue;
    }
  }
  return [];
}

const [name, client] = find();

module.exports = (file) => clients[name](client, file);
if (require.main === module) {
  console.log(name || 'no client of SQLite');
  process.exitCode = name ? 0 : 1;
}
