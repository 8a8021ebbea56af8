'use strict';
// checkout.js: one service with a little of everything that a board has a panel for, so that each has something to draw: stalls of
// several causes, collections, output that nobody takes, rejections, lost contexts, deoptimisations, a worker, full queues.
// `/order` is what to ask for; whoever asks for `/export` and does not read fills a socket.
const fs = require('fs');
const dns = require('dns');
const http = require('http');
const path = require('path');
const vm = require('vm');
const zlib = require('zlib');
const crypto = require('crypto');
const { execSync } = require('child_process');
const { AsyncLocalStorage } = require('async_hooks');
const { Worker, isMainThread } = require('worker_threads');

const spin = (ms) => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};

if (!isMainThread) {
  setInterval(() => spin(10), 100);
} else {
  const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
  const DRIVER = path.join(__dirname, 'failure-modes/node_modules/old-driver/index.js');
  const { Driver } = require(DRIVER);
  const driver = new Driver('cat');
  const context = new AsyncLocalStorage();
  const RULE = path.join(__dirname, 'failure-modes/rules/score.js');
  const rule = new vm.Script(fs.readFileSync(RULE, 'utf8'), { filename: RULE });
  const COLUMNS = ['price', 'weight', 'stock', 'rating', 'age'];
  const sessions = [];
  let orders = 0;

  // A script that is run anew meets rows of other shapes than those it was optimised for.
  function score() {
    const scoreRow = rule.runInThisContext();
    for (let source = 0; source < COLUMNS.length; source++) {
      const row = { [`r${orders}`]: 0 };
      for (let i = 0; i < COLUMNS.length; i++) row[COLUMNS[(source + i) % COLUMNS.length]] = i;
      for (let round = 0; round < 6000; round++) scoreRow(row, round);
    }
  }

  async function audit() {
    for (let i = 0; i < 3000; i++) await null;
    if (orders % 5 === 0) throw new Error('no auditor');
    const late = Promise.reject(new Error('the auditor is late'));
    setTimeout(() => late.catch(() => {}), 5);
  }
  process.on('unhandledRejection', () => {});

  function log() {
    const line = JSON.stringify({ level: 30, order: orders, basket: 'article '.repeat(600) }) + '\n';
    // Now and then more than the pipe holds.
    process.stdout.write(orders % 10 === 0 ? line.repeat(12) : line);
    if (orders % 4 === 0) {
      try {
        fs.writeSync(2, line);
      } catch (error) {
        if (error.code !== 'EAGAIN') throw error;
      }
    }
  }

  function order(req, res) {
    orders++;
    sessions.push(Array.from({ length: 2000 }, (_, id) => ({ id, order: orders })));
    if (sessions.length > 1000) sessions.splice(0, 900);
    if (orders % 10 === 0) spin(90);
    if (orders % 15 === 0) execSync('sleep 0.06');
    if (orders % 6 === 0) score();
    if (orders % 40 === 0) {
      delete require.cache[DRIVER];
      require(DRIVER);
    }
    for (let i = 0; i < 6; i++) crypto.pbkdf2('password', 'salt', 2000, 32, 'sha512', () => {});
    dns.lookup('localhost', () => {});
    zlib.deflate('basket', () => {});
    audit();
    log();
    const answer = (error, row) => {
      const body = `order ${context.getStore()?.id}: ${row}\n`;
      res.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) });
      res.end(body);
    };
    context.run({ id: orders }, () => {
      if (orders % 4 === 0) driver.query('select 1', answer);
      else fs.stat(__filename, () => answer(null, 1));
    });
  }

  // Heeds write(), as it should: what waits is what the kernel has taken and the peer has not.
  function exportOrders(req, res) {
    res.writeHead(200, { 'Content-Type': 'text/csv' });
    setInterval(() => res.writableNeedDrain || res.write(Buffer.alloc(100 << 10, 'paid\n')), 20).unref();
  }

  new Worker(__filename);
  const routes = { '/order': order, '/export': exportOrders };
  const server = http.createServer((req, res) => routes[req.url](req, res));
  server.keepAliveTimeout = 60000;
  server.listen(0, '127.0.0.1', () => oracle({ type: 'ready', pid: process.pid, port: server.address().port }));
  process.stdin.on('end', () => process.exit()).resume();
}
