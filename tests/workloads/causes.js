'use strict';
// causes.js FIFO: per line KIND on stdin one turn of about 400 ms (`hang`: 8 s) that is spent in one known way. FIFO is a named pipe
// that a child of this process opens late. What the turn was really spent with, the kernel's own accounting of this
// thread tells (/proc/thread-self/schedstat: nanoseconds on a processor, nanoseconds waiting for one).
const fs = require('fs');
const { execSync, spawn } = require('child_process');
const { performance, PerformanceObserver } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
const schedstat = () => fs.readFileSync(`/proc/self/task/${tid}/schedstat`, 'latin1').split(' ').map(Number);
const until = (ms, work) => { for (const end = performance.now() + ms; performance.now() < end;) work(); };

let gcPauses = [];
new PerformanceObserver((list) => { gcPauses.push(...list.getEntries()); }).observe({ entryTypes: ['gc'] });

const kinds = {
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
    const file = fs.openSync(`${process.env.NODEPROBE_ORACLE}.fsync`, 'w');
    // Few long sleeps: the some 10 microseconds that an idle processor takes to wake are running time to schedstat.
    const chunk = Buffer.alloc(2 << 20);
    until(400, () => { fs.writeSync(file, chunk, 0, chunk.length, 0); fs.fsyncSync(file); });
    fs.closeSync(file);
  },
  fifo: () => fs.readFileSync(process.argv[2]),
  'exec-sync': () => execSync('sleep 0.4'),
  hang: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 8000),
  lock: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400),
  stdout: () => { for (let chunk = Buffer.alloc(256 << 10), sent = 0; sent < chunk.length;) sent += fs.writeSync(1, chunk, sent); },
};
// What has to be under way before the turn begins.
const before = { fifo: () => spawn('sh', ['-c', 'sleep 0.4; echo late > "$1"', 'sh', process.argv[2]], { stdio: 'ignore' }) };

function turn(kind) {
  gcPauses = [];
  const [ran, waited] = schedstat();
  const begin = performance.now();
  kinds[kind]();
  const end = performance.now();
  const [ranAfter, waitedAfter] = schedstat();
  // Told in a later turn; pauses are delivered there as well.
  setTimeout(() => oracle({ type: 'turn', kind, tid, duration_ms: end - begin, ran_ms: (ranAfter - ran) / 1e6,
    waited_ms: (waitedAfter - waited) / 1e6,
    gc_ms: gcPauses.filter((pause) => pause.startTime >= begin && pause.startTime < end)
      .reduce((sum, pause) => sum + pause.duration, 0) }), 50);
}

process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const kind of lines.split('\n').filter(Boolean)) {
    if (before[kind]) before[kind]();
    setTimeout(turn, 20, kind);
  }
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid, tid });
