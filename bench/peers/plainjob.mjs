/*
 * plainjob on better-sqlite3, synchronous NORMAL as it has it: added in bulk,
 * then worked off by two workers. They are in one process: two processes, or
 * one worker, were not quicker. Its history is kept, as ours.
 */
import { join } from 'node:path';

import { Kept, args, asked, jobs, sayRate } from './peer.mjs';

const bulk = asked({ lives: 1000 });
const { default: Database } = await import('better-sqlite3');
const { JobStatus, better, defineQueue, defineWorker } =
    await import('plainjob');

const logger = { debug() {}, info() {}, warn() {}, error: console.error };

function add(queue) {
    for (let left = jobs; left > 0; left -= bulk)
        queue.addMany('noop', Array(Math.min(left, bulk)).fill(args));
}

async function work(queue) {
    let left = jobs;

    await new Promise(done => {
        const onCompleted = () => --left === 0 && done();

        for (let i = 0; i < 2; i++)
            defineWorker('noop', async () => {}, { queue, logger, onCompleted })
                .start();
    });
}

const kept = new Kept('plainjob', ['true']);
const queue = defineQueue({
    connection: better(new Database(join(kept.folder, 'jobs.db'))),
    logger,
});
const start = performance.now();
add(queue);
await work(queue);
const took = performance.now() - start;
if (queue.countJobs({ status: JobStatus.Done }) !== jobs)
    throw new Error('jobs are missing');
await kept.close();
sayRate(jobs, took);
process.exit(0); // its workers would wait for more
