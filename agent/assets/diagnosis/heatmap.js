// Every turn of the event loop by when it ended and how long it took. Averages hide the slow ones; here each is a cell.

/** Buckets of a recording that become one row: half an octave. */
const ROW_SLOTS = 4;
const MOST_COLUMNS = 220;
/** Rows share this height, pixels, and are neither thinner nor thicker than these. */
const MAP_HEIGHT = 300;
const [THINNEST, THICKEST] = [6, 14];

function heatmapCard(view, buckets) {
  const title = 'Turns of the event loop';
  if (!view.observes('event_loop')) return card(title, null, empty(view.whyNot('event_loop')));
  const body = el('div');
  const choose = (tid) => {
    view.charts = view.charts.filter((chart) => chart !== body.chart);
    const known = view.charts.length;
    body.replaceChildren(heatmap(view, buckets, tid));
    body.chart = view.charts[known];
    if (body.isConnected) body.chart?.render();
  };
  choose(null);
  const pairs = [['', 'all loop threads'], ...view.threads.map((thread) => [String(thread.tid), threadLabel(thread)])];
  const tools = view.threads.length > 1 &&
    el('div', { class: 'toolbar' }, choice('Thread', pairs, '', (value) => choose(value === '' ? null : Number(value))));
  return card(title, 'When they ended, and how long they took; the darker, the more of them.', tools, body);
}

function heatmap(view, buckets, tid) {
  const cells = cellsOf(view, tid);
  if (cells.length === 0) return empty('No turn of the event loop ended in this window.');
  const begins = (row) => 2 ** ((row * ROW_SLOTS + buckets.first_index) / buckets.per_octave);
  const threshold = view.recording.header.stall_threshold_s ?? 0.05;
  const rowOf = (seconds) => (Math.log2(seconds) * buckets.per_octave - buckets.first_index) / ROW_SLOTS;
  const rows = cells.map(({ row }) => row);
  const lowest = Math.max(0, Math.min(...rows) - 1);
  const highest = Math.max(...rows, Math.ceil(rowOf(threshold))) + 1;
  const most = Math.max(...cells.map((cell) => cell.count));
  const height = Math.min(THICKEST, Math.max(THINNEST, Math.floor(MAP_HEIGHT / (highest - lowest))));
  const ticks = [];
  for (let power = -6; power <= 3; power += 1) {
    const row = rowOf(10 ** power);
    // Where the threshold has its own label there is no room for another.
    if (row >= lowest && row <= highest && Math.abs(row - rowOf(threshold)) > 1) ticks.push([row, duration(10 ** power)]);
  }
  const text = (row) => (row === 0 ? `up to ${duration(begins(1))}` : `${duration(begins(row))} to ${duration(begins(row + 1))}`);
  const y = (row) => PLOT.top + (highest - row) * height;
  const isStall = (row) => begins(row + 0.5) >= threshold;
  const colour = (row) => `var(${isStall(row) ? '--heat-stall' : '--heat'})`;
  const chart = timeChart(view, {
    label: 'Heat map of turns: time by duration',
    height: PLOT.top + (highest - lowest) * height + PLOT.bottomWithLabels,
    timeLabels: true,
    axis: () => ({ y, ticks }),
    draw(layer, x, _, plot) {
      for (const { begin, end, row, count: number } of cells) {
        const warm = isStall(row);
        const strength = Math.log1p(number) / Math.log1p(most);
        // A single stall matters and has to be seen; a single short turn does not.
        const faintest = warm ? 0.45 : 0.12;
        const opacity = (faintest + (1 - faintest) * strength).toFixed(3);
        layer.append(svg('rect', {
          class: 'cell', 'data-count': number, 'data-row': row,
          x: x(begin) + 0.5, width: Math.max(1, x(end) - x(begin) - 1), y: y(row + 1) + 0.5, height: height - 1, rx: 1.5,
          style: `fill:${colour(row)};fill-opacity:${opacity}`,
        }));
      }
      const at = y(rowOf(threshold));
      layer.append(svg('line', { class: 'threshold', x1: plot.left, x2: plot.right, y1: at, y2: at }));
      const label = { class: 'threshold-label', x: plot.left - 8, y: at + 4, 'text-anchor': 'end' };
      layer.append(svg('text', label, duration(threshold)));
    },
    read(time, pixelY) {
      const here = cells.filter(({ begin, end }) => time >= begin && time < end);
      if (here.length === 0) return null;
      const title = `${clock(here[0].begin, 1)} to ${clock(here[0].end, 1)} UTC`;
      const pointed = pixelY !== null && here.find(({ row }) => pixelY >= y(row + 1) && pixelY < y(row));
      const listed = pointed ? [pointed] : here.toSorted((a, b) => b.row - a.row).slice(0, 6);
      return {
        title,
        sub: pointed ? null : 'the slowest',
        rows: listed.map(({ row, count: number }) => [colour(row), text(row), count(number, 'turn', 'turns')]),
      };
    },
  });
  const total = cells.reduce((sum, cell) => sum + cell.count, 0);
  const key = el('ul', { class: 'legend' },
    el('li', {}, '1', el('span', { class: 'swatch ramp' }), most.toLocaleString('en-GB')),
    el('li', {}, el('span', { class: 'swatch', style: 'background:var(--heat-stall)' }), `stalls, ${duration(threshold)} or longer`));
  return chartBlock(count(total, 'turn', 'turns'), null, key, chart);
}

/** Counts by column and row. Long windows get columns of several intervals. */
function cellsOf(view, tid) {
  const { intervals } = view.process;
  const perColumn = Math.ceil(intervals.length / MOST_COLUMNS);
  const cells = [];
  for (let first = 0; first < intervals.length; first += perColumn) {
    const column = intervals.slice(first, first + perColumn);
    const counts = new Map();
    for (const { threads } of column) {
      for (const thread of threads) {
        if (tid !== null && thread.tid !== tid) continue;
        for (const { slot, count: number } of thread.turns.buckets) {
          const row = Math.floor(slot / ROW_SLOTS);
          counts.set(row, (counts.get(row) ?? 0) + number);
        }
      }
    }
    const time = { begin: column[0].begin, end: column.at(-1).end };
    for (const [row, number] of counts) cells.push({ ...time, row, count: number });
  }
  return cells;
}
