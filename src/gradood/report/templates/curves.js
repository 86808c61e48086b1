const curveOf = (set, method) => own(run().curves, set, method);

/** Methods of the run that have curves, in the order of the leaderboard. */
const drawable = () => run().order.filter((method) => data.sets.some((set) => own(run().gallery, set.name, method)));

function drawMethodControls() {
  const methods = drawable();
  byId("method-controls").replaceChildren(
    select("Method", (methods.length ? methods : run().order).map((m) => [m, m]), state.method, (method) => update({ method })),
    choice("Outliers", "set", data.sets.map((set) => [set.name, set.name]), state.set, (set) => update({ set })));
}

/** In words what the two drawings show. */
function drawMethodText() {
  const auroc = cellOf(state.method, state.set, "auroc");
  const missed = cellOf(state.method, state.set, FPR.ood), alarms = cellOf(state.method, state.set, FPR.id);
  const text = [];
  if (auroc) text.push(`on ${state.set}: AUROC ${percent(auroc[0])}\u00a0%${auroc[1] === null ? "" : ` (${percent(auroc[1])}–${percent(auroc[2])})`}.`);
  if (missed) text.push(`Keeping 95\u00a0% of the known images lets ${percent(missed[0])}\u00a0% of the outliers through.`);
  if (alarms) text.push(`Catching 95\u00a0% of the outliers flags ${percent(alarms[0])}\u00a0% of the known images.`);
  byId("method-text").replaceChildren(element("b", {}, state.method), " ", text.join(" ") || "was not measured on this set.");
}

const nothing = (text) => element("p", { class: "note" }, text);

function drawRoc(width) {
  const chosen = curveOf(state.set, state.method);
  if (!chosen) return nothing("There is no curve: see Provenance.");
  const size = Math.min(width, 460), left = 42, top = 24, right = size - 10, bottom = size - 44;
  const x = linear([0, 1000], [left, right]), y = linear([0, 1000], [bottom, top]);
  const line = (curve, kind) => drawn("path", { class: kind, d: path(curve.roc.flagged.map((f, i) => [x(f), y(curve.roc.caught[i])])) });
  const best = ranked("auroc").find((m) => curveOf(state.set, m));
  const others = Object.keys(run().board).filter((m) => m !== state.method && m !== best && curveOf(state.set, m));
  const steps = [0, 200, 400, 600, 800, 1000], text = (v) => `${v / 10}`;
  const auroc = cellOf(state.method, state.set, "auroc");
  const missed = cellOf(state.method, state.set, FPR.ood);
  return picture(size, size, `ROC curve of ${state.method} on ${state.set}, AUROC ${percent(auroc?.[0])} percent`,
    axes({ x, y, left, right, top, bottom, xTicks: steps, yTicks: steps, xText: text, yText: text, xName: "known images flagged, %", yName: "outliers caught, %" }),
    drawn("line", { class: "chance-line", x1: x(0), y1: y(0), x2: x(1000), y2: y(1000) }),
    others.map((m) => line(curveOf(state.set, m), "faint")),
    best && best !== state.method ? line(curveOf(state.set, best), "best-line") : null,
    line(chosen, "chosen-line"),
    missed ? drawn("circle", { class: "dot", cx: x(50), cy: y(1000 * (1 - missed[0])), r: 4 }) : null,
    rocLegend(right, bottom, [["chosen-line", state.method], ...(best && best !== state.method ? [["best-line", `${best}, best overall`]] : []),
      ...(others.length ? [["faint", "the others"]] : []), ["chance-line", "guessing"]]));
}

function rocLegend(right, bottom, entries) {
  const widest = Math.min(190, Math.max(...entries.map(([, text]) => text.length)) * 6.6);
  return entries.map(([kind, text], i) => {
    const at = bottom - 14 - 17 * (entries.length - 1 - i), start = right - widest - 32;
    return [drawn("line", { class: kind, x1: start, x2: start + 20, y1: at - 4, y2: at - 4 }),
      drawn("text", { x: start + 26, y: at }, text.length > 28 ? `${text.slice(0, 27)}…` : text)];
  });
}

function drawHistogram(width) {
  const curve = curveOf(state.set, state.method);
  if (!curve) return nothing("There is no histogram: see Provenance.");
  const { low, high, known, unknown } = curve.histogram;
  const w = Math.min(width, 640), height = Math.min(w, 460) * 0.82, left = 42, right = w - 10, top = 40, bottom = height - 44;
  const peak = Math.max(...known, ...unknown);
  const x = linear([low, high], [left, right]), y = linear([0, peak * 1.06], [bottom, top]);
  const cut = curve.threshold;
  const inside = cut !== null && cut >= low && cut <= high;
  const late = inside && x(cut) > (left + right) / 2;
  return [picture(w, height, `Histogram of the scores of ${state.method}: known images and ${state.set}`,
    axes({ x, y, left, right, top, bottom, xTicks: ticks([low, high], 6), yTicks: ticks([0, peak / 10], 4).map((v) => v * 10),
      xText: short, yText: (v) => short(v / 10), xName: "score, higher = more out-of-distribution", yName: "share of each set, %" }),
    drawn("path", { class: "known-area", d: bars(known, low, high, x, y) }),
    drawn("path", { class: "unknown-area", d: bars(unknown, low, high, x, y) }),
    inside ? [drawn("line", { class: "limit", x1: x(cut), x2: x(cut), y1: top - 4, y2: bottom }),
      drawn("text", { class: "halo", x: x(cut) + (late ? -6 : 6), y: top + 6, "text-anchor": late ? "end" : "start" }, "95\u00a0% of the known")] : null,
    drawn("text", { class: "known-text", x: right - 90, y: 14, "text-anchor": "end" }, "known"),
    drawn("text", { class: "unknown-text", x: right, y: 14, "text-anchor": "end" }, state.set.length > 12 ? `${state.set.slice(0, 11)}…` : state.set)),
  element("p", { class: "note" }, "The outermost bars hold all that lies beyond them.")];
}

/** The outline of the bars. */
function bars(shares, low, high, x, y) {
  const step = (high - low) / shares.length;
  const outline = shares.flatMap((share, i) => [[x(low + i * step), y(share)], [x(low + (i + 1) * step), y(share)]]);
  return `${path([[x(low), y(0)], ...outline, [x(high), y(0)]])}Z`;
}
