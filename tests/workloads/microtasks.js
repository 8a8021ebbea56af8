'use strict';
// microtasks.js: drains of the microtask queue on demand. Lines on stdin:
//   drains COUNT MS   so many drains, one per turn, in each of which a continuation runs for MS
//   storm MS          as many drains as can be had for so long
const fs = require('fs');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
// Not awaited: what comes after an await is a drain as well.
const turn = (work) => setImmediate(() => { Promise.resolve().then(work); });

function drains(count, ms) {
  let longest_ms = 0;
  let total_ms = 0;
  let left = count;
  const begin_ms = performance.now();
  const work = () => {
    const begin = performance.now();
    while (performance.now() - begin < ms);
    const took = performance.now() - begin;
    total_ms += took;
    longest_ms = Math.max(longest_ms, took);
    if (--left > 0) turn(work);
    else setTimeout(() => oracle({ type: 'drains', count, total_ms, longest_ms, elapsed_ms: performance.now() - begin_ms }), 20);
  };
  turn(work);
}

function storm(ms) {
  let count = 0;
  const end = performance.now() + ms;
  const work = () => {
    count++;
    if (performance.now() < end) turn(work);
    else if (count > 0) oracle({ type: 'storm', count, ms });
  };
  turn(work);
}

process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const line of lines.split('\n').filter(Boolean)) {
    const [command, ...numbers] = line.split(' ');
    ({ drains, storm })[command](...numbers.map(Number));
  }
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid });
