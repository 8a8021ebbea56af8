// Numbers and names as people read them. Units are those that `nodeprobe diagnose` prints.

/** 0.0123 as `12.3 ms`. */
function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s === 0) return '0';
  if (s < 0.001) return `${digits(s * 1e6)} µs`;
  if (s < 0.9995) return `${digits(s * 1e3)} ms`;
  if (s < 59.95) return `${s.toFixed(s < 9.995 ? 2 : 1)} s`;
  return span(s);
}

/** From a minute on: `2 min 3 s`, `3 h 12 min`, `4 d 7 h`. */
function span(seconds) {
  const s = Math.round(seconds);
  const two = (whole, unit, rest, smaller) => (rest ? `${whole} ${unit} ${rest} ${smaller}` : `${whole} ${unit}`);
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86400) return two(Math.floor(s / 3600), 'h', Math.floor(s / 60) % 60, 'min');
  return two(Math.floor(s / 86400), 'd', Math.floor(s / 3600) % 24, 'h');
}

/** Three digits that matter. */
function digits(value) {
  if (value >= 99.95) return value.toFixed(0);
  return String(Number(value.toFixed(value >= 9.995 ? 1 : 2)));
}

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = Math.abs(value);
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${value < 0 ? '−' : ''}${unit === 0 ? size.toFixed(0) : digits(size)} ${units[unit]}`;
}

function percent(share) {
  const value = share * 100;
  if (value === 0) return '0 %';
  return `${value >= 9.95 ? value.toFixed(0) : value.toFixed(1)} %`;
}

function count(value, one, many) {
  return `${value.toLocaleString('en-GB')} ${value === 1 ? one : many}`;
}

/** Wall clock in UTC, as everywhere in nodeprobe: the reader of a log rarely sits in the time zone of the machine. */
function clock(unixSeconds, decimals = 0) {
  const text = new Date(Math.round(unixSeconds * 1000)).toISOString();
  return text.slice(11, decimals > 0 ? 20 + decimals : 19);
}

function day(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });
}

/** The name of a measured value carries its unit: `stalled_ratio` 0.312 is `stalled`, `31 %`. */
function measured(name, value) {
  const units = [
    ['_ratio', percent],
    ['_bytes_per_s', (v) => `${bytes(v)}/s`],
    ['_bytes', bytes],
    ['_per_s', (v) => `${digits(v)}/s`],
    ['_s', duration],
  ];
  const [suffix, show] = units.find(([ending]) => name.endsWith(ending)) ?? ['', (v) => digits(v)];
  return [words(name.slice(0, name.length - suffix.length)), show(value)];
}

function words(name) {
  return name.replaceAll('_', ' ');
}

/**
 * A name out of a process. It is shown as text, so it cannot do harm; but what is invisible or turns the direction of
 * writing could make it look like another name.
 */
function shown(text, most = 300) {
  const visible = String(text).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd');
  return visible.length > most ? `${visible.slice(0, most - 1)}…` : visible;
}

/** C++ without what fills a line and tells little: `v8::internal::JsonParser<unsigned char>::Parse` as `JsonParser::Parse`. */
function shortName(name) {
  if (!name.includes('::')) return name;
  let text = name;
  // From the innermost outwards; `operator<` and the like keep theirs.
  for (let round = 0; round < 8 && /\w<[^<>]*>/.test(text); round += 1) text = text.replace(/(\w)<[^<>]*>/g, '$1');
  text = text.replace(/^v8::internal::(?:\(anonymous namespace\)::)?/, '').replace(/\((?!anonymous)[^()]*\)(?: const)?$/, '');
  return text || name;
}

/** `/srv/app/auth.js` and 42 as `/srv/app/auth.js:42`. */
function place(script, line) {
  if (!script) return '';
  return line ? `${script}:${line}` : script;
}
