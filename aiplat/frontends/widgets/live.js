// A page in parts that keeps itself fresh: it asks while somebody can see it, and only what has changed is changed.
// `parts` are names with HTML that the kernel has escaped; an answer holds the parts that differ, and when to ask again.

const PATIENCE = 20000; // ms without an answer after which the page says that it is old

// Make `from` look like `to` without replacing what is alike, so that focus, selection and scroll positions stay.
export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to.cloneNode(true));
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  const wanted = [...to.childNodes];
  const there = [...from.childNodes];
  wanted.forEach((child, i) => (i < there.length ? morph(there[i], child) : from.append(child.cloneNode(true))));
  there.slice(wanted.length).forEach((child) => child.remove());
}

export default {
  render({ model, el }) {
    const home = document.createElement("div");
    home.className = model.get("name");
    const boxes = new Map();
    const marks = {};
    let timer = 0, asked = 0, over = false;

    const show = (parts) => {
      for (const [name, [mark, html]] of Object.entries(parts)) {
        let box = boxes.get(name);
        if (!box) {
          box = document.createElement("div");
          box.dataset.part = name;
          boxes.set(name, box);
          home.append(box);
        }
        const fresh = document.createElement("div");
        fresh.dataset.part = name;
        fresh.innerHTML = html;
        morph(box, fresh);
        marks[name] = mark;
      }
    };

    const seen = () => !document.hidden && (home.checkVisibility ? home.checkVisibility() : home.offsetParent !== null);
    const old = (text) => { home.dataset.old = text; };

    const ask = () => {
      clearTimeout(timer);
      if (over) return;
      if (seen()) {
        if (asked && Date.now() - asked > PATIENCE) old("This page is no longer kept fresh: its server does not answer.");
        if (!asked) asked = Date.now();
        model.send({ kind: "look", marks });
      }
      timer = setTimeout(ask, model.get("pause")); // hidden: only this timer, no message
    };

    const answered = (said) => {
      if (said?.kind !== "parts") return;
      asked = 0;
      said.trouble ? old(said.trouble) : delete home.dataset.old;
      show(said.parts);
    };

    const back = () => { if (seen()) ask(); };
    show(model.get("parts"));
    el.append(home);
    model.on("msg:custom", answered);
    document.addEventListener("visibilitychange", back);
    timer = setTimeout(ask, model.get("pause"));
    return () => {
      over = true;
      clearTimeout(timer);
      model.off("msg:custom", answered);
      document.removeEventListener("visibilitychange", back);
    };
  },
};
