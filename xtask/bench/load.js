// load.js PORT CONNECTIONS: keep-alive requests without end, one in flight on each connection. Answers each line `S` on
// its standard input with the rate of the next S seconds and their 99th percentile of latency. It speaks HTTP by hand,
// because Node's own client costs more than the server under test.
'use strict';
const net = require('net');
const [port, connections] = process.argv.slice(2).map(Number);
const request = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';
const [NEWLINE, CARRIAGE_RETURN] = Buffer.from('\n\r');
let latencies = [];
let counting = false;

for (let i = 0; i < connections; i++) {
  const socket = net.connect(port, '127.0.0.1').setNoDelay(true);
  let sent = process.hrtime.bigint();
  socket.write(request);
  socket.on('data', (data) => {
    // Headers end with a carriage return; the body of both servers ends with its only newline.
    if (data[data.length - 1] !== NEWLINE || data[data.length - 2] === CARRIAGE_RETURN) return;
    const now = process.hrtime.bigint();
    if (counting) latencies.push(Number(now - sent) / 1e6);
    sent = now;
    socket.write(request);
  });
  socket.on('error', (error) => {
    console.error(`load: ${error.message}`);
    process.exit(1);
  });
}

require('./lines.js')((seconds) => {
  latencies = [];
  counting = true;
  const started = process.hrtime.bigint();
  setTimeout(() => {
    counting = false;
    const took = Number(process.hrtime.bigint() - started) / 1e9;
    latencies.sort((a, b) => a - b);
    console.log(`rate ${latencies.length / took} ${latencies[Math.floor(latencies.length * 0.99)]}`);
  }, seconds * 1000);
});
