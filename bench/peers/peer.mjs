/* What the peers' programs in JavaScript share: see peer.h. */
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

const [measure, n] = process.argv.slice(2);

export const jobs = Number(n);
export const benchDir = process.env.BENCH_DIR ?? '.';

/* 64 bytes as JSON. */
export const args = {
    path: '/srv/archive/0000000000000000000.csv',
    table: 'orders',
};

/* What measures has for the one that was asked for. */
export function asked(measures) {
    return measures[measure] ?? process.exit(3);
}

/* A folder that goes with this program, and a command that runs in it for as
 * long, once made() has seen it. */
export class Kept {
    constructor(name, command, made = () => {}) {
        this.folder = mkdtempSync(join(benchDir, `${name}-`));
        made(this.folder);
        this.keeper = spawn(process.env.KEEP, [this.folder, ...command],
                            { stdio: ['pipe', 'inherit', 'inherit'] });
    }

    async close() {
        const closed = new Promise(done => this.keeper.once('close', done));

        this.keeper.stdin.end();
        await closed;
    }
}

/* So many were done in so many milliseconds. */
export function sayRate(done, milliseconds) {
    console.log((done / milliseconds * 1000).toFixed(3));
}
