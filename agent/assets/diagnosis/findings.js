// What is wrong with a process, as cards: the worst first, what follows from it inside.

function findingsSection(found, showInFlame) {
  const primary = found.findings.filter((finding) => finding.primary);
  const cards = primary.map((finding) => findingCard(finding, found.findings, showInFlame));
  if (cards.length === 0) cards.push(healthyCard(found));
  return el('section', { class: 'findings', 'aria-label': 'Findings' }, cards, blindSpots(found));
}

function findingCard(finding, all, showInFlame) {
  const consequences = all.filter((other) => other.because_of === finding.id);
  return el('article', { class: `finding ${severityClass(finding)}`, 'data-finding': finding.id },
    el('header', {},
      el('div', { class: 'id' }, badge(finding), el('code', {}, finding.id)),
      el('p', { class: 'summary' }, sentence(finding.summary))),
    findingBody(finding, showInFlame),
    consequences.length > 0 && el('div', { class: 'hence' },
      el('h4', {}, consequences.length === 1 ? 'A consequence of it' : 'Consequences of it'),
      consequences.map((consequence) => consequenceDetails(consequence, showInFlame))));
}

function consequenceDetails(finding, showInFlame) {
  return el('details', { 'data-finding': finding.id },
    el('summary', {}, badge(finding), el('code', {}, finding.id), sentence(finding.summary)),
    el('div', {}, findingBody(finding, showInFlame)));
}

function findingBody(finding, showInFlame) {
  return [
    finding.culprit && culpritLine(finding.culprit, showInFlame),
    el('div', { class: 'columns' },
      el('div', {}, el('h4', {}, 'Measured'), evidenceTable(finding.evidence)),
      el('div', { class: 'remedy' }, el('h4', {}, 'What to do'), remedyList(finding.remedy),
        el('p', { class: 'docs' }, 'Explained in ', el('code', {}, finding.docs), ' of nodeprobe.'))),
  ];
}

function culpritLine(culprit, showInFlame) {
  const where = place(culprit.script && shown(culprit.script), culprit.line);
  const name = shown(culprit.function);
  return el('div', { class: 'culprit' },
    el('span', { class: 'label' }, 'Where'),
    el('code', { class: 'function', 'data-culprit': name }, name),
    where && el('code', { class: 'place' }, where),
    culprit.package && el('span', { class: 'package' }, `package ${shown(culprit.package)}`),
    showInFlame && el('button', { type: 'button', on: { click: () => showInFlame(name) } }, 'Show in the flame graph'));
}

function evidenceTable(evidence) {
  const rows = Object.entries(evidence).map(([name, value]) => {
    const [label, text] = measured(name, value);
    return el('tr', {}, el('th', { scope: 'row' }, label), el('td', {}, text));
  });
  return el('table', { class: 'evidence' }, el('tbody', {}, rows));
}

/** The first line is what to do now, the second what to do for good. */
function remedyList(remedy) {
  const labels = ['Now', 'For good'];
  const items = remedy.split('\n').map((line, index) =>
    el('li', {}, el('span', {}, labels[index] ?? ''), el('span', {}, line)));
  return el('ol', {}, items);
}

function healthyCard(found) {
  const limits = unobserved(found).length > 0 ? ' as far as it could be observed' : '';
  return el('article', { class: 'finding healthy', 'data-finding': 'none' },
    el('header', {},
      el('div', { class: 'id' }, el('span', { class: 'badge healthy' }, 'Healthy')),
      el('p', { class: 'summary' },
        `Nothing is wrong with it${limits}: none of the known failure modes was found in ${duration(found.window_s)}.`)),
    el('p', { class: 'lead' },
      'Slow all the same? Watch while it is, for longer (--for 1m), and look at what its time goes to below.'));
}

function unobserved(found) {
  return Object.entries(found.signals).filter(([, said]) => said !== 'ok');
}

/** No finding is good news only where it could have been found. */
function blindSpots(found) {
  const missing = unobserved(found);
  if (missing.length === 0) return null;
  const reason = (said) => shown(said.unavailable ?? 'no reason given', 500);
  const item = ([signal, said]) => el('li', {}, el('code', {}, signal), el('span', {}, reason(said)));
  return el('div', { class: 'card blind' },
    el('h4', {}, 'Not observed, so nothing is found that needs it'),
    el('ul', {}, missing.map(item)));
}

/** Summaries begin small, because text output puts them behind the id. */
function sentence(summary) {
  const text = shown(summary, 1000);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function badge(finding) {
  return el('span', { class: `badge ${severityClass(finding)}` }, finding.severity);
}

function severityClass({ severity }) {
  return ['critical', 'warning', 'info'].includes(severity) ? severity : 'info';
}

/** The worst of a process; `healthy` without any. */
function worst(found) {
  const has = (severity) => found.findings.some((finding) => finding.severity === severity);
  return ['critical', 'warning', 'info'].find(has) ?? 'healthy';
}
