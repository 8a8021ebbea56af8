'use strict';
// unhandled-rejections.js: counts visits by an async function that nobody waits for, and that fails.
const { setTimeout: sleep } = require('timers/promises');
const { serve, reply } = require('./shared');

// As many services do "to be safe": the process lives on, and nobody learns of it.
let unhandled = 0;
process.on('unhandledRejection', () => unhandled++);
let handledLater = 0;

async function recordVisit(url) {
  await sleep(2);
  throw new Error(`no statistics for ${url}`);
}

// Rejects before its caller can await it: V8 reports a rejection and then, in the same turn, that it is handled after all.
async function findUser(token) {
  if (!token) throw new Error('no token');
  return token;
}

async function page(req, res) {
  recordVisit(req.url);
  let user;
  try {
    user = await findUser(req.headers.authorization);
  } catch {
    handledLater++;
    user = 'guest';
  }
  reply(res, `hello ${user}\n`);
}

serve({
  expect: 'unhandled-rejections', path: '/page', rate: 20, functions: [recordVisit], script: __filename,
  routes: { '/page': page },
  report: () => ({ unhandled_rejections: unhandled, handled_rejections: handledLater }),
});
