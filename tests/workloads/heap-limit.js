'use strict';
// heap-limit.js leak|cache|helped DIRECTORY: run it with --max-old-space-size=64. `leak` keeps all it makes from the line `go` on, 40 MB
// a second, until V8 gives up; `cache` has filled most of that limit before it is ready, and then replaces a little of it all the time.
// `helped` leaks until there is a heap snapshot in DIRECTORY: run it with --heapsnapshot-near-heap-limit=1 and --diagnostic-dir.
const fs = require('fs');
const v8 = require('v8');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

const ENTRIES = 330;
const kept = [];

const snapshot = () => process.argv[3] && fs.readdirSync(process.argv[3]).find((name) => name.endsWith('.heapsnapshot'));

let leak;
function remember() {
  if (snapshot()) {
    clearInterval(leak);
    kept.length = 0;
    oracle({ type: 'helped', snapshot: snapshot() });
    return;
  }
  for (let i = 0; i < 4000; i++) kept.push({ id: kept.length, previous: kept[kept.length - 1], seen: [i] });
}

// A flat string of 140 kB in the heap.
const page = Buffer.alloc(140 << 10, '<li>article</li>');
let written = 0;
function put() {
  page.write(String(written));
  kept[written++ % ENTRIES] = page.toString('latin1');
}

if (process.argv[2] === 'cache') {
  while (written < ENTRIES) put();
  setInterval(put, 100);
} else {
  setInterval(() => {}, 1000);
}
process.stdin.setEncoding('utf8').on('data', (lines) => {
  if (lines.includes('go')) leak = setInterval(remember, 10);
  if (lines.includes('report')) oracle({ type: 'report', written, ...v8.getHeapStatistics() });
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid });
