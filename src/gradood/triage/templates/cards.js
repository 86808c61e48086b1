// Groups of cards. Each item has one card in a list; a card is filled when it is made.
const cards = new Map();

// A rule for each sheet of thumbnails: an address of some 800 kB on each card would be slow.
const sheetRules = new CSSStyleSheet();
data.sheets.forEach(({ source }, i) => sheetRules.insertRule(`.sheet-${i} { background-image: url("${source}"); }`));
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheetRules];

function picture(number, large) {
  const item = data.items[number], side = data.side * (large ? 3 : 1);
  if (item.picture === null) {
    if (item.text !== null) return element("p", { class: large ? "text large" : "text" }, item.text);
    return element("p", { class: "text none" }, item.status === "ok" ? "no picture" : item.status);
  }
  const [sheet, column, row] = item.picture, { columns, rows } = data.sheets[sheet];
  const node = element("div", { class: `picture sheet-${sheet}`, role: "img", "aria-label": item.id });
  node.style.width = node.style.height = `${side}px`;
  node.style.backgroundSize = `${columns * side}px ${rows * side}px`;
  node.style.backgroundPosition = `${-column * side}px ${-row * side}px`;
  return node;
}

function card(number, blind, first) {
  const item = data.items[number];
  const node = element("article", { class: "card", tabindex: "-1", "data-item": number, "aria-label": item.id },
    picture(number, false),
    element("span", { class: "caption" }, blind ? "" : item.p === null ? "–" : `p ${short(Number(item.p.toPrecision(2)))}`));
  if (first) node.classList.add("first");
  cards.set(number, node);
  paint(number);
  return node;
}

/** Show an item's mark on its card. */
function paint(number) {
  const node = cards.get(number), mark = markOf(number);
  if (!node) return;
  if (mark === null) delete node.dataset.mark;
  else node.dataset.mark = mark;
  node.setAttribute("aria-label", mark === null ? data.items[number].id : `${data.items[number].id}, ${mark}`);
}

function section(title, members, representatives, blind) {
  const buttons = blind || !members.every(scored) ? [] : [...MARKS, null].map((mark) =>
    element("button", { type: "button", "data-all": mark ?? "none" }, mark === null ? "clear" : `all ${mark}`));
  const shown = [...members];
  if (!blind) {
    const ahead = representatives.filter((number) => members.includes(number));
    shown.sort((a, b) => ahead.includes(b) - ahead.includes(a));
    return element("section", { class: "group" },
      element("h2", {}, title, " ", element("small", {}, `${members.length} items`)),
      element("div", { class: "whole", role: "group", "aria-label": "Mark the whole group" }, buttons),
      element("div", { class: "cards" }, shown.map((number) => card(number, blind, ahead.includes(number)))));
  }
  return element("section", { class: "group" },
    element("h2", {}, title, " ", element("small", {}, `${members.length} items`)),
    element("div", { class: "cards" }, shown.map((number) => card(number, blind, false))));
}

/** List everything anew. */
function list() {
  cards.clear();
  const blind = state.view === "sample";
  const sections = blind
    ? [["Random sample of all items", data.sample.filter(listed), []]]
    : data.groups.map((group) => [group.title, group.members.filter(listed), group.representatives]);
  byId("list").replaceChildren(...sections.filter(([, members]) => members.length > 0)
    .map(([title, members, representatives]) => section(title, members, representatives, blind)));
  if (cards.size === 0) byId("list").replaceChildren(element("p", { class: "note" }, "No item is listed."));
  choose(cards.has(state.current) ? state.current : cards.keys().next().value ?? null, false);
  say();
}

/** Make an item the current one. */
function choose(number, focus = true) {
  cards.get(state.current)?.setAttribute("tabindex", "-1");
  cards.get(state.current)?.classList.remove("current");
  state.current = number;
  const node = cards.get(number);
  if (node) {
    node.setAttribute("tabindex", "0");
    node.classList.add("current");
    if (focus) { node.focus({ preventScroll: true }); node.scrollIntoView({ block: "nearest" }); }
  }
  describe();
}
