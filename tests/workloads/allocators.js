'use strict';
// allocators.js mixed|requests|kept: three functions that allocate, each its part, `buildPages` by far the most. `mixed`: many small
// turns; `requests`: ten turns a second of 5 MB, in each of which the least comes first; `kept`: nothing of `mixed` is let go.
// `go` begins. `profile` lets V8's own sampling profiler watch for a while, garbage included, and notes what it saw.
const fs = require('fs');
const inspector = require('inspector');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const PROFILE_MS = 2000;
const mode = process.argv[2];
// Objects by function and turn on average; those of a turn are less than a page of the young generation but in `requests`.
const PLAN = {
  mixed: { every_ms: 5, authorize: 100, readRows: 90, buildPages: 440 },
  requests: { every_ms: 100, authorize: 3000, readRows: 6000, buildPages: 30000 },
  kept: { every_ms: 10, authorize: 100, readRows: 90, buildPages: 440 },
}[mode];

function authorize(count) {
  const claims = [];
  for (let i = 0; i < count; i++) claims.push({ id: i, scope: i % 7, until: i * 3, by: claims[i - 1] });
  return claims;
}

function readRows(count) {
  const rows = [];
  for (let i = 0; i < count; i++) rows.push({ id: i, region: i % 7, net: i * 3, tax: i % 19, paid: false, before: rows[i - 1] });
  return rows;
}

function buildPages(count) {
  const pages = [];
  for (let i = 0; i < count; i++) pages.push({ id: i, title: i % 3, cells: [i, i + 1, i + 2], next: pages[i - 1] });
  return pages;
}

// Park and Miller's generator. Were all turns alike, whoever looks now and then might always look at the same place of one.
let seed = 1;
function random() {
  seed = (seed * 16807) % 2147483647;
  return seed / 2147483647;
}

// One call that meets all three: V8 would inline them else, and its profiler does not tell of inlined functions.
const STEPS = [authorize, readRows, buildPages];
const kept = [];
let last = null;
function handle() {
  last = STEPS.map((step) => step(Math.round(PLAN[step.name] * 2 * random())));
  if (mode === 'kept') kept.push(last);
}

function profile() {
  const session = new inspector.Session();
  session.connect();
  const options = { samplingInterval: 16384, includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
  session.post('HeapProfiler.startSampling', options, () => setTimeout(() => {
    session.post('HeapProfiler.stopSampling', (error, result) => oracle({ type: 'profile', error, head: result && result.profile.head }));
  }, PROFILE_MS));
}

process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const line of lines.split('\n').filter(Boolean)) {
    if (line === 'go') setInterval(handle, PLAN.every_ms);
    if (line === 'profile') profile();
  }
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid, script: __filename });
