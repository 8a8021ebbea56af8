'use strict';
// async-context-loss.js: request ids by AsyncLocalStorage, and a driver of old that keeps its callbacks in a queue of its own and runs
// them from its one long-lived socket, so without the context of those who asked.
const fs = require('fs');
const { spawn } = require('child_process');
const { AsyncLocalStorage } = require('async_hooks');
const { serve, reply, culpritOf } = require('./shared');

const context = new AsyncLocalStorage();
const callbacks = { with_store: 0, without_store: 0 };
const count = () => { callbacks[context.getStore() ? 'with_store' : 'without_store']++; };

class Driver {
  constructor(program) {
    this.waiting = [];
    // Node's pipes to children are sockets; they are made here, where there is no request.
    const server = spawn(program, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.socket = server.stdin;
    let text = '';
    server.stdout.setEncoding('utf8').on('data', (data) => {
      const lines = (text + data).split('\n');
      text = lines.pop();
      for (const line of lines) this.waiting.shift()(null, line);
    });
  }

  query(sql, callback) {
    this.waiting.push(callback);
    this.socket.write(`${sql}\n`);
  }
}

// A database that says again whatever it is told, and ends with this process.
const driver = new Driver('cat');

const answer = (req, res) => function onOrder(error, row) {
  count();
  reply(res, `request ${context.getStore()?.id}: ${row}\n`);
};

let ids = 0;
function order(req, res) {
  context.run({ id: ++ids }, () => {
    // What keeps its context, for comparison.
    fs.stat(__filename, function onStat() { count(); });
    driver.query('select 1', answer(req, res));
  });
}

serve({
  expect: 'async-context-loss', path: '/order', rate: 50,
  // Deliveries of an observer would be callbacks without context as well.
  quiet: true,
  routes: { '/order': order },
  report: () => ({ callbacks, callback: culpritOf([answer()], __filename) }),
});
