'use strict';
// logging.js console|logger|silent: a service that logs each of the 400 orders of a request by console.log, each request in one long
// line by JSON.stringify and fs.writeSync, or nothing, and measures what the processor spends for it. Standard output must be a pipe
// that somebody reads at once.
const fs = require('fs');
const { serve, reply } = require('./failure-modes/shared');

const basket = Array.from({ length: 160 }, (_, id) => (
  { id, sku: `article-${id * 7919}`, price: id / 4, options: ['red', 'large', 'gift wrapped'] }));
let lines = 0;
let logging_us = 0;
let measurements = 0;

// The processor's time of the whole process: start Node with --single-threaded, so that it is that of the main thread.
function cpuUs(before) {
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

function add(before) {
  logging_us += cpuUs(before);
  measurements++;
}

// What of its own cost a measurement contains: some 1.5 us, where a line takes 20.
function measurementUs() {
  for (let n = 0; n < 50000; n++) add(process.cpuUsage());
  const result = logging_us / measurements;
  logging_us = 0;
  measurements = 0;
  return result;
}
const measurement_us = measurementUs();

function book(req) {
  for (let order = 0; order < 400; order++) {
    const median = price(req, 160);
    const before = process.cpuUsage();
    console.log('%s %s: order %d at %d, line %d', 'info', req.url, order, median, lines++);
    add(before);
  }
}

function logRequest(req) {
  const record = { level: 30, time: Date.now(), msg: 'request', url: req.url, headers: req.headers, basket };
  const before = process.cpuUsage();
  const line = Buffer.from(`${JSON.stringify(record)}\n`);
  for (let sent = 0; sent < line.length;) sent += fs.writeSync(1, line, sent);
  add(before);
}

// What is no logging: so that there is something beside Node's own work.
function price(req, count) {
  const numbers = Array.from({ length: count }, (_, n) => (n * 7919 + req.url.length) % 101);
  return numbers.sort((a, b) => a - b)[count / 2];
}

const log = { console: book, logger: logRequest, silent: () => {} }[process.argv[2]];
serve({
  expect: null, path: '/orders', rate: 100, client: 'reads standard output at once', quiet: true,
  routes: { '/orders': (req, res) => { log(req); price(req, 100); reply(res); } },
  report: () => ({ measurement_us, logging_cpu_s: (logging_us - measurements * measurement_us) / 1e6, cpu_s: cpuUs() / 1e6 }),
});
