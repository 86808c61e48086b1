const COSTS = { time_ratio: ["Time", "time, × plain forward pass"], memory_ratio: ["Memory", "peak memory, × plain forward pass"] };

/** Methods with both figures: [method, cost, value]. */
function priced() {
  const measure = measureShown();
  return Object.keys(run().board)
    .map((m) => [m, own(run().board, m, "cost", state.cost), meanOf(m, "all", measure)?.[0]])
    .filter(([, cost, value]) => cost > 0 && value !== undefined);
}

/** Those that no other beats in both, the cheapest first. */
function front(points) {
  const better = higherIsBetter(measureShown()) ? (a, b) => a > b : (a, b) => a < b;
  const found = [];
  for (const point of [...points].sort((a, b) => a[1] - b[1] || (better(a[2], b[2]) ? -1 : 1)))
    if (!found.length || better(point[2], found.at(-1)[2])) found.push(point);
  return found;
}

function drawCostControls() {
  byId("cost-controls").replaceChildren(
    choice("Cost", "cost", Object.entries(COSTS).map(([key, [name]]) => [key, name]), state.cost, (cost) => update({ cost })));
}

function drawScatter(width) {
  const points = priced(), measure = measureShown();
  byId("scatter-text").replaceChildren();
  if (!points.length) return nothing("The cost was not measured.");
  const edge = front(points), label = data.measures[measure].label;
  const height = Math.max(300, Math.min(460, width * 0.5));
  const left = 42, right = width - 14, top = 26, bottom = height - 44;
  const room = around(points.map((p) => Math.log(p[1])), 0.08).map(Math.exp);
  const domain = around(points.map((p) => 100 * p[2]), 0.08);
  const x = logarithmic(room, [left, right]), y = linear(domain, [bottom, top]);
  const steps = edge.flatMap(([, cost, value], i) => [...(i ? [[x(cost), y(100 * edge[i - 1][2])]] : []), [x(cost), y(100 * value)]]);
  steps.push([right, steps.at(-1)[1]]);
  byId("scatter-text").append(`${label} (mean over all sets) against cost; ${higherIsBetter(measure) ? "up" : "down"} and to the left is better. ` +
    `On the line is what nothing else beats in both: ${edge.map(([m, cost, value]) => `${m} (${ratio(cost)}, ${percent(value)}\u00a0%)`).join(", ")}. ` +
    "Rings need a pass of their own. Choose a point to see the method.");
  const place = labels(points, edge, x, y, steps, { left, right, top, bottom });
  return picture(width, height, `${label} against ${COSTS[state.cost][1]} of ${points.length} methods; the best compromises are listed below`,
    axes({ x, y, left, right, top, bottom, xTicks: powers(room), yTicks: ticks(domain, 6), xText: (v) => `${short(v)}×`, yText: short,
      xName: COSTS[state.cost][1], yName: `mean ${label}, %` }),
    drawn("path", { class: "front", d: path(steps) }),
    points.map(([m, cost, value]) => drawn("circle", {
      class: `point${run().methods[m].own_pass ? " own" : ""}${m === state.method ? " on" : ""}`,
      cx: x(cost), cy: y(100 * value), r: m === state.method ? 6 : 5, onclick: () => update({ method: m }),
    }, drawn("title", {}, `${m}: ${ratio(cost)}, ${percent(value)}\u00a0%`))),
    place.map(([m, at, up, anchor, strong]) => drawn("text", { x: at, y: up, "text-anchor": anchor, class: strong ? "halo strong" : "halo" }, m)));
}

/** Where names go without covering one another: the front and the chosen one first. */
function labels(points, edge, x, y, steps, box) {
  const first = [...edge, ...points.filter(([m]) => m === state.method), ...points];
  const taken = points.map(([, cost, value]) => [x(cost) - 5, y(100 * value) - 5, x(cost) + 5, y(100 * value) + 5]);
  steps.slice(1).forEach(([a, b], i) => taken.push([Math.min(a, steps[i][0]), Math.min(b, steps[i][1]) - 1, Math.max(a, steps[i][0]), Math.max(b, steps[i][1]) + 1]));
  const done = new Set(), found = [];
  for (const [m, cost, value] of first) {
    if (done.has(m)) continue;
    done.add(m);
    const text = 6.3 * m.length + 2, a = x(cost), b = y(100 * value);
    const tries = [[a + 9, b + 4, "start"], [a - 9, b + 4, "end"], [a, b - 10, "middle"], [a, b + 19, "middle"], [a + 8, b - 7, "start"], [a + 8, b + 15, "start"], [a - 8, b - 7, "end"], [a - 8, b + 15, "end"]];
    for (const [at, up, anchor] of tries) {
      const start = anchor === "start" ? at : anchor === "end" ? at - text : at - text / 2;
      const area = [start, up - 10, start + text, up + 3];
      const free = area[0] >= box.left && area[2] <= box.right + 12 && area[1] >= box.top - 8 && area[3] <= box.bottom &&
        !taken.some((t) => area[0] < t[2] && area[2] > t[0] && area[1] < t[3] && area[3] > t[1]);
      if (!free) continue;
      taken.push(area);
      found.push([m, at, up, anchor, m === state.method || edge.some(([name]) => name === m)]);
      break;
    }
  }
  return found;
}
