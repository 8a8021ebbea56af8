'use strict';
// loops.js: each 100 ms a new function whose long loop V8 enters in code made for it (on-stack replacement), and leaves behind the loop.
const vm = require('vm');
const fs = require('fs');
const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const MS = 20;
let rounds = 0;

setInterval(() => {
  const source = `(function sumPage(round) {
  let sum = 0;
  for (const end = Date.now() + ${MS}; Date.now() < end;) {
    for (let i = 0; i < 1e4; i++) sum = (sum + i * round) % 10007;
  }
  return [sum].map((part) => part + '${rounds}').join('-') + round.toFixed(2);
})`;
  vm.runInThisContext(source, { filename: __filename })(++rounds);
}, 100);

process.stdin.resume().on('end', () => process.exit());
oracle({ type: 'ready' });
