'use strict';
// healthy-context.js: answers that keep their context in all the ways that do, beside routes that never had one: a health check, a
// legacy route through a driver of old, a transaction of its own, events that a timer sends to all listeners.
const fs = require('fs');
const http = require('http');
const { once, on, EventEmitter } = require('events');
const { AsyncLocalStorage, AsyncResource } = require('async_hooks');
const { Driver } = require('old-driver');
const { serve, reply } = require('./shared');

const context = new AsyncLocalStorage();
const answers = { with_store: 0, without_store: 0, no_store: 0 };
const driver = new Driver('cat');
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
let port;

function done(res, body) {
  const store = context.getStore();
  answers[store ? 'with_store' : 'without_store']++;
  reply(res, `request ${store?.id}: ${body}\n`);
}
const get = (path, callback) => http.get({ port, path, agent }, callback).on('error', () => {});

const ways = [
  (res) => fs.stat(__filename, () => done(res, 'stat')),
  (res) => setTimeout(() => done(res, 'timeout'), 2),
  (res) => setImmediate(() => done(res, 'immediate')),
  async (res) => { done(res, (await fs.promises.readFile(__filename, 'utf8')).length); },
  async (res) => {
    const emitter = new EventEmitter();
    setTimeout(() => emitter.emit('row', 1), 2);
    await once(emitter, 'row');
    done(res, 'once');
  },
  async (res) => {
    const emitter = new EventEmitter();
    setTimeout(() => emitter.emit('row', 2), 2);
    for await (const [row] of on(emitter, 'row')) {
      done(res, row);
      break;
    }
  },
  (res) => { answers.with_store++; fs.createReadStream(__filename).pipe(res); },
  (res) => get('/plain', (upstream) => {
    answers[context.getStore() ? 'with_store' : 'without_store']++;
    res.writeHead(200, { 'Content-Length': upstream.headers['content-length'] });
    upstream.pipe(res);
  }),
  // What is handed to the driver of old, bound.
  (res) => driver.query('select 2', AsyncResource.bind((error, row) => done(res, row))),
  (res) => new Promise((resolve) => driver.query('select 3', (error, row) => resolve(row))).then((row) => done(res, row)),
];

let ids = 0;
function mixed(req, res) {
  const id = ++ids;
  // Three have no context: one is answered by Node's own callback, one by that of the driver of old, one has a context for its query only.
  const which = id % (ways.length + 3);
  if (which < ways.length) return context.run({ id }, () => ways[which](res));
  return [plain, legacy, transaction][which - ways.length](req, res);
}

function plain(req, res) {
  answers.no_store++;
  fs.stat(__filename, () => reply(res));
}
function legacy(req, res) {
  answers.no_store++;
  driver.query('select 4', (error, row) => reply(res, `${row}\n`));
}

async function transaction(req, res) {
  answers.no_store++;
  await context.run({ id: 'transaction' }, () => new Promise((resolve) => driver.query('commit', resolve)));
  reply(res);
}

const listeners = new Set();
setInterval(() => { for (const res of listeners) res.write(`data: ${ids}\n\n`); }, 50).unref();
function events(req, res) {
  res.writeHead(200, { 'Content-Type': 'text/event-stream' });
  res.write('\n');
  listeners.add(res);
  res.on('close', () => listeners.delete(res));
}

const server = serve({
  expect: null, path: '/mixed', rate: 100, connections: 4, quiet: true,
  routes: { '/mixed': mixed, '/plain': plain, '/healthz': plain, '/legacy': legacy, '/events': events },
  report: () => ({ answers }),
});
server.on('listening', () => {
  ({ port } = server.address());
  get('/events', (res) => res.resume());
  setInterval(() => get('/healthz', (res) => res.resume()), 50).unref();
});
