'use strict';
// healthy-startup.js [DIRECTORY]: requires two small packages, then listens.
const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { serve, reply, directory } = require('./shared');

const home = directory();

function install(name, source) {
  const root = path.join(home, 'node_modules', name);
  fs.mkdirSync(root, { recursive: true });
  fs.writeFileSync(path.join(root, 'package.json'), JSON.stringify({ name, version: '1.0.0', main: 'index.js' }));
  fs.writeFileSync(path.join(root, 'index.js'), `'use strict';\n${source}\n`);
}

install('tiny-greeting', 'exports.greet = (name) => `hello ${name}`;');
install('tiny-line', "exports.line = (text) => text + '\\n';");

const load = createRequire(path.join(home, 'server.js'));
const { greet } = load('tiny-greeting');
const { line } = load('tiny-line');

serve({
  expect: null, path: '/hello', rate: 5,
  routes: { '/hello': (req, res) => reply(res, line(greet('you'))) },
});
