'use strict';
// threadpool-saturation.js: hashes passwords asynchronously, but more of them than libuv has workers; whoever wants a file waits in line.
const fs = require('fs');
const crypto = require('crypto');
const { calibrate, serve, reply } = require('./shared');

const MEMBERS = 8;
// So many that a hash takes 40 ms of a processor: 80 a second are more than two can do.
const ITERATIONS = calibrate(40, (rounds) => crypto.pbkdf2Sync('password', 'salt', rounds, 32, 'sha512'));
const hashes = { count: 0, in_flight: 0 };
const stats = { count: 0, sum_ms: 0, max_ms: 0 };

function hashPassword(member, done) {
  hashes.in_flight++;
  crypto.pbkdf2(`password ${member}`, 'salt', ITERATIONS, 32, 'sha512', () => {
    hashes.in_flight--;
    hashes.count++;
    done();
  });
}

function importMembers(req, res) {
  let left = MEMBERS;
  for (let member = 0; member < MEMBERS; member++) hashPassword(member, () => { if (--left === 0) reply(res); });
}

// What any other user of the pool waits.
setInterval(() => {
  const begin = performance.now();
  fs.stat(__filename, () => {
    const ms = performance.now() - begin;
    stats.count++;
    stats.sum_ms += ms;
    stats.max_ms = Math.max(stats.max_ms, ms);
  });
}, 100);

serve({
  expect: 'threadpool-saturation', path: '/import', rate: 10, connections: 4, functions: [hashPassword], script: __filename,
  routes: { '/import': importMembers },
  report: () => ({ hashes, stats }),
});
