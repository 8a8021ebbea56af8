// Bundled and minified to ../dist/prices.min.js; see ../../README.md.

const articles = Array.from({ length: 1000 }, (_, index) => ({ weight: index % 17, price: index % 101 }));

function priceBasket(milliseconds) {
  let total = 0;
  for (const end = Date.now() + milliseconds; Date.now() < end;) {
    for (let index = 0; index < articles.length; index++) {
      const article = articles[index];
      total = (total * 31 + article.weight * article.price) % 1000003;
    }
  }
  return total;
}

module.exports = {
  checkout: (milliseconds) => priceBasket(milliseconds) + 1,
};
