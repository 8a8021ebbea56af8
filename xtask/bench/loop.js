// Answers each line `N` on its standard input with the time that N turns of an otherwise empty event loop took.
// A turn of setImmediate polls once without waiting: nothing is cheaper, so what a probe adds shows best here.
'use strict';
const inProcess = require('./in-process.js');

require('./lines.js')((line) => {
  if (line === 'in-process' || line === 'plain') inProcess.watch(line === 'in-process');
  else storm(Number(line));
});

function storm(turns) {
  let left = turns;
  const started = process.hrtime.bigint();
  const turn = () => {
    left -= 1;
    if (left > 0) setImmediate(turn);
    else console.log(`took ${process.hrtime.bigint() - started}`);
  };
  setImmediate(turn);
}

console.log('ready');
