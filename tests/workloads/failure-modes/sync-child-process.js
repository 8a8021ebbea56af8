'use strict';
// sync-child-process.js: asks another program, and stops until it has ended.
const { execSync } = require('child_process');
const { serve, reply } = require('./shared');

const turns = { count: 0, sum_ms: 0, max_ms: 0 };

function convertImage() {
  return execSync('sleep 0.1');
}

function convert(req, res) {
  const begin = performance.now();
  convertImage();
  const ms = performance.now() - begin;
  turns.count++;
  turns.sum_ms += ms;
  turns.max_ms = Math.max(turns.max_ms, ms);
  reply(res);
}

serve({
  expect: 'sync-child-process', path: '/convert', rate: 3, functions: [convertImage], script: __filename,
  routes: { '/convert': convert },
  report: () => ({ turns }),
});
