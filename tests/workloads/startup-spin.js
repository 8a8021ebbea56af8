'use strict';
// startup-spin.js MS: busy at top level, as heavy requires are, before the loop turns for the first time.
const fs = require('fs');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

const begin = performance.now();
const ms = Number(process.argv[2] || 1000);
while (performance.now() < begin + ms);
const end = performance.now();
process.stdin.on('end', () => process.exit()).resume();
// `end` counts from the start of the process: the start-up stall cannot be longer than that.
oracle({ type: 'block', start_ms: performance.timeOrigin + begin, end_ms: performance.timeOrigin + end,
  duration_ms: end - begin, since_process_start_ms: end });
setInterval(() => {}, 1000);
oracle({ type: 'ready', pid: process.pid });
