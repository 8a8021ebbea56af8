'use strict';
// healthy-download.js: a download of 5 MB/s at most whose client reads slowly, and whose server waits for it.
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');
const { serve, reply } = require('./shared');

const CHUNK = 100 << 10;
const CHUNKS = 3000;
let sent = 0;

function* orders() {
  for (let written = 0; written < CHUNKS; written++) {
    sent++;
    yield Buffer.alloc(CHUNK, `${written};paid\n`);
  }
}

async function download(req, res) {
  res.writeHead(200, { 'Content-Type': 'text/csv', 'Content-Length': CHUNK * CHUNKS });
  // A client that leaves is no error of the service.
  await pipeline(Readable.from(orders()), res).catch(() => {});
}

serve({
  expect: null, path: '/download', rate: 0, connections: 1, client: 'asks once for the path and reads some 500 kB/s',
  routes: { '/download': download, '/health': (req, res) => reply(res) },
  report: () => ({ sent }),
});
