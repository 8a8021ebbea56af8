'use strict';
// cluster.js WORKERS: cluster workers that listen on one port. Per line `go` the first worker blocks 200 ms.
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

if (cluster.isPrimary) {
  const workers = Array.from({ length: Number(process.argv[2] || 2) }, () => cluster.fork());
  let listening = 0;
  cluster.on('listening', () => {
    if (++listening === workers.length) {
      oracle({ type: 'ready', pid: process.pid, workers: workers.map((worker) => worker.process.pid) });
    }
  });
  process.stdin.on('data', () => workers[0].send('go')).on('end', () => {
    for (const worker of workers) worker.process.kill();
    process.exit();
  });
} else {
  http.createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1');
  process.on('message', (message) => {
    if (message !== 'go') return;
    const begin = performance.now();
    while (performance.now() < begin + 200);
    oracle({ type: 'block', pid: process.pid, duration_ms: performance.now() - begin });
  });
}
