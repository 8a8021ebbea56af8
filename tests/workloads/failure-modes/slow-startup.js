'use strict';
// slow-startup.js DIRECTORY: requires a huge package and a light one, then listens. DIRECTORY/node_modules must have been made before by
// `slow-startup.js --install DIRECTORY`, in another process, so that none of it is part of the start.
const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');

// What the package is to take, however quick the machine is; measured with some of its clients.
const LOAD_MS = 1600;
const MEASURED = 16;
const SERVICES_MAX = 512;
const SERVICE_BYTES = 200 << 10;

function write(root, file, text) {
  fs.mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  fs.writeFileSync(path.join(root, file), text);
}

// One client of the SDK. Each operation is a function of its own that is called while the module is loaded.
function serviceSource(service) {
  const parts = ["'use strict';", 'const operations = {};'];
  for (let length = 0, i = 0; length < SERVICE_BYTES; i++) {
    const name = `describe${service}x${i}`;
    const text = `function ${name}(registry, version) {
  const shape = { name: '${name}', version, members: ['Id', 'Name', 'Tags', 'Created${i}'], required: ${i % 5},
    http: { method: 'POST', uri: '/${service}/${i}' } };
  const validate = (input, depth) => {
    if (input === null || depth > ${i % 7}) { throw new TypeError('${name}: ' + depth); }
    return shape.members.filter((m) => m in input).length + depth;
  };
  let weight = version + ${i};
  for (let j = 0; j < 2; j++) { weight = (weight * 31 + validate({ Id: j, Name: '${name}' }, 0)) % 65521; }
  if (weight === -1) { registry.broken = shape; } else { registry['${name}'] = { shape, validate, weight }; }
  return shape;
}
${name}(operations, ${service});`;
    parts.push(text);
    length += text.length;
  }
  parts.push('module.exports = operations;\n');
  return parts.join('\n');
}

function writeServices(heavy, count) {
  const names = Array.from({ length: count }, (_, service) => `service${service}`);
  write(heavy, 'package.json', JSON.stringify({ name: 'heavy-sdk', version: '3.2.1', main: 'index.js' }));
  write(heavy, 'index.js', `'use strict';\n${names.map((name) => `exports.${name} = require('./clients/${name}.js');`).join('\n')}\n`);
  names.forEach((name, service) => write(heavy, `clients/${name}.js`, serviceSource(service)));
}

function install(directory) {
  const heavy = path.join(directory, 'node_modules', 'heavy-sdk');
  writeServices(heavy, MEASURED);
  const begin = performance.now();
  createRequire(path.join(path.resolve(directory), 'server.js'))('heavy-sdk');
  const each = (performance.now() - begin) / MEASURED;
  writeServices(heavy, Math.min(SERVICES_MAX, Math.ceil(LOAD_MS / each)));
  const light = path.join(directory, 'node_modules', 'light-lib');
  write(light, 'package.json', JSON.stringify({ name: 'light-lib', version: '1.0.0', main: 'index.js' }));
  write(light, 'index.js', "'use strict';\nexports.greet = (name) => `hello ${name}\\n`;\n");
}

if (process.argv[2] === '--install') {
  install(process.argv[3]);
} else {
  const load = createRequire(path.join(path.resolve(process.argv[2]), 'server.js'));
  const begin = performance.now();
  const sdk = load('heavy-sdk');
  const heavy = performance.now();
  const { greet } = load('light-lib');
  const light = performance.now();
  const { serve, reply } = require('./shared');
  serve({
    expect: 'slow-startup', path: '/hello', rate: 5,
    culprit: { functions: [], script: load.resolve('heavy-sdk'), package: 'heavy-sdk', first_line: 1, last_line: Object.keys(sdk).length + 1 },
    routes: { '/hello': (req, res) => reply(res, greet(Object.keys(sdk).length)) },
    report: () => ({ heavy_sdk_ms: heavy - begin, light_lib_ms: light - heavy, before_ms: begin }),
  });
}
