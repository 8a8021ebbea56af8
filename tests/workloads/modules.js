'use strict';
// modules.js DIR COMMONJS ESM [LATER]: loads that many generated modules of DIR, and its packages where it has some; listens; and
// on `go` loads LATER more. Tells when Node's environment was there and when its loop began, and what each package took.
const fs = require('fs');
const path = require('path');
const { performance } = require('perf_hooks');
const { pathToFileURL } = require('url');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');
const monotonic = () => Number(process.hrtime.bigint()) / 1e6;
const [directory, commonjs, esm, later = '0'] = process.argv.slice(2);
const firstLine_ms = monotonic();

const load = (from, to) => {
  for (let i = from; i < to; i++) require(path.join(directory, `commonjs-${i}.js`));
};

function spin(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

load(0, Number(commonjs));
const packages = path.join(directory, 'node_modules');
if (fs.existsSync(packages)) {
  const times = {};
  for (const name of ['heavy', 'sleepy']) {
    const begin_ms = monotonic();
    require(path.join(packages, name));
    times[name] = monotonic() - begin_ms;
  }
  spin(150);
  oracle({ type: 'packages', times });
}

(async () => {
  for (let i = 0; i < Number(esm); i++) await import(pathToFileURL(path.join(directory, `esm-${i}.mjs`)));
  const loaded_ms = monotonic();
  require('net').createServer().listen(0);
  const listening_ms = monotonic();
  setTimeout(() => {
    const { environment, bootstrapComplete, loopStart } = performance.nodeTiming;
    const origin_ms = monotonic() - performance.now();
    const timing = { environment_ms: environment, bootstrap_ms: bootstrapComplete, loop_ms: loopStart, first_line_ms: firstLine_ms };
    oracle({ type: 'ready', origin_ms, loaded_ms, listening_ms, ...timing });
  }, 20);
})();

process.stdin.on('data', () => {
  load(Number(commonjs), Number(commonjs) + Number(later));
  oracle({ type: 'later' });
});
process.stdin.on('end', () => process.exit()).resume();
