'use strict';
// cpu-starved.js: a service that needs the processor for some 20 to 30 ms per request, which is no stall unless others take the processor.
const { serve, reply, calibrate } = require('./shared');

const pixels = new Uint8Array(1 << 12);

function renderThumbnail(rounds) {
  for (let round = 0; round < rounds; round++) {
    const i = round & (pixels.length - 1);
    pixels[i] = (pixels[i] * 3 + pixels[(i * 7) & (pixels.length - 1)] + round) >> 1;
  }
  return pixels[0];
}

const ROUNDS = calibrate(20, renderThumbnail);
const turns = { count: 0, sum_ms: 0, max_ms: 0 };

function thumbnail(req, res) {
  const begin = performance.now();
  const pixel = renderThumbnail(ROUNDS);
  const ms = performance.now() - begin;
  turns.count++;
  turns.sum_ms += ms;
  turns.max_ms = Math.max(turns.max_ms, ms);
  reply(res, `${pixel}\n`);
}

serve({
  expect: 'cpu-starved', path: '/thumbnail', rate: 12, connections: 1, client: 'its host keeps its processor busy with others',
  routes: { '/thumbnail': thumbnail },
  report: () => ({ turns }),
});
