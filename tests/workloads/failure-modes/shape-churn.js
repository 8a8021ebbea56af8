'use strict';
// shape-churn.js: scores rows by a rule that is a script of its own and run anew for every request, so that edited rules apply at
// once. Each source of rows gives their columns in another order, and each request adds a column of its own: V8 optimises the rule
// for the shapes it has seen, and throws that away at the next source.
const fs = require('fs');
const path = require('path');
const vm = require('vm');
const { serve, reply, culpritOf } = require('./shared');

const filename = path.join(__dirname, 'rules', 'score.js');
const rule = new vm.Script(fs.readFileSync(filename, 'utf8'), { filename });

const COLUMNS = ['price', 'weight', 'stock', 'rating', 'age'];
const SOURCES = 5;
const ROWS = 50;
const ROUNDS = 250;

// The rows of one source: the columns from `source` on, behind one that only this request has.
function readRows(request, source) {
  return Array.from({ length: ROWS }, (_, id) => {
    const row = { [`r${request}`]: id };
    for (let i = 0; i < COLUMNS.length; i++) row[COLUMNS[(source + i) % COLUMNS.length]] = (id * (i + 3)) % 97;
    return row;
  });
}

let requests = 0;
function rank(req, res) {
  const score = rule.runInThisContext();
  const request = requests++ % 1000;
  let best = 0;
  for (let source = 0; source < SOURCES; source++) {
    const rows = readRows(request, source);
    for (let round = 0; round < ROUNDS; round++) {
      for (const row of rows) best = Math.max(best, score(row, round));
    }
  }
  reply(res, `${best}\n`);
}

serve({
  expect: 'shape-churn', path: '/rank', rate: 10, functions: [rule.runInThisContext()], script: filename,
  routes: { '/rank': rank },
});
