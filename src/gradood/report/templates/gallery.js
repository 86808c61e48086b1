/** What each list of images means, by set and end. */
const strips = () => [
  [state.set, "most", `Caught first`, `${state.set}: the most OOD-looking`],
  [state.set, "least", `Missed`, `${state.set}: the least OOD-looking`],
  ["id", "most", "False alarms", "known images: the most OOD-looking"],
  ["id", "least", "Surest of", "known images: the least OOD-looking"],
];

/** The sheets become properties of the page, so that a thumbnail only has to name its own. */
function preparePictures() {
  if (!data.pictures) return;
  Object.entries(data.pictures.sheets).forEach(([, sheet], i) => {
    sheet.property = `--sheet-${i}`;
    sheet.place = new Map(sheet.at.map((index, position) => [index, position]));
    document.documentElement.style.setProperty(sheet.property, `url("${sheet.source}")`);
  });
}

function drawGallery() {
  const parts = strips().filter(([set]) => own(run().gallery, set, state.method)).map(([set, end, title, text]) => {
    const pictured = own(data.pictures, "sheets", set) !== undefined;
    const entries = run().gallery[set][state.method][end].slice(0, pictured ? data.pictures.shown : undefined);
    const name = set === "id" ? "known image" : set;
    return element("div", {}, element("h3", {}, title), element("p", {}, text),
      element("ul", { class: pictured ? "strip" : "strip bare" },
        entries.map(([index, score]) => element("li", { title: `${name} ${index}` }, tile(set, index, name, score),
          pictured ? short(score) : `#${index}: ${short(score)}`))));
  });
  byId("gallery").replaceChildren(element("div", { class: "strips" }, parts));
}

function tile(set, index, name, score) {
  const sheet = own(data.pictures, "sheets", set);
  const position = sheet?.place.get(index);
  if (position === undefined) return null;
  const shown = element("span", { class: "tile", role: "img", "aria-label": `${name} number ${index}, score ${short(score)}` });
  const row = Math.floor(position / sheet.columns), column = position % sheet.columns;
  shown.style.backgroundImage = `var(${sheet.property})`;
  shown.style.backgroundSize = `${64 * sheet.columns}px ${64 * sheet.rows}px`;
  shown.style.backgroundPosition = `${-64 * column}px ${-64 * row}px`;
  return shown;
}
