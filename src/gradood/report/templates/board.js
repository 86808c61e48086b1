const FPR = { ood: "fpr_ood_at_tpr_id95", id: "fpr_id_at_tpr_ood95" };
const GROUP_NAMES = { all: "All", near: "Near", far: "Far" };

/** The measure that the leaderboard shows, by its name in the data. */
const measureShown = () => (state.measure === "fpr" ? FPR[state.sense] : state.measure);
const higherIsBetter = (measure) => data.measures[measure].higher;

/** A figure [value, low, high] of a method, or undefined. */
const meanOf = (method, group, measure) => own(run().board, method, "means", group, measure);
const cellOf = (method, set, measure) => own(run().board, method, "sets", set, measure);

/** Methods with a mean, the best first. */
function ranked(measure, group = "all") {
  const sign = higherIsBetter(measure) ? -1 : 1;
  return Object.keys(run().board)
    .filter((method) => meanOf(method, group, measure))
    .sort((a, b) => sign * (meanOf(a, group, measure)[0] - meanOf(b, group, measure)[0]));
}

/** A phone, where the numbers alone have to do. */
const narrow = matchMedia("(max-width: 600px)");

/** Columns: what they are called, how a method sorts in them, how its cell looks. */
function columns() {
  const measure = measureShown(), label = data.measures[measure].label;
  const other = state.measure === "fpr" ? "auroc" : FPR[state.sense];
  const order = ranked(measure), best = order[0];
  const figure = (key, name, get, extra) => ({ key, name, value: (m) => get(m)?.[0], shade: true,
    higher: higherIsBetter(measure), cell: (m) => figureCell(get(m), measure), ...extra });
  const list = [
    { key: "rank", name: "#", kind: "rank", group: "", value: (m) => order.indexOf(m), higher: false,
      cell: (m) => ({ text: meanOf(m, "all", measure) ? String(order.indexOf(m) + 1) : "–" }) },
    { key: "method", name: "Method", kind: "method", group: "", value: (m) => m, higher: false },
  ];
  for (const group of data.groups) {
    list.push(figure(`mean ${group}`, GROUP_NAMES[group], (m) => meanOf(m, group, measure), { group: `Mean ${label}`, edge: group === data.groups[0] }));
    if (group === "all" && !narrow.matches) list.push({ key: "forest", name: "", kind: "forest", group: `Mean ${label}`, fixed: true });
  }
  if (own(run().versus, measure, "all")) list.push({ key: "versus", name: "vs best", group: `Mean ${label}`, higher: higherIsBetter(measure),
    value: (m) => (meanOf(m, "all", measure) ? meanOf(m, "all", measure)[0] : undefined), cell: (m) => versusCell(m, measure, best) });
  if (data.runs.filter((given) => given.label === run().label).length > 1)
    list.push({ key: "seeds", name: "Over runs", group: `Mean ${label}`, higher: higherIsBetter(measure),
      value: (m) => seedsOf(m, measure)?.mean, cell: (m) => seedsCell(m, measure) });
  const [name, sense = "Mean"] = data.measures[other].label.split(", ");
  list.push({ key: "other", name, group: sense, edge: true, higher: higherIsBetter(other), shade: true,
    value: (m) => meanOf(m, "all", other)?.[0], cell: (m) => figureCell(meanOf(m, "all", other), other) });
  const cost = (key, name, text, edge) => list.push({ key, name, group: "Cost", edge, higher: false,
    value: (m) => own(run().board, m, "cost", key) ?? undefined, cell: (m) => ({ text: text(own(run().board, m, "cost", key)) }) });
  cost("time_ratio", "Time", ratio, true);
  cost("memory_ratio", "Memory", ratio);
  cost("fit_passes", "Fit passes", (v) => (v === null || v === undefined ? "–" : String(v)));
  for (const group of ["near", "far"])
    data.sets.filter((set) => set.group === group).forEach((set, i) =>
      list.push(figure(`set ${set.name}`, set.name, (m) => cellOf(m, set.name, measure), { group: `${GROUP_NAMES[group]} sets, ${label}`, edge: i === 0 })));
  return list;
}

function figureCell(figure, measure) {
  if (!figure) return { text: "–", class: "plain" };
  const [value, low, high] = figure;
  const chance = measure === "auroc" && value < 0.5;
  return { text: percent(value), small: low === null ? null : `${percent(low)}–${percent(high)}`,
    class: chance ? "chance" : "", title: chance ? "worse than guessing" : null };
}

function versusCell(method, measure, best) {
  const compared = own(run().versus, measure, "all");
  if (method === best) return { text: "best", class: "plain" };
  const pair = compared?.best === best ? own(compared, "others", method) : undefined;
  if (!pair) return { text: "–", class: "plain", title: "not compared" };
  const p = pair.p === null ? "" : `, p = ${pair.p.toPrecision(2)} after Holm's correction`;
  const range = pair.low === null ? "" : ` (${signed(pair.low)} to ${signed(pair.high)})`;
  return { text: signed(pair.difference) + (pair.significant ? " *" : " ="), class: pair.significant ? "" : "tie",
    title: `${signed(pair.difference)} points${range}${p}: ${pair.significant ? "significant" : "not significant"}` };
}

/** Mean, sd and n over the runs of the same network. */
const seedsOf = (method, measure) => own(data.seeds, method, "all", measure) ?? own(data.seeds, `${run().label}/${method}`, "all", measure);

function seedsCell(method, measure) {
  const found = seedsOf(method, measure);
  if (!found) return { text: "–", class: "plain" };
  return { text: percent(found.mean), small: found.sd === null ? `n = ${found.n}` : `± ${(100 * found.sd).toFixed(1)}, n = ${found.n}` };
}

/** Methods in the order asked for; those without a value last. */
function sorted(list) {
  const column = list.find((c) => c.key === state.sort.key) ?? list[0];
  const sign = state.sort.direction === "ascending" ? 1 : -1;
  return Object.keys(run().board).sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}

function drawBoard() {
  const list = columns(), measure = measureShown();
  const focused = document.activeElement?.dataset?.column;
  const names = Object.keys(run().board);
  const domain = forestDomain(names, measure);
  for (const column of list.filter((c) => c.shade)) {
    const values = names.map(column.value).filter((v) => v !== undefined);
    [column.low, column.high] = [Math.min(...values), Math.max(...values)];
  }
  const table = element("table", { class: "board" },
    element("caption", {}, element("span", {}, caption(measure))),
    element("thead", {}, groupHeads(list), element("tr", {}, list.map(head))),
    element("tbody", {}, sorted(list).map((method) => bodyRow(method, list, domain, measure))));
  const scroll = byId("board").querySelector(".scroll");
  const left = scroll?.scrollLeft ?? 0;
  byId("board").replaceChildren(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard" }, table));
  byId("board").firstChild.scrollLeft = left;
  if (focused) [...byId("board").querySelectorAll("button")].find((b) => b.dataset.column === focused)?.focus({ preventScroll: true });
}

function caption(measure) {
  const { label, meaning, higher } = data.measures[measure];
  const compared = own(run().versus, measure, "all");
  return `${label}, in percent, ${higher ? "higher" : "lower"} is better: ${meaning[0].toLowerCase()}${meaning.slice(1)}` +
    (compared ? " Against the best: * a significant difference (paired, Holm's correction at 5 %), = none." : "");
}

function groupHeads(list) {
  const groups = [];
  for (const column of list) {
    if (groups.at(-1)?.name === column.group) groups.at(-1).span += 1;
    else groups.push({ name: column.group, span: 1, edge: column.edge });
  }
  return element("tr", { class: "group" }, groups.map((g) => g.name === ""
    ? element("td", { colspan: g.span })
    : element("th", { scope: "colgroup", colspan: g.span, class: g.edge ? "edge" : null }, g.name)));
}

const cellClass = (column, ...more) =>
  [column.kind === "method" ? "pin" : column.kind, column.edge ? "edge" : "", ...more].filter(Boolean).join(" ") || null;

function head(column) {
  if (column.fixed) return element("td", { class: cellClass(column) });
  const on = state.sort.key === column.key;
  const sort = () => {
    const first = column.higher ? "descending" : "ascending";
    const next = first === "ascending" ? "descending" : "ascending";
    update({ sort: { key: column.key, direction: on && state.sort.direction === first ? next : first } });
  };
  const arrow = on ? (state.sort.direction === "ascending" ? "▲" : "▼") : "";
  return element("th", { scope: "col", class: cellClass(column), "aria-sort": on ? state.sort.direction : "none" },
    element("button", { type: "button", "data-column": column.key, onclick: sort, title: "Sort by this column" },
      column.name, element("i", { "aria-hidden": "true" }, arrow)));
}

function bodyRow(method, list, domain, measure) {
  const facts = run().methods[method];
  return element("tr", { class: method === state.method ? "chosen" : null }, list.map((column) => {
    if (column.kind === "forest") return element("td", { class: cellClass(column) }, forest(method, measure, domain));
    if (column.kind === "method") return element("th", { scope: "row", class: cellClass(column) },
      element("a", { href: "#method", onclick: () => update({ method }), title: facts.title || null }, method),
      facts.own_pass ? [" ", element("span", { class: "mark" }, "own pass")] : null,
      facts.caveats.length ? [" ", element("span", { class: "mark warn", title: facts.caveats.join(" ") }, "caveat")] : null,
      facts.chosen_by === "fixed" ? null : [" ", element("span", { class: "mark" }, facts.chosen_by)]);
    const { text, small, class: kind, title } = column.cell(method);
    const value = column.value(method);
    const top = column.shade && value === (column.higher ? column.high : column.low);
    const cell = element("td", { class: cellClass(column, kind, top ? "top" : ""), title }, text, small ? element("small", {}, small) : null);
    if (column.shade && value !== undefined && column.high > column.low) {
      const share = (value - column.low) / (column.high - column.low);
      const good = Math.max(0, column.higher ? share : 1 - share);
      cell.style.backgroundImage = `linear-gradient(color-mix(in srgb, var(--known) ${(15 * good ** 3).toFixed(1)}%, transparent) 0 0)`;
    }
    return cell;
  }));
}

function forestDomain(names, measure) {
  const all = names.map((m) => meanOf(m, "all", measure)).filter(Boolean);
  return all.length ? around(all.flatMap(([v, low, high]) => [v, low ?? v, high ?? v]), 0.04) : [0, 1];
}

/** The mean and its interval as a dot on a line. */
function forest(method, measure, domain) {
  const figure = meanOf(method, "all", measure);
  if (!figure) return null;
  const x = linear(domain, [4, 86]);
  const [value, low, high] = figure;
  return drawn("svg", { viewBox: "0 0 90 18", width: 90, height: 18, "aria-hidden": "true" },
    drawn("line", { class: "grid", x1: 0, x2: 90, y1: 9, y2: 9 }),
    low === null ? null : drawn("line", { class: "whisker", x1: x(low), x2: x(high), y1: 9, y2: 9 }),
    drawn("circle", { class: "dot", cx: x(value), cy: 9, r: 3.2 }));
}

function drawBoardControls() {
  byId("board-controls").replaceChildren(
    choice("Measure", "measure", [["auroc", "AUROC"], ["fpr", "FPR95"], ["aupr_in", "AUPR-in"], ["aupr_out", "AUPR-out"]],
      state.measure, (measure) => update({ measure, sort: { key: "rank", direction: "ascending" } })),
    choice("FPR95 counts", "sense", [["ood", "outliers let through"], ["id", "false alarms"]], state.sense, (sense) => update({ sense })));
}
