'use strict';
// A busy service in good health: HTTP over keep-alive connections to itself, timers, file reads, turns of 1 to 3 ms,
// and ten log lines per second to stdout and to a file. It writes down its own longest callback every second.
const fs = require('fs');
const http = require('http');
const os = require('os');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const log = fs.createWriteStream('/dev/null');
let requests = 0;
let longest = 0;

function spin(ms) {
  const begin = performance.now();
  while (performance.now() < begin + ms);
  longest = Math.max(longest, performance.now() - begin);
}

const server = http.createServer((request, response) => {
  requests++;
  spin(1 + (requests % 3));
  response.end(JSON.stringify({ requests, host: os.hostname() }));
});

server.listen(0, '127.0.0.1', () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const { port } = server.address();
  const request = () => http.get({ port, host: '127.0.0.1', agent }, (response) => {
    response.resume().on('end', () => setTimeout(request, 15));
  });
  request();
  request();
  setInterval(() => spin(1), 20);
  setInterval(() => {
    const line = JSON.stringify({ level: 30, time: Date.now(), requests, msg: 'request completed' }) + '\n';
    process.stdout.write(line);
    log.write(line);
  }, 100);
  setInterval(() => fs.readFile(__filename, () => spin(1)), 50);
  setInterval(() => { oracle({ type: 'healthy', requests, longest_ms: longest }); longest = 0; }, 1000);
  oracle({ type: 'ready', pid: process.pid });
});
process.stdin.on('end', () => process.exit()).resume();
