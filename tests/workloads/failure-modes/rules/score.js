// What a row is worth. The value of this script is the function.
(function scoreRow(row, round) {
  let score = row.price * 3 + row.weight * 2;
  for (let i = 0; i < 8; i++) {
    score += (row.stock + i) % 7;
    score ^= row.rating << (i & 3);
  }
  return score - row.age * (round & 1);
});
