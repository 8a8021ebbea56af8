'use strict';
// heap-growth.js: sessions that nothing ever removes; the closures of each keep its whole history.
const v8 = require('v8');
const { serve, reply } = require('./shared');

const STEPS = 700;
const sessions = new Map();

function openSession(req) {
  const session = { id: `s${sessions.size}`, agent: req.headers['user-agent'], url: req.url, history: [] };
  for (let step = 0; step < STEPS; step++) {
    const entry = { step, page: session.url, previous: session.history[step - 1], undo: null };
    entry.undo = () => { session.history.length = entry.step; };
    session.history.push(entry);
  }
  sessions.set(session.id, session);
  return session;
}

// What V8 says of each collection: exact, taken inside of it.
const profiler = new v8.GCProfiler();
const full = [];
profiler.start();
function collections() {
  for (const { gcType, cost, afterGC } of profiler.stop().statistics) {
    if (gcType === 'MarkSweepCompact') full.push({ ms: cost / 1e3, used_heap_size: afterGC.heapStatistics.usedHeapSize });
  }
  profiler.start();
  return full;
}

serve({
  expect: 'heap-growth', path: '/cart', rate: 100, functions: [openSession], script: __filename,
  routes: { '/cart': (req, res) => reply(res, `${openSession(req).id}\n`) },
  report: () => ({ sessions: sessions.size, full_collections: collections() }),
});
