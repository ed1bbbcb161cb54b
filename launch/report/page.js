"use strict";
// Read-outs under the pointer, and legends that hide lines. The page is complete without.

(() => {
  const ATTRIBUTE = "data-series";

  // The corners of a path of M, L, H, V and Z with absolute coordinates, as [x, y] pairs.
  function corners(path) {
    const words = path.getAttribute("d").match(/[MLHVZ]|-?[\d.]+(?:e[-+]?\d+)?/g) || [];
    const found = [];
    let command = "M", x = 0, y = 0;
    for (let i = 0; i < words.length; i++) {
      if (/[MLHVZ]/.test(words[i])) { command = words[i]; continue; }
      if (command === "H") x = +words[i];
      else if (command === "V") y = +words[i];
      else { x = +words[i]; y = +words[++i]; }
      found.push([x, y]);
    }
    return found;
  }

  function remembered(path) {
    if (!path.corners) path.corners = corners(path);
    return path.corners;
  }

  function nearest(points, x) {
    let low = 0, high = points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1; else high = middle;
    }
    const before = points[Math.max(0, low - 1)];
    return x - before[0] < points[low][0] - x ? before : points[low];
  }

  // The last corner at or before x: the height of an area of steps there.
  function height(points, x) {
    let y = 0;
    for (const point of points) {
      if (point[0] > x) break;
      y = point[1];
    }
    return y;
  }

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e5) return Math.round(value).toLocaleString("en");
    if (size !== 0 && size < 1e-3) return value.toPrecision(3);
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  }

  function line(look, name, value) {
    const row = document.createElement("span");
    const mark = document.createElement("i");
    const label = document.createElement("em");
    mark.className = look;
    label.textContent = name;
    row.append(mark, label, value);
    return row;
  }

  function place(box, figure, event) {
    const frame = figure.getBoundingClientRect();
    const right = event.clientX - frame.left + 14;
    const fits = right + box.offsetWidth < frame.width;
    box.style.left = (fits ? right : right - box.offsetWidth - 28) + "px";
    box.style.top = Math.max(0, event.clientY - frame.top - box.offsetHeight - 10) + "px";
  }

  // What the lines of a chart are at x: [x of the nearest point, rows].
  function lineRows(svg, group, x) {
    const unit = svg.dataset.unit ? " " + svg.dataset.unit : "";
    const rows = [];
    let at = null;
    for (const path of group.querySelectorAll("path.read:not(.off)")) {
      const point = nearest(remembered(path), x);
      if (at === null || Math.abs(point[0] - x) < Math.abs(at - x)) at = point[0];
      const look = path.getAttribute("class").replace(/line|read/g, "");
      rows.push(line(look, path.getAttribute(ATTRIBUTE), short(point[1]) + unit));
    }
    return [at, rows];
  }

  // The shares of a strip at x: differences of the sums that its areas show.
  function stripRows(group, x) {
    const paths = [...group.querySelectorAll("path[data-kind]")].reverse();
    const stepped = paths[0].getAttribute("d").includes("H") && !paths[0].getAttribute("d").includes("L");
    let below = 0;
    const rows = paths.map((path) => {
      const points = remembered(path);
      const top = stepped ? height(points, x) : nearest(points.slice(1, -1), x)[1];
      const share = Math.max(0, top - below);
      below = Math.max(below, top);
      const look = path.getAttribute("class").replace("fill", "");
      return line(look, path.dataset.kind, Math.round(100 * share) + "%");
    });
    return [x, rows];
  }

  function watch(svg) {
    const figure = svg.closest("figure");
    const groups = [...svg.querySelectorAll("g.data")];
    const box = document.createElement("div");
    box.className = "readout";
    box.hidden = true;
    figure.append(box);
    const cursor = document.createElementNS(svg.namespaceURI, "path");
    cursor.setAttribute("class", "cursor");

    function hide() {
      box.hidden = true;
      cursor.remove();
    }

    function show(event) {
      const strips = svg.classList.contains("strips");
      const group = !strips ? groups[0] : groups.find((one) => {
        const frame = one.getBoundingClientRect();
        return event.clientY >= frame.top && event.clientY <= frame.bottom;
      });
      if (!group) return hide();
      const frame = group.getBoundingClientRect();
      if (event.clientX < frame.left - 2 || event.clientX > frame.right + 2) return hide();
      const here = new DOMPoint(event.clientX, event.clientY);
      const x = here.matrixTransform(group.getScreenCTM().inverse()).x;
      const [at, rows] = strips ? stripRows(group, x) : lineRows(svg, group, x);
      if (!rows.length) return hide();
      const head = document.createElement("b");
      const name = strips ? group.getAttribute(ATTRIBUTE) + ", " : "";
      head.textContent = name + svg.dataset.x + " " + short(at);
      box.replaceChildren(head, ...rows);
      box.hidden = false;
      const [low, high] = group.dataset.span.split(" ");
      cursor.setAttribute("d", "M" + at + " " + low + "V" + high);
      group.append(cursor);
      place(box, figure, event);
    }

    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  }

  function named(name) {
    const all = document.querySelectorAll(".chart [" + ATTRIBUTE + "]");
    return [...all].filter((one) =>
      one.getAttribute(ATTRIBUTE) === name && !one.closest(".strips, .gantt"));
  }

  function toggle(key) {
    const name = key.getAttribute(ATTRIBUTE);
    const off = !key.classList.contains("off");
    for (const one of named(name)) {
      one.classList.toggle("off", off);
      if (one.matches(".key")) one.setAttribute("aria-pressed", String(!off));
    }
  }

  for (const svg of document.querySelectorAll("svg.plot")) {
    if (svg.querySelector("g.data")) watch(svg);
  }
  for (const key of document.querySelectorAll(".key[" + ATTRIBUTE + "]")) {
    key.setAttribute("role", "button");
    key.setAttribute("tabindex", "0");
    key.setAttribute("aria-pressed", "true");
    key.title = "hide or show in all charts";
    key.addEventListener("click", () => toggle(key));
    key.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        toggle(key);
      }
    });
  }
})();
