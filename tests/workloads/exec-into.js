'use strict';
// exec-into.js PROGRAM [ARG...]: on the line `go` the process becomes another program: same pid, no Node any more.
const fs = require('fs');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const [program, ...args] = process.argv.slice(2);

process.stdin.on('data', () => {
  oracle({ type: 'exec', program });
  process.execve(program, [program, ...args], process.env);
}).on('end', () => process.exit());
oracle({ type: 'ready', pid: process.pid, possible: typeof process.execve === 'function' });
