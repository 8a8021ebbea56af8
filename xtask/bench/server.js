// The smallest HTTP server. After the line `in-process` it watches itself as well, after `plain` no more.
'use strict';
const http = require('http');
const inProcess = require('./in-process.js');

require('./lines.js')((line) => inProcess.watch(line === 'in-process'));
const server = http.createServer((request, response) => response.end('hello\n'));
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
