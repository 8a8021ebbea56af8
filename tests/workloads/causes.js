'use strict';
// causes.js DIRECTORY: per line KIND on stdin one turn of about 400 ms (where it matters which code runs: 1600 ms; `hang`: 30 s)
// that is spent in one known way. DIRECTORY is on a disk and has a named pipe `fifo`, which a child of this process opens late. It
// notes when the turn, the collections and the calls in it began and ended, on the monotonic clock, which is that of the kernel's
// trace of this thread.
const fs = require('fs');
const crypto = require('crypto');
const vm = require('vm');
const zlib = require('zlib');
const { execSync, spawn } = require('child_process');
const { performance, PerformanceObserver } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
// What performance.now() has to be added to.
const origin = Number(process.hrtime.bigint()) / 1e6 - performance.now();
const until = (ms, work) => { for (const end = performance.now() + ms; performance.now() < end;) work(); };

let gcPauses = [];
// The calls that a turn is made for, where something else goes on in it.
let calls = [];
const call = (work) => {
  const begin = performance.now();
  work();
  calls.push({ begin_ms: origin + begin, end_ms: origin + performance.now() });
};
new PerformanceObserver((list) => { gcPauses.push(...list.getEntries()); }).observe({ entryTypes: ['gc'] });

// A module of 1 MB whose functions are called at once, so that all of it is compiled.
let lines = 0;
function moduleSource() {
  const functions = [];
  for (let length = 0, i = 0; length < 1 << 20; i++) {
    functions.push(`(function f${i}(a, b) { const c = a * ${i} + b; if (c > ${i}) { return { c, name: 'n${i}' }; } return [a, b, c].map((x) => x + ${i}); })(1, 2);`);
    length += functions[i].length;
  }
  return functions.join('\n');
}
const text = Buffer.from(moduleSource());
// Flat: to put the pieces together is not to compile.
const source = text.toString('latin1');

// Which code ran, samples tell: a hundred and more, even if others have half of the processors.
const SAMPLED_MS = 1600;

const kinds = {
  javascript: () => {
    let hash = 5381;
    for (const end = Date.now() + SAMPLED_MS; Date.now() < end;) {
      for (let i = 0; i < 1e6; i++) hash = (hash * 33 + i) | 0;
    }
    return hash;
  },
  scrypt: () => until(SAMPLED_MS, () => call(() => crypto.scryptSync('secret', 'salt', 64))),
  // In one piece, so that there is little to put together in JavaScript.
  deflate: () => until(SAMPLED_MS, () => call(() => zlib.deflateSync(text, { chunkSize: text.length, level: 9 }))),
  // At another line it is another script for V8. Making another source would take a part of the turn, in step with the sampling.
  compile: () => until(SAMPLED_MS, () => call(() => new vm.Script(source, { lineOffset: lines++ }))),
  cpu: () => until(400, () => {}),
  gc: () => {
    // Survivors of every collection are copied, so scavenges take long; they are dropped before there are too many.
    let kept = [];
    until(400, () => {
      for (let i = 0; i < 1000; i++) kept.push([i, { i }]);
      if (kept.length > 300000) kept = [];
    });
  },
  fsync: () => {
    const file = fs.openSync(`${process.argv[2]}/fsync`, 'w');
    // Few long sleeps: the some 10 microseconds that an idle processor takes to wake belong to the sleep and to the wait.
    const chunk = Buffer.alloc(2 << 20);
    until(400, () => { fs.writeSync(file, chunk, 0, chunk.length, 0); fs.fsyncSync(file); });
    fs.closeSync(file);
  },
  fifo: () => fs.readFileSync(`${process.argv[2]}/fifo`),
  'exec-sync': () => execSync('sleep 0.4'),
  hang: () => { oracle({ type: 'hanging' }); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30000); },
  lock: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400),
  stdout: () => { for (let chunk = Buffer.alloc(256 << 10), sent = 0; sent < chunk.length;) sent += fs.writeSync(1, chunk, sent); },
};
// What has to be under way before the turn begins.
const before = { fifo: () => spawn('sh', ['-c', 'sleep 0.4; echo late > "$1"', 'sh', `${process.argv[2]}/fifo`], { stdio: 'ignore' }) };

function turn(kind) {
  gcPauses = [];
  calls = [];
  const begin = performance.now();
  kinds[kind]();
  const end = performance.now();
  // Told in a later turn; pauses are delivered there as well.
  setTimeout(() => oracle({ type: 'turn', kind, tid, begin_ms: origin + begin, end_ms: origin + end, calls,
    gc: gcPauses.filter((pause) => pause.startTime >= begin && pause.startTime < end)
      .map((pause) => ({ begin_ms: origin + pause.startTime, end_ms: origin + pause.startTime + pause.duration })) }), 50);
}

process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const kind of lines.split('\n').filter(Boolean)) {
    if (before[kind]) before[kind]();
    setTimeout(turn, 20, kind);
  }
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid, tid });
