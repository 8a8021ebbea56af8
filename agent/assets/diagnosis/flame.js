// The flame graph: who called whom downwards, and the time they took sideways. Click a frame to zoom in.

const ROW = 19;
/** Of the monospaced font at 11 px. */
const LETTER = 6.62;
/** Narrower frames are not drawn, pixels: zoom in to see them. */
const NARROWEST = 1.5;

class Flame {
  constructor(view) {
    this.view = view;
    this.weight = 'time';
    this.tid = null;
    this.colourBy = 'kind';
    this.callers = 'without';
    this.wanted = '';
    this.canvas = svg('svg', { class: 'flame', role: 'group', 'aria-label': 'Flame graph' });
    this.scroll = el('div', { class: 'flame-scroll' }, this.canvas);
    this.top = el('div', { class: 'flame-top' });
    this.chips = el('span');
    this.kinds = el('div', { class: 'flame-kinds' });
    this.result = el('span', { role: 'status' });
    this.functions = el('div', { class: 'functions' });
    this.reset = el('button', { type: 'button', on: { click: () => this.zoom(this.tree) } }, 'Reset zoom');
    this.search = el('input', {
      type: 'search', placeholder: 'Search function or file', 'aria-label': 'Search in the flame graph',
      on: { input: () => this.find(this.search.value) },
    });
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    view.listeners.push(() => this.load());
    view.charts.push({ render: () => this.draw(), markTime() {}, markSelection() {} });
  }

  card() {
    const { view } = this;
    const title = 'Flame graph';
    const occasions = view.process.occasions.map(({ occasion }) => occasion);
    const isTimed = view.process.samples.some(({ stacks }) => stacks.length > 0);
    const weights = Object.keys(WEIGHTS).filter((name) => (name === 'time' ? isTimed : occasions.includes(name)));
    if (weights.length === 0) {
      const quiet = 'No stack was sampled in this window: the loop only waited.';
      return card(title, null, empty(view.observes('sample') ? quiet : view.whyNot('sample')));
    }
    [this.weight] = weights;
    const threads = [['', 'all'], ...view.threads.map((thread) => [String(thread.tid), threadLabel(thread)])];
    const set = (name) => (value) => { this[name] = value; this.load(); };
    const colour = (value) => {
      this.colourBy = value;
      this.kinds.hidden = value !== 'kind';
      this.draw();
    };
    const tools = el('div', { class: 'toolbar' },
      this.search, this.reset, this.result, this.chips,
      el('span', { class: 'push' }),
      weights.length > 1 && choice('Of', weights.map((name) => [name, WEIGHTS[name]]), this.weight, set('weight')),
      view.threads.length > 1 && choice('Thread', threads, '', (value) => set('tid')(value === '' ? null : Number(value))),
      choice('Native callers', [['without', 'hidden'], ['with', 'shown']], 'without', set('callers')),
      choice('Colour', [['kind', 'kind of code'], ['category', 'category']], 'kind', colour));
    this.load();
    return card(title, 'Callers above, what they call below; as wide as the time they took.',
      this.top, tools, this.scroll, this.kinds, this.functions);
  }

  /** Makes the tree of what is selected. */
  load() {
    const parts = selectedStacks(this.view, this.weight, this.tid);
    this.tree = buildTree(parts, this.view.threads, this.callers === 'with' ? (frames) => frames : withoutCallers);
    this.zoomed = this.tree;
    this.kinds.replaceChildren(kindLegend());
    this.top.replaceChildren(...categoryShares(this.tree, (value) => this.amount(value)));
    this.functions.replaceChildren(functionTable(heaviest(parts), this.tree, this));
    this.describeSelection();
    if (this.canvas.isConnected) this.draw();
  }

  describeSelection() {
    const { stall, range } = this.view.selection;
    const text = stall ? `stall at ${clock(stall.begin, 1)}, ${duration(stall.duration)}`
      : range ? `${clock(range[0])} to ${clock(range[1])}` : null;
    const clear = el('button', {
      type: 'button', 'aria-label': 'Show the whole window again', on: { click: () => this.view.select({}) },
    }, '✕');
    this.chips.replaceChildren(...(text ? [el('span', { class: 'chip' }, text, clear)] : []));
  }

  /** A weight for people. */
  amount(value) {
    if (this.weight === 'time') return duration(value);
    // Samples of allocations stand for pages of the young generation.
    return this.weight === 'allocation' ? count(value, 'page', 'pages') : count(value, 'sample', 'samples');
  }

  zoom(target) {
    this.zoomed = target;
    this.draw(target);
  }

  find(text) {
    this.search.value = text;
    this.wanted = text.trim().toLowerCase();
    this.draw();
  }

  draw(focus = null) {
    if (!this.tree) return;
    const width = Math.max(300, Math.round(this.scroll.clientWidth || 1100));
    const frames = layout(this.tree, this.zoomed, width);
    const deepest = frames.reduce((most, { node: at }) => Math.max(most, at.depth), 0);
    this.canvas.setAttribute('viewBox', `0 0 ${width} ${(deepest + 1) * ROW + 1}`);
    this.canvas.classList.toggle('searching', this.wanted !== '');
    this.canvas.replaceChildren(...frames.map((frame) => this.frame(frame, focus ?? this.zoomed)));
    this.reset.disabled = this.zoomed === this.tree;
    this.result.textContent = this.wanted === '' ? '' : `${percent(matchedShare(this.tree, this.wanted))} matched`;
    if (this.tree.weight === 0) {
      this.canvas.replaceChildren(svg('text', { x: 10, y: ROW }, ''));
      this.result.textContent = 'No stack was sampled in this selection.';
    }
    if (focus) this.canvas.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }

  frame({ node: at, x, width, outer }, focus) {
    const letters = Math.floor((width - 8) / LETTER);
    const name = shortName(at.name);
    const text = letters < 3 ? '' : name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
    const colour = this.colourBy === 'category' && at.parent ? categoryColour(at.category) : `var(--shade-${at.shade})`;
    const group = svg('g', {
      class: `frame${outer ? ' outer' : ''}${this.wanted && matches(at, this.wanted) ? ' match' : ''}`,
      'data-function': at.name, tabindex: at === focus ? 0 : -1, role: 'button',
      'aria-label': `${at.name}, ${this.amount(at.weight)}, ${percent(at.weight / (this.tree.weight || 1))}`,
      on: {
        click: () => this.zoom(at),
        pointermove: (event) => tooltip.show({ x: event.clientX, y: event.clientY }, this.describe(at)),
        pointerleave: () => tooltip.hide(),
        focus: (event) => this.describeFocused(event.target, at),
        blur: () => tooltip.hide(),
      },
    }, svg('rect', { x, y: at.depth * ROW, width: Math.max(NARROWEST, width), height: ROW, rx: 2, style: `fill:${colour}` }),
      text && svg('text', { x: x + 4, y: at.depth * ROW + 13.5 }, text));
    group.node = at;
    return group;
  }

  describeFocused(element, at) {
    if (!element.matches(':focus-visible')) return;
    const bounds = element.getBoundingClientRect();
    tooltip.show({ x: bounds.left, y: bounds.bottom }, this.describe(at));
  }

  describe(at) {
    const { frame } = at;
    const line = hottestLine(at.lines);
    const first = line && frame && !frame.exact ? ' (first line of the function)' : '';
    const categories = [...at.categories].sort(([, a], [, b]) => b - a).slice(0, 4);
    const timed = this.weight === 'time' && [
      [null, 'samples', at.samples.toLocaleString('en-GB')],
      ...categories.map(([name, value]) => [categoryColour(name), categoryName(name), percent(value / (at.weight || 1))]),
    ];
    return {
      title: at.name,
      sub: [place(frame?.script, line) + first, frame?.package && `package ${frame.package}`, frame && SHADES[at.shade]],
      rows: [
        [null, 'with what it calls', `${this.amount(at.weight)} · ${percent(at.weight / (this.tree.weight || 1))}`],
        [null, 'itself', `${this.amount(at.self)} · ${percent(at.self / (this.tree.weight || 1))}`],
        ...(timed || []),
      ],
    };
  }

  /** Arrows go to parent, child and neighbours; Enter zooms, Escape goes back. */
  key(event) {
    const here = event.target.closest('g.frame')?.node;
    if (!here) return;
    const beside = (step) => here.parent?.children[here.parent.children.indexOf(here) + step];
    const next = {
      ArrowUp: () => here.parent, ArrowDown: () => here.children[0], ArrowLeft: () => beside(-1), ArrowRight: () => beside(1),
    }[event.key];
    if (next) {
      const target = [...this.canvas.children].find((group) => group.node === next());
      if (target) {
        for (const group of this.canvas.querySelectorAll('[tabindex="0"]')) group.setAttribute('tabindex', -1);
        target.setAttribute('tabindex', 0);
        target.focus();
      }
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.zoom(here);
    } else if (event.key === 'Escape') {
      this.zoom(this.tree);
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** Places of the frames that can be seen. What the zoomed frame is inside of keeps the whole width. */
function layout(tree, zoomed, width) {
  const placed = [];
  for (let at = zoomed.parent; at; at = at.parent) placed.unshift({ node: at, x: 0, width, outer: true });
  const perWeight = zoomed.weight > 0 ? width / zoomed.weight : 0;
  const waiting = [{ node: zoomed, x: 0 }];
  while (waiting.length > 0) {
    const { node: at, x } = waiting.pop();
    placed.push({ node: at, x, width: at.weight * perWeight, outer: false });
    let from = x;
    for (const child of at.children) {
      if (child.weight * perWeight >= NARROWEST) waiting.push({ node: child, x: from });
      from += child.weight * perWeight;
    }
  }
  return placed;
}

/** The share of time under frames that match; a match inside a match counts once. */
function matchedShare(tree, wanted) {
  let weight = 0;
  const waiting = [tree];
  while (waiting.length > 0) {
    const at = waiting.pop();
    if (at.parent && matches(at, wanted)) weight += at.weight;
    else waiting.push(...at.children);
  }
  return tree.weight > 0 ? weight / tree.weight : 0;
}
