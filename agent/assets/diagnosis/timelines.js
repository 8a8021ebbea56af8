// What the process did over time: its loops, their stalls, the processor.

const LANE = 28;
const WORKER_COLOURS = ['var(--cpu)', 'var(--wait)', 'var(--heap)', 'var(--cause-sync_io)', 'var(--cause-lock)'];

function timelinesCard(view) {
  const blocks = [utilizationChart(view), stallsChart(view), cpuChart(view), waitChart(view)];
  return card('Time lines', 'Drag to choose a time for the flame graph; click a stall for its stacks.', blocks);
}

/** `{ begin, end, value }` of each interval. */
function series(view, value) {
  return view.process.intervals.map((interval) => ({ begin: interval.begin, end: interval.end, value: value(interval) }));
}

function mean(points) {
  const known = points.filter(({ value }) => value !== null);
  const seconds = known.reduce((sum, { begin, end }) => sum + end - begin, 0);
  return seconds > 0 ? known.reduce((sum, { begin, end, value }) => sum + value * (end - begin), 0) / seconds : null;
}

/** A tooltip about the interval at a time. */
function readInterval(view, rowsOf) {
  return (time) => {
    const interval = view.intervalAt(time);
    return interval && { title: `${clock(interval.begin, 1)} to ${clock(interval.end, 1)} UTC`, rows: rowsOf(interval) };
  };
}

function utilizationChart(view) {
  if (!view.observes('event_loop')) return chartBlock('Event loop utilization', null, null, empty(view.whyNot('event_loop')));
  const ofThread = (tid) => series(view, ({ threads }) => threads.find((thread) => thread.tid === tid)?.utilization ?? null);
  const colour = ({ kind }, index) => (kind === 'main' ? 'var(--busy)' : WORKER_COLOURS[index % WORKER_COLOURS.length]);
  const shownThreads = view.threads.map((thread, index) => ({ ...thread, points: ofThread(thread.tid), colour: colour(thread, index) }));
  const main = shownThreads[0];
  const chart = timeChart(view, {
    label: 'Event loop utilization over time',
    height: 104,
    axis: axisOf(1, [[0, '0'], [0.5, '50 %'], [1, '100 %']]),
    draw(layer, x, y) {
      for (const thread of shownThreads.toReversed()) {
        const isMain = thread === main;
        steps(layer, x, y, thread.points, thread.colour, { area: isMain, thin: !isMain });
      }
    },
    read: readInterval(view, ({ threads }) => threads.map((now) => {
      const thread = shownThreads.find(({ tid }) => tid === now.tid);
      return [thread.colour, threadLabel(thread), now.utilization === null ? 'not known' : percent(now.utilization)];
    })),
  });
  const average = main && mean(main.points);
  const now = average === null || average === undefined ? null : `busy ${percent(average)} of the time`;
  const key = shownThreads.length > 1 && legend(shownThreads.slice(0, 8).map((thread) => [thread.colour, threadLabel(thread), 'line']));
  return chartBlock('Event loop utilization', now, key, chart);
}

/** Stalls that have ended, and turns that were still too long when the window was over. */
function stallsOf(view) {
  const last = view.process.intervals.at(-1);
  const threshold = view.recording.header.stall_threshold_s ?? 0.05;
  const open = last.threads.filter(({ currentTurn }) => currentTurn !== null && currentTurn >= threshold);
  const unfinished = open.map(({ tid, currentTurn, currentCauses }) => ({
    tid, begin: last.end - currentTurn, duration: currentTurn, causes: currentCauses, cause: leading(currentCauses),
    open: true, stacks: [],
  }));
  return [...view.process.stalls, ...unfinished].filter(({ begin, duration: length }) => begin + length >= view.begin);
}

function stallsChart(view) {
  if (!view.observes('event_loop')) return null;
  const stalls = stallsOf(view);
  const lanes = view.threads.filter(({ tid, kind }) => kind === 'main' || stalls.some((stall) => stall.tid === tid));
  const threshold = duration(view.recording.header.stall_threshold_s ?? 0.05);
  if (stalls.length === 0 || lanes.length === 0) {
    return chartBlock('Stalls', null, null, empty(`No stall in this window: no turn of the event loop took ${threshold} or longer.`));
  }
  const top = (tid) => PLOT.top + lanes.findIndex((thread) => thread.tid === tid) * LANE;
  const at = (time, pixelY) => {
    const slack = (view.end - view.begin) / 300;
    const near = stalls.filter(({ tid, begin, duration: length }) =>
      time >= begin - slack && time <= begin + length + slack &&
      (pixelY === null || (pixelY >= top(tid) && pixelY < top(tid) + LANE)));
    const distance = ({ begin, duration: length }) => Math.max(begin - time, time - begin - length, 0);
    return near.sort((a, b) => distance(a) - distance(b))[0];
  };
  const chart = timeChart(view, {
    label: `${stalls.length} stalls over time`,
    height: PLOT.top + lanes.length * LANE + PLOT.bottom,
    axis: () => ({ y: (tid) => top(tid) + LANE / 2, ticks: [] }),
    draw(layer, x, y, plot) {
      for (const thread of lanes) {
        const lane = { x: plot.left, width: plot.right - plot.left, y: top(thread.tid) + 2, height: LANE - 4 };
        const label = thread.kind === 'main' ? 'main' : thread.tid;
        layer.append(svg('rect', { class: 'lane', ...lane, rx: 3 }));
        layer.append(svg('text', { x: plot.left - 8, y: y(thread.tid) + 4, 'text-anchor': 'end' }, label));
      }
      for (const stall of stalls) {
        const [from, to] = [x(stall.begin), x(stall.begin + stall.duration)];
        // Narrow ones side by side would be nothing but their edges.
        const mark = svg('rect', {
          class: `stall${to - from > 5 ? ' wide' : ''}${stall.open ? ' open' : ''}`, 'data-cause': stall.cause, style: `fill:${causeColour(stall.cause)}`,
          x: from, width: Math.max(1.5, to - from), y: top(stall.tid) + 2, height: LANE - 4,
        });
        mark.stall = stall;
        layer.append(mark);
      }
    },
    read: (time, pixelY) => {
      const stall = at(time, pixelY);
      return stall ? stallTooltip(stall) : null;
    },
    stops: () => stalls.map(({ begin, duration: length }) => Math.max(view.begin, begin + length / 2)),
    click(time, pixelY) {
      const stall = at(time, pixelY);
      if (stall?.stacks.length > 0) view.select({ stall });
      else view.select({});
    },
  });
  const causes = Object.keys(CAUSES).filter((cause) => stalls.some((stall) => stall.cause === cause));
  const seconds = stalls.reduce((sum, stall) => sum + stall.duration, 0);
  const now = `${count(stalls.length, 'turn', 'turns')} of ${threshold} or longer, ${duration(seconds)} together`;
  return chartBlock('Stalls', now, legend(causes.map((cause) => [causeColour(cause), causeName(cause)])), chart);
}

function stallTooltip(stall) {
  const { culprit, sleep } = stall;
  const total = Object.values(stall.causes).reduce((sum, ns) => sum + ns, 0) || 1;
  const rows = Object.entries(stall.causes).sort(([, a], [, b]) => b - a)
    .map(([cause, ns]) => [causeColour(cause), causeName(cause), `${duration(ns / 1e9)} · ${percent(ns / total)}`]);
  const length = `${stall.lowerBound ? 'at least ' : ''}${duration(stall.duration)}`;
  const what = stall.open ? `Turn still in progress for ${length}` : stall.startup ? `Start-up, ${length}` : `Stall of ${length}`;
  return {
    title: what,
    sub: [
      `from ${clock(stall.begin, 3)} UTC`,
      culprit && `${culprit.function}  ${place(culprit.script, culprit.line)}`,
      culprit?.package && `package ${culprit.package}`,
      sleep && `longest sleep: ${sleep.syscall} ${sleep.file ?? ''} ${duration(sleep.duration)}`,
    ],
    rows,
    hint: stall.stacks.length > 0 ? 'Click for its stacks in the flame graph' : null,
  };
}

function cpuChart(view) {
  const points = series(view, ({ cpu }) => cpu);
  const most = Math.max(1, ...points.map(({ value }) => value ?? 0));
  const throttled = series(view, (interval) => interval.throttled);
  const isThrottled = throttled.some(({ value }) => value > 0);
  const chart = timeChart(view, {
    label: 'CPU over time, in cores',
    height: 78,
    axis: linearAxis(most, (value) => digits(value), 2),
    draw(layer, x, y) {
      steps(layer, x, y, points, 'var(--cpu)', { area: true });
      if (isThrottled) steps(layer, x, y, throttled, 'var(--critical)');
    },
    read: readInterval(view, ({ cpu, throttled: stopped }) => [
      ['var(--cpu)', 'CPU', cpu === null ? 'not known' : `${digits(cpu)} cores`],
      ...(isThrottled ? [['var(--critical)', 'quota used up', stopped === null ? 'not known' : percent(stopped)]] : []),
    ]),
  });
  const average = mean(points);
  const key = isThrottled &&
    legend([['var(--cpu)', 'cores', 'line'], ['var(--critical)', 'share of time with the quota used up', 'line']]);
  return chartBlock('CPU', average === null ? null : `${digits(average)} cores on average`, key, chart);
}

function waitChart(view) {
  const points = series(view, ({ runDelay }) => runDelay);
  const most = Math.max(0.1, ...points.map(({ value }) => value ?? 0));
  const chart = timeChart(view, {
    label: 'Waiting for a processor over time',
    height: 92,
    timeLabels: true,
    axis: linearAxis(most, (share) => `${digits(share * 100)} %`, 2),
    draw: (layer, x, y) => steps(layer, x, y, points, 'var(--wait)', { area: true }),
    read: readInterval(view, ({ runDelay }) =>
      [['var(--wait)', 'waited for a processor', runDelay === null ? 'not known' : percent(runDelay)]]),
  });
  const average = mean(points);
  const now = average === null ? null : `main thread ready and without a processor ${percent(average)} of the time`;
  return chartBlock('Run-queue wait', now, null, chart);
}
