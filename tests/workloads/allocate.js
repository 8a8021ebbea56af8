'use strict';
// allocate.js main|worker ROUNDS [observe]: 60 000 small objects per round, the last 12 rounds stay alive. Some 60 rounds give
// scavenges and mark-compacts on every version. Run with --trace-gc and stdout in a file; ends by itself. With `observe`, it
// then notes when Node was told that each collection began and ended: being told lengthens every pause.
const fs = require('fs');
const { constants, performance, PerformanceObserver } = require('perf_hooks');
const { Worker, isMainThread, threadId, workerData } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = () => Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
const kept = [];
const origin = Number(process.hrtime.bigint()) / 1e6 - performance.now();
const gc = [];
if (process.argv[4] === 'observe') new PerformanceObserver((list) => {
  for (const { detail, startTime, duration } of list.getEntries()) {
    gc.push({ kind: detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR ? 'major' : 'minor',
      begin_ms: origin + startTime, end_ms: origin + startTime + duration });
  }
}).observe({ entryTypes: ['gc'] });

function round(left) {
  const objects = [];
  for (let i = 0; i < 60000; i++) objects.push({ id: i, name: 'object ' + i, pair: [i, left] });
  kept.push(objects);
  if (kept.length > 12) kept.shift();
  if (left > 1) setImmediate(round, left - 1);
  // In a later turn: collections are told late.
  else setTimeout(() => oracle({ type: 'done', pid: process.pid, tid: tid(), thread_id: threadId, gc }), 50);
}

if (isMainThread) {
  const [where = 'main', rounds = 60] = process.argv.slice(2);
  if (where === 'worker') new Worker(__filename, { workerData: +rounds });
  else setImmediate(round, +rounds);
} else {
  setImmediate(round, workerData);
}
