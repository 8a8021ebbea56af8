'use strict';
// async-context-loss.js: request ids by AsyncLocalStorage, and a driver of old that runs callbacks without the context of those who
// asked.
const fs = require('fs');
const { AsyncLocalStorage } = require('async_hooks');
const { Driver } = require('old-driver');
const { serve, reply } = require('./shared');

const context = new AsyncLocalStorage();
const callbacks = { with_store: 0, without_store: 0 };
const count = () => { callbacks[context.getStore() ? 'with_store' : 'without_store']++; };

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
  functions: [answer()], script: __filename,
  report: () => ({ callbacks }),
});
