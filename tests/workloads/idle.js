'use strict';
// Waits for nothing in particular: the control process that must show no stall, no pause, no blocked time.
const fs = require('fs');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

setInterval(() => {}, 1000);
process.stdin.on('end', () => process.exit()).resume();
oracle({ type: 'ready', pid: process.pid });
