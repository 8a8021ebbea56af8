'use strict';
// short-lived.js MS: a process that ends by itself MS after its start, as cron jobs and build steps do.
const { performance } = require('perf_hooks');

setTimeout(() => {}, Math.max(1, Number(process.argv[2] || 50) - performance.now()));
