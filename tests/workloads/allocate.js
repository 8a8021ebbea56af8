'use strict';
// allocate.js main|worker ROUNDS: 60 000 small objects per round, the last 12 rounds stay alive. Some 60 rounds give
// scavenges and mark-compacts on every version. Run with --trace-gc and stdout in a file; ends by itself.
const fs = require('fs');
const { Worker, isMainThread, threadId, workerData } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = () => Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
const kept = [];

function round(left) {
  const objects = [];
  for (let i = 0; i < 60000; i++) objects.push({ id: i, name: 'object ' + i, pair: [i, left] });
  kept.push(objects);
  if (kept.length > 12) kept.shift();
  if (left > 1) setImmediate(round, left - 1);
  else oracle({ type: 'done', pid: process.pid, tid: tid(), thread_id: threadId });
}

if (isMainThread) {
  const [where = 'main', rounds = 60] = process.argv.slice(2);
  if (where === 'worker') new Worker(__filename, { workerData: +rounds });
  else setImmediate(round, +rounds);
} else {
  setImmediate(round, workerData);
}
