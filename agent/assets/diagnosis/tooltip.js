// The one tooltip. It is also what a screen reader is told, so charts that are moved through by keys use it too.

const tooltip = {
  element: document.getElementById('tooltip'),

  /** `rows` are `[colour or null, label, value]`. */
  show(at, { title, sub = [], rows = [], hint = null }) {
    const row = ([colour, label, value]) => el('tr', {},
      el('td', {}, colour && el('span', { class: 'swatch', style: `background:${colour}` }), label),
      el('td', { class: 'value' }, value));
    this.element.replaceChildren(
      el('div', { class: 'title' }, title),
      ...[sub].flat().filter(Boolean).map((line) => el('div', { class: 'sub' }, line)),
      rows.length > 0 ? el('table', {}, el('tbody', {}, rows.map(row))) : '',
      hint ? el('div', { class: 'hint' }, hint) : '',
    );
    this.element.hidden = false;
    this.place(at);
  },

  /** Beside the pointer, inside of the window. */
  place({ x, y }) {
    const { width, height } = this.element.getBoundingClientRect();
    const gap = 14;
    const left = x + gap + width > innerWidth - 8 ? x - gap - width : x + gap;
    const top = y + gap + height > innerHeight - 8 ? y - gap - height : y + gap;
    this.element.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
  },

  hide() {
    this.element.hidden = true;
  },
};

addEventListener('scroll', () => tooltip.hide(), { passive: true });
