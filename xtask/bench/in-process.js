// What runtime-metrics libraries for Node.js do inside the process they watch.
'use strict';
const { monitorEventLoopDelay, PerformanceObserver } = require('perf_hooks');
const delay = monitorEventLoopDelay({ resolution: 10 });
let pauses = 0;
const observer = new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) pauses += entry.duration;
});
let timer;

exports.watch = (on) => {
  clearInterval(timer);
  observer.disconnect();
  delay.disable();
  if (!on) return;
  delay.enable();
  observer.observe({ entryTypes: ['gc'] });
  timer = setInterval(() => {
    const read = [delay.percentile(50), delay.percentile(99), delay.max, pauses];
    delay.reset();
    return read;
  }, 1000).unref();
};
