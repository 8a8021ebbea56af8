// How the process started: when it reached what, and which packages took the time of the first turn.

const START_PHASES = [
  ['environment_s', 'first line of JavaScript'],
  ['first_turn_s', 'end of the first turn'],
  ['listening_s', 'first listen'],
  ['steady_s', 'nothing of the start since'],
];

function startupCard(found) {
  const { startup } = found;
  const reached = START_PHASES.filter(([name]) => startup && startup[name] !== null);
  if (reached.length === 0) return null;
  const phases = reached.map(([name, label]) => el('tr', {}, el('th', { scope: 'row' }, label),
    el('td', { class: 'number' }, duration(startup[name]))));
  if (startup.modules !== null) {
    phases.push(el('tr', {}, el('th', { scope: 'row' }, count(startup.modules, 'module compiled', 'modules compiled')),
      el('td', { class: 'number' }, duration(startup.compile_s))));
  }
  return card('Start-up', 'Times since the program began. A package counts with all that it loads in turn.',
    el('div', { class: 'columns startup' }, el('table', {}, el('tbody', {}, phases)), packageTable(startup.packages)));
}

function packageTable(packages) {
  if (packages.length === 0) return null;
  const row = ({ name, cpu_s: cpu, wait_s: wait }) => el('tr', { 'data-package': shown(name) },
    el('td', {}, shown(name)), el('td', { class: 'number' }, duration(cpu)), el('td', { class: 'number' }, duration(wait)));
  return el('table', {},
    el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Package'),
      el('th', { scope: 'col', class: 'number' }, 'on CPU'), el('th', { scope: 'col', class: 'number' }, 'asleep'))),
    el('tbody', {}, packages.map(row)));
}
