// What a gate says: a row per rule with its evidence, and below what the person who looks may do about it.

const VERDICTS = { good: "✓", bad: "✗", warn: "!" };

/** A sentence with the command lines in it set as code: they begin with `aiplat` and end at a bracket, a semicolon or the end. */
function commands(text) {
  return text.split(/(aiplat [a-z](?:[^(;]|\((?![a-z]+ ))*)/).map((part, i) => (i % 2 ? [h("code", {}, part.trim()), " "] : part)).flat();
}

export default {
  render({ model, el }) {
    const root = home(model, "gateboard");
    const top = h("div", { class: "top" }), rules = h("ul", { class: "rules" }), acts = h("div"), outcome = h("div");
    root.append(top, rules, acts, outcome);
    const tell = announcer(root);
    el.append(root);
    const opened = new Map(); // number of an entry to what the kernel said of it, or null while it is asked
    let chosen = "", reason = "", sent = "", busy = false;

    const send = (words) => model.send(words);
    const open = (seq) => {
      if (opened.has(seq)) opened.delete(seq);
      else {
        opened.set(seq, null);
        send({ kind: "entry", seq });
      }
      draw();
    };

    function record(seq) {
      const found = opened.get(seq);
      return h("div", { class: "record" }, found === null ? h("p", { class: "dim" }, `Reading entry #${seq}…`) : [
        h("dl", {}, [["ledger", `#${seq}`], ...found.facts].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat()),
        h("pre", { tabindex: 0, "aria-label": `record #${seq}` }, found.text + (found.cut ? `\n${found.cut}` : ""))]);
    }

    /** The text that cites evidence, with a button for each number that is known. */
    function cited(row) {
      const known = new Set(row.seqs);
      return row.evidence.split(/(#\d+ \S+)/).map((part) => {
        const seq = Number(part.match(/^#(\d+) /)?.[1]);
        if (!known.has(seq)) return part;
        return h("button", { type: "button", class: "cite", "aria-expanded": String(opened.has(seq)), "data-key": `cite ${row.rule} ${seq}`, onclick: () => open(seq) }, part.replace(/,$/, ""));
      });
    }

    function rule(row) {
      const parts = [h("div", { class: "row" },
        h("span", { class: `verdict ${row.kind}` }, `${VERDICTS[row.kind] ?? "–"} ${row.verdict}`), h("span", { class: "rule" }, row.rule),
        h("span", { class: "found" }, row.found), h("span", { class: "evidence dim" }, cited(row)))];
      if (row.todo) parts.push(h("p", { class: "todo" }, "→ ", commands(row.todo)));
      parts.push(...row.seqs.filter((seq) => opened.has(seq)).map(record));
      return h("li", {}, parts);
    }

    function form(deed) {
      const words = h("textarea", { rows: 2, "data-key": "reason", maxlength: 2000, required: true, placeholder: "what you looked at", oninput: (event) => { reason = event.target.value; ok.disabled = busy || !reason.trim(); } });
      words.value = reason;
      const danger = deed.verb === "refuse";
      const ok = h("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}`, "data-key": "ok", disabled: busy || !reason.trim() }, busy ? "One moment…" : deed.label);
      const give = () => { chosen = ""; draw(); focusOn(`act ${deed.verb}`); };
      return h("form", { "aria-label": deed.label, onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); give(); } },
          onsubmit: (event) => { event.preventDefault(); if (busy || !reason.trim()) return; busy = true; sent = deed.key; send({ kind: "do", key: deed.key, reason }); draw(); } },
        h("p", {}, `${deed.means[0].toUpperCase()}${deed.means.slice(1)}.`),
        h("label", {}, h("span", {}, "Why? It stays in the ledger, under your name."), words),
        h("div", { class: "bar" }, ok, h("button", { type: "button", class: "button", "data-key": "cancel", onclick: give }, "Cancel")),
        h("p", { class: "hint" }, "The same as ", h("code", {}, deed.line)));
    }

    const focusOn = (key) => [...root.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();

    function draw() {
      const board = model.get("board");
      if (!Array.isArray(board?.rows)) return;
      redraw(top, h("h3", {}, `${board.model} for ${board.alias}`),
        h("span", { class: `badge ${board.holds ? "good" : "bad"}` }, board.holds ? "✓ the gate is open" : "✗ the gate is closed"),
        h("span", { class: "dim" }, board.holder === board.model ? `it is ${board.alias} now` : board.holder ? `${board.alias} now: ${board.holder}` : `nobody is ${board.alias} yet`),
        h("button", { type: "button", class: "button push", "data-key": "look", disabled: busy, title: "Ask the gate once more, with the evidence of this moment", onclick: () => { busy = true; send({ kind: "look" }); draw(); } }, "↻ Ask again"));
      redraw(rules, board.rows.map(rule));
      const able = board.may.filter((deed) => !deed.why && (deed.verb !== "promote" || board.holds));
      const unable = [...new Set(board.may.filter((deed) => deed.why && (deed.verb !== "promote" || board.holds)).map((deed) => deed.why))];
      const deed = able.find((each) => each.key === chosen);
      redraw(acts,
        able.length ? h("div", { class: "acts", role: "group", "aria-label": `what ${board.person} may do` }, h("span", { class: "dim" }, `As ${board.person}:`), able.map((each) =>
          h("button", { type: "button", class: `button ${each.verb === "refuse" ? "danger" : each.verb === "promote" || each.verb === "approve" ? "primary" : ""}`, "data-key": `act ${each.verb}`,
            "aria-expanded": String(each.key === chosen), disabled: busy, onclick: () => { chosen = chosen === each.key ? "" : each.key; reason = ""; draw(); if (chosen) focusOn("reason"); } }, `${each.label}…`))) : null,
        unable.length ? h("p", { class: "hint not" }, `${unable.map((why) => `${why[0].toUpperCase()}${why.slice(1)}`).join(". ")}.`) : null,
        deed ? form(deed) : null);
    }

    const answered = (said) => {
      if (said?.kind === "entry") {
        if (opened.has(said.seq)) opened.set(said.seq, said);
        tell(`entry ${said.seq} is shown`);
      } else if (said?.kind === "looked" || said?.kind === "done") {
        busy = false;
        for (const [seq, found] of opened) if (found === null && said.kind === "done") opened.delete(seq);
        const board = model.get("board"), ok = said.kind === "looked" || said.ok;
        if (said.kind === "done") redraw(outcome, h("div", { class: `outcome ${ok ? "good" : "bad"}` }, h("p", {}, `${ok ? "✓" : "✗"} ${said.what}`), said.todo ? h("p", {}, "→ ", said.todo) : null));
        else redraw(outcome);
        if (ok && said.kind === "done" && chosen === sent) [chosen, reason] = ["", ""];
        tell(`${said.what ?? ""} ${board.holds ? "The gate is open." : `The gate is closed: ${board.summary}.`}`.trim());
      }
      draw();
      if (said?.kind === "done" && said.ok && !chosen) focusOn("look"); // the button that was pressed is gone
    };

    draw();
    model.on("change:board", draw);
    model.on("msg:custom", answered);
    return () => {
      model.off("change:board", draw);
      model.off("msg:custom", answered);
      root.left();
    };
  },
};
