const data = JSON.parse(byId("data").textContent);
const state = {
  run: 0, method: null, set: data.sets[0]?.name ?? null, measure: "auroc", sense: "ood", cost: "time_ratio",
  sort: { key: "rank", direction: "ascending" },
};
const run = () => data.runs[state.run];

/** The method advised, or the best. */
const advised = () => run().advice.picks.find((pick) => pick.method !== null)?.method ?? run().order[0];

const roc = chart(byId("roc"), drawRoc), histogram = chart(byId("histogram"), drawHistogram);
const scatter = chart(byId("scatter"), drawScatter), heat = chart(byId("heat"), drawHeat), ranks = chart(byId("ranks"), drawRanks);

/** Everything that is drawn, and the parts of the state that it shows. */
const views = [
  [["run"], drawSummary],
  [["run", "measure", "sense"], drawBoardControls],
  [["run", "measure", "sense", "sort", "method"], drawBoard],
  [["run", "method"], drawMethodControls],
  [["run", "method", "set"], () => { drawMethodText(); roc.update(); histogram.update(); drawGallery(); }],
  [["run"], drawCostControls],
  [["run", "measure", "sense", "cost", "method"], scatter.update],
  [["run", "method"], () => { heat.update(); drawAgreementText(); ranks.update(); }],
];

function update(changes) {
  Object.assign(state, changes);
  if (!own(run().board, state.method)) state.method = advised();
  const focused = document.activeElement;
  const mark = focused?.name && focused.type === "radio" ? [focused.name, focused.value] : focused?.closest?.(".controls select") ? "select" : null;
  const holder = focused?.closest?.(".controls")?.id;
  for (const [keys, draw] of views) if (keys.some((key) => key in changes)) draw();
  // What was drawn anew keeps the focus of what it replaced.
  if (Array.isArray(mark)) document.querySelector(`input[name="${mark[0]}"]:checked`)?.focus({ preventScroll: true });
  else if (mark === "select") byId(holder)?.querySelector("select")?.focus({ preventScroll: true });
}

function drawSummary() {
  for (const part of document.querySelectorAll("[data-run]")) part.hidden = Number(part.dataset.run) !== state.run;
}

function startTheme() {
  const button = byId("theme"), root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const told = () => {
    const other = now() === "dark" ? "light" : "dark";
    button.textContent = other === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Switch to the ${other} theme`);
  };
  button.addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; told(); });
  dark.addEventListener("change", told);
  button.hidden = false;
  told();
}

function start() {
  document.body.classList.add("scripted");
  for (const part of document.querySelectorAll(".static")) part.remove();
  byId("board-controls").hidden = false;
  if (data.runs.length > 1) {
    const list = byId("run");
    list.append(...data.runs.map((given, i) => element("option", { value: i }, given.run)));
    list.addEventListener("change", () => update({ run: Number(list.value) }));
    byId("run-control").hidden = false;
  }
  narrow.addEventListener("change", drawBoard);
  preparePictures();
  startTheme();
  update({ ...state });
}

start();
