const rhoText = (value) => (value === null ? "not defined" : rounded(value, 2));
const rounded = (value, digits) => minus((value / 100).toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1"));

function drawHeat(width) {
  const found = run().agreement;
  if (!found) return nothing("There are no scores of two methods to compare.");
  const { methods, rho } = found, n = methods.length;
  const longest = Math.max(...methods.map((m) => Math.min(m.length, 24)));
  const margin = 6 * longest + 12, side = Math.max(11, Math.min(44, (Math.min(width, 900) - 1.55 * margin) / n));
  const roof = margin * 0.88 + 6;
  const cut = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);
  const here = drawn("rect", { class: "here", width: side, height: side, visibility: "hidden" });
  const cells = methods.flatMap((_, i) => methods.map((_, j) => {
    const value = rho[i][j];
    return drawn("rect", { class: value === null ? "void" : value < 0 ? "opposite" : "alike", x: margin + j * side, y: roof + i * side,
      width: side - 0.5, height: side - 0.5, "fill-opacity": value === null ? 1 : (0.03 + 0.97 * Math.abs(value / 100) ** 2).toFixed(3) });
  }));
  const numbers = side < 30 ? [] : methods.flatMap((_, i) => methods.map((_, j) => drawn("text", { x: margin + (j + 0.5) * side, y: roof + (i + 0.5) * side + 4,
    "text-anchor": "middle", class: Math.abs(rho[i][j]) > 90 ? "on-full" : Math.abs(rho[i][j]) > 68 ? "on-half" : "on-none" }, rho[i][j] === null ? "" : rounded(rho[i][j], 1))));
  const names = methods.flatMap((m, i) => {
    const kind = m === state.method ? "strong" : null;
    return [drawn("text", { class: kind, x: margin - 6, y: roof + (i + 0.5) * side + 4, "text-anchor": "end" }, cut(m)),
      drawn("text", { class: kind, transform: `translate(${margin + (i + 0.5) * side + 4} ${roof - 5}) rotate(-60)` }, cut(m))];
  });
  const whole = picture(margin * 1.55 + n * side, roof + n * side + 2, `Rank correlation between ${n} methods; the most and the least alike are listed below`,
    cells, numbers, names, here);
  const read = (event) => {
    const box = whole.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - margin) / side), i = Math.floor((event.clientY - box.top - roof) / side);
    const inside = i >= 0 && j >= 0 && i < n && j < n;
    here.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) return;
    here.setAttribute("x", margin + j * side);
    here.setAttribute("y", roof + i * side);
    byId("heat-reading").textContent = `${methods[i]} and ${methods[j]}: ${rhoText(rho[i][j])}`;
  };
  whole.addEventListener("pointermove", read);
  whole.addEventListener("pointerdown", read);
  return whole;
}

function drawAgreementText() {
  const found = run().agreement;
  if (!found) return byId("agreement-text").replaceChildren();
  const pairs = [];
  for (let i = 0; i < found.methods.length; i++)
    for (let j = i + 1; j < found.methods.length; j++)
      if (found.rho[i][j] !== null) pairs.push([found.methods[i], found.methods[j], found.rho[i][j]]);
  pairs.sort((a, b) => b[2] - a[2]);
  const item = ([a, b, value]) => element("li", {}, `${a} and ${b}: ${rhoText(value)}`);
  const mine = pairs.filter(([a, b]) => a === state.method || b === state.method).reverse()
    .map(([a, b, value]) => element("li", {}, `${a === state.method ? b : a}: ${rhoText(value)}`));
  const list = (title, entries) => element("div", {}, element("h3", {}, title), element("ol", {}, entries));
  byId("agreement-text").replaceChildren(element("div", {},
    list("Most alike", pairs.slice(0, 6).map(item)),
    list("Least alike", pairs.slice(-6).reverse().map(item)),
    list(`Least like ${state.method}`, mine.slice(0, 6))));
}
