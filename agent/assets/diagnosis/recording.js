// The lines of a recording, put together by process. The format is that of `nodeprobe record` (wire.rs): what repeats is
// written once and then referred to by number, and the numbers begin anew at a line that says `fresh`.
//
// Times become seconds of the Unix epoch. They are nanoseconds in the file, more than a double holds; what is lost is a
// quarter of a microsecond.

function decodeRecording(lines) {
  const header = lines[0] ?? {};
  const recording = { header, processes: new Map(), lost: new Map(), begin: Infinity, end: -Infinity };
  let tables = null;
  for (const { interval } of lines.slice(1)) {
    if (!interval) continue;
    if (!tables || interval.fresh) tables = { strings: [], frames: [], stacks: [], identities: [] };
    learn(tables, interval);
    const end = interval.time_ns / 1e9;
    const begin = end - interval.duration_s;
    recording.begin = Math.min(recording.begin, begin);
    recording.end = Math.max(recording.end, end);
    for (const [reason, number] of Object.entries(interval.lost ?? {})) {
      recording.lost.set(reason, (recording.lost.get(reason) ?? 0) + number);
    }
    addInterval(recording, tables, interval, { begin, end, duration: interval.duration_s });
  }
  return recording;
}

function learn(tables, { strings = [], frames = [], stacks = [], identities = [] }) {
  for (const text of strings) tables.strings.push(shown(text, 1000));
  for (const [kind, name, script, line, , exact, npm] of frames) {
    const text = (number) => (number === null ? null : tables.strings[number] ?? null);
    const frame = { kind, name: text(name) ?? '(unknown)', script: text(script), line, exact, package: text(npm) };
    tables.frames.push({ ...frame, shade: shadeOf(frame) });
  }
  for (const { frames: numbers, truncated = false, problem = null } of stacks) {
    tables.stacks.push({ frames: numbers.map((number) => tables.frames[number]).filter(Boolean), truncated, problem });
  }
  tables.identities.push(...identities);
}

function addInterval(recording, tables, interval, time) {
  const here = new Map();
  for (const line of interval.processes ?? []) {
    const identity = tables.identities[line.identity];
    if (!identity) continue;
    const process = processOf(recording, identity);
    process.identity = identity;
    here.set(`${identity.pid}:${identity.start_ticks}`, process);
    process.intervals.push({ ...time, ...figures(line, time.duration) });
  }
  const owner = ({ pid, start_ticks: ticks }) => here.get(`${pid}:${ticks}`);
  for (const line of interval.stalls ?? []) owner(line)?.stalls.push(stallOf(tables, line));
  for (const line of interval.pauses ?? []) owner(line)?.pauses.push(pauseOf(line));
  for (const line of interval.sampled ?? []) {
    owner(line)?.samples.push({ ...time, tid: line.tid, stacks: stackTimes(tables, line.stacks) });
  }
  for (const line of interval.occasions ?? []) {
    const stack = tables.stacks[line.stack];
    const taken = { stack, category: 'unknown', samples: line.count, weight: line.count };
    if (stack) owner(line)?.occasions.push({ ...time, tid: line.tid, occasion: line.occasion, stacks: [taken] });
  }
}

function processOf(recording, { pid, start_ticks: ticks }) {
  const key = `${pid}:${ticks}`;
  if (!recording.processes.has(key)) {
    recording.processes.set(key, { pid, intervals: [], stalls: [], pauses: [], samples: [], occasions: [] });
  }
  return recording.processes.get(key);
}

function figures(line, seconds) {
  const share = (ns) => (ns === undefined || seconds <= 0 ? null : ns / 1e9 / seconds);
  return {
    uptime: line.uptime_s,
    exited: line.exited ?? false,
    rss: line.rss_bytes ?? null,
    cpu: line.cpu_ratio ?? null,
    runDelay: share(line.run_delay_ns),
    throttled: share(line.cpu_throttled_ns),
    heapUsed: line.heap_used_bytes ?? null,
    heapLimit: line.heap_limit_bytes ?? null,
    minor: histogram(line.minor?.durations),
    major: histogram(line.major?.durations),
    threads: (line.threads ?? []).map(threadFigures),
  };
}

function threadFigures(line) {
  const observed = line.busy_ns + line.idle_ns;
  return {
    tid: line.tid,
    kind: line.kind,
    name: shown(line.name ?? ''),
    utilization: observed > 0 ? line.busy_ns / observed : null,
    busy: line.busy_ns / 1e9,
    observed: observed / 1e9,
    turns: histogram(line.turns),
    stalls: histogram(line.stalls),
    // A turn that has not ended has no event yet: its age is all there is.
    currentTurn: line.current_turn_ns === undefined ? null : line.current_turn_ns / 1e9,
    currentCauses: line.current_turn_causes ?? {},
  };
}

function histogram(line) {
  const pairs = line?.exponential ?? [];
  const buckets = [];
  for (let i = 0; i + 1 < pairs.length; i += 2) buckets.push({ slot: pairs[i], count: pairs[i + 1] });
  return { count: line?.count ?? 0, sum: (line?.sum_ns ?? 0) / 1e9, max: (line?.max_ns ?? 0) / 1e9, buckets };
}

function stallOf(tables, line) {
  const string = (number) => (number === undefined ? null : tables.strings[number] ?? null);
  const { culprit, longest_sleep: sleep } = line;
  return {
    tid: line.tid,
    begin: line.began_ns / 1e9,
    duration: line.duration_ns / 1e9,
    startup: line.startup ?? false,
    lowerBound: line.lower_bound ?? false,
    causes: line.causes ?? {},
    cause: leading(line.causes ?? {}),
    culprit: culprit && {
      function: string(culprit.function) ?? '(unknown)',
      script: string(culprit.script),
      line: culprit.line ?? null,
      package: string(culprit.package),
    },
    sleep: sleep && {
      syscall: shown(sleep.syscall ?? 'sleep'),
      file: sleep.file ? shown(sleep.file) : null,
      duration: sleep.duration_ns / 1e9,
    },
    stacks: stackTimes(tables, line.stacks),
  };
}

function pauseOf(line) {
  return {
    tid: line.tid,
    kind: line.kind,
    begin: line.began_ns / 1e9,
    duration: line.duration_ns / 1e9,
    before: line.before_bytes ?? null,
    after: line.after_bytes ?? null,
  };
}

/** Rows of stack, category, samples, nanoseconds. */
function stackTimes(tables, rows = []) {
  const times = rows.map(([stack, category, samples, ns]) => ({
    stack: tables.stacks[stack], category, samples, weight: ns / 1e9,
  }));
  return times.filter(({ stack }) => stack);
}

/** All loop threads of a process: the main thread first, then workers by their number. */
function threadsOf(process) {
  const threads = new Map();
  for (const { threads: now } of process.intervals) {
    for (const { tid, kind, name } of now) threads.set(tid, { tid, kind, name });
  }
  const order = (thread) => (thread.kind === 'main' ? 0 : 1);
  return [...threads.values()].sort((a, b) => order(a) - order(b) || a.tid - b.tid);
}

function threadLabel(thread) {
  if (thread.kind === 'main') return 'main';
  // Node names a worker's thread from 24 on; before, it is called as the process is.
  return thread.name && thread.name !== 'node' ? `${thread.kind} ${thread.name} (${thread.tid})` : `${thread.kind} ${thread.tid}`;
}
