'use strict';
// microtask-congestion.js: sums up the rows of an async generator. They are there already, so no await ever gives way to the loop.
const { serve, reply } = require('./shared');

// As many rows as take so long, however quick the machine is.
const REQUEST_MS = 100;
let rows = 10000;
const drains = { count: 0, max_ms: 0, sum_ms: 0 };

async function* readRows() {
  for (let row = 0; row < rows; row++) yield row;
}

async function sumRows() {
  let sum = 0;
  for await (const row of readRows()) sum += row;
  return sum;
}

async function total(req, res) {
  const begin = performance.now();
  const sum = await sumRows();
  const ms = performance.now() - begin;
  drains.count++;
  drains.sum_ms += ms;
  drains.max_ms = Math.max(drains.max_ms, ms);
  reply(res, `${sum}\n`);
}

async function calibrateRows() {
  let ms = 0;
  while (ms < REQUEST_MS / 2) {
    rows *= 2;
    const begin = performance.now();
    await sumRows();
    ms = performance.now() - begin;
  }
  rows = Math.round(rows * REQUEST_MS / ms);
}

calibrateRows().then(() => serve({
  expect: 'microtask-congestion', path: '/total', rate: 3, functions: [readRows, sumRows], script: __filename,
  routes: { '/total': total },
  report: () => ({ drains }),
}));
