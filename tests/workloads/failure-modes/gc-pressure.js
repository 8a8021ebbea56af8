'use strict';
// gc-pressure.js: builds each report from copies of its rows, as code does that never changes an object in place. The last reports are
// kept, so nearly all of it survives the scavenges and dies old.
const { serve, reply } = require('./shared');

const ROWS = 6000;
const KEPT = 40;
const table = Array.from({ length: ROWS }, (_, id) => ({ id, region: id % 7, net: id * 3, tax: id % 19, paid: false, before: null }));
const recent = [];

// A copy by spread is made by a builtin, always in the young generation; V8 allocates literals in the old one once they tend to survive.
function buildReport(seed) {
  return table.map((row) => {
    const copy = { ...row };
    copy.net += seed;
    copy.before = { ...row };
    return copy;
  });
}

let seeds = 0;
function report(req, res) {
  const rows = buildReport(seeds++ % 100);
  recent.push(rows);
  if (recent.length > KEPT) recent.shift();
  reply(res, `${rows.length}\n`);
}

serve({
  expect: 'gc-pressure', path: '/report', rate: 240, functions: [buildReport], script: __filename,
  routes: { '/report': report },
});
