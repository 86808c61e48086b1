// What the page knows: the data, the marks, and what is listed.
const data = JSON.parse(byId("data").textContent);
const STORE = `gradood-triage:${data.job}`;
const MARKS = ["known", "unknown", "unsure"];
const byItem = new Map(data.items.map((item, number) => [item.id, number]));
const inSample = new Set(data.sample);

/** Whether an item was scored: one that was not is neither known nor unknown, and takes no mark. */
const scored = (number) => data.items[number].p !== null;

/** id → [mark, class]: what was kept of an earlier visit, as far as it is sound. */
function kept() {
  const found = new Map();
  try {
    const read = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    for (const [id, mark, label] of read) {
      if (byItem.has(id) && scored(byItem.get(id)) && MARKS.includes(mark)) found.set(id, [mark, typeof label === "string" ? label : ""]);
    }
  } catch { /* Storage is forbidden, or holds something else: marks begin anew. */ }
  return found;
}

const state = { view: "rate", step: 0, filter: "all", search: "", current: null, marks: kept() };

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify([...state.marks].map(([id, [mark, label]]) => [id, mark, label])));
  } catch { /* They can still be exported. */ }
}

const markOf = (number) => state.marks.get(data.items[number].id)?.[0] ?? null;

/** Set the mark of an item; null takes it off. */
function setMark(number, mark) {
  const { id } = data.items[number];
  if (!scored(number)) return;
  if (mark === null) state.marks.delete(id);
  else state.marks.set(id, [mark, state.marks.get(id)?.[1] ?? ""]);
  keep();
}

/** The true class of an item, in digits; empty for none. */
function setLabel(number, label) {
  const { id } = data.items[number];
  const before = state.marks.get(id);
  if (before) state.marks.set(id, [before[0], /^[0-9]{1,9}$/.test(label) ? label : ""]);
  keep();
}

/** Whether an item is listed, by view, mark and search. */
function listed(number) {
  const item = data.items[number], mark = markOf(number);
  if (scored(number) === (state.view === "unscored")) return false;
  if (state.view === "rate" && !(item.p <= data.steps[state.step][2])) return false;
  if (state.view === "decision" && !item.flagged) return false;
  if (state.filter === "unmarked" ? mark !== null : state.filter !== "all" && mark !== state.filter) return false;
  const wanted = state.search.toLowerCase();
  return wanted === "" || item.id.toLowerCase().includes(wanted) || (item.text ?? "").toLowerCase().includes(wanted);
}

const className = (label) => (label < 0 ? "–" : own(data.classes, label) ? `${label} ${data.classes[label]}` : String(label));

/** A cell of CSV that no spreadsheet takes for a formula. */
function cell(value) {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r']/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

function exported() {
  const lines = [["job", "id", "mark", "class", "predicted", "p_value", "flagged", "in_sample", "uri"].map(cell).join(",")];
  for (const [id, [mark, label]] of state.marks) {
    const number = byItem.get(id), item = data.items[number];
    lines.push([data.job, id, mark, label, item.label, item.p, item.flagged, inSample.has(number), item.uri].map(cell).join(","));
  }
  return `${lines.join("\r\n")}\r\n`;
}
