/*
 * graphile-worker on a PostgreSQL of its own, which runs for as long as this
 * program does; its settings are those of initdb, so that each commit is on
 * the disk before it is acknowledged. Jobs are added in bulk; the workers fetch
 * and complete them in batches, and keep no history.
 *
 * lives-full has what its manual advises for jobs that are short, and adds them
 * while the workers run, which is quicker then. lives-full-tuned was found by
 * trying: two pools that lock as much as 10,000 jobs at a time.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';

import { Kept, args, asked, benchDir, jobs, sayRate } from './peer.mjs';

const settings = asked({
    'lives-full': { pools: 1, fetch: 500, adders: 1, bulk: 1000, mixed: true },
    'lives-full-tuned':
        { pools: 2, fetch: 10000, adders: 2, bulk: 10000, mixed: false },
});
const { Logger, makeWorkerUtils, run } = await import('graphile-worker');
const { default: pg } = await import('pg');

const PATIENCE_MS = 30000; /* until the server answers */
const logger = new Logger(() => () => {});

/* -- The server ------------------------------------------------------------ */

/* As root it refuses to run: another user must get at the folder then. */
function postgres() {
    const [setpriv, ...user] = process.getuid() !== 0 ? ['env'] :
        ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'];
    const owned = folder =>
        user.length && execFileSync('chown', ['postgres', folder]);
    const command =
        '"$0"/initdb --auth=trust --username=bench --pgdata=data >/dev/null &&'
        + ' exec "$0"/postgres -D data -k .. -c listen_addresses=';

    execFileSync(setpriv, [...user, 'test', '-x', resolve(benchDir)]);
    return new Kept('graphile', [setpriv, ...user, 'sh', '-c', command,
                                 process.env.POSTGRES], owned);
}

/* A socket's path in full may be too long. */
async function connect(server) {
    const until = performance.now() + PATIENCE_MS;

    process.chdir(server.folder);
    const pool = new pg.Pool(
        { host: '/proc/self/cwd', user: 'bench', database: 'postgres' });
    pool.on('error', () => {});
    pool.on('connect', client => client.on('error', () => {}));
    for (;;) {
        try {
            await pool.query('SELECT 1');
            return pool;
        } catch (error) {
            if (performance.now() < until) {
                await setTimeout(10);
                continue;
            }
            console.error(readFileSync('log', 'utf8'));
            throw error;
        }
    }
}

/* -- The measure ----------------------------------------------------------- */

async function add(pool) {
    let left = jobs;
    const adders = Array.from({ length: settings.adders }, async () => {
        while (left > 0) {
            const n = Math.min(left, settings.bulk);

            left -= n;
            await pool.query(
                `SELECT count(*) FROM graphile_worker.add_jobs(array(
                     SELECT json_populate_recordset(
                         NULL::graphile_worker.job_spec, $1::json)))`,
                [JSON.stringify(
                    Array(n).fill({ identifier: 'noop', payload: args }))]);
        }
    });

    await Promise.all(adders);
}

class Workers {
    constructor(pool) {
        const count = () => {
            if (this.ran++ === 0)
                this.firstAt = performance.now();
            if (this.ran === jobs)
                this.end();
        };

        this.ran = 0;
        this.ended = new Promise(end => { this.end = end; });
        this.options = {
            pgPool: pool,
            logger,
            noHandleSignals: true,
            taskList: { noop: async () => count() },
            preset: {
                worker: {
                    concurrentJobs: 16,
                    localQueue: { size: settings.fetch },
                    completeJobBatchDelay: 0,
                    failJobBatchDelay: 0,
                    pollInterval: 20,
                },
            },
        };
    }

    async start() {
        this.pools = await Promise.all(Array.from(
            { length: settings.pools }, () => run(this.options)));
    }

    /* All ran, and the last of them are complete in the database. */
    async finish() {
        await this.ended;
        await Promise.all(this.pools.map(each => each.stop()));
    }
}

/* Milliseconds, without those that the workers take to start. */
async function lives(pool) {
    const workers = new Workers(pool);
    let start, added = 0;

    if (settings.mixed)
        await workers.start();
    start = performance.now();
    await add(pool);
    if (!settings.mixed) {
        added = performance.now() - start;
        await workers.start();
    }
    await workers.finish();
    if (!settings.mixed)
        start = workers.firstAt;
    return added + performance.now() - start;
}

const server = postgres();
const pool = await connect(server);
await (await makeWorkerUtils({ pgPool: pool, logger })).migrate();
const took = await lives(pool);
const { rows } = await pool.query('SELECT id FROM graphile_worker.jobs LIMIT 1');
if (rows.length > 0)
    throw new Error('jobs are left');
await pool.end();
await server.close();
sayRate(jobs, took);
process.exit(0);
