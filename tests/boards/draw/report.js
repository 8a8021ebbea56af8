// What the page says of itself, read from what has really been drawn.
const textOf = (element) => element?.innerText.replace(/\s+/g, ' ').trim() ?? '';

// Axes, grids and numbers on a plot are grey; a series is not.
function isPainted(element) {
  const canvases = [...element.querySelectorAll('canvas')];
  if (canvases.length === 0) return textOf(element) !== '';
  return canvases.some((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let colored = 0;
    for (let at = 0; at < data.length; at += 4) {
      const [red, green, blue, alpha] = data.slice(at, at + 4);
      if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40) colored++;
    }
    return colored > 20;
  });
}

// Series in the legend, rows, numbers: what the reader can count.
function itemsOf(panel, element, notes) {
  if (notes.items !== undefined) return notes.items;
  if (panel.type === 'timeseries') return element.querySelectorAll('[data-testid^="data-testid VizLegend series"]').length;
  if (panel.type === 'table') return element.querySelectorAll('[role=row]').length - 1;
  return notes.units.length;
}

function overlaps(boxes) {
  const found = [];
  boxes.forEach((one, index) => boxes.slice(index + 1).forEach((other) => {
    const apart = one.box.right <= other.box.left || other.box.right <= one.box.left || one.box.bottom <= other.box.top || other.box.bottom <= one.box.top;
    if (!apart) found.push(`${one.title}, ${other.title}`);
  }));
  return found;
}

export function report(drawn) {
  const boxes = [];
  const panels = drawn.map(({ panel, notes }) => {
    const element = document.getElementById(`panel-${panel.id}`);
    const heading = element.querySelector('h2');
    boxes.push({ title: panel.title, box: element.getBoundingClientRect() });
    return {
      id: panel.id, type: panel.type, title: textOf(heading), clipped: !heading || heading.scrollWidth > heading.clientWidth, text: textOf(element),
      items: itemsOf(panel, element, notes), painted: isPainted(element), units: notes.units, headings: notes.headings, cells: notes.cells,
    };
  });
  return { panels, overlaps: overlaps(boxes), faults: window.FAULTS };
}
