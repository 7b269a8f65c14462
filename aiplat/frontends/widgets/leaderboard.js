// A search as it goes: how far it is, what leads, how the lead came about, and a button that ends it with what it has.

const HEARD = 3000; // ms without an answer after which the server is asked to interrupt the kernel
const SILENT = 15000; // ms without a new board after which the page says so

/** Ask the server to interrupt the kernel, as the button in the notebook's toolbar does. */
async function interrupt(kernel) {
  const told = document.getElementById("jupyter-config-data");
  const config = told ? JSON.parse(told.textContent) : {};
  const cookie = document.cookie.split("; ").find((each) => each.startsWith("_xsrf="));
  const headers = cookie ? { "X-XSRFToken": cookie.slice(6) } : {};
  if (config.token) headers.Authorization = `token ${config.token}`;
  const answer = await fetch(`${config.baseUrl ?? "/"}api/kernels/${encodeURIComponent(kernel)}/interrupt`, { method: "POST", headers, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
}

const score = (value) => (known(value) ? (Math.abs(value) < 100 ? value.toFixed(4) : value.toFixed(1)) : "–");

/** How the best score came about: a step for each leader, to the present. */
function path(board) {
  const led = board.led ?? [];
  if (led.length < 2) return null;
  const values = led.map((each) => each[1]), low = Math.min(...values), high = Math.max(...values), end = Math.max(board.elapsed, 1e-9), begin = led[0][0];
  const x = (at) => (150 * (at - begin)) / Math.max(end - begin, 1e-9), y = (value) => 24 - (22 * (value - low)) / (high - low || 1);
  const points = led.flatMap(([at, value], i) => (i ? [[x(at), y(led[i - 1][1])], [x(at), y(value)]] : [[x(at), y(value)]]));
  points.push([150, y(values.at(-1))]);
  const words = `best ${board.metric}, from ${score(values[0])} to ${score(values.at(-1))} in ${led.length} steps`;
  return h("div", { class: "line" }, h("span", {}, `best ${board.metric} over time`),
    s("svg", { class: "led", viewBox: "0 0 150 26", role: "img", "aria-label": words },
      s("polyline", { points: points.map((each) => each.map((value) => value.toFixed(1)).join(",")).join(" ") }), s("circle", { cx: 150, cy: points.at(-1)[1], r: 3 })));
}

/** A score with its spread on the scale that all rows share. */
function spot(row, at) {
  if (!known(row.score)) return null;
  const spread = row.spread ?? 0;
  if (row.score < at.low || row.score > at.high) return s("svg", { class: "spot", viewBox: "0 0 110 18", "aria-hidden": "true" }, s("text", { x: row.score < at.low ? 0 : 110, y: 14, "text-anchor": row.score < at.low ? "start" : "end" }, row.score < at.low ? "‹" : "›"));
  return s("svg", { class: "spot", viewBox: "0 0 110 18", "aria-hidden": "true" },
    s("line", { class: "interval", x1: at(row.score - spread), x2: at(row.score + spread), y1: 9, y2: 9 }), s("circle", { cx: at(row.score), cy: 9, r: 4 }));
}

function table(board) {
  const scored = board.rows.filter((row) => known(row.score) && row.kind !== "bad");
  // the baseline is far off and says little by its place: it does not stretch the scale
  const near = scored.filter((row) => row.candidate !== "baseline");
  const ends = (near.length ? near : scored).flatMap((row) => [row.score - (row.spread ?? 0), row.score + (row.spread ?? 0)]);
  const low = Math.min(...ends), high = Math.max(...ends);
  const at = (value) => (5 + 100 * Math.min(1, Math.max(0, (value - low) / (high - low || 1)))).toFixed(1);
  [at.low, at.high] = [low, high];
  const named = [["candidate"], [`${board.metric} (cv)`, "num"], ["", "spot-cell"], ...(board.criterion ? [[board.criterion.replaceAll("_", " "), "num"]] : []), ["time", "num"], ["parameters", "note"]];
  const body = board.rows.map((row) => {
    const leads = (row.kind === "good" || row.kind === "warn") && known(row.score);
    return h("tr", { class: `${leads ? "leader " : ""}${row.kind === "plain" ? "" : row.kind}` },
      h("td", { class: "name", title: row.candidate }, `${leads ? (row.kind === "warn" ? "! " : "✓ ") : row.kind === "bad" ? "✗ " : ""}${row.candidate}`),
      h("td", { class: "num" }, score(row.score), known(row.spread) ? h("small", {}, ` ± ${score(row.spread)}`) : null),
      h("td", { class: "spot-cell" }, spot(row, at)),
      board.criterion ? h("td", { class: "num" }, score(row.gap)) : null,
      h("td", { class: "num" }, duration(row.seconds)),
      h("td", { class: "note", title: row.note }, h("div", {}, row.note)));
  });
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "trials" },
    h("table", {}, h("thead", {}, h("tr", {}, ...named.map(([text, kind]) => (text ? h("th", { class: kind, scope: "col" }, text) : h("td", { class: kind }))))), h("tbody", {}, ...body)),
    board.more ? h("p", { class: "hint" }, `and ${whole(board.more)} more`) : null);
}

export default {
  render({ model, el }) {
    const root = home(model, "leaderboard");
    const count = h("span", { class: "count" }), fill = h("div"), track = h("div", { class: "track", role: "progressbar", "aria-label": "progress of the search", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const button = h("button", { type: "button", class: "button danger", title: "End the search now and keep the best of what it has found" }, "■ Stop");
    const facts = h("div", { class: "facts" }), rows = h("div"), news = h("p", { class: "hint news" });
    root.append(h("div", { class: "top" }, count, track, button), facts, rows, news);
    const tell = announcer(root);
    el.append(root);
    let asked = 0, off = false, heard = false, fresh = Date.now(), led = "", said = "";

    function draw() {
      const board = model.get("board");
      if (!Array.isArray(board?.rows)) return;
      const unit = board.total === 1 || (!board.total && board.done === 1) ? board.unit : `${board.unit}s`;
      count.textContent = `${whole(board.done)}${board.total ? ` of ${whole(board.total)}` : ""} ${unit}`;
      const part = board.ending ? 1 : board.total ? board.done / board.total : known(board.left) ? board.elapsed / Math.max(board.elapsed + board.left, 1e-9) : null;
      track.classList.toggle("open", part === null);
      fill.style.width = part === null ? "" : `${(100 * Math.min(1, part)).toFixed(1)}%`;
      part === null ? track.removeAttribute("aria-valuenow") : track.setAttribute("aria-valuenow", String(Math.round(100 * Math.min(1, part))));
      const best = board.rows.find((row) => (row.kind === "good" || row.kind === "warn") && known(row.score));
      const fact = (name, value, kind) => h("div", { class: kind }, h("span", {}, name), h("b", {}, value));
      redraw(facts,
        fact(best ? `best ${board.metric} so far` : `${board.metric}`, best ? score(best.score) : "no whole trial yet", best ? "best" : ""),
        best && board.criterion ? fact(board.criterion.replaceAll("_", " "), score(best.gap), "best") : null,
        fact("elapsed", duration(board.elapsed)), known(board.left) && !board.ending ? fact("left, about", duration(board.left)) : null,
        board.cpu_seconds ? fact("CPU", duration(board.cpu_seconds)) : null, path(board));
      redraw(rows, board.rows.length ? table(board) : null);
      off = board.ending || asked > 0;
      button.setAttribute("aria-disabled", String(off)); // a button that is disabled loses the keyboard
      button.textContent = board.ending && !asked ? "Ending" : asked ? "Stopping…" : "■ Stop";
      const note = asked && !board.ending ? "asked to stop" : board.note === "stopping" && !best ? "stopping as soon as one trial is whole, so that there is something to keep" : board.note;
      news.textContent = note ? `${note[0].toUpperCase()}${note.slice(1)}` : "";
      if (note && note !== said) tell(note);
      else if (best && `${best.candidate} ${best.score}` !== led) tell(`${best.candidate} leads with ${board.metric} ${score(best.score)}`);
      said = note || said;
      led = best ? `${best.candidate} ${best.score}` : led;
    }

    button.addEventListener("click", () => {
      if (off) return;
      asked = Date.now();
      model.send({ kind: "stop" });
      draw();
      setTimeout(async () => {
        const kernel = model.get("kernel");
        if (heard || over || model.get("board")?.ending || !kernel) return;
        try {
          await interrupt(kernel);
        } catch (problem) {
          news.textContent = `The search could not be reached (${problem.message}); the square in the toolbar stops it too.`;
          asked = 0;
          off = false;
          button.setAttribute("aria-disabled", "false");
        }
      }, HEARD);
    });

    const answered = (words) => {
      if (words?.kind === "heard") heard = true;
    };
    const again = () => {
      fresh = Date.now();
      draw();
    };
    let over = false;
    const watch = setInterval(() => {
      const quiet = Date.now() - fresh;
      if (quiet > SILENT) news.textContent = `Nothing heard from the search for ${duration(quiet / 1000)}: the kernel is very busy, was restarted or is gone.`;
    }, 1000);
    draw();
    model.on("change:board", again);
    model.on("msg:custom", answered);
    return () => {
      over = true;
      clearInterval(watch);
      model.off("change:board", again);
      model.off("msg:custom", answered);
      root.left();
    };
  },
};
