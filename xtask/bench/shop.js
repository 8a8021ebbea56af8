// A shop's basket as services make it: the session is parsed, prices and rebates are worked out, the page is rendered with every
// value escaped and gets an ETag, under an async context and with some awaits on the way. After the line `in-process` it watches
// itself as well, after `plain` no more.
'use strict';
const http = require('http');
const crypto = require('crypto');
const { AsyncLocalStorage } = require('async_hooks');
const inProcess = require('./in-process.js');

const context = new AsyncLocalStorage();
const products = new Map(Array.from({ length: 2000 }, (_, id) => [
  `sku-${id}`,
  { name: `Product <${id}> & "Co"`, cents: (id * 7919) % 100000, tags: ['new', 'sale', 'last'].slice(id % 3) },
]));
// As a store of sessions hands them out.
const sessions = Array.from({ length: 64 }, (_, user) => JSON.stringify({
  user: { id: user, name: `User ${user}`, mail: `user${user}@shop.example`, coupons: [`SALE-${10 + (user % 30)}`, `NEW-${user % 10}`] },
  items: Array.from({ length: 100 }, (_, line) => ({ sku: `sku-${(user * 31 + line * 17) % 2000}`, count: 1 + (line % 4), note: `line ${line}` })),
}));
let asked = 0;

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const money = (cents) => `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`;

async function session() {
  return JSON.parse(sessions[asked++ % sessions.length]);
}

async function priced(basket) {
  const rebates = basket.user.coupons.map((coupon) => /^([A-Z]+)-(\d+)$/.exec(coupon)).filter(Boolean)
    .map(([, tag, percent]) => ({ tag: tag.toLowerCase(), percent: Number(percent) }));
  return basket.items.map((item) => {
    const product = products.get(item.sku);
    const rebate = Math.max(0, ...rebates.filter(({ tag }) => product.tags.includes(tag)).map(({ percent }) => percent));
    const cents = Math.round((product.cents * item.count * (100 - rebate)) / 100);
    return { ...item, name: product.name, cents, rebate };
  }).sort((a, b) => b.cents - a.cents || a.name.localeCompare(b.name));
}

async function page() {
  const basket = await session();
  const lines = await priced(basket);
  const total = lines.reduce((sum, { cents }) => sum + cents, 0);
  const rows = lines.map((line) =>
    `<tr><td>${escape(line.name)}</td><td>${line.count}</td><td>${line.rebate} %</td><td>${escape(line.note)}</td><td>${money(line.cents)}</td></tr>`);
  return `<html><h1>${escape(basket.user.name)}</h1><table>${rows.join('')}</table><p>${money(total)} for request ${context.getStore().id}</p></html>\n`;
}

require('./lines.js')((line) => inProcess.watch(line === 'in-process'));
const server = http.createServer((request, response) => {
  context.run({ id: asked }, async () => {
    const body = await page();
    response.writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'content-length': Buffer.byteLength(body),
      etag: crypto.createHash('sha1').update(body).digest('base64'),
    });
    response.end(body);
  });
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
