'use strict';
// late-handlers.js: per line `round`: promises that are rejected in a callback, and get their handler at once, in a microtask, in a later
// turn of the event loop, or never; per line `same-turn`: in a later callback of the same turn; per line `deep`: so
// deep that Node cannot note the rejection, which is handled at once. Per line `report`: the events that Node emitted for them. With the
// argument `worker` all this in a worker.
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

// More than nodeprobe has places for in one turn, and fewer.
const SIZES = [1, 3, 40];
const LATER_MS = 20;

const events = { unhandledRejection: 0, rejectionHandled: 0 };
for (const name of Object.keys(events)) process.on(name, () => events[name]++);
let rounds = 0;

const rejected = (count) => Array.from({ length: count }, (_, i) => Promise.reject(new Error(`no ${i}`)));
const handle = (promises) => promises.forEach((promise) => promise.catch(() => {}));

function round() {
  for (const size of SIZES) {
    setTimeout(() => {
      handle(rejected(size));
      const inMicrotask = rejected(size);
      Promise.resolve().then(() => handle(inMicrotask));
      rejected(size);
      const later = rejected(size);
      setTimeout(() => handle(later), LATER_MS);
    }, 5);
  }
  setTimeout(() => oracle({ type: 'round', rounds: ++rounds }), 10 * LATER_MS);
}

let sameTurns = 0;
function sameTurn() {
  // Node is done with the first callback, its microtasks and its rejections before it begins the second.
  for (const [i, next] of [setImmediate, (callback) => setTimeout(callback, 5)].entries()) {
    for (const size of SIZES) {
      setTimeout(() => {
        let earlier;
        next(() => { earlier = rejected(size); });
        // One of these is late, the other in time.
        next(() => handle(earlier.concat(rejected(size))));
        // Both never.
        next(() => rejected(size));
        next(() => rejected(size));
      }, LATER_MS * (i + 1));
    }
  }
  setTimeout(() => oracle({ type: 'same-turn', rounds: ++sameTurns }), 10 * LATER_MS);
}

const DEEP = 5;
async function deep(depth) {
  return await deep(depth + 1);
}

function perform(lines) {
  if (lines.includes('round')) round();
  if (lines.includes('same-turn')) sameTurn();
  if (lines.includes('deep')) {
    for (let i = 0; i < DEEP; i++) setTimeout(() => deep(0).catch(() => {}), LATER_MS * i);
    setTimeout(() => oracle({ type: 'deep' }), LATER_MS * (DEEP + 5));
  }
  if (lines.includes('report')) oracle({ type: 'report', ...events });
}

const ready = () => oracle({ type: 'ready', pid: process.pid });
if (isMainThread) {
  const worker = process.argv[2] === 'worker' && new Worker(__filename);
  const receive = worker ? (lines) => worker.postMessage(lines) : perform;
  process.stdin.setEncoding('utf8').on('data', receive).on('end', () => process.exit());
  if (!worker) ready();
} else {
  parentPort.on('message', perform);
  ready();
}
