// Calls `each` with every line of standard input. Whoever started this process holds the other end: its death ends it.
'use strict';
module.exports = (each) => {
  let rest = '';
  process.stdin.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(each);
  });
  process.stdin.on('end', () => process.exit());
};
