'use strict';
// listens.js SPIN_MS WAIT_MS|never: busy at top level, waits by a timer, then listens on one port and, half a second later, on
// another. Without a host, the system call is made within the call of `listen`: before and after it, and when it was called back.
require('cluster'); // `listen` would load it
const fs = require('fs');
const http = require('http');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const monotonic = () => Number(process.hrtime.bigint()) / 1e6;
const [spin, wait] = process.argv.slice(2);

function listen(then) {
  const server = http.createServer((req, res) => res.end('ok\n'));
  const begin_ms = monotonic();
  server.listen(0, () => {
    oracle({ type: 'listening', begin_ms, end_ms, callback_ms: monotonic() });
    if (then) setTimeout(then, 500);
  });
  const end_ms = monotonic();
}

const end = performance.now() + Number(spin);
while (performance.now() < end);
// Where Node's own clock begins, on the monotonic one: what came before is the dynamic linker's.
oracle({ type: 'ready', pid: process.pid, origin_ms: monotonic() - performance.now() });
if (wait !== 'never') setTimeout(listen, Number(wait), listen);
process.stdin.on('end', () => process.exit()).resume();
setInterval(() => {}, 1000);
