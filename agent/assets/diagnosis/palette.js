// What has a colour, and what it is called. The colours themselves are in theme.css.

/** Causes of a stall in the order of the legend. */
const CAUSES = {
  javascript: 'JavaScript',
  compile: 'compilation',
  native: 'native code',
  on_cpu: 'running, no stack',
  gc: 'garbage collection',
  stdio_write: 'write to stdout or stderr',
  sync_io: 'synchronous I/O',
  child_process: 'child process',
  lock: 'another thread',
  cpu_wait: 'waiting for a processor',
  unknown: 'asleep, unknown why',
};

/** Kinds of code, as frames of the flame graph have them. */
const SHADES = {
  application: 'application',
  package: 'package',
  node: 'Node.js',
  builtin: 'V8 builtin',
  native: 'native',
  other: 'other',
};

/** What a stack as a whole was busy with, each with the colour of its next of kin above. */
const CATEGORIES = {
  application: ['application', 'var(--shade-application)'],
  node_internal: ['Node.js', 'var(--shade-node)'],
  logging: ['logging', 'var(--cause-stdio_write)'],
  json: ['JSON', 'var(--cause-child_process)'],
  regexp: ['regular expressions', 'var(--cause-lock)'],
  crypto: ['crypto', 'var(--cause-native)'],
  zlib: ['compression', 'var(--cause-sync_io)'],
  gc: ['garbage collection', 'var(--cause-gc)'],
  compile: ['compilation', 'var(--cause-compile)'],
  ic_miss: ['inline-cache misses', 'var(--cause-cpu_wait)'],
  microtasks: ['promises', 'var(--shade-package)'],
  native: ['native code', 'var(--shade-native)'],
  blocked: ['asleep', 'var(--cause-unknown)'],
  unknown: ['unknown', 'var(--shade-other)'],
};

function causeColour(cause) {
  return `var(--cause-${Object.hasOwn(CAUSES, cause) ? cause : 'unknown'})`;
}

function causeName(cause) {
  return Object.hasOwn(CAUSES, cause) ? CAUSES[cause] : words(shown(cause));
}

function shadeOf(frame) {
  if (frame.kind === 'javascript') return frame.package ? 'package' : 'application';
  const shades = { node_internal: 'node', builtin: 'builtin', native: 'native' };
  return Object.hasOwn(shades, frame.kind) ? shades[frame.kind] : 'other';
}

function categoryName(category) {
  return Object.hasOwn(CATEGORIES, category) ? CATEGORIES[category][0] : words(shown(category));
}

function categoryColour(category) {
  return Object.hasOwn(CATEGORIES, category) ? CATEGORIES[category][1] : 'var(--shade-other)';
}

/** The cause that most of a stall's time went to. */
function leading(causes) {
  const [first] = Object.entries(causes).sort(([, a], [, b]) => b - a);
  return first ? first[0] : 'unknown';
}
