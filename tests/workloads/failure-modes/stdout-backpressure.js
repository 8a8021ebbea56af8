'use strict';
// stdout-backpressure.js: logs every request to stdout synchronously, as pino does with `sync: true`; whoever reads is slow.
// Standard output must be a pipe, and process.stdout must not be touched: that would make it non-blocking.
const fs = require('fs');
const { serve, reply } = require('./shared');

const basket = Array.from({ length: 160 }, (_, id) => (
  { id, sku: `article-${id * 7919}`, price: id / 4, options: ['red', 'large', 'gift wrapped'] }));
const pause = new Int32Array(new SharedArrayBuffer(4));
const blocked = { count: 0, ms: 0, max_ms: 0, bytes: 0, eagain: 0 };

function logRequest(req) {
  const record = { level: 30, time: Date.now(), msg: 'request', url: req.url, headers: req.headers, basket };
  const line = Buffer.from(`${JSON.stringify(record)}\n`);
  const begin = performance.now();
  for (let sent = 0; sent < line.length;) {
    try {
      sent += fs.writeSync(1, line, sent);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      blocked.eagain++;
      Atomics.wait(pause, 0, 0, 10);
    }
  }
  const ms = performance.now() - begin;
  blocked.count++;
  blocked.ms += ms;
  blocked.max_ms = Math.max(blocked.max_ms, ms);
  blocked.bytes += line.length;
}

serve({
  expect: 'stdout-backpressure', path: '/orders', rate: 20, functions: [logRequest], script: __filename,
  client: 'reads standard output at about 160 kB/s (8 KiB each 50 ms)',
  routes: { '/orders': (req, res) => { logRequest(req); reply(res); } },
  report: () => ({ blocked }),
});
