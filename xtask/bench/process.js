// process.js idle|busy|stalling: one of many processes that the agent watches. A busy one wakes fifty times a second, works a
// tenth of a millisecond and allocates a little; more would make the processes, not the agent, fill the machine. A stalling one
// blocks its loop for 60 ms ten times a second, asleep for the same reason.
'use strict';
process.stdin.on('end', () => process.exit()).resume();
if (process.argv[2] === 'busy') {
  let kept = [];
  setInterval(() => {
    const until = process.hrtime.bigint() + 100000n;
    while (process.hrtime.bigint() < until);
    kept.push(new Array(1000).fill({ now: Date.now() }));
    if (kept.length > 100) kept = [];
  }, 20);
} else if (process.argv[2] === 'stalling') {
  const word = new Int32Array(new SharedArrayBuffer(4));
  setInterval(() => Atomics.wait(word, 0, 0, 60), 100);
} else {
  setInterval(() => {}, 1000);
}
console.log('ready');
