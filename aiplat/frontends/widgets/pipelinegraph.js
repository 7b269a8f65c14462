// A pipeline run as a graph whose steps can be opened. It stands behind `kit.js` and `live.js`, whose page (`page`) keeps the parts fresh;
// what is foreign in them was escaped by the kernel. Here is only what a reader does: choose a step, by pointer or keyboard.

export default {
  render({ model, el }) {
    const root = home(model, "graph");
    el.append(root);
    const leave = page.render({ model, el: root });
    let chosen = model.get("chosen");

    const boxes = () => [...root.querySelectorAll("g[data-step]")];
    const apply = () => {  // after every change of the page, before anybody sees it
      for (const box of boxes()) {
        box.setAttribute("aria-expanded", String(box.dataset.step === chosen));
        box.classList.toggle("chosen", box.dataset.step === chosen);
      }
      for (const part of root.querySelectorAll("section[data-of]")) part.hidden = part.dataset.of !== chosen;
    };
    const choose = (name) => {
      chosen = name === chosen ? "" : name;
      model.set("chosen", chosen);
      model.save_changes();
      apply();
    };
    root.addEventListener("click", (event) => {
      const box = event.target.closest("g[data-step]");
      if (box) choose(box.dataset.step);
      if (event.target.closest("button.close")) {
        const from = boxes().find((each) => each.dataset.step === chosen);
        choose("");
        from?.focus();
      }
    });
    root.addEventListener("keydown", (event) => {
      const box = event.target.closest?.("g[data-step]");
      if (!box) return;
      const all = boxes(), i = all.indexOf(box);
      const to = { ArrowDown: i + 1, ArrowRight: i + 1, ArrowUp: i - 1, ArrowLeft: i - 1, Home: 0, End: all.length - 1 }[event.key];
      if (event.key === "Enter" || event.key === " ") choose(box.dataset.step);
      else if (to !== undefined) all[to]?.focus();
      else return;
      event.preventDefault();
    });
    apply();
    model.on("msg:custom", apply);
    return () => {
      model.off("msg:custom", apply);
      leave?.();
      root.left();
    };
  },
};
