'use strict';
// workers.js [BUSY_MS PAUSE_MS...]: two named worker_threads that work a little, or one that works for BUSY_MS for each PAUSE_MS;
// the line `stop` ends them and the main thread lives on.
const fs = require('fs');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = () => Number(fs.readlinkSync('/proc/thread-self').split('/').pop());

if (isMainThread) {
  const [busy, ...pauses] = process.argv.slice(2).map(Number);
  const plans = pauses.length ? pauses.map((pause) => ({ name: `pause-${pause}`, busy, pause }))
    : ['resizer', 'mailer'].map((name) => ({ name }));
  const workers = plans.map((plan) => new Worker(__filename, { name: plan.name, workerData: plan }));
  Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
    .then((tids) => oracle({ type: 'ready', pid: process.pid, tids }));
  process.stdin.on('data', () => Promise.all(workers.map((worker) => worker.terminate()))
    .then(() => oracle({ type: 'stopped' }))).on('end', () => process.exit());
} else {
  const { busy, pause } = workerData;
  const work = () => {
    // Seldom asked for, the time makes no garbage to be collected.
    for (const end = Date.now() + busy; Date.now() < end;) for (let i = 0; i < 1e5; i++);
    setTimeout(work, pause);
  };
  if (busy) setTimeout(work);
  else setInterval(() => { for (let i = 0; i < 1e5; i++); }, 20);
  parentPort.postMessage(tid());
}
