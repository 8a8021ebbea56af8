// An ES module with a guilty function; see culprits.js.
export function transform(mark, ms) { mark(new Error(), { name: 'transform', source: transform });
  let text = '';
  for (const end = Date.now() + ms; Date.now() < end;) {
    text = '';
    for (let i = 0; i < 1000; i++) text += String.fromCharCode(97 + (i % 26));
  }
  return text;
}
