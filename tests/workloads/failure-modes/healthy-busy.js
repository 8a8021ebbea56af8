'use strict';
// healthy-busy.js: 80 % utilised in turns of 2 to 10 ms: what a request takes is adjusted to how many there are.
const { serve, reply } = require('./shared');

const GOAL = 0.8;
let work_ms = 5;

function price(ms) {
  let sum = 0;
  for (const end = performance.now() + ms; performance.now() < end;) {
    for (let i = 0; i < 1000; i++) sum = (sum * 31 + i) | 0;
  }
  return sum;
}

let before = performance.eventLoopUtilization();
setInterval(() => {
  const { utilization } = performance.eventLoopUtilization(before);
  before = performance.eventLoopUtilization();
  // Slowly, and not at all while there is no load.
  if (utilization > 0.1) work_ms = Math.min(9, Math.max(2, work_ms * (1 + (GOAL / utilization - 1) / 2)));
}, 250);

serve({
  expect: null, path: '/price', rate: 150,
  routes: { '/price': (req, res) => reply(res, `${price(work_ms)}\n`) },
  report: () => ({ work_ms }),
});
