// A data profile: a row per column with its gaps, its distribution and what is suspicious. It stands behind `kit.js` and `figures.js`.

const MOST = 150;  // rows at once: a table of ten thousand columns stays quick
const ORDERS = { place: "as in the data", missing: "most missing first", distinct: "most distinct first", notes: "warnings first", name: "by name" };

/** The columns that are wanted, in order. */
export function chosen(columns, { order, only, search }) {
  const wanted = search.trim().toLowerCase();
  const found = columns.map((column, place) => ({ ...column, place })).filter((each) => (!only || each.notes.length) && (!wanted || each.name.toLowerCase().includes(wanted) || each.type.toLowerCase().includes(wanted)));
  const by = {
    missing: (a, b) => b.missing - a.missing, distinct: (a, b) => b.distinct - a.distinct,
    notes: (a, b) => b.notes.length - a.notes.length, name: (a, b) => a.name.localeCompare(b.name),
  }[order];
  return by ? found.sort((a, b) => by(a, b) || a.place - b.place) : found;
}

/** A share as people read it: none and all are said only when they are true. */
export function portion(share) {
  if (!share) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return share < 1 && share > 0.999 ? "> 99.9 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

const numeric = (column) => known(column.low);
const clip = (text, most = 40) => (text.length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

/** What a picture of the distribution shows, in words. */
export function told(column, rows) {
  if (!column.counts.length) return "no values";
  if (numeric(column)) {
    const top = column.counts.indexOf(Math.max(...column.counts)), step = (column.high - column.low) / column.counts.length;
    const span = column.low === column.high ? `all ${brief(column.low)}` : `from ${brief(column.low)} to ${brief(column.high)}, half below ${brief(column.median)}, most between ${brief(column.low + top * step)} and ${brief(column.low + (top + 1) * step)}`;
    return `distribution ${span}`;
  }
  return `most frequent: ${column.top.map(([value, share]) => `${clip(value)} ${portion(share)}`).join(", ")}${column.distinct > column.top.length ? `, and ${whole(column.distinct - column.top.length)} other values` : ""}`;
}

/** Bars in the cell of a table. */
function bars(column) {
  const wide = 132, tall = 26, top = Math.max(...column.counts, 1), step = wide / Math.max(column.counts.length, 1);
  const svg = s("svg", { class: "bars", viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, "aria-hidden": "true" });
  column.counts.forEach((count, i) => {
    const high = count ? Math.max((tall * count) / top, 1) : 0;
    svg.append(s("rect", { x: (i * step).toFixed(1), y: (tall - high).toFixed(1), width: Math.max(step - 1, 0.5).toFixed(1), height: high.toFixed(1) }));
  });
  return svg;
}

/** The distribution of one column in full: with an axis, and every bar reached by the arrow keys or the pointer. */
function histogram(column, rows) {
  const wide = 560, tall = 130, left = 4, floor = 112, top = Math.max(...column.counts, 1), step = (wide - 2 * left) / column.counts.length;
  const size = (column.high - column.low) / column.counts.length, last = column.counts.length - 1;
  const texts = column.counts.map((count, i) => {
    const ends = column.low === column.high ? brief(column.low) : `${brief(column.low + i * size)} to ${brief(column.low + (i + 1) * size)}`;
    return `${ends}: ${whole(count)} row${count === 1 ? "" : "s"}, ${portion(count / rows)}`;
  });
  const said = h("p", { class: "hint", "aria-hidden": "true" }, "Point at a bar, or move along with the arrow keys, for its rows.");
  let at = -1;
  const go = (i) => {
    bars[at]?.classList.remove("here");
    at = Math.min(Math.max(i, 0), last);
    bars[at].classList.add("here");
    said.textContent = texts[at];
    svg.setAttribute("aria-valuenow", at + 1);
    svg.setAttribute("aria-valuetext", texts[at]);
  };
  const svg = s("svg", { class: "histogram", viewBox: `0 0 ${wide} ${tall}`, role: "slider", tabindex: 0, "aria-label": `${column.name}: ${told(column, rows)}`, "aria-valuemin": 1, "aria-valuemax": last + 1, "aria-valuenow": 1, "aria-valuetext": texts[0],
    onkeydown: (event) => {
      const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(to);
    } });
  const bars = column.counts.map((count, i) => {
    const high = count ? Math.max((floor - 4) * (count / top), 1) : 0, x = left + i * step;
    return s("g", { onpointerenter: () => go(i) }, s("title", {}, texts[i]), s("rect", { x, y: 4, width: step, height: floor - 4, class: "all" }),
      s("rect", { x: x.toFixed(1), y: (floor - high).toFixed(1), width: Math.max(step - 1.5, 0.5).toFixed(1), height: high.toFixed(1) }));
  });
  svg.append(...bars, s("line", { x1: left, x2: wide - left, y1: floor, y2: floor, class: "rule" }));
  const marks = column.low === column.high ? [column.low] : ticks(column.low, column.high, 5);
  for (const tick of marks) {
    const x = column.low === column.high ? wide / 2 : left + ((wide - 2 * left) * (tick - column.low)) / (column.high - column.low), half = 3.2 * brief(tick).length;
    svg.append(s("line", { x1: x, x2: x, y1: floor, y2: floor + 4, class: "rule" }), s("text", { x: Math.min(Math.max(x, half), wide - half), y: floor + 16, "text-anchor": "middle" }, brief(tick)));
  }
  return h("div", { class: "drawing" }, svg, said);
}

/** The most frequent values, each with a bar. */
function values(column) {
  const rest = 1 - column.missing - column.top.reduce((sum, [, share]) => sum + share, 0), others = column.distinct - column.top.length;
  const rows = column.top.map(([value, share]) => [value === "" ? "(empty text)" : value, share, ""]);
  if (others > 0) rows.push([`${whole(others)} other value${others === 1 ? "" : "s"}`, Math.max(rest, 0), "dim"]);
  if (column.missing) rows.push(["(missing)", column.missing, "warn"]);
  return h("ul", { class: "values" }, ...rows.map(([value, share, kind]) => h("li", { class: kind }, h("span", { class: "value", title: value }, value), h("span", { class: "track" }, h("span", { class: "fill", style: `width:${(100 * Math.min(share, 1)).toFixed(2)}%` })), h("span", { class: "num" }, portion(share)))));
}

function detail(column, rows) {
  const facts = [["type", column.type], ["missing", `${portion(column.missing)} (${whole(column.missing * rows)} rows)`], ["distinct values", whole(column.distinct)]];
  if (numeric(column)) facts.push(["lowest", brief(column.low)], ["median", brief(column.median)], ["highest", brief(column.high)]);
  return h("div", { class: "detail" }, h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    numeric(column) && column.counts.length ? histogram(column, rows) : column.top.length ? values(column) : h("p", { class: "dim" }, "there is nothing to draw"),
    column.notes.length ? h("ul", { class: "notes" }, ...column.notes.map((note) => h("li", { class: "warn" }, `! ${note}`))) : "");
}

export default {
  render({ model, el }) {
    const root = home(model, "profile"), top = h("div", {}), body = h("div", {});
    root.append(top, body);
    el.append(root);
    const tell = announcer(root), state = { order: model.get("order"), only: model.get("only"), search: "", open: new Set(model.get("opened")), most: MOST };
    const save = () => { model.set("order", state.order); model.set("only", state.only); model.set("opened", [...state.open]); model.save_changes(); };

    const line = (column, rows, i, buttons) => {
      const open = state.open.has(column.name), id = `${state.id}-${column.place}`;
      const button = h("button", { type: "button", class: "open", "aria-expanded": String(open), "aria-controls": id, "data-key": `column ${column.place}`, title: column.name, onclick: () => {
        state.open.has(column.name) ? state.open.delete(column.name) : state.open.add(column.name);
        save();
        list();
      }, onkeydown: (event) => walk(event, buttons, i) }, h("span", { class: "turn", "aria-hidden": "true" }, open ? "▾" : "▸"), h("span", { class: "name" }, column.name === "" ? "(no name)" : column.name));
      buttons.push(button);
      const out = [h("tr", { class: column.notes.length ? "noted" : "" }, h("th", { scope: "row" }, button), h("td", { class: "type" }, column.type),
        h("td", { class: `num ${column.missing > 0.5 ? "warn" : column.missing ? "" : "dim"}` }, column.missing > 0.5 ? `! ${portion(column.missing)}` : portion(column.missing), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", style: `width:${(100 * column.missing).toFixed(2)}%` }))),
        h("td", { class: "num" }, whole(column.distinct)), h("td", { class: "picture" }, h("span", { role: "img", "aria-label": told(column, rows) }, column.counts.length ? bars(column) : "–")),
        h("td", { class: "range" }, numeric(column) ? `${brief(column.low)} · ${brief(column.median)} · ${brief(column.high)}` : column.top.length ? h("span", { class: "value", title: column.top[0][0] }, `${column.top[0][0] === "" ? "(empty text)" : clip(column.top[0][0], 24)} ${portion(column.top[0][1])}`) : "–",
          column.notes.length ? h("small", { class: "warn" }, `! ${column.notes[0]}${column.notes.length > 1 ? ` and ${column.notes.length - 1} more` : ""}`) : ""))];
      if (open) out.push(h("tr", { class: "more" }, h("td", { colspan: 6, id }, detail(column, rows))));
      return out;
    };
    const list = (say) => {
      const data = model.get("data"), found = chosen(data.columns, state), shown = found.slice(0, state.most), buttons = [];
      const heads = [["column", ""], ["type", ""], ["missing", "num"], ["distinct", "num"], ["distribution", ""], ["low · median · high, or most frequent", ""]];
      const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, ...shown.flatMap((column, i) => line(column, data.rows, i, buttons))));
      const rest = found.length - shown.length, count = `${whole(found.length)} of ${whole(data.columns.length)} columns`;
      redraw(body, found.length ? h("div", { class: "wide", role: "region", "aria-label": "columns", tabindex: 0, "data-key": "columns" }, table) : h("p", { class: "dim" }, "No column is like that."),
        rest ? h("button", { type: "button", class: "button", "data-key": "more", onclick: () => { state.most += 10 * MOST; list(); } }, `show ${whole(Math.min(rest, 10 * MOST))} more`) : "",
        found.length < data.columns.length ? h("p", { class: "hint" }, count) : "");
      if (say) tell(count);
    };
    const draw = () => {
      const data = model.get("data"), noted = data.columns.filter((column) => column.notes.length).length;
      const facts = [["rows", whole(data.rows)], ["columns", whole(data.columns.length)], ["repeated rows", whole(data.duplicates)], ["columns with warnings", whole(noted)]];
      state.id = Math.random().toString(36).slice(2);
      top.replaceChildren(h("h2", { title: data.source }, data.source), h("dl", { class: "facts" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
        data.synthetic ? h("p", { class: "dim" }, `synthetic: ${data.synthetic}`) : "", ...data.notes.map((note) => h("p", { class: "warn" }, `! ${note}`)),
        h("div", { class: "bar" },
          h("label", { class: "choice" }, h("span", {}, "find a column"), h("input", { type: "text", value: state.search, placeholder: "name or type", oninput: (event) => { state.search = event.target.value; state.most = MOST; list(true); } })),
          choice("order", Object.entries(ORDERS), state.order, (order) => { state.order = order; save(); list(); tell(ORDERS[order]); }),
          noted ? tickbox("only with warnings", state.only, (on) => { state.only = on; save(); list(true); }) : ""));
      list();
    };
    draw();
    model.on("change:data", draw);
    return () => {
      model.off("change:data", draw);
      root.left();
    };
  },
};
