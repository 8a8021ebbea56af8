'use strict';
// sync-io.js [DIRECTORY]: reads a file synchronously for each request, and the file is slow: a named pipe that is filled 80 ms after it
// was opened.
const fs = require('fs');
const path = require('path');
const { spawn } = require('child_process');
const { serve, reply, directory } = require('./shared');

const file = path.join(directory(), `settings-${process.pid}`);
const turns = { count: 0, sum_ms: 0, max_ms: 0 };

// To open it for writing waits for a reader. It ends by itself if this process cannot end it.
const fill = 'mkfifo "$1" && echo made; while { sleep 0.08; echo dark; } > "$1"; do sleep 0.02; done';
const helper = spawn('timeout', ['300', 'sh', '-c', fill, 'sh', file], { stdio: ['ignore', 'pipe', 'ignore'] });
process.on('exit', () => {
  helper.kill();
  fs.rmSync(file, { force: true });
});

function loadSettings() {
  return fs.readFileSync(file, 'utf8');
}

function settings(req, res) {
  const begin = performance.now();
  const text = loadSettings();
  const ms = performance.now() - begin;
  turns.count++;
  turns.sum_ms += ms;
  turns.max_ms = Math.max(turns.max_ms, ms);
  reply(res, text);
}

helper.stdout.once('data', () => serve({
  expect: 'sync-io', path: '/settings', rate: 4, functions: [loadSettings], script: __filename,
  routes: { '/settings': settings },
  report: () => ({ turns }),
}));
