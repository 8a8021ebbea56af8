'use strict';
// culprits.js DIRECTORY [WEDGE_MS]: per line KIND on stdin one turn of about 400 ms (`wedge`: 6 s or WEDGE_MS) that one known function
// is guilty of; `kinds` lists them. DIRECTORY gets npm packages and has a named pipe `fifo`.
//
// A guilty function first calls mark() on the line it begins at: V8's own stack tells its name, script and first line there,
// and its source how many lines it has. Of functions below a source map, the original source tells.
const fs = require('fs');
const path = require('path');
const zlib = require('zlib');
const crypto = require('crypto');
const { execSync, spawn } = require('child_process');
const { performance } = require('perf_hooks');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').pop());
const MS = 400;

let guilty = null;

// `    at new Name [as alias] (file:///path:12:34)` without what is not the function's own name.
function frameOf(error) {
  const line = error.stack.split('\n').find((text) => text.startsWith('    at '));
  const [, called, place] = /^ {4}at (?:async )?(?:(.*) \()?(.*?)\)?$/.exec(line);
  const [, script, row] = /^(?:file:\/\/)?(.*):(\d+):\d+$/.exec(place.split(', ').pop());
  return { called: called || '(anonymous)', script, row: Number(row) };
}

function mark(error, { name, source }) {
  const { called, script, row } = frameOf(error);
  if (!called.includes(name)) throw new Error(`${called} is not ${name}`);
  guilty = { functions: [name], script, first_line: row, last_line: row + String(source).split('\n').length - 1, package: null };
}

// A function of an original source, from the line where it begins to the first line that is indented as that one and ends it.
function original(script, name, begin) {
  const lines = fs.readFileSync(path.join(__dirname, script), 'utf8').split('\n');
  const first = lines.findIndex((line) => line.includes(begin));
  const indent = /^ */.exec(lines[first])[0];
  const last = lines.findIndex((line, index) => index > first && line.startsWith(`${indent}}`));
  return { functions: [name], script: path.join(__dirname, script), first_line: first + 1, last_line: last + 1, package: null };
}

function hashRounds() { mark(new Error(), { name: 'hashRounds', source: hashRounds });
  let hash = 5381;
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) {
      hash = (hash * 33 + i) | 0;
    }
  }
  return hash;
}

const catalogText = JSON.stringify(Array.from({ length: 20000 }, (_, id) => ({ id, name: `article ${id}`, tags: ['a', 'b'], price: id / 7 })));
const catalog = JSON.parse(catalogText);

function parseCatalog() { mark(new Error(), { name: 'parseCatalog', source: parseCatalog });
  let articles = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    articles += JSON.parse(catalogText).length;
  }
  return articles;
}

function writeCatalog() { mark(new Error(), { name: 'writeCatalog', source: writeCatalog });
  let length = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    length += JSON.stringify(catalog).length;
  }
  return length;
}

function checkAddress() { mark(new Error(), { name: 'checkAddress', source: checkAddress });
  let matches = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    matches += /^(a+)+$/.test(`${'a'.repeat(20)}!`);
  }
  return matches;
}

const records = Array.from({ length: 20000 }, (_, i) => ({ name: `record ${(i * 7919) % 20011}` }));

function byName(a, b) { return a.name < b.name ? -1 : Number(a.name > b.name); }

function sortRecords() { mark(new Error(), { name: 'sortRecords', source: sortRecords });
  // Which of the two most samples share is a matter of how much the builtin between them takes.
  guilty.functions.push('byName');
  guilty.first_line -= 2;
  let sorted = [];
  for (const end = Date.now() + MS; Date.now() < end;) {
    sorted = records.slice().sort(byName);
  }
  return sorted;
}

function fibonacci(n) { if (guilty === null) mark(new Error(), { name: 'fibonacci', source: fibonacci });
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

class Report {
  constructor() { this.rows = new Float64Array(1000); }

  renderRows() { mark(new Error(), { name: 'renderRows', source: Report.prototype.renderRows });
    for (const end = Date.now() + MS; Date.now() < end;) {
      for (let i = 1; i < this.rows.length; i++) this.rows[i] = this.rows[i - 1] + Math.sqrt(i);
    }
  }
}

const scaleImage = () => { mark(new Error(), { name: 'scaleImage', source: scaleImage });
  const pixels = new Uint8Array(1 << 16);
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < pixels.length; i++) pixels[i] = (pixels[i] + i) >> 1;
  }
  return pixels;
};

async function resumeOrder() {
  await null; mark(new Error(), { name: 'resumeOrder', source: resumeOrder });
  // The mark is on the second line.
  guilty.first_line--;
  guilty.last_line--;
  let sum = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) sum += i % 3;
  }
  return sum;
}

function digestPassword() { mark(new Error(), { name: 'digestPassword', source: digestPassword });
  for (const end = Date.now() + MS; Date.now() < end;) {
    crypto.pbkdf2Sync('secret', 'salt', 20000, 64, 'sha512');
  }
}

function deriveKey() { mark(new Error(), { name: 'deriveKey', source: deriveKey });
  for (const end = Date.now() + MS; Date.now() < end;) {
    crypto.scryptSync('secret', 'salt', 64, { N: 4096 });
  }
}

const archive = Buffer.from(catalogText);

function packArchive() { mark(new Error(), { name: 'packArchive', source: packArchive });
  for (const end = Date.now() + MS; Date.now() < end;) {
    zlib.deflateSync(archive);
  }
}

function loadSettings() { mark(new Error(), { name: 'loadSettings', source: loadSettings });
  return fs.readFileSync(`${directory}/fifo`);
}

function convertImage() { mark(new Error(), { name: 'convertImage', source: convertImage });
  return execSync('sleep 0.4');
}

function logEverything() { mark(new Error(), { name: 'logEverything', source: logEverything });
  for (const end = Date.now() + MS; Date.now() < end;) {
    console.log({ level: 'debug', order: { id: Date.now(), lines: [1, 2, { article: 3 }] } });
  }
}

const wedgeMs = Number(process.argv[3] || 6000);
function wedge() { mark(new Error(), { name: 'wedge', source: wedge });
  oracle({ type: 'wedge', start_ms: performance.timeOrigin + performance.now(), ...guilty });
  let x = 1;
  for (const end = Date.now() + wedgeMs; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) x = (x * 7 + i) % 1000003;
  }
  return x;
}

// Functions of packages, as npm lays them out. They are handed the mark.
function install(name, main, functionName) {
  const root = path.join(directory, 'node_modules', name);
  fs.mkdirSync(path.dirname(path.join(root, main)), { recursive: true });
  fs.writeFileSync(path.join(root, 'package.json'), JSON.stringify({ name, version: '1.2.3', main }));
  fs.writeFileSync(path.join(root, main), `'use strict';
// Begins at the third line.
module.exports = function ${functionName}(mark, ms) { mark(new Error(), { name: '${functionName}', source: ${functionName} });
  let pad = '';
  for (const end = Date.now() + ms; Date.now() < end;) {
    for (pad = ''; pad.length < 1000;) pad += '.';
  }
  return pad;
};
`);
  const guiltyFunction = require(root);
  return () => {
    guiltyFunction(mark, MS);
    guilty.package = name;
  };
}

function evaluate() {
  return (0, eval)(`(function runRule(mark, ms) { mark(new Error(), { name: 'runRule', source: runRule });
  let score = 0;
  for (const end = Date.now() + ms; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) score = (score + i * i) % 10007;
  }
  return score;
})
//# sourceURL=rules/discount.js`);
}

function inWorker() { mark(new Error(), { name: 'inWorker', source: inWorker });
  let sum = 0;
  for (const end = Date.now() + MS; Date.now() < end;) {
    for (let i = 0; i < 1e5; i++) sum = (sum + i) % 65521;
  }
  return sum;
}

const directory = isMainThread ? process.argv[2] : workerData;
const { ledger } = isMainThread ? require('./dist/invoices.js') : {};
const { checkout } = isMainThread ? require('./dist/prices.min.js') : {};
let module_ = null;

const kinds = {
  hash: hashRounds,
  'json-parse': parseCatalog,
  'json-stringify': writeCatalog,
  regexp: checkAddress,
  sort: sortRecords,
  recursion: () => { for (const end = Date.now() + MS; Date.now() < end;) fibonacci(27); },
  'class-method': () => new Report().renderRows(),
  arrow: () => scaleImage(),
  async: resumeOrder,
  pbkdf2: digestPassword,
  scrypt: deriveKey,
  deflate: packArchive,
  fifo: loadSettings,
  'exec-sync': convertImage,
  'console-log': logEverything,
  package: () => kinds.package.run(),
  'scoped-package': () => kinds['scoped-package'].run(),
  module: () => module_.transform(mark, MS),
  eval: () => kinds.eval.run(mark, MS),
  minified: () => { checkout(MS); guilty = original('src/prices.js', 'priceBasket', 'function priceBasket('); },
  typescript: () => { ledger.settleInvoices(MS); guilty = original('src/invoices.ts', 'settleInvoices', 'settleInvoices('); },
  wedge,
};
// What has to be under way before the turn begins.
const before = { fifo: () => spawn('sh', ['-c', 'sleep 0.4; echo late > "$1"', 'sh', `${directory}/fifo`], { stdio: 'ignore' }) };

async function turn(kind) {
  guilty = null;
  const begin = performance.now();
  if (kind === 'worker') inWorker();
  else await kinds[kind]();
  const end = performance.now();
  const note = { type: 'turn', kind, tid, duration_ms: end - begin, ...guilty };
  // Told in a later turn.
  setTimeout(oracle, 50, note);
}

async function main() {
  module_ = await import('./module.mjs');
  kinds.package.run = install('left-hash', 'index.js', 'leftHash');
  kinds['scoped-package'].run = install('@acme/hasher', 'lib/index.js', 'hashRight');
  kinds.eval.run = evaluate();
  const worker = new Worker(__filename, { workerData: directory });
  await new Promise((resolve) => worker.once('message', resolve));
  process.stdin.setEncoding('utf8').on('data', (lines) => {
    for (const kind of lines.split('\n').filter(Boolean)) {
      if (kind === 'worker') worker.postMessage(kind);
      else {
        if (before[kind]) before[kind]();
        setTimeout(turn, 20, kind);
      }
    }
  }).on('end', () => process.exit());
  oracle({ type: 'ready', pid: process.pid, tid, kinds: [...Object.keys(kinds).filter((kind) => kind !== 'wedge'), 'worker'] });
}

if (isMainThread) main();
else {
  parentPort.on('message', turn);
  parentPort.postMessage('ready');
}
