// What the views of figures share beyond the kit: numbers, marks, axes and menus. It stands between `kit.js` and each view's own script.

const figure = (value) => (!known(value) ? "–" : Math.abs(value) < 100 ? value.toFixed(3) : Math.round(value).toLocaleString("en"));
const percent = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : "–");
const words = (name) => name.replaceAll("_", " ");

/** A number with the four digits that count, and no more. */
function brief(value) {
  if (!known(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en");
  if (Math.abs(value) >= 1e9 || Math.abs(value) < 1e-3) return value.toExponential(2).replace("e+", "e");
  return Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

/** A mark that tells one from another without colour. */
function mark(shape, x, y, size, look) {
  const points = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    triangle: [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
    diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    cross: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  }[shape];
  const inner = points
    ? s("polygon", { points: points.map(([a, b]) => `${a * size},${b * size}`).join(" "), ...look })
    : s("circle", { r: size, ...look });
  return s("g", { transform: `translate(${x} ${y})` }, inner);
}

/** Round numbers between two ends. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((nice) => nice * power).find((each) => each >= rough * (1 - 1e-9));
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) out.push(Number((i * step).toPrecision(10)));
  return out;
}

/** A labelled menu; `options` are pairs of a value and its text. */
function choice(label, options, value, change) {
  const select = h("select", { "data-key": label, onchange: (event) => change(event.target.value) });
  for (const [key, text] of options) select.append(h("option", { value: key, selected: key === value }, text));
  return h("label", { class: "choice" }, h("span", {}, label), select);
}

/** A labelled box to tick. */
function tickbox(label, on, change) {
  return h("label", { class: "tick" }, h("input", { type: "checkbox", "data-key": label, checked: on, onchange: (event) => change(event.target.checked) }), label);
}

/** Up, down, Home and End move the focus among `items`. */
function walk(event, items, i) {
  const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined || !items[to]) return;
  event.preventDefault();
  items[to].focus();
}
