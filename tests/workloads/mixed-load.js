'use strict';
// About half busy, by every kind of callback. The cumulative active and idle time of
// performance.eventLoopUtilization() is noted at the begin and the end of each callback: between two notes the
// loop was either all busy or all idle, so a test may interpolate to any instant without error.
const fs = require('fs');
const { performance } = require('perf_hooks');

const samples = [];
const sample = () => {
  const { active, idle } = performance.eventLoopUtilization();
  samples.push([performance.timeOrigin + performance.now(), active, idle]);
};
const flush = () => {
  const lines = samples.splice(0).map(([time_ms, active_ms, idle_ms]) =>
    JSON.stringify({ type: 'elu', time_ms, active_ms, idle_ms }));
  fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', lines.join('\n') + '\n');
};
const spin = (ms) => {
  const end = performance.now() + ms;
  while (performance.now() < end);
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Every step is [idle before, busy time]; the sum gives a utilization of about one half.
async function load() {
  for (let round = 0; ; round++) {
    await sleep(7);
    sample(); spin(12); sample(); // timer

    await new Promise((resolve) => fs.readFile(__filename, () => { sample(); spin(4); sample(); resolve(); })); // I/O

    await sleep(15);
    sample();
    for (let i = 0; i < 50; i++) { await null; spin(0.1); } // promise chain in one turn
    sample();

    await new Promise((resolve) => setImmediate(() => { sample(); spin(6); sample(); resolve(); }));

    await sleep(3);
    sample(); spin(1); if (round % 10 === 9) flush(); sample();
  }
}

process.stdin.on('end', () => process.exit()).resume();
process.on('SIGTERM', () => { sample(); flush(); process.exit(); });
fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr',
  JSON.stringify({ type: 'ready', pid: process.pid }) + '\n');
load();
