// Runs side by side: what was measured, with intervals on one axis, and what differs. It stands behind `kit.js` and `figures.js`.

const MOST = 200;  // rows of a section before somebody asks for the rest

/** How a figure stands to the baseline's: the difference, whether the intervals are apart, and whether it is better. */
export function difference(best, base, other) {
  if (!known(base?.value) || !known(other?.value)) return { change: null, apart: null, better: null };
  const change = other.value - base.value, ends = [base.low, base.high, other.low, other.high];
  const apart = ends.every(known) ? base.high < other.low || other.high < base.low : null;
  return { change, apart, better: change && best ? (change > 0) === (best === "high") : null };
}

/** The lines of two texts, each with " ", "-" or "+": the longest common part stays. */
export function changedLines(a, b) {
  const one = a ? a.split("\n") : [], two = b ? b.split("\n") : [];
  if (one.length * two.length > 4e6) return [...one.map((line) => ["-", line]), ...two.map((line) => ["+", line])];
  const long = Array.from({ length: one.length + 1 }, () => new Uint32Array(two.length + 1));
  for (let i = one.length - 1; i >= 0; i--) for (let j = two.length - 1; j >= 0; j--) {
    long[i][j] = one[i] === two[j] ? long[i + 1][j + 1] + 1 : Math.max(long[i + 1][j], long[i][j + 1]);
  }
  const out = [];
  let i = 0, j = 0;
  while (i < one.length || j < two.length) {
    if (i < one.length && j < two.length && one[i] === two[j]) { out.push([" ", one[i++]]); j++; }
    else if (j >= two.length || (i < one.length && long[i + 1][j] >= long[i][j + 1])) out.push(["-", one[i++]]);
    else out.push(["+", two[j++]]);
  }
  return out;
}

const differs = (values) => new Set(values.map((value) => JSON.stringify(value ?? null))).size > 1;
const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${figure(Math.abs(value))}`;

/** A run's mark, as in its column's head. */
function sign(data, i) {
  const [colour, , shape] = data.styles[i % data.styles.length];
  const svg = s("svg", { class: "sign", viewBox: "-7 -7 14 14", "aria-hidden": "true" });
  svg.append(mark(shape, 0, 0, 4.5, { fill: colour }));
  return svg;
}

/** The figures of all runs on one axis, a lane for each. */
function lanes(data, metric) {
  const ends = metric.values.flatMap((each) => (each ? [each.value, each.low, each.high] : [])).filter(known);
  if (ends.length < 2) return null;
  let low = Math.min(...ends), high = Math.max(...ends);
  const edge = 0.06 * (high - low) || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - edge, high + edge];
  const lane = 13, tall = lane * metric.values.length, at = (value) => 4 + (172 * (value - low)) / (high - low);
  const svg = s("svg", { class: "lanes", viewBox: `0 0 180 ${tall + 15}`, width: 180, height: tall + 15, "aria-hidden": "true" });
  for (const tick of ticks(low, high, 3).filter((each) => each > low && each < high)) {
    const x = at(tick), text = String(tick);
    svg.append(s("line", { x1: x, x2: x, y1: 0, y2: tall, class: "rule" }),
      s("text", { x: Math.min(Math.max(x, 3 * text.length), 180 - 3 * text.length), y: tall + 11, "text-anchor": "middle", class: "dim" }, text));
  }
  metric.values.forEach((each, i) => {
    if (!known(each?.value)) return;
    const [colour, , shape] = data.styles[i % data.styles.length], y = lane * (i + 0.5);
    if (known(each.low) && known(each.high)) svg.append(s("line", { x1: at(each.low), x2: at(each.high), y1: y, y2: y, stroke: colour, "stroke-width": 2 }));
    svg.append(mark(shape, at(each.value), y, 4, { fill: colour }));
  });
  return svg;
}

/** A figure, its interval, and how it stands to the baseline's. */
function cell(data, state, metric, i) {
  const own = metric.values[i], base = metric.values[state.base];
  if (!known(own?.value)) return h("td", { class: "num dim" }, "–");
  const interval = known(own.low) && known(own.high) ? h("small", {}, `${figure(own.low)} to ${figure(own.high)}`) : "";
  if (i === state.base) return h("td", { class: "num" }, h("b", {}, figure(own.value)), interval);
  const { change, apart, better } = difference(metric.best, base, own);
  let kind = "dim", said = "";
  if (change === null) said = "";
  else if (!change) said = "the same";
  else if (data.runs[i].rows !== data.runs[state.base].rows) said = `${signed(change)} on other rows`;
  else if (apart === false) said = `${signed(change)} intervals overlap`;
  else if (apart === null) said = `${signed(change)}, no interval`;
  else if (better === null) said = signed(change);
  else {
    kind = better ? "good" : "bad";
    said = `${better ? "▲" : "▼"} ${signed(change)} ${better ? "better" : "worse"}`;
  }
  return h("td", { class: "num" }, h("b", {}, figure(own.value)), interval, h("span", { class: `against ${kind}` }, said));
}

function metrics(data, state) {
  const shown = data.metrics.filter((each) => !state.only || differs(each.values.map((value) => value?.value)));
  if (!shown.length) return null;
  const rows = shown.map((each) => h("tr", {},
    h("th", { scope: "row" }, h("span", { class: "name", title: each.name }, words(each.name)), each.best ? h("small", {}, each.best === "high" ? "higher is better" : "lower is better") : ""),
    ...data.runs.map((_, i) => cell(data, state, each, i)), h("td", { class: "plot" }, lanes(data, each))));
  return h("tbody", {}, section("Figures with 95 % intervals", data.runs.length + 2, data.metrics.length - shown.length), ...rows);
}

function section(title, wide, alike) {
  return h("tr", { class: "section" }, h("th", { scope: "rowgroup", colspan: wide }, h("span", {}, title, alike ? h("small", {}, `${alike} more alike`) : "")));
}

/** Names with a value of each run; what differs is marked by a sign, and not by colour alone. */
function facts(data, state, title, rows) {
  const wanted = rows.filter((each) => !state.only || differs(each.values)), whole = state.whole.has(title);
  const shown = whole ? wanted : wanted.slice(0, MOST);
  if (!shown.length) return null;
  const lines = shown.map((each) => {
    const apart = differs(each.values);
    return h("tr", { class: apart ? "differs" : "alike" },
      h("th", { scope: "row" }, h("span", { class: "name", title: each.name }, each.name), apart ? h("span", { class: "apart", role: "img", "aria-label": "differs" }, "≠") : ""),
      ...each.values.map((value, i) => {
        const own = i !== state.base && (value ?? null) !== (each.values[state.base] ?? null);
        return h("td", { class: own ? "own" : "" }, h("span", { class: "value", title: String(value ?? "") }, value === null || value === undefined || value === "" ? "–" : String(value)));
      }), h("td", {}));
  });
  const rest = wanted.length - shown.length;
  return h("tbody", {}, section(title, data.runs.length + 2, rows.length - wanted.length), ...lines,
    rest ? h("tr", {}, h("td", { colspan: data.runs.length + 2 }, h("button", { type: "button", class: "button", "data-key": `all ${title}`, onclick: () => { state.whole.add(title); state.draw(); } }, `show ${rest} more`))) : "");
}

/** What was changed in the cells, from the baseline to each other run. */
function cells(data, state) {
  return data.runs.map((run, i) => {
    if (i === state.base || data.cells[i] === data.cells[state.base]) return null;
    const lines = changedLines(data.cells[state.base], data.cells[i]), changes = lines.filter(([sign]) => sign !== " ").length;
    return h("details", { class: "cells", open: lines.length <= 40 }, h("summary", { "data-key": `cell ${i}` }, `The cell: ${changes} changed line${changes === 1 ? "" : "s"} from ${data.runs[state.base].short} to ${run.short}`),
      h("pre", { tabindex: 0, role: "region", "aria-label": `changed lines from ${data.runs[state.base].short} to ${run.short}` },
        ...lines.map(([sign, line]) => h("span", { class: sign === "+" ? "good" : sign === "-" ? "bad" : "" }, `${sign} ${line}\n`))));
  });
}

/** For whom it changes: as it was measured, from the first run to another. */
function changes(data) {
  return data.fairness.map(({ to, rows }) => {
    if (!rows.length) return null;
    const ends = rows.flatMap((row) => [row.before, row.after, 0]), low = Math.min(...ends), high = Math.max(...ends), wide = high - low || 1;
    const at = (value) => 6 + (128 * (value - low)) / wide;
    const lines = rows.map((row) => {
      const svg = s("svg", { class: "moved", viewBox: "0 0 140 16", width: 140, height: 16, "aria-hidden": "true" });
      svg.append(s("line", { x1: at(0), x2: at(0), y1: 0, y2: 16, class: "rule" }), s("line", { x1: at(row.before), x2: at(row.after), y1: 8, y2: 8, class: "way" }),
        s("circle", { cx: at(row.before), cy: 8, r: 3.5, class: "hollow" }), s("circle", { cx: at(row.after), cy: 8, r: 4, class: "full" }));
      const kind = { smaller: "good", larger: "bad" }[row.word] ?? "dim";
      return h("tr", {}, h("th", { scope: "row" }, h("span", { class: "name", title: row.group }, row.group), h("small", {}, `against ${row.reference}`)), h("td", {}, words(row.rate)),
        h("td", { class: "num" }, `${signed(row.before)} → ${signed(row.after)}`), h("td", { class: "plot" }, svg),
        h("td", { class: kind }, { smaller: "▼ gap is smaller", larger: "▲ gap is larger", open: "? cannot be told", "the same": "= the same" }[row.word] ?? row.word));
    });
    return h("section", {}, h("h3", {}, `For whom it changes, from ${data.runs[0].short} to ${data.runs[to].short}`),
      h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "changes of gaps" }, h("table", {}, h("thead", {}, h("tr", {}, ...["group", "rate", "gap before → after", "", ""].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, ...lines))));
  });
}

/** The first column stays while the others slide under it; then it needs the colour of whatever the page has behind it. */
function slid(event) {
  const place = event.currentTarget;
  let under = place;
  while (under.parentElement && /^(transparent|rgba\(.*, 0\))$/.test(getComputedStyle(under).backgroundColor)) under = under.parentElement;
  place.style.setProperty("--under", getComputedStyle(under).backgroundColor);
  place.classList.toggle("slid", place.scrollLeft > 0);
}

export default {
  render({ model, el }) {
    const root = home(model, "comparison"), body = h("div", {});
    root.append(body);
    el.append(root);
    const tell = announcer(root), state = { base: Number(model.get("baseline")) || 0, only: model.get("only"), whole: new Set() };
    const save = () => { model.set("baseline", state.base); model.set("only", state.only); model.save_changes(); };

    state.draw = () => {
      const data = model.get("data"), runs = data.runs;
      state.base = Math.min(state.base, runs.length - 1);
      const rows = new Set(runs.map((run) => run.rows)).size === 1 && runs[0].rows !== "";
      const title = runs.length === 2 ? `${runs[0].short} and ${runs[1].short}` : `${runs.length} runs`;
      const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "said" }, "what")), ...runs.map((run, i) =>
        h("th", { scope: "col", class: i === state.base ? "base" : "" }, h("span", { class: "run" }, sign(data, i), h("b", {}, run.short), i === state.base ? h("span", { class: "badge" }, "baseline") : ""), h("span", { class: "name", title: run.name }, run.name))), h("th", {}, h("span", { class: "said" }, "intervals on one axis"))));
      const bodies = [metrics(data, state), facts(data, state, "Run", data.about), facts(data, state, "Parameters", data.params), facts(data, state, "Columns used", data.columns), facts(data, state, "Packages", data.versions)];
      const alike = bodies.every((each) => each === null);
      redraw(body, h("h2", {}, `Comparison: ${title}`),
        h("p", { class: rows ? "good" : "warn" }, rows ? "✓ measured on the same held-out rows" : "! measured on different rows: what the figures differ by says little"),
        h("div", { class: "bar" },
          choice("baseline", runs.map((run, i) => [String(i), `${run.short} ${run.name}`.trim()]), String(state.base), (value) => { state.base = Number(value); save(); state.draw(); tell(`baseline ${runs[state.base].short} ${runs[state.base].name}`); }),
          tickbox("only what differs", state.only, (on) => { state.only = on; save(); state.draw(); tell(on ? "only rows that differ" : "all rows"); })),
        alike ? h("p", { class: "dim" }, "Nothing differs.") : h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `comparison of ${title}`, "data-key": "table", onscroll: slid }, h("table", { class: "side" }, head, ...bodies.filter(Boolean))),
        ...cells(data, state), ...changes(data));
    };
    state.draw();
    model.on("change:data", state.draw);
    return () => {
      model.off("change:data", state.draw);
      root.left();
    };
  },
};
