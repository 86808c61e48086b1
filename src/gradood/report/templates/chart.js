const charts = [];
const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver((entries) => {
  for (const { target } of entries) charts.find((chart) => chart.host === target)?.resized();
});

/** A drawing as wide as its host, made anew when that changes. `draw` takes the width. */
function chart(host, draw) {
  let width = 0;
  const made = {
    host,
    update() {
      width = Math.floor(host.clientWidth);
      if (width > 0) host.replaceChildren(...[draw(width)].flat());
    },
    resized() {
      if (Math.abs(host.clientWidth - width) > 4) made.update();
    },
  };
  charts.push(made);
  sizes?.observe(host);
  return made;
}

/** An empty picture; its label says in words what it shows. */
const picture = (width, height, label, ...children) =>
  drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, children);

/** Grid lines, numbers and names of two axes. */
function axes({ x, y, left, right, top, bottom, xTicks, yTicks, xText, yText, xName, yName }) {
  const parts = [];
  for (const value of yTicks) {
    parts.push(drawn("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    parts.push(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, yText(value)));
  }
  let last = -Infinity;
  for (const value of xTicks) {
    const text = xText(value), at = x(value);
    parts.push(drawn("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom }));
    if (at - last < 8 * text.length + 6) continue;
    last = at;
    parts.push(drawn("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, text));
  }
  parts.push(drawn("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  parts.push(drawn("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, xName));
  if (yName) parts.push(drawn("text", { x: left - 38, y: top - 10 }, yName));
  return parts;
}

const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
