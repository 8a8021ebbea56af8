'use strict';
// stream-overflow.js: an export that is written without heeding what write() returns; who reads slowly has it all kept in memory.
const { serve, reply } = require('./shared');

const CHUNK = 100 << 10;
const CHUNKS = 3000;
const exports_ = new Set();
let ignored = 0;

// 5 MB/s, for a minute.
function exportOrders(req, res) {
  let written = 0;
  const state = { peer: `${req.socket.remoteAddress}:${req.socket.remotePort}`, res };
  exports_.add(state);
  res.writeHead(200, { 'Content-Type': 'text/csv', 'Content-Length': CHUNK * CHUNKS });
  const timer = setInterval(() => {
    if (!res.write(Buffer.alloc(CHUNK, `${written};paid\n`))) ignored++;
    if (++written < CHUNKS) return;
    clearInterval(timer);
    res.end();
  }, 20);
  res.on('close', () => {
    clearInterval(timer);
    exports_.delete(state);
  });
}

serve({
  expect: 'stream-overflow', path: '/export', rate: 0, connections: 1, client: 'asks once for the path and reads nothing, or some 100 kB/s',
  routes: { '/export': exportOrders, '/health': (req, res) => reply(res) },
  report: () => ({ ignored,
    exports: [...exports_].map(({ peer, res }) => ({ peer, written: res.socket.bytesWritten, queued: res.writableLength,
      need_drain: res.writableNeedDrain, handle_queue: res.socket._handle ? res.socket._handle.writeQueueSize : null })) }),
});
