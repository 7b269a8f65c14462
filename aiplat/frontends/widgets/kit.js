// What all widgets share: making nodes, keeping keys to ourselves, and the still form that a widget stands for.
// Plain DOM, no library, no network. Text is set as text: no name of a column, group, run or person is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Attributes, listeners (`onclick`) and children for a node; null, false and "" are left out. */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return node;
}

/** A node of HTML: `h("p", { class: "dim" }, "text", node)`. */
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** A node of SVG. */
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const known = (value) => typeof value === "number" && Number.isFinite(value);
const whole = (value) => Math.round(value).toLocaleString("en");

/** Seconds as a person reads them, as `aiplat.core.show.fmt` writes a duration. */
function duration(seconds) {
  if (!known(seconds)) return "–";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= 2 * size) return `${(seconds / size).toFixed(0)} ${unit}`;
  return seconds >= 10 ? `${seconds.toFixed(0)} s` : seconds >= 0.1 ? `${seconds.toFixed(1)} s` : `${Math.round(1000 * seconds)} ms`;
}

/**
 * The element that a widget draws into: `const root = home(model, "leaderboard"); el.append(root)`.
 * `aiplat-live` is what hides the still form (see `alive`). Where an editor has other class names than JupyterLab, the mark itself is hidden.
 * `root.left()` is called when the view goes: `return () => root.left()`.
 */
function home(model, name) {
  const root = h("div", { class: `aip aiplat-live aip-${name}` });
  root.addEventListener("keydown", (event) => {  // keys are ours in here: JupyterLab would move or delete cells with them
    if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Escape" && event.key !== "Tab") event.stopPropagation();
  });
  const mark = model.get("still");
  const elsewhere = mark ? [...document.querySelectorAll(`[data-aiplat-still="${CSS.escape(mark)}"]`)].filter((node) => !node.closest(".jp-OutputArea-child")) : [];
  for (const node of elsewhere) node.style.display = "none";
  // Whoever was in here by keyboard when the view goes is in its cell then, not at the top of the page.
  let cell = null;
  root.addEventListener("focusin", () => (cell = root.closest(".jp-Cell")));
  root.addEventListener("focusout", (event) => { if (event.relatedTarget) cell = null; });
  root.left = () => {
    for (const node of elsewhere) node.style.display = "";
    if (cell?.isConnected && (document.activeElement === document.body || root.contains(document.activeElement))) cell.focus({ preventScroll: true });
  };
  return root;
}

/** A line that a screen reader is told about: `const tell = announcer(root); tell("stopped")`. The same words are not said twice in a row. */
function announcer(root) {
  const said = h("div", { class: "said", role: "status", "aria-live": "polite" });
  root.append(said);
  return (text) => {
    if (said.textContent !== text) said.textContent = text;
  };
}

const waiting = new WeakMap(); // a parent to the key of the node that had the keyboard and cannot take it for the moment

/** Put children in place of those there, and leave the keyboard where it was: nodes are recognised by `data-key`. One that is disabled meanwhile gets it back. */
function redraw(parent, ...children) {
  const at = document.activeElement;
  const held = parent.contains(at) ? at.dataset.key : at === document.body ? waiting.get(parent) : undefined;
  waiting.delete(parent);
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  const node = held === undefined ? undefined : [...parent.querySelectorAll("[data-key]")].find((each) => each.dataset.key === held);
  if (node?.disabled) waiting.set(parent, held);
  else node?.focus();
}
