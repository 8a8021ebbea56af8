// Garbage collection and memory.

const GC_COLOURS = { minor: 'var(--gc-minor)', major: 'var(--gc-major)' };
/** A limit so far above what is used would leave nothing of the curve; it is told in words instead. */
const FAR = 4;

function memoryCards(view) {
  return el('div', { class: 'pair' }, gcCard(view), heapCard(view));
}

function gcCard(view) {
  const title = 'Garbage collection';
  if (!view.observes('gc')) return card(title, null, empty(view.whyNot('gc')));
  const { intervals, pauses } = view.process;
  const [minor, major] = [pausesOf(intervals, 'minor'), pausesOf(intervals, 'major')];
  if (minor.count + major.count === 0) return card(title, null, empty('No pause in this window: nothing was collected.'));
  const sums = intervals.map((interval) => interval.minor.sum + interval.major.sum);
  // Not all as arguments of one call: there may be more than an engine takes.
  const most = [...sums, ...pauses.map((pause) => pause.duration)].reduce((a, b) => Math.max(a, b), 0);
  const near = (time) => pauses.filter((pause) => Math.abs(pause.begin - time) < (view.end - view.begin) / 120);
  const readBars = readInterval(view, ({ minor: young, major: old }) => [
    [GC_COLOURS.minor, `minor, ${count(young.count, 'pause', 'pauses')}`, duration(young.sum)],
    [GC_COLOURS.major, `major, ${count(old.count, 'pause', 'pauses')}`, duration(old.sum)],
  ]);
  const chart = timeChart(view, {
    label: 'Garbage collection pauses over time',
    height: 190,
    timeLabels: true,
    axis: linearAxis(most, duration, 3),
    draw(layer, x, y) {
      for (const { begin, end, minor: young, major: old } of intervals) {
        const width = Math.max(1, (x(end) - x(begin)) * 0.72);
        const from = (x(begin) + x(end) - width) / 2;
        const bar = (kind, low, high) => high > low && layer.append(svg('rect', {
          class: 'gc-bar', x: from, width, y: y(high), height: Math.max(0.8, y(low) - y(high)),
          style: `fill:${GC_COLOURS[kind]};fill-opacity:0.55`,
        }));
        bar('major', 0, old.sum);
        bar('minor', old.sum, old.sum + young.sum);
      }
      for (const { begin, duration: length, kind } of pauses) {
        layer.append(svg('circle', { class: `pause ${kind === 'minor' ? 'minor' : 'major'}`, cx: x(begin), cy: y(length), r: 4 }));
      }
    },
    read(time) {
      const [pause] = near(time).sort((a, b) => Math.abs(a.begin - time) - Math.abs(b.begin - time));
      if (!pause) return readBars(time);
      const isKnown = pause.before !== null && pause.after !== null;
      return {
        title: `${words(shown(pause.kind))} pause of ${duration(pause.duration)}`,
        sub: `at ${clock(pause.begin, 3)} UTC`,
        rows: isKnown ? [[null, 'heap', `${bytes(pause.before)} → ${bytes(pause.after)}`]] : [],
      };
    },
  });
  const seconds = intervals.reduce((sum, interval) => sum + interval.duration, 0);
  const longest = duration(Math.max(minor.max, major.max));
  const lead = `Paused ${percent((minor.sum + major.sum) / seconds)} of the time: ${minor.count} minor, ${major.count} major, the longest ${longest}.`;
  const point = pauses.length > 0 && [['var(--gc-major)', 'one of 10 ms or longer', 'round']];
  const key = legend([[GC_COLOURS.minor, 'minor'], [GC_COLOURS.major, 'major'], ...(point || [])]);
  return card(title, lead, chartBlock('Pause time per reading', null, key, chart));
}

/** All pauses of a kind together. */
function pausesOf(intervals, kind) {
  const total = { count: 0, sum: 0, max: 0 };
  for (const { [kind]: pauses } of intervals) {
    total.count += pauses.count;
    total.sum += pauses.sum;
    total.max = Math.max(total.max, pauses.max);
  }
  return total;
}

function heapCard(view) {
  const title = 'Memory';
  const used = series(view, ({ heapUsed }) => heapUsed);
  const rss = series(view, (interval) => interval.rss);
  const limit = view.process.intervals.findLast(({ heapLimit }) => heapLimit !== null)?.heapLimit ?? null;
  const known = [...used, ...rss].map(({ value }) => value).filter((value) => value !== null);
  if (known.length === 0) return card(title, null, empty('Neither the heap nor the resident memory of this process could be read.'));
  const highest = Math.max(...known);
  const isNear = limit !== null && limit <= highest * FAR;
  const hasHeap = used.some(({ value }) => value !== null);
  const chart = timeChart(view, {
    label: 'Heap and resident memory over time',
    height: 190,
    timeLabels: true,
    axis: bytesAxis(isNear ? Math.max(limit, highest) : highest),
    draw(layer, x, y, plot) {
      steps(layer, x, y, rss, 'var(--rss)');
      steps(layer, x, y, used, 'var(--heap)', { area: true });
      if (isNear) layer.append(svg('line', { class: 'limit', x1: plot.left, x2: plot.right, y1: y(limit), y2: y(limit) }));
    },
    read: readInterval(view, ({ heapUsed, rss: resident }) => [
      ['var(--heap)', 'heap used after collection', heapUsed === null ? 'not known' : bytes(heapUsed)],
      ['var(--rss)', 'resident (RSS)', resident === null ? 'not known' : bytes(resident)],
      ...(limit === null ? [] : [['var(--critical)', 'limit of the heap', bytes(limit)]]),
    ]),
  });
  const none = 'Heap used is what a collection tells, and there was none yet.';
  const why = hasHeap ? null : view.observes('heap') ? none : view.whyNot('heap');
  const lead = [why, limit !== null && !isNear ? `The heap may grow to ${bytes(limit)}.` : null].filter(Boolean).join(' ');
  const key = legend([
    ['var(--heap)', 'heap used, after collection', 'line'], ['var(--rss)', 'resident (RSS)', 'line'],
    ...(isNear ? [[null, 'limit of the heap', 'dashed']] : []),
  ]);
  return card(title, lead || null, chartBlock('Heap and RSS', null, key, chart));
}

/** Ticks at round binary sizes. */
function bytesAxis(most) {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log(Math.max(1, most)) / Math.log(1024)));
  const axis = linearAxis(most / unit, () => '', 3);
  return (plot) => {
    const { y, ticks } = axis(plot);
    return { y: (value) => y(value / unit), ticks: ticks.map(([value]) => [value * unit, value === 0 ? '0' : bytes(value * unit)]) };
  };
}
