/** Mean ranks, the best on top; a bar joins methods that the test does not tell apart. */
function drawRanks(width) {
  const ranking = data.ranking, note = byId("ranks-text");
  note.replaceChildren();
  if (!ranking || !ranking.mean_rank) return nothing("The record holds no ranking.");
  const order = Object.entries(ranking.mean_rank).sort((a, b) => a[1] - b[1]);
  const place = new Map(order.map(([m], i) => [m, i]));
  const cliques = (ranking.cliques ?? []).map((members) => members.map((m) => place.get(m)).filter((i) => i !== undefined))
    .filter((members) => members.length > 1).map((members) => [Math.min(...members), Math.max(...members)]);
  const lanes = laned(cliques);
  const margin = Math.min(width * 0.38, 6.6 * Math.max(...order.map(([m]) => m.length)) + 14);
  const w = Math.min(width, 860), row = 19, top = 44, bottom = top + row * order.length;
  const count = Math.max(-1, ...lanes) + 1, lane = count ? Math.min(10, (w * 0.18) / count) : 0, gutter = lane * count + 46;
  const x = linear([1, Math.max(2, order.length)], [margin + 10, w - gutter - 8]);
  const y = (i) => top + row * (i + 0.5), cut = Math.floor((margin - 14) / 6.3);
  const critical = ranking.critical_difference;
  const metric = data.measures[ranking.metric]?.label ?? ranking.metric;
  note.append(`Mean rank by ${metric} over ${ranking.blocks} blocks (set and run), 1 is best. ` +
    (ranking.friedman_p === null || ranking.friedman_p === undefined ? "" : `Friedman's test that all are alike: p\u00a0=\u00a0${Number(ranking.friedman_p).toPrecision(2)}. `) +
    "Methods joined by a bar are not told apart" + (critical ? `; two differ if their ranks are more than ${critical.toFixed(2)} apart.` : ".") +
    (ranking.blocks < 10 ? " With so few blocks only large differences show; the leaderboard compares over images instead." : ""));
  return picture(w, bottom + 8, `Mean rank of ${order.length} methods, best first: ${order.slice(0, 5).map(([m, r]) => `${m} ${r.toFixed(1)}`).join(", ")}`,
    ticks([1, Math.max(2, order.length)], Math.min(8, order.length, Math.max(2, (w - margin - gutter) / 40))).filter((v) => v >= 1).map((v) => [
      drawn("line", { class: "grid", x1: x(v), x2: x(v), y1: top, y2: bottom }),
      drawn("text", { x: x(v), y: top - 6, "text-anchor": "middle" }, String(v))]),
    critical && 1 + critical <= order.length ? [drawn("line", { class: "axis", x1: x(1), x2: x(1 + critical), y1: 14, y2: 14 }),
      drawn("line", { class: "axis", x1: x(1), x2: x(1), y1: 10, y2: 18 }), drawn("line", { class: "axis", x1: x(1 + critical), x2: x(1 + critical), y1: 10, y2: 18 }),
      drawn("text", { x: x(1 + critical) + 6, y: 18 }, "critical difference")] : null,
    order.map(([m, rank], i) => [
      drawn("line", { class: "grid", x1: margin, x2: x(rank), y1: y(i), y2: y(i) }),
      drawn("text", { x: margin - 4, y: y(i) + 4, "text-anchor": "end", class: m === state.method ? "strong" : null }, m.length > cut ? `${m.slice(0, cut - 1)}…` : m),
      drawn("circle", { class: "dot", cx: x(rank), cy: y(i), r: 4 }),
      drawn("text", { x: x(rank) + 9, y: y(i) + 4 }, rank.toFixed(2))]),
    cliques.map(([from, to], i) => drawn("line", { class: "clique", "stroke-width": Math.min(4, lane * 0.5),
      x1: w - 6 - lane * lanes[i], x2: w - 6 - lane * lanes[i], y1: y(from), y2: y(to) })));
}

/** A lane for each bar, so that those that overlap stand side by side. */
function laned(spans) {
  const ends = [];
  return spans.map(([from, to]) => {
    let lane = ends.findIndex((end) => end < from);
    if (lane < 0) lane = ends.length;
    ends[lane] = to;
    return lane;
  });
}
