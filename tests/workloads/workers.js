'use strict';
// Two named worker_threads that work a little; the line `stop` ends them and the main thread lives on.
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = () => Number(fs.readlinkSync('/proc/thread-self').split('/').pop());

if (isMainThread) {
  const names = ['resizer', 'mailer'];
  const workers = names.map((name) => new Worker(__filename, { name, workerData: name }));
  Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
    .then((tids) => oracle({ type: 'ready', pid: process.pid, tids }));
  process.stdin.on('data', () => Promise.all(workers.map((worker) => worker.terminate()))
    .then(() => oracle({ type: 'stopped' }))).on('end', () => process.exit());
} else {
  setInterval(() => { for (let i = 0; i < 1e5; i++); }, 20);
  parentPort.postMessage(tid());
}
