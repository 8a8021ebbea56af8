// Puts the page together.

const THEMES = ['auto', 'light', 'dark'];

function headerOf(diagnosis, recording) {
  const { header } = recording;
  const time = Date.parse(diagnosis.time) / 1000;
  const seconds = recording.end - recording.begin;
  const watched = Math.max(0, ...diagnosis.processes.map((found) => found.window_s));
  const fact = (label, value) => el('span', {}, `${label} `, el('b', {}, value));
  const button = el('button', { type: 'button', class: 'theme' }, 'Theme: auto');
  button.addEventListener('click', () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? 'auto') + 1) % THEMES.length];
    if (next === 'auto') delete root.dataset.theme;
    else root.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  });
  return [
    el('h1', {}, 'nodeprobe ', el('span', { class: 'dim' }, 'diagnosis')),
    el('div', { class: 'facts' },
      header.host && fact('host', shown(header.host)),
      Number.isFinite(time) && fact('at', `${day(time)}, ${clock(time)} UTC`),
      watched > 0 && fact('watched', duration(watched)),
      // With a long watch the oldest is left out of the charts; the findings are about all of it.
      seconds > 0 && seconds < watched * 0.9 - 1 && fact('charts show the last', duration(seconds)),
      fact('processes', String(diagnosis.processes.length))),
    button,
  ];
}

/** The recorded process that a part of the diagnosis is about. A number can be given twice; the later one counts. */
function recorded(recording, found) {
  const same = [...recording.processes.values()].filter(({ pid }) => pid === found.pid);
  return same.findLast(({ identity }) => shown(identity.name) === shown(found.name)) ?? same.at(-1) ?? null;
}

function processHead(found, process) {
  const last = process?.intervals.at(-1);
  const fact = (label, value) => el('span', {}, `${label} `, el('b', {}, value));
  return el('div', { class: 'process-head' },
    el('h2', {}, shown(found.name)),
    el('div', { class: 'facts' },
      fact('pid', String(found.pid)),
      found.node_version && fact('Node.js', shown(found.node_version)),
      last && fact('up', span(last.uptime)),
      process && fact('', count(threadsOf(process).length, 'loop thread', 'loop threads')),
      process?.identity.container_id && fact('container', shown(process.identity.container_id).slice(0, 12)),
      found.exited && fact('', 'has ended')));
}

/** The figures that are looked at first. */
function tiles(view) {
  const { intervals } = view.process;
  const seconds = intervals.reduce((sum, interval) => sum + interval.duration, 0);
  const main = intervals.flatMap(({ threads }) => threads.filter(({ kind }) => kind === 'main'));
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const observed = sum(main.map((thread) => thread.observed));
  const stalls = { count: sum(main.map((t) => t.stalls.count)), time: sum(main.map((t) => t.stalls.sum)) };
  const longest = Math.max(0, ...main.map((thread) => Math.max(thread.turns.max, thread.currentTurn ?? 0)));
  const gc = sum(intervals.map((interval) => interval.minor.sum + interval.major.sum));
  const longestPause = Math.max(0, ...intervals.map((interval) => Math.max(interval.minor.max, interval.major.max)));
  const [cpu, wait] = [mean(series(view, (i) => i.cpu)), mean(series(view, (i) => i.runDelay))];
  const heap = intervals.findLast(({ heapUsed }) => heapUsed !== null)?.heapUsed ?? null;
  const limit = intervals.findLast(({ heapLimit }) => heapLimit !== null)?.heapLimit ?? null;
  const rss = intervals.findLast((interval) => interval.rss !== null)?.rss ?? null;
  const looped = view.observes('event_loop');
  const stalled = stalls.time / seconds;
  const paused = view.observes('gc') ? percent(gc / seconds) : null;
  const tile = (label, value, note, alarm = false) => {
    const [number, ...unit] = value === null ? ['–'] : value.split(' ');
    return el('div', { class: alarm ? 'tile alarm' : 'tile' },
      el('dt', {}, label),
      el('dd', {}, number, unit.length > 0 && el('span', { class: 'unit' }, unit.join(' '))),
      el('div', { class: 'note' }, value === null ? 'not known' : note ?? ''));
  };
  return el('dl', { class: 'tiles' },
    tile('Loop busy', looped && observed > 0 ? percent(sum(main.map((t) => t.busy)) / observed) : null, 'main thread'),
    tile('Longest turn', looped ? duration(longest) : null, 'main thread'),
    tile('Stalled', looped ? percent(stalled) : null, count(stalls.count, 'stall', 'stalls'), stalled >= 0.05),
    tile('GC pauses', paused, longestPause > 0 ? `longest ${duration(longestPause)}` : 'none'),
    tile('CPU', cpu === null ? null : `${digits(cpu)} cores`, wait === null ? null : `waited ${percent(wait)}`),
    tile('Heap', heap === null ? null : bytes(heap), limit === null ? 'after collection' : `limit ${bytes(limit)}`),
    tile('RSS', rss === null ? null : bytes(rss), 'resident memory'));
}

/** Draws one process, and returns what draws it again in another width. */
function showProcess(found, recording, buckets) {
  const main = document.getElementById('process');
  tooltip.hide();
  const process = recorded(recording, found);
  if (!process) {
    const gone = empty('What it did over time is not in this page: it had ended before the last readings.');
    main.replaceChildren(processHead(found, null), findingsSection(found, null), gone);
    return () => {};
  }
  const view = new View(recording, process, found);
  const flame = new Flame(view);
  const graph = flame.card();
  const showInFlame = process.samples.length > 0 && ((name) => {
    view.select({});
    flame.find(name);
    graph.scrollIntoView({ behavior: 'smooth', block: 'start' });
  });
  main.replaceChildren(
    processHead(found, process),
    findingsSection(found, showInFlame),
    tiles(view),
    startupCard(found) ?? '',
    timelinesCard(view),
    heatmapCard(view, buckets),
    graph,
    memoryCards(view),
    allocationsCard(found) ?? '');
  view.render();
  return () => view.render();
}

function processTabs(processes, choose) {
  const list = el('div', { role: 'tablist', 'aria-label': 'Processes' });
  const tabs = processes.map((found, index) => el('button', {
    type: 'button', role: 'tab', id: `tab-${index}`, 'aria-controls': 'process', 'aria-selected': 'false', tabindex: -1,
    on: { click: () => select(index) },
  }, el('span', { class: `dot ${worst(found)}` }), el('span', { class: 'label' },
    el('span', { class: 'name' }, shown(found.name), ' ', el('span', { class: 'pid' }, String(found.pid))),
    el('span', { class: 'verdict' }, verdict(found)))));
  function select(index) {
    tabs.forEach((tab, other) => {
      tab.setAttribute('aria-selected', String(other === index));
      tab.setAttribute('tabindex', other === index ? 0 : -1);
    });
    choose(processes[index]);
  }
  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    tabs[next].focus();
    select(next);
    event.preventDefault();
  });
  list.append(...tabs);
  return { list, select };
}

function verdict(found) {
  const primary = found.findings.filter((finding) => finding.primary);
  return primary.length === 0 ? 'healthy' : primary.map(({ id }) => id).slice(0, 2).join(', ');
}

function footer(recording) {
  const key = (name) => el('kbd', {}, name);
  const lost = [...recording.lost].map(([reason, number]) => `${reason} ${number}`).join(', ');
  return [
    lost && el('p', {}, `Not everything was recorded: ${lost}. What that means is in docs/troubleshooting.md of nodeprobe.`),
    el('p', { class: 'keys' },
      'Keys in a chart: ', key('←'), ' ', key('→'), ' move, with ', key('Shift'), ' select, ', key('Enter'), ' open a stall, ',
      key('Esc'), ' back. In the flame graph arrows go to callers and callees, ', key('Enter'), ' zooms.'),
    el('p', {}, `Times are UTC. Made by ${shown(recording.header.writer ?? 'nodeprobe')}; this file loads nothing and sends nothing.`),
  ].filter(Boolean);
}

function start() {
  const { diagnosis, buckets, recording: lines } = JSON.parse(document.getElementById('data').textContent);
  const recording = decodeRecording(lines);
  document.getElementById('head').replaceChildren(...headerOf(diagnosis, recording));
  document.getElementById('foot').replaceChildren(...footer(recording));
  const { processes } = diagnosis;
  if (processes.length === 0) {
    document.getElementById('process').replaceChildren(empty('No Node.js process was seen.'));
    return;
  }
  const subject = processes.length === 1 ? shown(processes[0].name) : `${processes.length} processes`;
  document.title = `${subject}: nodeprobe diagnosis`;
  let redraw = () => {};
  const choose = (found) => { redraw = showProcess(found, recording, buckets); };
  if (processes.length > 1) {
    const { list, select } = processTabs(processes, choose);
    const nav = document.getElementById('processes');
    nav.replaceChildren(list);
    nav.hidden = false;
    select(0);
  } else {
    choose(processes[0]);
  }
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth === width) return;
    width = innerWidth;
    redraw();
  });
}

try {
  start();
} catch (error) {
  complain(error.stack ?? error);
  const sorry = `This page could not be drawn: ${shown(error.message)}. nodeprobe diagnose prints the findings as text as well.`;
  document.getElementById('process').append(empty(sorry));
}
root.dataset.state = 'ready';
