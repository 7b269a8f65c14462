// A page in parts that keeps itself fresh: it asks while somebody can see it, and only what has changed is changed.
// `parts` are names with HTML that the kernel has escaped; an answer holds the parts that differ, and when to ask again.
// A form with `data-act` in a part is sent to the kernel, which answers with the page as it is then.

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
  // what a person has opened stays open
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(name);
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
    let timer = 0, asked = 0, over = false, busy = null;

    const show = (parts, acted) => {
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
        if (acted) box.replaceChildren(...fresh.childNodes); // what was typed into its forms has been sent
        else morph(box, fresh);
        marks[name] = mark;
      }
    };

    const seen = () => !document.hidden && (home.checkVisibility ? home.checkVisibility() : home.offsetParent !== null);
    const old = (text) => { home.dataset.old = text; };

    const ask = () => {
      clearTimeout(timer);
      if (over) return;
      if (seen() && !busy) {
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
      if (said.acted) idle();
      show(said.parts, said.acted);
      if (said.acted) home.querySelector("[data-outcome]")?.focus();
    };

    const idle = () => {
      if (!busy) return;
      busy.removeAttribute("aria-busy");
      for (const button of busy.querySelectorAll("button")) button.disabled = false;
      busy = null;
    };

    // A form is sent once: until the kernel has answered, no other one is taken.
    const sent = (event) => {
      const form = event.target.closest("form[data-act]");
      if (!form) return;
      event.preventDefault();
      if (busy) return;
      const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
      busy = form;
      form.setAttribute("aria-busy", "true");
      for (const button of form.querySelectorAll("button")) button.disabled = true;
      model.send({ kind: "act", act: form.dataset.act, values, marks });
    };

    // Keys that are typed into a form are the form's: JupyterLab would take them for commands.
    const typed = (event) => { if (event.target.closest("form[data-act]")) event.stopPropagation(); };

    const back = () => { if (seen()) ask(); };
    show(model.get("parts"));
    el.append(home);
    model.on("msg:custom", answered);
    home.addEventListener("submit", sent);
    home.addEventListener("keydown", typed);
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
