'use strict';
// What the services of this directory share: the oracle, the HTTP server, Node's own measurements, and who is to blame.
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const v8 = require('v8');
const { performance, constants, monitorEventLoopDelay, PerformanceObserver } = require('perf_hooks');

const oracle = (record) => fs.appendFileSync(process.env.NODEPROBE_ORACLE || '/dev/stderr', JSON.stringify(record) + '\n');

// Where the sources of `functions` are in `script`: Function.prototype.toString() is the exact text.
function culpritOf(functions, script) {
  const text = fs.readFileSync(script, 'utf8');
  const begins = functions.map((fn) => text.indexOf(String(fn)));
  if (begins.includes(-1)) throw new Error(`not in ${script}: ${functions.map((fn) => fn.name)}`);
  const lineAt = (offset) => text.slice(0, offset).split('\n').length;
  return {
    functions: functions.map((fn) => fn.name), script, package: null,
    first_line: Math.min(...begins.map(lineAt)),
    last_line: Math.max(...functions.map((fn, i) => lineAt(begins[i] + String(fn).length))),
  };
}

// How many rounds of `work` take `ms` of CPU, however many others are on this processor.
function calibrate(ms, work) {
  const spent = (rounds) => {
    const before = process.cpuUsage();
    work(rounds);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e3;
  };
  let rounds = 1000;
  while (spent(rounds) < ms / 4) rounds *= 2;
  // Optimised by now, and nothing is compiled beside it.
  return Math.round((rounds * ms) / Math.min(spent(rounds), spent(rounds), spent(rounds)));
}

function reply(res, body = 'ok\n', status = 200) {
  res.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) });
  res.end(body);
}

// The directory given, or one that is removed at the end.
function directory() {
  if (process.argv[2]) return path.resolve(process.argv[2]);
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'failure-modes-'));
  process.on('exit', () => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

// Collections since the start. Kinds are those of perf_hooks.
const gc = { count: 0, ms: 0, max_ms: 0, minor: 0, major: 0, heap_used_after_major: null };
function watchCollections() {
  new PerformanceObserver((list) => {
    for (const { duration, detail } of list.getEntries()) {
      gc.count++;
      gc.ms += duration;
      gc.max_ms = Math.max(gc.max_ms, duration);
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) gc.minor++;
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) {
        gc.major++;
        gc.heap_used_after_major = process.memoryUsage().heapUsed;
      }
    }
  }).observe({ entryTypes: ['gc'] });
}

const DELAY_RESOLUTION_MS = 10;

// Listens, says `ready` and answers `report`; everything in a report is since the start but what is under `since_last_report`.
//   expect         the failure mode, or null
//   path, rate     what to ask for, and how often a second
//   connections    on how many keep-alive connections at least
//   client         what else a client must do
//   functions      who is guilty, in `script`; or `culprit` itself
//   routes         by path
//   report         further numbers
//   quiet          measure nothing by timers or observers
function serve({ expect, path: target, rate, connections = 2, client = null, functions, script, culprit = null, routes, report = () => ({}),
  quiet = false }) {
  let requests = 0;
  let listen_ms = null;
  let listen_cpu_ms = null;
  const delay = quiet ? null : monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  if (!quiet) {
    watchCollections();
    delay.enable();
  }

  const server = http.createServer((req, res) => {
    requests++;
    const route = routes[req.url.split('?')[0]];
    if (route) route(req, res);
    else reply(res, 'not found\n', 404);
  });
  server.keepAliveTimeout = 60000;

  let last = null;
  const measure = () => ({
    at_ms: performance.now(), elu: performance.eventLoopUtilization(), gc_ms: gc.ms, gc_count: gc.count, requests, cpu: process.cpuUsage(),
    // Time the main thread was runnable and did not run, told by the kernel.
    run_delay_ms: Number(fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6,
  });
  function since(before) {
    const now = measure();
    const elapsed = now.at_ms - before.at_ms;
    const { user, system } = process.cpuUsage(before.cpu);
    const lateness = delay && delay.count > 0 ? (ns) => Math.max(0, ns / 1e6 - DELAY_RESOLUTION_MS) : () => null;
    const result = {
      elapsed_ms: elapsed, utilization: performance.eventLoopUtilization(now.elu, before.elu).utilization,
      requests: now.requests - before.requests, gc_count: now.gc_count - before.gc_count, gc_share: (now.gc_ms - before.gc_ms) / elapsed,
      cpu_share: (user + system) / 1e3 / elapsed, run_delay_share: (now.run_delay_ms - before.run_delay_ms) / elapsed,
      // How late a timer of 10 ms was: a turn is at least that long.
      delay_max_ms: delay && lateness(delay.max), delay_p99_ms: delay && lateness(delay.percentile(99)),
    };
    if (delay) delay.reset();
    last = now;
    return result;
  }

  server.listen(0, '127.0.0.1', () => {
    listen_ms = performance.now();
    last = measure();
    listen_cpu_ms = (last.cpu.user + last.cpu.system) / 1e3;
    oracle({ type: 'ready', pid: process.pid, port: server.address().port, path: target, rate, connections, client, expect,
      culprit: functions ? culpritOf(functions, script) : culprit });
  });

  process.stdin.setEncoding('utf8').on('data', (lines) => {
    for (const line of lines.split('\n').filter(Boolean)) {
      if (line !== 'report') continue;
      const { used_heap_size, total_heap_size, heap_size_limit } = v8.getHeapStatistics();
      oracle({ type: 'report', now_ms: performance.now(), time_origin_ms: performance.timeOrigin, listen_ms, listen_cpu_ms, requests,
        since_last_report: since(last), gc: quiet ? null : gc, rss: process.memoryUsage.rss(), external: process.memoryUsage().external,
        used_heap_size, total_heap_size, heap_size_limit, ...report() });
    }
  }).on('end', () => process.exit());
  return server;
}

module.exports = { oracle, serve, reply, calibrate, directory, culpritOf };
