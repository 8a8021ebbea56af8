'use strict';
// allocations.js: three functions that allocate a known number of bytes, `buildPages` by far the most, some 60 MB a second in all.
// `go` begins. `count` notes what each has allocated since then, and when.
const fs = require('fs');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const EVERY_MS = 2;
// Rounds of a turn. One is a small part of a page of the young generation: V8 collects between turns, and where a page ends after
// that must not depend on how a turn begins.
const ROUNDS = 6;
// Objects of one round on average; and the bytes of one: three words (map, properties, elements) and one for each property, as Node
// has V8 without compressed pointers. Until V8 has optimised a function there are two words more behind each object.
const PLAN = {
  authorize: { objects: 34, bytes: 8 * (3 + 5) },
  readRows: { objects: 58, bytes: 8 * (3 + 9) },
  buildPages: { objects: 108, bytes: 8 * (3 + 13) },
};

// So that no object can be left out, and hardly any survives.
const ring = new Array(64).fill(null);

function authorize(count) {
  for (let i = 0; i < count; i++) ring[i & 63] = { id: i, scope: 1, until: 2, by: 3, of: 4 };
}

function readRows(count) {
  for (let i = 0; i < count; i++) ring[i & 63] = { id: i, region: 1, net: 2, tax: 3, paid: 4, due: 5, unit: 6, of: 7, by: 8 };
}

function buildPages(count) {
  for (let i = 0; i < count; i++) {
    ring[i & 63] = { id: i, title: 1, a: 2, b: 3, c: 4, d: 5, e: 6, f: 7, g: 8, h: 9, k: 10, l: 11, m: 12 };
  }
}

// Park and Miller's generator: were all turns alike, the same place of one might always be the one that is looked at.
let seed = 1;
function random() {
  seed = (seed * 16807) % 2147483647;
  return seed / 2147483647;
}

// One call that meets all three: they stay functions of their own.
const STEPS = [authorize, readRows, buildPages];
const bytes = {};
function round() {
  for (const step of STEPS) {
    const { objects, bytes: each } = PLAN[step.name];
    const count = Math.round(objects * 2 * random());
    step(count);
    bytes[step.name] += count * each;
  }
}

function turn() {
  for (let i = 0; i < ROUNDS; i++) round();
}

for (const name of Object.keys(PLAN)) bytes[name] = 0;
process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const line of lines.split('\n').filter(Boolean)) {
    if (line === 'go') setInterval(turn, EVERY_MS);
    if (line === 'count') oracle({ type: 'count', at_ms: performance.now(), bytes });
  }
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid, script: __filename });
