'use strict';
// exec-sync.js COMMAND: per line `go` on stdin one execSync, whose own loop inside the turn is not idle time.
const fs = require('fs');
const { execSync } = require('child_process');
const { performance } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const command = process.argv[2] || 'sleep 0.3';

process.stdin.on('data', () => {
  const begin = performance.now();
  execSync(command);
  const end = performance.now();
  // Told in a later turn: a write to a busy disk takes as long as it likes, and would make this turn longer.
  setTimeout(oracle, 20, { type: 'block', start_ms: performance.timeOrigin + begin, end_ms: performance.timeOrigin + end,
    duration_ms: end - begin });
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid });
