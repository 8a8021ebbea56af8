'use strict';
// What a title may hold: colours, a title-setting sequence, bell, newline, C1 controls, right-to-left override.
const fs = require('fs');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

process.title = '\u001b[31mred\u001b]0;owned\u0007\r\n\u009b2J\u202etxt.exe';
setInterval(() => {}, 1000);
process.stdin.on('end', () => process.exit()).resume();
oracle({ type: 'ready', pid: process.pid, title: process.title });
