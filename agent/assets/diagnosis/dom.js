// Elements. Text from a process becomes a text node or an attribute and nothing else: there is no way to markup here.

const SVG = 'http://www.w3.org/2000/svg';

/** An HTML element. Children are elements or text; what is null or false is left out. */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** `<select>` of `[value, label]` pairs. */
function choice(label, pairs, chosen, onChange) {
  const options = pairs.map(([value, text]) => el('option', { value, selected: value === chosen }, text));
  const select = el('select', { on: { change: () => onChange(select.value) } }, options);
  return el('label', {}, label, select);
}

/** What stands where there is nothing to draw, and why. */
function empty(sentence) {
  return el('p', { class: 'empty' }, sentence);
}

/** A card with a heading. */
function card(title, lead, ...children) {
  const header = el('header', {}, el('h3', {}, title), lead && el('p', { class: 'lead' }, lead));
  return el('section', { class: 'card', 'aria-label': title }, header, children);
}

/** Colours and what they mean: `[colour, label, shape]`, the shape being `line`, `dashed`, `round` or nothing. */
function legend(entries) {
  const item = ([colour, label, shape]) => {
    const style = shape === 'dashed' ? null : `background:${colour}`;
    return el('li', {}, el('span', { class: `swatch ${shape ?? ''}`, style }), label);
  };
  return el('ul', { class: 'legend' }, entries.map(item));
}
