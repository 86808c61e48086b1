// The chosen item at large, why it was flagged, and its mark.
function describe() {
  const number = state.current, place = byId("detail");
  if (number === null) return place.replaceChildren();
  const item = data.items[number], blind = state.view === "sample";
  place.replaceChildren(
    picture(number, true),
    element("p", { class: "id" }, element("bdi", {}, item.id)),
    marking(number),
    blind ? element("p", { class: "hint" }, "Scores are hidden in the random sample.") : reasons(item),
    element("p", { class: "uri" }, element("bdi", {}, item.uri)));
}

function marking(number) {
  const { status, error } = data.items[number];
  if (!scored(number)) {
    const why = status.replaceAll("_", " ") + (error ? ` (${error})` : "");
    return element("p", { class: "hint" }, `Not scored: ${why}. It is neither known nor unknown, and takes no mark.`);
  }
  const mark = markOf(number);
  const label = element("input", { type: "text", inputmode: "numeric", size: "8", id: "class", list: "classes",
    value: state.marks.get(data.items[number].id)?.[1] ?? "", disabled: mark === null || mark === "unknown",
    onchange: (event) => setLabel(number, event.target.value.trim().split(" ")[0]) });
  return element("div", {},
    element("div", { class: "marks", role: "group", "aria-label": "Mark" }, MARKS.map((name, place) =>
      element("button", { type: "button", class: name, "data-mark": name, "aria-pressed": String(mark === name),
        onclick: () => act(mark === name ? null : name) }, `${place + 1} ${name}`))),
    element("label", {}, "True class ", label),
    element("datalist", { id: "classes" }, data.classes.map((name, i) => element("option", { value: `${i} ${name}` }))));
}

function reasons(item) {
  const rows = data.names.map((name, i) => [name, item.each[i]]);
  rows.sort((a, b) => (a[1] ?? 2) - (b[1] ?? 2));
  return element("div", {},
    element("p", {}, `Taken for class ${className(item.label)}. `, item.p === null ? item.status : `p-value ${short(item.p)}; score ${item.score === null ? "∞" : short(item.score)}`),
    element("table", {}, element("caption", {}, "P-values of the detectors"),
      element("tbody", {}, rows.map(([name, p]) => element("tr", {},
        element("th", { scope: "row" }, name), element("td", { class: p !== null && p <= 0.05 ? "clear" : null }, p === null ? "–" : short(p)))))),
    item.why.length > 0 ? element("ul", { class: "why" }, item.why.map((line) => element("li", {}, line))) : null);
}
