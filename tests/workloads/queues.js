'use strict';
// queues.js: per line on stdin something that waits. `work`: known numbers of tasks for libuv's pool, and how long an fs.stat takes
// that is handed in while all threads are busy (run it with UV_THREADPOOL_SIZE=1). `report`: what the sockets have taken. Whoever
// connects gets 16 MB.
const fs = require('fs');
const net = require('net');
const dns = require('dns');
const zlib = require('zlib');
const crypto = require('crypto');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const TASKS = { fs: 12, dns: 7, crypto: 9, zlib: 5 };
const sockets = new Set();

function work() {
  let left = Object.values(TASKS).reduce((sum, count) => sum + count);
  let waited_ms = 0;
  const done = (error) => {
    if (error) throw error;
    if (--left === 0) oracle({ type: 'worked', tasks: TASKS, waited_ms, ended_ms: performance.now() - begin });
  };
  const begin = performance.now();
  // The first keeps the thread busy for some 300 ms.
  crypto.pbkdf2('password', 'salt', 300000, 32, 'sha512', done);
  fs.stat(__filename, (error) => {
    waited_ms = performance.now() - begin;
    done(error);
  });
  for (let i = 1; i < TASKS.fs; i++) fs.stat(__filename, done);
  for (let i = 1; i < TASKS.crypto; i++) crypto.pbkdf2('password', 'salt', 10, 32, 'sha512', done);
  for (let i = 0; i < TASKS.dns; i++) dns.lookup('localhost', done);
  // One piece of work each: the end of a stream would be another.
  for (let i = 0; i < TASKS.zlib; i++) zlib.createDeflateRaw().write('short', done);
}

const server = net.createServer((socket) => {
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
  socket.write(Buffer.alloc(16 << 20));
});

// bytesWritten of the handle: all that was handed to libuv; its queue: what the kernel has not taken of that.
const report = () => oracle({ type: 'report',
  taken: [...sockets].map(({ _handle }) => _handle.bytesWritten - _handle.writeQueueSize),
  queued: [...sockets].map(({ _handle }) => _handle.writeQueueSize) });

server.listen(0, '127.0.0.1', () => oracle({ type: 'ready', pid: process.pid, port: server.address().port }));
process.stdin.setEncoding('utf8').on('data', (lines) => {
  for (const line of lines.split('\n').filter(Boolean)) ({ work, report })[line]();
}).on('end', () => process.exit());
