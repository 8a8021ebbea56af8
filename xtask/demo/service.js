// A small service with known illnesses, for `cargo xtask demo`:
//   - every third second a log-in hashes a password synchronously and stops the event loop for about 200 ms;
//   - every request keeps a little garbage alive for a while, so that collections have something to do;
//   - every request writes a log line with the whole request context in it, to a reader that naps.
// A worker thread sends the requests. It is healthy, and top shows it on a row of its own.
'use strict';
const http = require('http');
const crypto = require('crypto');
const { Worker, isMainThread, workerData } = require('worker_threads');

if (isMainThread) serve();
else sendRequests(workerData.port);

function serve() {
  const iterations = iterationsFor(200);
  const recent = [];
  const server = http.createServer((request, response) => {
    if (request.url === '/login') {
      crypto.pbkdf2Sync('correct horse', 'battery staple', iterations, 64, 'sha512');
    }
    const orders = Array.from({ length: 2000 }, (_, id) => ({ id, name: `order ${id}`, tags: [id, id + 1] }));
    recent.push(orders);
    if (recent.length > 50) recent.shift();
    console.log(JSON.stringify({ at: Date.now(), url: request.url, headers: request.headers, orders: orders.slice(0, 100) }));
    response.end('ok\n');
  });
  server.listen(0, '127.0.0.1', () => {
    console.log('ready');
    new Worker(__filename, { workerData: { port: server.address().port } });
  });
  // Whoever started this holds the other end: its death must not leave a busy process behind.
  process.stdin.on('end', () => process.exit()).resume();
  process.stdout.on('error', () => process.exit());
}

// How many rounds of the hash take `ms` on this machine.
function iterationsFor(ms) {
  const rounds = 20000;
  const started = process.hrtime.bigint();
  crypto.pbkdf2Sync('correct horse', 'battery staple', rounds, 64, 'sha512');
  const took = Number(process.hrtime.bigint() - started) / 1e6;
  return Math.max(1, Math.round((rounds * ms) / took));
}

function sendRequests(port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  const send = (path) =>
    http.get({ host: '127.0.0.1', port, path, agent }, (response) => response.resume()).on('error', () => {});
  setInterval(() => send('/orders'), 20);
  setInterval(() => send('/login'), 3000);
}
