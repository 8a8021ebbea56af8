// From sampled stacks to the tree of a flame graph, and to the functions that most of the time was spent in.

/** What the flame graph can be made of: time, and what other stacks were taken for. */
const WEIGHTS = {
  time: 'time',
  allocation: 'allocations',
  rejection: 'rejections',
  deopt: 'deoptimisations',
  pool_work: 'work for the thread pool',
};

/** `{ tid, stacks }` of everything that is selected. */
function selectedStacks(view, weight, tid) {
  const { stall, range } = view.selection;
  if (stall && weight === 'time') return [{ tid: stall.tid, stacks: stall.stacks }];
  const { samples, occasions } = view.process;
  const taken = weight === 'time' ? samples : occasions.filter(({ occasion }) => occasion === weight);
  const inside = ({ begin, end }) => !range || (end > range[0] + 1e-6 && begin < range[1] - 1e-6);
  return taken.filter((sample) => inside(sample) && (tid === null || sample.tid === tid));
}

/**
 * Without the native code that only called a script: what runs Node's loop, and V8's way from C++ to JavaScript. It is the
 * same below every function, and what a function calls itself stays.
 */
function withoutCallers(frames) {
  const innermost = frames.findIndex(isScript);
  if (innermost < 0) return frames;
  return frames.filter((frame, index) => index < innermost || isScript(frame));
}

function isScript({ kind }) {
  return kind === 'javascript' || kind === 'node_internal';
}

/** Merges stacks from the outermost frame on. The line being executed is no part of what makes two frames the same. */
function buildTree(parts, threads, framesOf) {
  const root = node('everything', null, 'other');
  const tids = new Set(parts.map(({ tid }) => tid));
  for (const { tid, stacks } of parts) {
    const thread = threads.find((known) => known.tid === tid);
    // With one thread its name would be a frame as wide as the graph.
    const label = tids.size > 1 ? [node(thread ? threadLabel(thread) : `thread ${tid}`, null, 'other')] : [];
    for (const time of stacks) addStack(root, label, framesOf(time.stack.frames), time);
  }
  finish(root);
  return root;
}

function node(name, frame, shade) {
  return { name, frame, shade, weight: 0, self: 0, samples: 0, children: new Map(), lines: new Map(), categories: new Map() };
}

function addStack(root, outermost, seen, { stack, category, samples, weight }) {
  const frames = seen.toReversed().map((frame) => node(frame.name, frame, frame.shade));
  const outer = [...outermost];
  if (stack.truncated) outer.push(node('(outer frames are missing)', null, 'other'));
  if (frames.length === 0) frames.push(node(`(no stack: ${shown(stack.problem ?? 'it could not be read')})`, null, 'other'));
  const add = (at) => {
    at.weight += weight;
    at.samples += samples;
    at.categories.set(category, (at.categories.get(category) ?? 0) + weight);
  };
  let here = root;
  add(here);
  for (const next of [...outer, ...frames]) {
    const key = `${next.shade}\0${next.name}\0${next.frame?.script ?? ''}`;
    if (!here.children.has(key)) here.children.set(key, next);
    here = here.children.get(key);
    add(here);
    if (next.frame?.line) here.lines.set(next.frame.line, (here.lines.get(next.frame.line) ?? 0) + weight);
  }
  here.self += weight;
}

/** Children become a list, the heaviest first; each node learns its parent and its depth. */
function finish(top) {
  const waiting = [top];
  top.depth = 0;
  top.parent = null;
  while (waiting.length > 0) {
    const here = waiting.pop();
    here.children = [...here.children.values()].sort((a, b) => b.weight - a.weight);
    [here.category] = [...here.categories].sort(([, a], [, b]) => b - a)[0] ?? ['unknown'];
    for (const child of here.children) {
      child.parent = here;
      child.depth = here.depth + 1;
      waiting.push(child);
    }
  }
}

/**
 * Each function with the time it has itself (`self`) and the time anywhere on the stack (`total`). What Node and native code do
 * for a function of the application counts as its own: that is the function that somebody can change.
 */
function heaviest(parts) {
  const functions = new Map();
  const of = (frame) => {
    const key = `${frame.shade}\0${frame.name}\0${frame.script ?? ''}`;
    if (!functions.has(key)) functions.set(key, { frame, self: 0, total: 0, lines: new Map() });
    return functions.get(key);
  };
  for (const { stacks } of parts) {
    for (const { stack: { frames }, weight } of stacks) {
      // A function that calls itself is on the stack once.
      for (const known of new Set(frames.map(of))) known.total += weight;
      const owner = frames.find(({ kind }) => kind === 'javascript') ?? frames.find(isScript) ?? frames[0];
      if (!owner) continue;
      const known = of(owner);
      known.self += weight;
      if (owner.line) known.lines.set(owner.line, (known.lines.get(owner.line) ?? 0) + weight);
    }
  }
  return [...functions.values()].sort((a, b) => b.self - a.self);
}

/** The line with the most weight. */
function hottestLine(lines) {
  const [first] = [...lines].sort(([, a], [, b]) => b - a);
  return first ? first[0] : null;
}

/** Weight by category, the heaviest first. */
function shares(tree) {
  return [...tree.categories].sort(([, a], [, b]) => b - a);
}

function matches(at, wanted) {
  const texts = [at.name, at.frame?.script, at.frame?.package];
  return texts.some((text) => text && text.toLowerCase().includes(wanted));
}
