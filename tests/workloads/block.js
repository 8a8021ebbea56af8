'use strict';
// block.js main|worker MS COUNT PAUSE_MS: per line `go` on stdin, COUNT synchronous blocks of MS on that thread.
const fs = require('fs');
const { performance } = require('perf_hooks');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').pop());

function block({ ms, count, pause }) {
  const begin = performance.now();
  while (performance.now() < begin + ms);
  const end = performance.now();
  // Told in a later turn: a write to a busy disk takes as long as it likes, and would make this turn longer.
  setTimeout(oracle, 20, { type: 'block', tid, start_ms: performance.timeOrigin + begin,
    end_ms: performance.timeOrigin + end, duration_ms: end - begin });
  if (count > 1) setTimeout(block, pause, { ms, count: count - 1, pause });
}

const perLine = (handle) => process.stdin
  .on('data', (data) => { for (const line of String(data).split('\n')) if (line === 'go') handle(); })
  .on('end', () => process.exit());

if (isMainThread) {
  const [where = 'main', ms = 200, count = 1, pause = 500] = process.argv.slice(2);
  const plan = { ms: +ms, count: +count, pause: +pause };
  if (where === 'worker') {
    const worker = new Worker(__filename, { workerData: plan });
    perLine(() => worker.postMessage('go'));
  } else {
    perLine(() => block(plan));
    oracle({ type: 'ready', pid: process.pid, tid });
  }
} else {
  parentPort.on('message', () => block(workerData));
  // A first short turn later the worker waits in its own loop.
  setTimeout(() => oracle({ type: 'ready', pid: process.pid, tid }), 20);
}
