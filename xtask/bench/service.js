// A page of a catalogue as services make them: find, sort, render as JSON. After the line `in-process` it watches itself as
// well, after `plain` no more.
'use strict';
const http = require('http');
const inProcess = require('./in-process.js');

const CATEGORIES = 8;
const products = Array.from({ length: 400 }, (_, id) => ({
  id,
  name: `product ${id}`,
  category: id % CATEGORIES,
  price: (id * 7919) % 1000,
  tags: ['new', 'sale', 'last'].slice(id % 3),
}));
let asked = 0;

const page = () => {
  const category = asked++ % CATEGORIES;
  const found = products.filter((product) => product.category === category).sort((a, b) => a.price - b.price);
  return JSON.stringify({ category, products: found.map((product) => ({ ...product, price: product.price.toFixed(2) })) });
};

require('./lines.js')((line) => inProcess.watch(line === 'in-process'));
const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  response.end(`${page()}\n`);
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
