'use strict';
// event-loop-starvation.js: a login that hashes the password in plain JavaScript, on the loop.
const { serve, reply, calibrate } = require('./shared');

// FNV-1a over and over. It allocates nothing but its result.
function hashPassword(password, rounds) {
  let high = 0x811c9dc5 | 0;
  let low = 0x01000193;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < password.length; i++) {
      high = Math.imul(high ^ password.charCodeAt(i), 0x01000193);
      low = ((low << 5) | (low >>> 27)) ^ high;
    }
  }
  return `${(high >>> 0).toString(16)}${(low >>> 0).toString(16)}`;
}

// As password libraries advise: as many rounds as this machine does in the time a login may take.
const PASSWORD = 'correct horse battery staple';
const ROUNDS = calibrate(120, (rounds) => hashPassword(PASSWORD, rounds));
const expected = hashPassword(PASSWORD, ROUNDS);

const turns = { count: 0, max_ms: 0, sum_ms: 0 };

function login(req, res) {
  const begin = performance.now();
  const known = hashPassword(PASSWORD, ROUNDS) === expected;
  const ms = performance.now() - begin;
  turns.count++;
  turns.sum_ms += ms;
  turns.max_ms = Math.max(turns.max_ms, ms);
  reply(res, known ? 'welcome\n' : 'no\n');
}

serve({
  expect: 'event-loop-starvation', path: '/login', rate: 4, functions: [hashPassword], script: __filename,
  routes: { '/login': login, '/health': (req, res) => reply(res) },
  report: () => ({ turns }),
});
