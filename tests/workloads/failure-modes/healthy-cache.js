'use strict';
// healthy-cache.js: a cache that drops what was used least recently. It is full, at some 40 MB, within the first 3 s, and then stays
// so while its entries come and go.
const v8 = require('v8');
const { serve, reply } = require('./shared');

const ENTRIES = 300;
const cache = new Map();
let keys = 0;
let asked = 0;

// A flat string of 140 kB in the heap: too large to be copied by scavenges, which so stay short.
const page = Buffer.alloc(140 << 10, '<li>article</li>');
function loadArticle(key) {
  page.write(String(key));
  return { key, html: page.toString('latin1') };
}

function put(key, value) {
  cache.delete(key);
  cache.set(key, value);
  if (cache.size > ENTRIES) cache.delete(cache.keys().next().value);
}

const warmUp = setInterval(() => {
  for (let i = 0; i < ENTRIES / 100; i++) put(keys, loadArticle(keys++));
  if (cache.size >= ENTRIES) clearInterval(warmUp);
}, 25);

function article(req, res) {
  // One of four is not there yet.
  if (++asked % 4 === 0) put(keys, loadArticle(keys++));
  const key = keys - 1 - Math.floor(Math.random() * (cache.size / 2));
  // Before the first of them is there, too.
  const found = cache.get(key) || loadArticle(key);
  put(key, found);
  reply(res, `${found.html.length}\n`);
}

const profiler = new v8.GCProfiler();
const full = [];
profiler.start();
function collections() {
  for (const { gcType, cost, afterGC } of profiler.stop().statistics) {
    if (gcType === 'MarkSweepCompact') full.push({ ms: cost / 1e3, used_heap_size: afterGC.heapStatistics.usedHeapSize });
  }
  profiler.start();
  return full;
}

serve({
  expect: null, path: '/article', rate: 100,
  routes: { '/article': article },
  report: () => ({ entries: cache.size, full_collections: collections() }),
});
