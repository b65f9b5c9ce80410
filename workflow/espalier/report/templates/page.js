// Pareto pictures: names on hover and focus, filters by click. Without this script the page reads as it is.
(() => {
  "use strict";

  for (const box of document.querySelectorAll("[data-pareto]")) explore(box);

  function explore(box) {
    const svgs = [...box.querySelectorAll(".pictures svg")];
    const points = svgs.map((svg) => [...svg.querySelectorAll(".point")]);
    const tip = box.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
    tip.setAttribute("aria-hidden", "true");

    svgs.forEach((svg, index) => {
      svg.setAttribute("role", "group");
      points[index].forEach((point) => {
        // the name moves from the browser's own tip, which keyboards do not reach, to ours
        point.setAttribute("role", "img");
        point.setAttribute("aria-label", point.querySelector("title").textContent);
        point.querySelector("title").remove();
        point.setAttribute("tabindex", "-1");
        for (const event of ["pointerenter", "focus", "click"]) point.addEventListener(event, () => name(point));
        for (const event of ["pointerleave", "blur"]) point.addEventListener(event, () => name(null));
      });
      svg.addEventListener("keydown", (event) => walk(event, points[index]));
    });

    const show = filters(box, () => {
      for (const part of box.querySelectorAll("[data-plan][data-format]")) {
        part.toggleAttribute("data-off", !show(part));
      }
      svgs.forEach((svg, index) => {
        const shown = points[index].filter(show);
        drawFront(svg, shown);
        points[index].forEach((point) => point.setAttribute("tabindex", point === shown[0] ? "0" : "-1"));
      });
      const models = new Set(points.flat().map((point) => point.dataset.model));
      const left = new Set(points.flat().filter(show).map((point) => point.dataset.model));
      box.querySelector("[role=status]").textContent =
        `${left.size} of ${models.size} shown. Press plans or formats to see them alone; arrow keys go from point to point.`;
    });

    function name(point) {
      for (const other of points.flat()) {
        other.classList.toggle("named", point !== null && other.dataset.model === point.dataset.model);
      }
      tip.hidden = point === null;
      if (point === null) return;

      tip.textContent = point.getAttribute("aria-label");
      const place = point.getBoundingClientRect();
      const frame = box.getBoundingClientRect();
      const left = place.x + place.width / 2 - frame.x - tip.offsetWidth / 2;
      tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
      tip.style.top = `${place.y - frame.y - tip.offsetHeight - 8}px`;
    }
  }

  // Entries of the legend become buttons. Where none is pressed everything is shown, else what the pressed ones name.
  function filters(box, changed) {
    const pressed = { plan: new Set(), format: new Set() };
    for (const entry of box.querySelectorAll("[data-by]")) {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...entry.childNodes);
      button.setAttribute("aria-pressed", "false");
      entry.append(button);
      button.addEventListener("click", () => {
        const names = pressed[entry.dataset.by];
        if (!names.delete(entry.dataset.name)) names.add(entry.dataset.name);
        button.setAttribute("aria-pressed", String(names.has(entry.dataset.name)));
        changed();
      });
    }
    box.classList.add("live");
    const wants = (names, value) => names.size === 0 || names.has(value);
    // points get their place in the order of the Tab key once the caller has this function
    queueMicrotask(changed);
    return (part) => wants(pressed.plan, part.dataset.plan) && wants(pressed.format, part.dataset.format);
  }

  // Arrow keys go from point to point, cheapest first; Escape takes the name away.
  function walk(event, points) {
    const shown = points.filter((point) => !point.hasAttribute("data-off")).sort((a, b) => spot(a).x - spot(b).x);
    const here = shown.indexOf(event.target.closest(".point"));
    const steps = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: -1 };
    if (event.key === "Escape") event.target.blur();
    if (!(event.key in steps) || here < 0) return;

    event.preventDefault();
    const next = shown.at(event.key === "ArrowRight" || event.key === "ArrowDown" ? steps[event.key] % shown.length : steps[event.key]);
    shown.forEach((point) => point.setAttribute("tabindex", point === next ? "0" : "-1"));
    next.focus();
  }

  // The stairs of what is shown and passed the guard. In a picture y grows downwards, so a better score is a smaller y.
  function drawFront(svg, shown) {
    const line = svg.querySelector(".front path");
    const spots = shown.filter((point) => point.dataset.passed === "yes").map(spot);
    spots.sort((a, b) => a.x - b.x || a.y - b.y);

    let path = "";
    let best = Infinity;
    for (const { x, y } of spots) {
      if (y >= best) continue;
      path += path ? `H${x}V${y}` : `M${x} ${y}`;
      best = y;
    }
    line.setAttribute("d", path);
  }

  function spot(point) {
    const use = point.querySelector("use");
    return { x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")) };
  }
})();
