// The explorer: what each decision threshold does to each group, and how far the groups are apart.
// It stands behind `kit.js` and `figures.js`.

const RATES = {
  selection_rate: "selected",
  true_positive_rate: "true-positive rate",
  false_positive_rate: "false-positive rate",
  precision: "precision",
};
const WORDS = { pass: "✓ pass", fail: "✗ fail", insufficient: "? insufficient", undefined: "– undefined" };
const SORTS = { gap: "largest gap first", size: "largest group first", name: "by name" };

const share = (above, below) => (below ? above / below : null);

/** The rates of a group at a threshold; null for a share of nothing. */
export function rates(curve, place) {
  const hits = curve.found[place], wrong = curve.alarms[place];
  return {
    selection_rate: share(hits + wrong, curve.positives + curve.negatives),
    true_positive_rate: share(hits, curve.positives),
    false_positive_rate: share(wrong, curve.negatives),
    precision: share(hits, hits + wrong),
  };
}

/** Both criteria and the totals of some groups, each at its own threshold; groups below the minimum are not compared. */
export function totals(curves, places, minimum) {
  const selected = [], found = [];
  let rows = 0, chosen = 0, right = 0;
  curves.forEach((curve, i) => {
    const each = rates(curve, places[i]), n = curve.positives + curve.negatives;
    if (n >= minimum && known(each.selection_rate)) selected.push(each.selection_rate);
    if (curve.positives >= minimum && known(each.true_positive_rate)) found.push(each.true_positive_rate);
    rows += n;
    chosen += curve.found[places[i]] + curve.alarms[places[i]];
    right += curve.found[places[i]] + curve.negatives - curve.alarms[places[i]];
  });
  return {
    demographic_parity_ratio: selected.length > 1 && Math.max(...selected) > 0 ? Math.min(...selected) / Math.max(...selected) : null,
    equal_opportunity_difference: found.length > 1 ? Math.max(...found) - Math.min(...found) : null,
    accuracy: share(right, rows),
    selected: share(chosen, rows),
  };
}

/** The first view: lines over the threshold, sliders, criteria and the table of rates. */
function thresholds(state, data, save) {
  const kept = data.operating, grid = kept.thresholds, last = grid.length - 1;
  const curves = kept.groupings[state.by], drawn = curves.slice(0, data.styles.length);
  const narrow = state.width < 480, wide = narrow ? 330 : 460;  // letters keep their size on a phone
  const frame = { left: 40, top: 10, width: wide - 50, height: 200 };
  const x = (i) => frame.left + (i / last) * frame.width;
  const y = (value) => frame.top + (1 - value) * frame.height;
  const places = () => curves.map((curve) => (state.mode === "one" ? state.place : state.places[curve.group] ?? state.place));
  const text = (place) => grid[place].toFixed(grid[last] - grid[0] <= 2 ? 2 : 3);

  // lines
  const chart = s("svg", { viewBox: `0 0 ${wide} 250`, class: "chart", role: "img" });
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    const i = value * last;
    chart.append(
      s("line", { x1: frame.left, x2: frame.left + frame.width, y1: y(value), y2: y(value), class: "rule" }),
      s("text", { x: frame.left - 6, y: y(value) + 4, "text-anchor": "end", class: "dim" }, String(value)),
      s("line", { x1: x(i), x2: x(i), y1: frame.top, y2: frame.top + frame.height, class: "rule" }),
      s("text", { x: x(i), y: frame.top + frame.height + 16, "text-anchor": "middle", class: "dim" }, String(Number(grid[Math.round(i)].toPrecision(3)))),
    );
  }
  chart.append(s("text", { x: frame.left + frame.width / 2, y: 245, "text-anchor": "middle", class: "dim" }, "decision threshold"));
  const moving = drawn.map((curve, k) => {
    const [colour, dash, shape] = data.styles[k];
    const points = grid.map((_, i) => [x(i), rates(curve, i)[state.rate]]).filter(([, value]) => known(value));
    const guide = s("line", { y1: frame.top, y2: frame.top + frame.height, class: "guide", stroke: state.mode === "one" ? "currentColor" : colour });
    const spot = mark(shape, 0, 0, 5, { fill: colour, class: "spot" });
    chart.append(
      s("polyline", { points: points.map(([a, b]) => `${a.toFixed(1)},${y(b).toFixed(1)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash || null }, s("title", {}, curve.group)),
      guide,
    );
    return { curve, guide, spot };
  });
  chart.append(...moving.map((each) => each.spot));

  // criteria
  const cards = {}, said = h("p", { class: "said", role: "status", "aria-live": "polite" });
  const card = (name, label) => {
    cards[name] = { value: h("b", {}), note: h("span", { class: "note" }) };
    return h("div", { class: "card" }, h("span", {}, label), cards[name].value, cards[name].note);
  };
  const figures = h("div", { class: "cards" },
    card("demographic_parity_ratio", "demographic parity ratio"), card("equal_opportunity_difference", "equal opportunity difference"),
    card("accuracy", "accuracy"), card("selected", "selected in all"));

  // the table, with a slider per group when there is one for each
  const rows = curves.map((curve, k) => {
    const style = data.styles[k], n = curve.positives + curve.negatives;
    const key = s("svg", { viewBox: "0 0 34 12", class: "key", "aria-hidden": "true" });
    if (style) key.append(s("line", { x1: 0, x2: 34, y1: 6, y2: 6, stroke: style[0], "stroke-width": 2, "stroke-dasharray": style[1] || null }), mark(style[2], 17, 6, 4, { fill: style[0] }));
    const cells = Object.fromEntries(Object.keys(RATES).map((rate) => [rate, h("td", { class: "num" })]));
    const place = h("td", { class: "num" });
    const small = n < data.min_group;
    const row = h("tr", { class: small ? "dim" : null, title: small ? `fewer than ${data.min_group} rows: not compared` : null },
      h("th", { scope: "row" }, key, h("span", {}, curve.group), small ? h("em", {}, " too small") : ""), state.mode === "each" ? place : null, h("td", { class: "num" }, whole(n)), ...Object.values(cells));
    const slider = h("input", { type: "range", min: 0, max: last, step: 1, "aria-label": `threshold of ${curve.group}`,
      oninput: (event) => { state.places[curve.group] = Number(event.target.value); update(); }, onchange: save });
    const shown = h("output", {});
    const own = h("label", { class: "slide" }, h("span", { class: "name", title: curve.group }, key.cloneNode(true), curve.group), slider, shown);
    return { curve, cells, place, slider, shown, row, own };
  });
  const head = h("tr", {}, h("th", { scope: "col" }, state.by), state.mode === "each" ? h("th", { scope: "col", class: "num" }, "threshold") : null, h("th", { scope: "col", class: "num" }, "n"),
    ...Object.values(RATES).map((name) => h("th", { scope: "col", class: "num" }, name.replace("true-positive rate", "TPR").replace("false-positive rate", "FPR"))));
  const table = h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "groups" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows.map((each) => each.row))));

  // one slider for all, and dragging in the picture
  const value = h("output", {});
  const slider = h("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "decision threshold for all groups",
    oninput: (event) => { state.place = Number(event.target.value); update(); }, onchange: save });
  const drag = (event) => {
    const box = chart.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * wide;
    state.place = Math.min(last, Math.max(0, Math.round(((at - frame.left) / frame.width) * last)));
    update();
  };
  chart.addEventListener("pointerdown", (event) => {
    if (state.mode !== "one") return;
    chart.setPointerCapture(event.pointerId);
    drag(event);
  });
  chart.addEventListener("pointermove", (event) => chart.hasPointerCapture?.(event.pointerId) && drag(event));
  chart.addEventListener("pointerup", () => save());

  let speaking;
  function update() {
    const now = places(), found = totals(curves, now, data.min_group);
    moving.forEach(({ curve, guide, spot }, k) => {
      const at = x(now[k]), rate = rates(curve, now[k])[state.rate];
      guide.setAttribute("x1", at);
      guide.setAttribute("x2", at);
      spot.setAttribute("transform", `translate(${at} ${known(rate) ? y(rate) : -99})`);
    });
    rows.forEach(({ curve, cells, place, slider: own, shown }, k) => {
      const each = rates(curve, now[k]);
      for (const [rate, cell] of Object.entries(cells)) cell.textContent = percent(each[rate]);
      own.value = now[k];
      own.setAttribute("aria-valuetext", text(now[k]));
      shown.textContent = place.textContent = text(now[k]);
    });
    value.textContent = text(state.place);
    slider.value = state.place;
    slider.setAttribute("aria-valuetext", text(state.place));
    for (const name of ["demographic_parity_ratio", "equal_opportunity_difference"]) {
      const bound = data.bounds[name], least = name.endsWith("ratio"), ok = known(found[name]) && (least ? found[name] >= bound : found[name] <= bound);
      cards[name].value.textContent = figure(found[name]);
      cards[name].value.parentNode.className = `card ${!known(found[name]) ? "" : ok ? "good" : "bad"}`;
      cards[name].note.textContent = !known(found[name]) ? "undefined: too few groups or nobody selected" : `${ok ? "✓" : "✗"} ${least ? (ok ? "at least" : "below") : ok ? "at most" : "above"} ${bound}`;
    }
    cards.accuracy.value.textContent = percent(found.accuracy);
    cards.selected.value.textContent = percent(found.selected);
    chart.setAttribute("aria-label", `${RATES[state.rate]} by ${state.by} against the decision threshold; ` + rows.slice(0, 12).map(({ curve }, k) => `${curve.group} ${percent(rates(curve, now[k])[state.rate])} at ${text(now[k])}`).join(", "));
    clearTimeout(speaking);  // a screen reader hears where the drag ended, not every step of it
    speaking = setTimeout(() => {
      said.textContent = `demographic parity ratio ${figure(found.demographic_parity_ratio)}, equal opportunity difference ${figure(found.equal_opportunity_difference)}, accuracy ${percent(found.accuracy)}`;
    }, 400);
  }

  const modes = h("fieldset", { class: "modes" }, h("legend", {}, "thresholds"),
    ...[["one", "one for all"], ["each", "one per group"]].map(([mode, label]) =>
      h("label", {}, h("input", { type: "radio", name: `mode-${state.id}`, checked: state.mode === mode, onchange: () => {
        if (mode === "each") state.places = Object.fromEntries(curves.map((curve) => [curve.group, state.places[curve.group] ?? state.place]));
        state.mode = mode;
        save();
        state.draw(`mode:${mode}`);
      } }), label)));
  const used = known(kept.used) ? h("button", { type: "button", class: "back", onclick: () => {
    state.place = grid.reduce((best, each, i) => (Math.abs(each - kept.used) < Math.abs(grid[best] - kept.used) ? i : best), 0);
    state.places = {};
    save();
    update();
  } }, `back to ${kept.used} (in use)`) : null;
  const left = kept.left_out[state.by];
  const out = [
    h("div", { class: "bar" },
      choice("groups by", Object.keys(kept.groupings).map((by) => [by, by]), state.by, (by) => { state.by = by; state.places = {}; save(); state.draw("groups by"); }),
      choice("picture", Object.entries(RATES), state.rate, (rate) => { state.rate = rate; state.draw("picture"); }), modes, used),
    figures,
    h("div", { class: "two" }, h("div", { class: "drawing" }, chart,
      state.mode === "one" ? h("label", { class: "slide" }, h("span", {}, "threshold"), slider, value) : h("div", { class: "sliders" }, ...rows.map((each) => each.own))), table),
    said,
    left ? h("p", { class: "hint" }, `${left} smaller groups are not kept.`) : null,
    curves.length > drawn.length ? h("p", { class: "hint" }, `The picture shows the ${drawn.length} largest groups; the table shows all.`) : null,
    h("p", { class: "hint" }, "Figures of the audited rows, without intervals. A threshold that was chosen by looking at them fits them by chance, too: audit it again on rows that were not looked at. Thresholds that differ by group treat equal scores unequally, which the law of some places forbids."),
  ];
  return { nodes: out, update };
}

/** The second view: every group against the reference, or its rates, row by row. */
function gaps(state, data, save) {
  const measures = data.criteria, told = measures[state.criterion].groupings[state.gapsBy] ?? Object.values(measures[state.criterion].groupings)[0];
  const wanted = state.references[state.gapsBy] ?? "", moved = wanted ? state.rebased[state.gapsBy] : null;
  const fits = moved?.reference === wanted && moved.criteria?.[state.criterion];
  const found = measures[state.criterion].nothing !== null && fits ? fits : told;
  const ratio = measures[state.criterion].ratio, nothing = measures[state.criterion].nothing, bound = found.bound;
  const sides = known(bound) ? (ratio ? [bound, bound > 0 ? 1 / bound : null] : [-bound, bound]) : [];
  const rows = [...found.rows];
  const size = (row) => (!known(row.value) ? -1 : ratio ? Math.abs(Math.log(Math.max(row.value, 1e-9))) : Math.abs(row.value - (nothing ?? 0)));
  if (state.sort === "gap") rows.sort((a, b) => (nothing === null ? a.value - b.value : size(b) - size(a)));
  if (state.sort === "size") rows.sort((a, b) => b.n - a.n);
  if (state.sort === "name") rows.sort((a, b) => a.group.localeCompare(b.group));

  const values = rows.flatMap((row) => [row.value]).concat(nothing === null ? [] : [nothing]).filter(known);
  const signed = rows.some((row) => row.value < 0);
  values.push(...sides.filter((end) => known(end) && (ratio ? end <= Math.max(...values, 1) * 1.3 : end > 0 || signed)));
  const ends = rows.flatMap((row) => [row.low, row.high]).filter(known);
  let low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(1.8 * (high - low), 0.1 * Math.max(Math.abs(low), Math.abs(high)), 1e-9);
  low = Math.max(Math.min(low, ...ends), low - room);
  high = Math.min(Math.max(high, ...ends), high + room);
  const edge = 0.04 * (high - low) || 1;
  [low, high] = [ratio || measures[state.criterion].share ? Math.max(0, low - edge) : low - edge, measures[state.criterion].share ? Math.min(1, high + edge) : high + edge];
  const at = (value) => `${(100 * Math.min(1, Math.max(0, (value - low) / (high - low)))).toFixed(2)}%`;

  const detail = h("p", { class: "detail", role: "status", "aria-live": "polite" }, "Point at a row, or reach it with Tab and the arrow keys, for its exact figures.");
  const tell = (row) => {
    const interval = known(row.low) || known(row.high) ? `, interval ${known(row.low) ? row.low.toPrecision(4) : "no lower end"} to ${known(row.high) ? row.high.toPrecision(4) : "no upper end"}` : "";
    return `${row.group}${row.reference ? ` against ${row.reference}` : ""}${row.rate ? `, ${words(row.rate)}` : ""}: ${known(row.value) ? row.value.toPrecision(4) : row.undefined || "undefined"}${interval}, n ${whole(row.n)}${row.word ? `, ${row.word}` : ""}${row.note ? `: ${row.note}` : ""}`;
  };
  const plot = (row) => {
    const svg = s("svg", { class: "plot", "aria-hidden": "true" });
    const shade = (from, to) => svg.append(s("line", { x1: from, x2: to, y1: 13, y2: 13, class: "shade" }), s("line", { x1: from, x2: to, y1: 13, y2: 13, class: "hatch" }));
    if (known(sides[0]) && sides[0] > low) shade("0%", at(sides[0]));
    if (known(sides[1]) && sides[1] < high) shade(at(sides[1]), "100%");
    for (const tick of ticks(low, high)) svg.append(s("line", { x1: at(tick), x2: at(tick), y1: 0, y2: 26, class: "rule" }));
    for (const side of sides) if (known(side) && side >= low && side <= high) svg.append(s("line", { x1: at(side), x2: at(side), y1: 0, y2: 26, class: "bound" }));
    if (nothing !== null) svg.append(s("line", { x1: at(nothing), x2: at(nothing), y1: 0, y2: 26, class: "nothing" }));
    if (!row || !known(row.value)) return svg;
    const look = { pass: ["circle", true], fail: ["diamond", true], insufficient: ["triangle", false] }[row.word] ?? ["circle", row.compared !== false];
    if (known(row.low) || known(row.high)) {
      svg.append(s("line", { x1: at(row.low ?? low), x2: at(row.high ?? high), y1: 13, y2: 13, class: "interval" }));
      if (!known(row.low) || row.low < low) svg.append(s("text", { x: "0%", y: 17, "text-anchor": "end" }, "‹"));
      if (!known(row.high) || row.high > high) svg.append(s("text", { x: "100%", y: 17 }, "›"));
    }
    const spot = s("svg", { x: at(row.value), width: 1, height: 26, overflow: "visible" });
    spot.append(mark(look[0], 0, 13, 4.5, look[1] ? { class: "full" } : { class: "hollow" }));
    svg.append(spot);
    return svg;
  };
  const items = rows.map((row, i) => {
    const interval = known(row.low) && known(row.high) ? ` (${figure(row.low)} to ${figure(row.high)})` : "";
    return h("li", { class: `gap ${row.word || (row.compared === false ? "small" : "")}`, tabindex: i ? -1 : 0, "aria-label": tell(row),
        onfocus: () => { items.forEach((each, k) => each.setAttribute("tabindex", k === i ? 0 : -1)); detail.textContent = tell(row); },
        onpointerenter: () => { detail.textContent = tell(row); }, onkeydown: (event) => walk(event, items, i) },
      h("span", { class: "name", title: row.group }, row.group, h("small", {}, [row.several ? words(row.rate) : "", `n ${whole(row.n)}`].filter(Boolean).join(" · "))), plot(row),
      h("span", { class: "num" }, known(row.value) ? h("b", {}, figure(row.value)) : row.undefined || "undefined", interval ? h("small", {}, interval) : ""),
      h("span", { class: "word" }, WORDS[row.word] ?? (row.compared === false ? "not compared" : "")));
  });
  const axis = plot(null);
  axis.replaceChildren(...ticks(low, high).map((tick) => s("text", { x: at(tick), y: 12, "text-anchor": "middle", class: "dim" }, String(tick))));
  const groupings = Object.keys(measures[state.criterion].groupings).map((by) => [by, by]);
  const against = [...new Set(rows.map((row) => row.reference))].filter(Boolean), audited = [...new Set(told.rows.map((row) => row.reference))].filter(Boolean);
  const groups = measures[state.criterion].nothing === null ? [] : state.groups[state.gapsBy] ?? [];
  const reference = groups.length > 1 ? choice("reference", [["", `as audited: ${audited.join(", ") || "the largest"}`], ...groups.map(([group, n]) => [group, `${group} (n ${whole(n)})`])], wanted, (group) => {
    state.references = { ...state.references, [state.gapsBy]: group };
    state.refer();
    state.draw("reference");
  }) : null;
  const asking = wanted && !fits && measures[state.criterion].nothing !== null
    ? h("p", { class: "hint warn", role: "status" }, moved?.reference === wanted ? moved.trouble || "this criterion has no comparison with that group" : state.silent ? "No kernel answers: comparisons with another reference need one. Shown is what was audited." : "The kernel compares with that group …") : null;
  const verdict = found.word ? h("p", { class: `verdict ${found.word}` }, h("b", {}, WORDS[found.word].toUpperCase()), ` ${found.why}`) : null;
  const wants = measures[state.criterion].wants;
  return {
    nodes: [
      h("div", { class: "bar" },
        choice("criterion", Object.entries(measures).map(([name, each]) => [name, each.label]), state.criterion, (name) => { state.criterion = name; save(); state.draw("criterion"); }),
        choice("groups by", groupings, state.gapsBy, (by) => { state.gapsBy = by; save(); state.draw("groups by"); }),
        reference, choice("order", Object.entries(SORTS), state.sort, (sort) => { state.sort = sort; state.draw("order"); })),
      wants ? h("p", { class: "hint wants" }, `${wants} ${against.length ? `Drawn is each group against ${against.join(" and ")}.` : ""}`) : null, asking, verdict,
      rows.length ? h("ul", { class: "forest", "aria-label": `${measures[state.criterion].label} by ${state.gapsBy}` }, ...items,
        h("li", { class: "gap axis", "aria-hidden": "true" }, h("span", { class: "name" }), axis, h("span", {}), h("span", {}))) : h("p", { class: "hint" }, found.undefined || "nothing was compared"),
      sides.length ? h("p", { class: "hint" }, `Dashed: the bound of ${bound}${ratio ? `, and one over it` : ", in both directions"}. Hatched: what fails.`) : null, detail],
    update: () => state.tell(`${measures[state.criterion].label} by ${state.gapsBy}${against.length ? ` against ${against.join(" and ")}` : ""}: ${found.word ? `${WORDS[found.word].slice(2)}, ` : ""}${rows.length} rows, ${SORTS[state.sort]}`),
  };
}

/** What was audited, and what came out: above the pictures, and only where nothing else has said it. */
function head(told) {
  if (!told) return null;
  return h("header", {}, h("h2", {}, told.title), ...told.lines.map(([kind, text]) => h("p", { class: kind }, text)),
    h("details", {}, h("summary", {}, "what was audited"), h("dl", {}, ...told.facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
}

export default {
  render({ model, el }) {
    const root = home(model, "explorer"), body = h("div", {});
    root.classList.add("aiplat-explorer");
    root.append(body);
    el.append(root);
    const state = { id: Math.random().toString(36).slice(2), sort: "gap", rate: "selection_rate", tell: announcer(root) };

    function start() {
      const data = model.get("data"), kept = data.operating, names = Object.keys(data.criteria ?? {});
      const groupings = kept ? Object.keys(kept.groupings) : [];
      const place = (value) => kept.thresholds.reduce((best, each, i) => (Math.abs(each - value) < Math.abs(kept.thresholds[best] - value) ? i : best), 0);
      Object.assign(state, {
        view: kept ? model.get("view") : "gaps", by: groupings.includes(model.get("grouping")) ? model.get("grouping") : groupings[0],
        mode: "one", places: {}, place: kept ? place(known(model.get("threshold")) ? model.get("threshold") : kept.used ?? 0.5) : 0,
        criterion: names.includes(model.get("criterion")) ? model.get("criterion") : names[0],
        groups: model.get("groups") ?? {}, references: model.get("references") ?? {}, rebased: model.get("rebased") ?? {}, silent: false,
      });
      state.gapsBy = names.length ? (state.by in data.criteria[state.criterion].groupings ? state.by : Object.keys(data.criteria[state.criterion].groupings)[0]) : null;
      if (!names.length) state.view = "thresholds";
    }
    function save() {
      const kept = model.get("data").operating;
      model.set("view", state.view);
      if (state.criterion) model.set("criterion", state.criterion);
      if (kept && state.by) {
        model.set("grouping", state.by);
        model.set("threshold", kept.thresholds[state.place]);
        model.set("thresholds", state.mode === "one" ? {} : Object.fromEntries(Object.entries(state.places).map(([group, at]) => [group, kept.thresholds[at]])));
      }
      model.save_changes();
    }
    state.refer = () => {  // comparisons with another reference are made by the kernel, which knows how sure each rate is
      state.silent = false;
      clearTimeout(state.waiting);
      state.waiting = setTimeout(() => { state.silent = true; state.draw(); }, 15000);
      model.set("references", state.references);
      model.save_changes();
    };
    state.draw = (focus) => {
      const data = model.get("data");
      state.width = root.clientWidth || 800;
      if (!data.operating && !Object.keys(data.criteria ?? {}).length) {
        body.replaceChildren(h("p", { class: "hint" }, data.nothing || "there is nothing to explore yet"));
        return;
      }
      const views = [["thresholds", "Thresholds", Boolean(data.operating)], ["gaps", "Gaps between groups", Object.keys(data.criteria ?? {}).length > 0]].filter((each) => each[2]);
      const tabs = views.map(([view, label]) => h("button", { type: "button", role: "tab", id: `${state.id}-${view}`, "aria-selected": String(state.view === view), "aria-controls": `${state.id}-panel`, tabindex: state.view === view ? 0 : -1,
        onclick: () => { state.view = view; save(); state.draw(`tab:${view}`); },
        onkeydown: (event) => {
          if (!["ArrowLeft", "ArrowRight"].includes(event.key) || tabs.length < 2) return;
          state.view = views[(views.findIndex((each) => each[0] === state.view) + 1) % views.length][0];
          save();
          state.draw(`tab:${state.view}`);
        } }, label));
      const shown = (state.view === "gaps" ? gaps : thresholds)(state, data, save);
      const panel = h("div", views.length < 2 ? {} : { role: "tabpanel", id: `${state.id}-panel`, "aria-labelledby": `${state.id}-${state.view}` }, ...shown.nodes.filter(Boolean));
      redraw(body, head(data.head), views.length < 2 ? "" : h("div", { role: "tablist", class: "tabs", "aria-label": "views" }, ...tabs), data.nothing ? h("p", { class: "hint" }, data.nothing) : "", panel);
      shown.update();
      if (focus?.startsWith("tab:")) root.querySelector('[role="tab"][aria-selected="true"]').focus();
      else if (focus?.startsWith("mode:")) root.querySelector(".modes input:checked").focus();
      else if (focus) root.querySelector(`select[data-key="${focus}"]`)?.focus();
    };
    const again = () => { start(); state.draw(); };
    again();
    const resized = new ResizeObserver(() => {
      if (root.clientWidth && root.clientWidth < 480 !== state.width < 480) state.draw();
    });
    resized.observe(root);
    const answered = () => { clearTimeout(state.waiting); state.references = model.get("references"); state.rebased = model.get("rebased"); state.draw(); };
    model.on("change:data", again);
    model.on("change:rebased", answered);
    return () => {
      model.off("change:data", again);
      model.off("change:rebased", answered);
      clearTimeout(state.waiting);
      resized.disconnect();
      root.left();
    };
  },
};
