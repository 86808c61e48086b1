// Controls, keys and the start.
function say() {
  const count = { known: 0, unknown: 0, unsure: 0 };
  for (const [mark] of state.marks.values()) count[mark] += 1;
  const [rate, called, largest] = data.steps[state.step];
  byId("rate-text").textContent = `${short(100 * rate)} %: ${called} items called unknown`;
  byId("rate").setAttribute("aria-valuetext", `${short(100 * rate)} percent, ${called} items`);
  byId("rate-control").hidden = state.view !== "rate";
  const reviewed = data.sample.filter((number) => markOf(number) !== null).length;
  const parts = [`${cards.size} listed`, `marked: ${count.known} known, ${count.unknown} unknown, ${count.unsure} unsure`,
    `random sample: ${reviewed} of ${data.sample.length} reviewed`];
  if (data.omitted > 0) parts.push(`${data.omitted} flagged items of larger p-values are not on this page`);
  if (state.view === "rate" && called === 0) parts.push(`no item at this rate: the smallest p-value is ${data.smallest === null ? "none" : short(data.smallest)}`);
  byId("note").textContent = `${parts.join(" · ")}.`;
  byId("note").dataset.largest = String(largest);
}

function mark(number, name) {
  setMark(number, name);
  paint(number);
}

/** Mark the current item, and go on to the next. */
function act(name, onward = false) {
  if (state.current === null) return;
  mark(state.current, name);
  if (onward) move(1);
  else describe();
  say();
}

function move(by) {
  const order = [...cards.keys()], at = order.indexOf(state.current);
  if (order.length > 0) choose(order[Math.max(0, Math.min(order.length - 1, at + by))]);
}

function nextGroup() {
  const groups = [...document.querySelectorAll(".group")];
  const at = groups.findIndex((group) => group.contains(cards.get(state.current)));
  const card = groups[(at + 1) % groups.length]?.querySelector(".card");
  if (card) choose(Number(card.dataset.item));
}

function download() {
  const address = URL.createObjectURL(new Blob([exported()], { type: "text/csv" }));
  const link = element("a", { href: address, download: "marks.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  const actions = {
    ArrowRight: () => move(1), ArrowLeft: () => move(-1), j: () => move(1), k: () => move(-1),
    1: () => act("known", true), 2: () => act("unknown", true), 3: () => act("unsure", true), 0: () => act(null),
    g: nextGroup, e: download,
  };
  const action = own(actions, event.key);
  if (!action) return;
  event.preventDefault();
  action();
}

function click(event) {
  const all = event.target.closest("button[data-all]");
  if (all) {
    const name = all.dataset.all === "none" ? null : all.dataset.all;
    for (const card of all.closest(".group").querySelectorAll(".card")) mark(Number(card.dataset.item), name);
    describe();
    return say();
  }
  const card = event.target.closest(".card");
  if (card) choose(Number(card.dataset.item));
}

/** What reads the page aloud may focus a card by itself. */
function focused(event) {
  const number = Number(event.target.closest(".card")?.dataset.item ?? NaN);
  if (cards.has(number) && number !== state.current) choose(number, false);
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  byId("theme").textContent = dark ? "Dark" : "Light";
  byId("theme").setAttribute("aria-pressed", String(!dark));
}

function start() {
  const reasons = Object.entries(data.unscored).map(([status, count]) => `${status.replaceAll("_", " ")} ${count}`).join(", ");
  const left = data.count - data.tested;
  const unscored = left > 0 ? ` ${left} not scored, and so neither known nor unknown (${reasons}).` : "";
  byId("meta").textContent = `${data.count} items, ${data.tested} scored; ${data.decided} flagged by the detector's own threshold.${unscored}`;
  byId("procedure").textContent = data.perClass
    ? "Benjamini–Yekutieli, as p-values were compared within predicted classes: q is divided by the sum of 1/k"
    : "Benjamini–Hochberg, on conformal p-values of one calibration set";
  const views = [["rate", "By false discovery rate"], ["decision", "Flagged by the threshold"], ["sample", "Random sample"]];
  if (left > 0) views.push(["unscored", `Not scored (${left})`]);
  byId("view").append(choice("List", "view", views, state.view, (value) => { state.view = value; list(); }));
  const filters = [["all", "all"], ["unmarked", "unmarked"], ...MARKS.map((name) => [name, name])];
  byId("filter").append(choice("Marks", "filter", filters, state.filter, (value) => { state.filter = value; list(); }));
  byId("rate").max = String(data.steps.length - 1);
  state.step = Math.max(0, data.steps.findIndex(([rate]) => rate >= 0.1));
  byId("rate").value = String(state.step);
  byId("rate").addEventListener("input", (event) => { state.step = Number(event.target.value); list(); });
  byId("search").addEventListener("input", (event) => { state.search = event.target.value; list(); });
  byId("list").addEventListener("click", click);
  byId("list").addEventListener("focusin", focused);
  byId("export").addEventListener("click", download);
  byId("theme").addEventListener("click", theme);
  document.addEventListener("keydown", key);
  list();
}

start();
