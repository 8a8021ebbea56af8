'use strict';
// pod.js MS: a service that nobody has to tell anything, as in a pod: each half second it hashes a password for MS on its event
// loop, and nobody handles that the statistics of it fail; with 0 it is healthy.
const { performance } = require('perf_hooks');

const ms = Number(process.argv[2] || 0);
let hash = 0;

function hashPassword(until) {
  while (performance.now() < until) {
    for (let i = 0; i < 1000; i++) hash = Math.imul(hash ^ i, 0x01000193);
  }
}

async function recordLogin() {
  if (ms > 0) throw new Error('no statistics');
}

function login() {
  hashPassword(performance.now() + ms);
  recordLogin();
}

setInterval(login, 500);
// As many services do: the process lives on.
process.on('unhandledRejection', () => {});
// Process 1 of a container does not end by itself when it is asked to.
process.on('SIGTERM', () => process.exit());
