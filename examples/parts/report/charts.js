// Elements, and charts as SVG. All text goes in as text, so names may have any character.

function make(tag, attributes = {}, ...children) {
  const isDrawn = ["svg", "path", "rect", "line", "text", "circle", "title", "g"].includes(tag);
  const element = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const shown = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const difference = (one, other) => (one === null || other === null ? "–" : (one > other ? "+" : "") + shown(one - other));

// lines: [{ name, xs, ys, style, dots }], all values in 0..1. The names stand above, where they cover nothing.
function lineChart(host, title, xName, yName, lines, mark = null) {
  const [width, height, left, top] = [360, 240, 44, 10];
  const x = (value) => left + value * width, y = (value) => top + (1 - value) * height;
  const drawn = make("svg", { viewBox: `0 0 ${left + width + 12} ${top + height + 40}`, role: "img" }, make("title", {}, title));
  for (const tick of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    drawn.append(
      make("path", { class: "grid", d: `M${x(tick)} ${y(0)}V${y(1)}M${x(0)} ${y(tick)}H${x(1)}` }),
      make("text", { x: x(tick), y: y(0) + 16, "text-anchor": "middle" }, tick.toFixed(1)),
      make("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(1)));
  }
  drawn.append(
    make("text", { x: x(0.5), y: y(0) + 34, "text-anchor": "middle" }, xName),
    make("text", { transform: `translate(11 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, yName));
  if (mark !== null) drawn.append(make("path", { class: "mark", d: `M${x(mark)} ${y(0)}V${y(1)}` }));
  const names = make("figcaption", {}, make("strong", {}, title));
  for (const { name, xs, ys, style, dots } of lines) {
    const points = xs.map((value, i) => [value, ys[i]]).filter(([value, other]) => value !== null && other !== null);
    const steps = points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`);
    drawn.append(make("path", { class: `curve ${style}`, d: steps.join("") }));
    if (dots) drawn.append(...points.map(([a, b]) => make("circle", { class: style, cx: x(a), cy: y(b), r: 3 })));
    if (name) names.append(make("span", { class: `key ${style}` }, name));
  }
  host.replaceChildren(names, drawn);
}

// rows: [{ name, values, texts }], a bar for each run.
function barChart(host, title, rows, most = 1) {
  const bar = (value, i) => make("div", { class: `bar run${i}`, style: `width:${(100 * (value || 0)) / most}%` });
  const lines = rows.map(({ name, values, texts }) => make("tr", {}, make("th", { scope: "row" }, name),
    make("td", { class: "track" }, ...values.map(bar)),
    make("td", { class: "number" }, ...texts.map((text) => make("div", {}, text)))));
  const keys = runs[1] ? runs.map((run, i) => make("span", { class: `key bar-key run${i}` }, run.name)) : [];
  const caption = make("caption", {}, make("strong", {}, title), ...keys);
  host.replaceChildren(make("table", { class: "bars" }, caption, make("tbody", {}, ...lines)));
}
