// Who allocates what the collector has to deal with.

function allocationsCard(found) {
  const { allocations } = found;
  if (!allocations || allocations.length === 0) return null;
  const width = (ratio) => Math.max(1, (ratio / (allocations[0].ratio || 1)) * 100).toFixed(1);
  const row = ({ function: name, script, line, package: of, ratio, bytes: amount }) => el('tr', { 'data-allocates': shown(name) },
    el('td', {}, shown(name)),
    el('td', { class: 'place mono' }, place(script && shown(script), line)),
    el('td', {}, of === null ? '' : shown(of)),
    el('td', { class: 'number' }, percent(ratio),
      el('span', { class: 'bar', style: `width:${width(ratio)}%;background:var(--gc-minor)` })),
    el('td', { class: 'number' }, amount === null ? 'not known' : `${bytes(amount / found.window_s)}/s`));
  const note = 'Shares are of the samples; bytes are that share of what was allocated between collections. Contents of Buffers are outside of the heap.';
  return card('Allocations', null, el('div', { class: 'functions' }, el('table', {},
    el('caption', {}, note),
    el('thead', {}, el('tr', {},
      el('th', { scope: 'col' }, 'Function'), el('th', { scope: 'col' }, 'Where'), el('th', { scope: 'col' }, 'Package'),
      el('th', { scope: 'col', class: 'number' }, 'share'), el('th', { scope: 'col', class: 'number' }, 'allocates'))),
    el('tbody', {}, allocations.map(row)))));
}
