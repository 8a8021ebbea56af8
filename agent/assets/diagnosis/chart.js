// What all charts over time share: one time axis, one crosshair, one selection.

const PLOT = { left: 58, right: 12, top: 6, bottomWithLabels: 22, bottom: 6 };
/** Below this a drag is a click, pixels. */
const DRAG = 5;

/** What is looked at of one process, and the charts that show it. */
class View {
  constructor(recording, process, found) {
    this.recording = recording;
    this.process = process;
    this.found = found;
    this.begin = process.intervals[0].begin;
    this.end = process.intervals.at(-1).end;
    this.threads = threadsOf(process);
    /** What the flame graph is about: everything, `{ range }` or `{ stall }`. */
    this.selection = {};
    this.charts = [];
    this.listeners = [];
  }

  observes(signal) {
    const said = this.found.signals[signal];
    return said === undefined || said === 'ok';
  }

  /** Why a signal is missing, as a sentence. */
  whyNot(signal) {
    return `Not observed: ${shown(this.found.signals[signal]?.unavailable ?? 'no reason was given')}.`;
  }

  select(selection) {
    this.selection = selection;
    for (const chart of this.charts) chart.markSelection();
    for (const listener of this.listeners) listener();
  }

  /** Whole intervals, because samples are known by interval. */
  snap(from, to) {
    const inside = this.process.intervals.filter(({ begin, end }) => end > from && begin < to);
    return inside.length > 0 ? [inside[0].begin, inside.at(-1).end] : null;
  }

  point(time) {
    for (const chart of this.charts) chart.markTime(time);
  }

  render() {
    for (const chart of this.charts) chart.render();
  }

  intervalAt(time) {
    return this.process.intervals.find(({ begin, end }) => time >= begin && time <= end) ?? null;
  }
}

/**
 * A chart over the window of a view.
 *
 * `axis(plot)` gives `{ y, ticks }`, ticks being `[value, label]`; `draw(layer, x, y, plot)` draws; `read(time, pixelY)` tells
 * what the tooltip says; `stops()` are the times that the arrow keys go through; `click(time, pixelY)` is told of clicks.
 */
function timeChart(view, { label, height, axis, draw, read, stops, click, timeLabels = false }) {
  const canvas = svg('svg', { class: 'chart', tabindex: 0, role: 'img', 'aria-label': label });
  const block = el('div', { class: 'chart-frame' }, canvas);
  const crosshair = svg('line', { class: 'crosshair', visibility: 'hidden' });
  const band = svg('rect', { class: 'band', visibility: 'hidden' });
  let plot = null;
  let cursor = null;

  const x = (time) => plot.left + ((time - view.begin) / (view.end - view.begin)) * (plot.right - plot.left);
  const timeAt = (pixel) => {
    const share = (pixel - plot.left) / (plot.right - plot.left);
    return view.begin + Math.min(1, Math.max(0, share)) * (view.end - view.begin);
  };
  const clamped = (time) => x(Math.min(view.end, Math.max(view.begin, time)));

  const chart = {
    render() {
      const width = Math.max(300, Math.round(block.clientWidth || 900));
      const bottom = height - (timeLabels ? PLOT.bottomWithLabels : PLOT.bottom);
      plot = { left: PLOT.left, right: width - PLOT.right, top: PLOT.top, bottom };
      canvas.setAttribute('viewBox', `0 0 ${width} ${height}`);
      const { y, ticks } = axis(plot);
      const layer = svg('g');
      canvas.replaceChildren(grid(view, plot, x, y, ticks, timeLabels), layer, band, crosshair);
      draw(layer, clamped, y, plot);
      chart.markSelection();
    },
    markTime(time) {
      cursor = time;
      crosshair.setAttribute('visibility', time === null ? 'hidden' : 'visible');
      if (time !== null) setLine(crosshair, x(time), plot.top, x(time), plot.bottom);
    },
    markSelection(range = view.selection.range) {
      band.setAttribute('visibility', range ? 'visible' : 'hidden');
      if (range) setRect(band, clamped(range[0]), plot.top, clamped(range[1]) - clamped(range[0]), plot.bottom - plot.top);
      for (const mark of canvas.querySelectorAll('.stall')) {
        mark.classList.toggle('chosen', view.selection.stall !== undefined && mark.stall === view.selection.stall);
      }
    },
  };

  const tell = (time, pixelY, at) => {
    view.point(time);
    const told = read(time, pixelY);
    if (told) tooltip.show(at, told);
    else tooltip.hide();
  };
  pointing(view, canvas, { chart, timeAt, tell, click });
  canvas.addEventListener('keydown', (event) => {
    const times = (stops?.() ?? view.process.intervals.map(({ begin, end }) => (begin + end) / 2)).toSorted((a, b) => a - b);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && times.length > 0) {
      const next = cursor === null ? (step > 0 ? times[0] : times.at(-1))
        : step > 0 ? times.find((time) => time > cursor + 1e-6) : times.findLast((time) => time < cursor - 1e-6);
      const time = next ?? (step > 0 ? times.at(-1) : times[0]);
      const bounds = canvas.getBoundingClientRect();
      tell(time, null, { x: bounds.left + (x(time) / canvas.viewBox.baseVal.width) * bounds.width, y: bounds.top });
      if (event.shiftKey) extend(view, time);
    } else if (event.key === 'Enter' && cursor !== null) {
      click?.(cursor, null);
    } else if (event.key === 'Escape') {
      tooltip.hide();
      view.point(null);
      view.select({});
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener('blur', () => { tooltip.hide(); view.point(null); });
  view.charts.push(chart);
  return block;
}

/** Shift and an arrow: the selection grows to `time`. */
function extend(view, time) {
  const [from, to] = view.selection.range ?? [time, time];
  const range = view.snap(Math.min(from, time), Math.max(to, time));
  if (range) view.select({ range });
}

function pointing(view, canvas, { chart, timeAt, tell, click }) {
  let pressed = null;
  const inside = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const scale = canvas.viewBox.baseVal.width / bounds.width;
    return { x: (event.clientX - bounds.left) * scale, y: (event.clientY - bounds.top) * scale };
  };
  const dragged = (at) => view.snap(Math.min(timeAt(pressed), timeAt(at)), Math.max(timeAt(pressed), timeAt(at)));
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    pressed = inside(event).x;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    const at = inside(event);
    tell(timeAt(at.x), at.y, { x: event.clientX, y: event.clientY });
    if (pressed !== null && Math.abs(at.x - pressed) > DRAG) chart.markSelection(dragged(at.x));
  });
  canvas.addEventListener('pointerup', (event) => {
    if (pressed === null) return;
    const at = inside(event);
    const range = Math.abs(at.x - pressed) > DRAG ? dragged(at.x) : null;
    pressed = null;
    if (range) view.select({ range });
    else click?.(timeAt(at.x), at.y);
  });
  canvas.addEventListener('pointercancel', () => { pressed = null; chart.markSelection(); });
  canvas.addEventListener('pointerleave', () => { tooltip.hide(); view.point(null); });
}

function grid(view, plot, x, y, ticks, timeLabels) {
  const group = svg('g');
  for (const [value, label] of ticks) {
    const at = y(value);
    group.append(svg('line', { class: 'grid', x1: plot.left, x2: plot.right, y1: at, y2: at }));
    group.append(svg('text', { x: plot.left - 8, y: at + 4, 'text-anchor': 'end' }, label));
  }
  group.append(svg('line', { class: 'base', x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }));
  for (const time of timeTicks(view.begin, view.end, (plot.right - plot.left) / 104)) {
    group.append(svg('line', { class: 'grid', x1: x(time), x2: x(time), y1: plot.top, y2: plot.bottom }));
    if (!timeLabels) continue;
    const anchor = x(time) > plot.right - 30 ? 'end' : x(time) < plot.left + 24 ? 'start' : 'middle';
    group.append(svg('text', { x: x(time), y: plot.bottom + 15, 'text-anchor': anchor }, clock(time)));
  }
  return group;
}

/** Round times of day, about `wanted` of them. */
function timeTicks(begin, end, wanted) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = steps.find((seconds) => (end - begin) / seconds <= Math.max(2, wanted)) ?? 604800;
  const ticks = [];
  for (let time = Math.ceil(begin / step) * step; time <= end; time += step) ticks.push(time);
  return ticks;
}

/** From zero to `most` or a little more, with round ticks. */
function linearAxis(most, format, wanted = 3) {
  const raw = Math.max(most, 1e-12) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const top = Math.ceil((most / step) * 0.999) * step || step;
  const values = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  return axisOf(top, values.map((value) => [value, format(value)]));
}

function axisOf(top, ticks) {
  return (plot) => ({ y: (value) => plot.bottom - (Math.min(value, top) / top) * (plot.bottom - plot.top), ticks });
}

/** A value per interval, as steps: it is one of the whole interval. `points` are `{ begin, end, value }`. */
function steps(layer, x, y, points, colour, { area = false, thin = false } = {}) {
  let path = '';
  let last = null;
  const areas = [];
  for (const { begin, end, value } of points) {
    if (value === null) {
      last = null;
      continue;
    }
    const [from, to, at] = [x(begin), x(end), y(value)].map((number) => number.toFixed(1));
    path += last !== null && begin - last < 0.05 ? `V${at}H${to}` : `M${from},${at}H${to}`;
    areas.push(`M${from},${y(0)}V${at}H${to}V${y(0)}Z`);
    last = end;
  }
  if (area) layer.append(svg('path', { class: 'area', d: areas.join(''), style: `fill:${colour}` }));
  layer.append(svg('path', { class: thin ? 'curve thin' : 'curve', d: path, style: `stroke:${colour}` }));
}

function setLine(line, x1, y1, x2, y2) {
  for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(name, value);
}

function setRect(rect, x, y, width, height) {
  for (const [name, value] of Object.entries({ x, y, width: Math.max(0, width), height })) rect.setAttribute(name, value);
}

/** A chart with its heading. */
function chartBlock(title, now, legendElement, chart) {
  return el('div', { class: 'chart-block' },
    el('div', { class: 'chart-title' }, el('h4', {}, title), now && el('span', { class: 'now' }, now), legendElement),
    chart);
}
