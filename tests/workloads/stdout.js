'use strict';
// stdout.js stream|sync CHUNKS CHUNK_BYTES [stdout|stderr]: per line `go`, writes chunks.
// stream: process.stdout.write, which blocks on files and terminals and buffers in memory on pipes and sockets.
// sync: fs.writeSync on the descriptor with process.stdout never touched, as loggers with `sync: true` do: on a pipe
// that nobody has switched to O_NONBLOCK it blocks.
const fs = require('fs');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const [mode = 'stream', chunks = 100, size = 4096, stream = 'stdout'] = process.argv.slice(2);
const fd = stream === 'stderr' ? 2 : 1;
const chunk = 'x'.repeat(size - 1) + '\n';

function write() {
  let longest = 0;
  let bytes = 0;
  const begin = performance.now();
  for (let i = 0; i < chunks; i++) {
    const before = performance.now();
    if (mode === 'sync') for (let sent = 0; sent < chunk.length;) sent += fs.writeSync(fd, chunk.slice(sent));
    else process[stream].write(chunk);
    longest = Math.max(longest, performance.now() - before);
    bytes += chunk.length;
  }
  const end = performance.now();
  oracle({ type: 'written', bytes, duration_ms: end - begin, longest_ms: longest,
    start_ms: performance.timeOrigin + begin, end_ms: performance.timeOrigin + end,
    buffered_bytes: mode === 'sync' ? 0 : process[stream].writableLength });
}

process.stdin.on('data', write).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid });
