'use strict';
// healthy-logging.js: logs ten short lines per request by console.log. Standard output must be a pipe that somebody reads at once.
const { serve, reply } = require('./shared');

let lines = 0;
function book(req, res) {
  for (let step = 0; step < 10; step++) console.log(`${new Date().toISOString()} info GET ${req.url} step ${step} of 10, line ${lines++}`);
  reply(res);
}

serve({
  expect: null, path: '/book', rate: 100, client: 'reads standard output at once',
  routes: { '/book': book },
  report: () => ({ lines, stdout_queued: process.stdout.writableLength }),
});
