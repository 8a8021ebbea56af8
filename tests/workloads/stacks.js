'use strict';
// A mixed load in turns of about 60 ms: hashing, JSON, regular expressions, sorting with a callback, synchronous files, garbage,
// timers, promises and a worker. Each function, called with TELL, returns V8's own stack on the line it begins at; the first
// note lists all functions with their lines, so that any other name or line in a sample is wrong.
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const TELL = Symbol('tell');
const MS = 60;
const bytes = Buffer.alloc(1 << 16, 7);
const articles = Array.from({ length: 3000 }, (_, id) => ({ id, name: `article ${(id * 7919) % 3001}`, tags: ['a', 'b'] }));
const text = JSON.stringify(articles);
let kept = [];

function hashBytes(tell) { if (tell === TELL) return new Error();
  let hash = 5381;
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < bytes.length; i++) hash = (hash * 33 + bytes[i]) | 0;
  }
  return hash;
}

function parseAll(tell) { if (tell === TELL) return new Error();
  let count = 0;
  for (const end = Date.now() + MS; Date.now() < end;) count += JSON.parse(text).length;
  return count;
}

function writeAll(tell) { if (tell === TELL) return new Error();
  let length = 0;
  for (const end = Date.now() + MS; Date.now() < end;) length += JSON.stringify(articles).length;
  return length;
}

function matchAll(tell) { if (tell === TELL) return new Error();
  let matches = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    matches += text.match(/"name":"article (\d+)(\d)"/g).length;
  }
  return matches;
}

const compare = (a, b) => { if (a === TELL) return new Error();
  if (a.name < b.name) return -1;
  return a.name > b.name ? 1 : 0;
};

function sortAll(tell) { if (tell === TELL) return new Error();
  let first = null;
  for (const end = Date.now() + MS; Date.now() < end;) {
    [first] = articles.slice().sort(compare);
  }
  return first;
}

function readFiles(tell) { if (tell === TELL) return new Error();
  let length = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    length += fs.readFileSync(__filename, 'utf8').length;
    length += fs.statSync(__filename).size;
  }
  return length;
}

function makeGarbage(tell) { if (tell === TELL) return new Error();
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < 1000; i++) kept.push({ i, pair: [i, kept.length] });
    if (kept.length > 200000) kept = [];
  }
}

class Shelf {
  constructor() { this.rows = new Float64Array(4096); }

  arrange(tell) { if (tell === TELL) return new Error();
    for (const end = Date.now() + MS; Date.now() < end;) {
      for (let i = 1; i < this.rows.length; i++) {
        this.rows[i] = Shelf.weight(this.rows[i - 1], i);
      }
    }
  }

  static weight(previous, i) { if (previous === TELL) return new Error();
    return Math.sqrt(previous + i);
  }
}
const shelf = new Shelf();

async function resume(tell) { if (tell === TELL) return new Error();
  let sum = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    await null;
    for (let i = 0; i < 10000; i++) sum += i % 7;
  }
  return sum;
}

const load = [hashBytes, parseAll, writeAll, matchAll, sortAll, readFiles, makeGarbage, arrangeShelf, resume];

function arrangeShelf(tell) { if (tell === TELL) return new Error();
  shelf.arrange();
}

let next = 0;
function onTimer(tell) { if (tell === TELL) return new Error();
  load[next++ % load.length]();
  setTimeout(onTimer, 20);
}

function inWorker(tell) { if (tell === TELL) return new Error();
  let sum = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) sum = (sum + i) % 65521;
  }
  setTimeout(inWorker, 200);
}

async function tellAll() {
  const told = [];
  for (const [name, source, call] of [
    ...[...load, compare, onTimer, inWorker].map((fn) => [fn.name, fn, fn]),
    ['arrange', Shelf.prototype.arrange, () => shelf.arrange(TELL)],
    ['weight', Shelf.weight, Shelf.weight],
  ]) {
    const error = await call(TELL);
    const line = error.stack.split('\n')[1];
    const [, script, row] = /\(?(?:file:\/\/)?([^ (]*):(\d+):\d+\)?$/.exec(line);
    if (!line.includes(name)) throw new Error(`${line} is not ${name}`);
    told.push({ function: name, script, first_line: Number(row), last_line: Number(row) + String(source).split('\n').length - 1 });
  }
  return told;
}

async function main() {
  const record = { type: 'ready', pid: process.pid, functions: await tellAll() };
  const worker = new Worker(__filename);
  worker.once('message', (tid) => {
    fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify({ ...record, worker_tid: tid }) + '\n');
    setTimeout(onTimer, 20);
  });
  process.stdin.on('end', () => process.exit()).resume();
}

if (isMainThread) main();
else {
  parentPort.postMessage(Number(fs.readlinkSync('/proc/thread-self').split('/').pop()));
  setTimeout(inWorker, 20);
}
