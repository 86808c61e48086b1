// Elements are made of nodes and text only: no text is ever parsed as HTML.
const SVG = "http://www.w3.org/2000/svg";

/** A new HTML element; attributes beginning with "on" are listeners, null ones are left out. */
const element = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

/** The same in SVG. */
const drawn = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const byId = (id) => document.getElementById(id);

/** An entry that is the object's own, so that no name can reach what every object has. */
const own = (object, ...keys) =>
  keys.reduce((inner, key) => (inner !== null && typeof inner === "object" && Object.hasOwn(inner, key) ? inner[key] : undefined), object);

/** A drop-down list of [value, text]. */
function select(label, options, value, change) {
  const list = element("select", { onchange: () => change(list.value) },
    options.map(([key, text]) => element("option", { value: key }, text)));
  list.value = value;
  return element("label", {}, label, list);
}

/** Pills of [value, text], one of which is on. */
function choice(legend, name, options, value, change) {
  return element("fieldset", {}, element("legend", {}, legend),
    options.map(([key, text]) => element("label", { class: "pill" },
      element("input", { type: "radio", name, value: key, checked: key === value, onchange: () => change(key) }),
      element("span", {}, text))));
}

const NARROW = "\u2009";
const minus = (text) => text.replace("-", "\u2212");
const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
const ratio = (value) => (value === null || value === undefined ? "–" : value === 1 ? "≈ 1×" : `${value.toFixed(2)}×`);
const signed = (value) => minus((value > 0 ? "+" : "") + (100 * value).toFixed(1));
const short = (value) => minus(typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value));
