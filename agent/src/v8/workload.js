'use strict';
// What the live test of the stack decoder samples. Each scenario tells in a file, before its hot line begins, what
// V8 itself says the stack is; the hot line is the one after the line of that call.
const fs = require('fs');
const path = require('path');
const vm = require('vm');
const crypto = require('crypto');
const { Worker, isMainThread, workerData } = require('worker_threads');

const RECORD_BYTES = 16384;
const recordPath = isMainThread ? process.argv[2] : workerData.record;
const record = fs.openSync(recordPath, 'w');
const buffer = Buffer.alloc(RECORD_BYTES);
Error.stackTraceLimit = 60;

function publish(text) {
  buffer.fill(0);
  buffer.write(text);
  fs.writeSync(record, buffer, 0, RECORD_BYTES, 0);
}

// `callees` are functions that the hot line may be inside of.
function mark(scenario, callees = []) {
  publish(JSON.stringify({ scenario, callees, stack: new Error().stack }) + '\n');
}

function unmark() {
  publish('');
}

const until = (ms) => {
  const end = performance.now() + ms;
  return () => performance.now() < end;
};

const bytes = Buffer.alloc(1 << 20, 7);
const json = JSON.stringify(Array.from({ length: 1500 }, (_, i) => ({ id: i, name: 'n' + i, list: [i, i + 1] })));
const numbers = Array.from({ length: 3000 }, (_, i) => (i * 7919) % 3001);

function hash(mode, ms) {
  let h = 0;
  mark('hash ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < bytes.length; i++) h = (h * 31 + bytes[i]) | 0;
  unmark();
  return h;
}

function parse(mode, ms) {
  let n = 0;
  mark('parse ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) n += JSON.parse(json).length;
  unmark();
  return n;
}

function stringify(mode, ms) {
  const value = JSON.parse(json);
  let n = 0;
  mark('stringify ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) n += JSON.stringify(value).length;
  unmark();
  return n;
}

function regex(mode, ms) {
  const text = 'a'.repeat(14) + 'b';
  let n = 0;
  mark('regex ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) n += /^(a+)+$/.test(text) ? 1 : 0;
  unmark();
  return n;
}

function byValue(a, b) {
  return a - b;
}

function sort(mode, ms) {
  let n = 0;
  mark('sort ' + mode, ['byValue']);
  for (const end = Date.now() + ms; Date.now() < end;) n += numbers.slice().sort(byValue)[0];
  unmark();
  return n;
}

function map(mode, ms) {
  let n = 0;
  mark('map ' + mode, ['(anonymous)', 'square']);
  for (const end = Date.now() + ms; Date.now() < end;) n += numbers.map((x) => square(x)).length;
  unmark();
  return n;
}

function square(x) {
  return x * x;
}

function readFiles(mode, ms) {
  let n = 0;
  mark('files ' + mode, ['readFileSync', 'tryReadSync', 'tryStatSync', 'openSync', 'closeSync', 'fstat', 'isFileType', 'getOptions', '*']);
  for (const end = Date.now() + ms; Date.now() < end;) n += fs.readFileSync(__filename).length;
  unmark();
  return n;
}

function allocate(mode, ms) {
  let kept = [];
  mark('allocate ' + mode, ['(anonymous)']);
  for (const end = Date.now() + ms; Date.now() < end;) kept = Array.from({ length: 5000 }, (_, i) => ({ i, text: 'x' + i, list: [i] }));
  unmark();
  return kept.length;
}

function derive(mode, ms) {
  let n = 0;
  mark('derive ' + mode, ['pbkdf2Sync', '*']);
  for (const end = Date.now() + ms; Date.now() < end;) n += crypto.pbkdf2Sync('password', 'salt', 3000, 64, 'sha512').length;
  unmark();
  return n;
}

function digest(mode, ms) {
  let n = 0;
  mark('digest ' + mode, ['*']);
  for (const end = Date.now() + ms; Date.now() < end;) n += crypto.createHash('sha256').update(bytes).digest().length;
  unmark();
  return n;
}

// Small functions that TurboFan puts into their caller.
function add(a, b) { return a + b; }
function twice(a) {
  return add(a, a);
}
function inlined(mode, ms) {
  let n = 0;
  mark('inlined ' + mode, ['add', 'twice']);
  for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < 10000; i++) n = twice(n + i) & 0xffff;
  unmark();
  return n;
}

class Shape {
  #side = 2;
  constructor(sides) { this.sides = sides; }
  get area() { return this.#side * this.sides; }
  static unit() { return new Shape(1); }
  measure(mode, ms) {
    let n = 0;
    // V8 runs the fields of a class in a function of that name, which its own stacks show.
    mark('method ' + mode, ['area', 'get area', 'Shape', 'unit', 'grow', '<instance_members_initializer>']);
    for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < 1000; i++) n = (n + Shape.unit().grow(i).area) | 0;
    unmark();
    return n;
  }
  grow(by) {
    this.sides += by;
    return this;
  }
}

const arrow = (mode, ms) => {
  let n = 0;
  mark('arrow ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < 10000; i++) n = (n ^ i) | 0;
  unmark();
  return n;
};

const table = {
  entry(mode, ms) {
    let n = 0;
    mark('object method ' + mode);
    for (const end = Date.now() + ms; Date.now() < end;) for (const c of json.slice(0, 1000)) n += c.length;
    unmark();
    return n;
  },
};

function* produce(mode, ms) {
  let n = 0;
  mark('generator ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < 10000; i++) n = (n ^ i) | 0;
  unmark();
  yield n;
}
function generator(mode, ms) {
  return produce(mode, ms).next().value;
}

const compiled = vm.runInThisContext(`(mark, unmark) => function inScript(mode, ms) {
  let n = 0;
  mark('vm ' + mode);
  for (const end = Date.now() + ms; Date.now() < end;) for (let i = 0; i < 10000; i++) n = (n ^ i) | 0;
  unmark();
  return n;
}`, { filename: '/virtual/größe 価格.js', lineOffset: 10 })(mark, unmark);

function interpretedOnce(mode, ms) {
  // A new function each time: never optimised, its statements spread over lines.
  const run = new Function('mark', 'unmark', 'until', `
    const go = until(${ms});
    let n = 0;
    mark('fresh ${mode}', ['until', 'anonymous', '(anonymous)', 'now']);
    while (go()) n++;
    unmark();
    return n;
  `);
  return run(mark, unmark, until);
}

// Non-leaf lines differ from first lines, and the calls share lines with others.
function middle(run, mode, ms) {
  const before = run.name.length;

  const result = [0, run(mode, ms)][1];
  return result + before;
}

class Service {
  handle(run, mode, ms) {
    let total = 0;
    total += 1;
    total += middle(run, mode, ms); total += 0;
    return total;
  }
}
const service = new Service();
const shape = new Shape(3);

const scenarios = [
  hash, parse, stringify, regex, sort, map, readFiles, allocate, derive, digest, inlined, arrow, generator,
  table.entry, compiled, interpretedOnce,
  function method(mode, ms) {
    return shape.measure(mode, ms);
  },
];

function dispatch(index, mode) {
  const run = scenarios[index % scenarios.length];
  // Short runs make V8 optimise the callers, long ones replace the running frame.
  if (mode === 'long') return service.handle(run, mode, 120);
  let total = 0;
  for (let i = 0; i < 60; i++) {
    if (i & 1) {
      total += 1;
    }
    total +=
      service.handle(run, mode, 2);
    total &= 0xffff;
  }
  return total;
}

async function settle(index) {
  await null;
  return dispatch(index, 'short');
}

let index = 0;
function turn() {
  index++;
  const kind = (index * 7 >> 2) % 3;
  if (kind === 0) setTimeout(onTimer, 1);
  else if (kind === 1) setImmediate(onImmediate);
  else Promise.resolve(index).then(settle).then(turn);
}
function onTimer() {
  dispatch(index, 'long');
  turn();
}
function onImmediate() {
  dispatch(index, 'short');
  turn();
}

if (isMainThread && process.argv[3] === 'worker') {
  new Worker(__filename, { workerData: { record: recordPath } });
} else {
  turn();
}
if (isMainThread) console.log('ready');
void path;
