// Beside the flame graph: what the time went to by category, and the functions with most of it.

const MOST_FUNCTIONS = 12;

function categoryShares(tree, amount) {
  if (tree.weight === 0) return [];
  const known = shares(tree);
  const bar = known.map(([category, weight]) => el('span', {
    style: `flex:${weight / tree.weight} 0 0;background:${categoryColour(category)}`,
    title: `${categoryName(category)} ${amount(weight)}`,
  }));
  const listed = known.filter(([, weight]) => weight / tree.weight >= 0.005);
  return [
    el('div', { class: 'shares', 'aria-hidden': 'true' }, bar),
    legend(listed.map(([category, weight]) =>
      [categoryColour(category), `${categoryName(category)} ${percent(weight / tree.weight)}`])),
  ];
}

/** What the colours of frames mean. */
function kindLegend() {
  const known = Object.entries(SHADES).filter(([shade]) => shade !== 'other');
  return legend(known.map(([shade, name]) => [`var(--shade-${shade})`, name]));
}

function functionTable(functions, tree, flame) {
  const listed = functions.filter(({ self }) => self > 0).slice(0, MOST_FUNCTIONS);
  if (listed.length === 0) return '';
  const share = (weight) => weight / (tree.weight || 1);
  const row = ({ frame, self, total, lines }) => el('tr', {},
    el('td', {},
      el('button', {
        type: 'button', title: 'Find it in the flame graph', on: { click: () => flame.find(frame.name) },
      }, shortName(frame.name))),
    el('td', { class: 'place mono' }, place(frame.script, hottestLine(lines)) || SHADES[frame.shade]),
    el('td', { class: 'number' }, `${flame.amount(self)}`, bar(self, frame)),
    el('td', { class: 'number' }, percent(share(self))),
    el('td', { class: 'number' }, flame.amount(total)),
    el('td', { class: 'number' }, percent(share(total))));
  const bar = (self, frame) => {
    const width = Math.max(1, (self / listed[0].self) * 100).toFixed(1);
    return el('span', { class: 'bar', style: `width:${width}%;background:var(--shade-${frame.shade})` });
  };
  const note = 'The own time of a function has in it what Node.js and native code do for it.';
  return el('table', {},
    el('caption', {}, note),
    el('thead', {}, el('tr', {},
      el('th', { scope: 'col' }, 'Heaviest functions'), el('th', { scope: 'col' }, 'Where'),
      el('th', { scope: 'col', class: 'number', colspan: 2 }, 'own time'),
      el('th', { scope: 'col', class: 'number', colspan: 2 }, 'with all it calls'))),
    el('tbody', {}, listed.map(row)));
}
