// Puts the parts together: what the reader chose, and what is drawn again when a choice changes.

const $ = (id) => document.getElementById(id);
const state = { threshold: runs[0].threshold, label: null, cell: null, kind: "all", order: "errors", file: "", search: "", page: 0 };
let counts = [];

function drawSummary() {
  const heads = ["", ...runs.map((run) => run.name), ...(runs[1] ? ["difference"] : [])];
  const tables = runs[0].figures.map((rows, i) => make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col", title: name }, name)))),
    make("tbody", {}, ...rows.map(([name, , isNumber], j) => {
      const values = runs.map((run) => run.figures[i][j][1]);
      const texts = values.map((value) => (isNumber ? String(value) : shown(value)));
      if (runs[1]) texts.push(isNumber ? "" : difference(...values));
      return make("tr", {}, make("th", { scope: "row" }, name), ...texts.map((text) => make("td", { class: "number" }, text)));
    }))));
  $("figures").replaceChildren(...tables);
  $("remarks").replaceChildren(...report.remarks.map((remark) => make("li", {}, remark)));
}

function drawCounts() {
  const count = counts[0].classes[state.label === null ? NOTHING : state.label];
  $("shown").textContent = state.threshold.toFixed(2);
  $("counts").textContent = `${count.found} boxes found on ${count.objects} objects: ${saidOf(count.kinds) || "none"}. ` +
    `Precision ${shown(precisionOf(count))}, recall ${shown(recallOf(count))}.`;
}

function drawCurves() {
  const label = state.label === null ? NOTHING : state.label, step = Math.round(state.threshold * (report.steps - 1));
  const thresholds = Array.from({ length: report.steps }, (_, i) => i / (report.steps - 1));
  const lines = [["precision", "first"], ["recall", "second"], ["f1", "third"]].flatMap(([key, style]) => runs.map((run, i) => {
    const ys = run.curves[label][key];
    const name = `${key === "f1" ? "F1" : key} ${shown(ys[step], 2)}${i ? ` (${run.name})` : ""}`;
    return { name, xs: thresholds, ys, style: `${style} run${i}` };
  }));
  const of = label === NOTHING ? "all classes" : report.classes[label];
  lineChart($("by-threshold"), `At a threshold: ${of}`, "threshold", "", lines, state.threshold);
  lineChart($("precision-recall"), `Precision and recall: ${of}`, "recall", "precision", runs.map((run, i) => ({
    name: run.name, xs: run.curves[label].recall, ys: run.curves[label].precision, style: `first run${i}`,
  })), runs[0].curves[label].recall[step]);
}

function drawBars() {
  const bars = (id, title, key, nameOfRow, write, most) => barChart($(id), title, runs[0][key].map((row, i) => ({
    name: nameOfRow(row.name), values: runs.map((run) => run[key][i].value), texts: runs.map((run) => write(run[key][i])),
  })), most);
  const most = Math.max(0.01, ...runs.flatMap((run) => run.errors.map((row) => row.value)));
  const toPhotos = (kind) => make("button", { type: "button", click: () => { choose({ kind }); $("kind").focus(); } }, KINDS[kind]);
  const gain = ({ name, value, count }) =>
    `${value === null ? "" : "+"}${shown(value)}, ${count} ${name === "missed" ? "objects" : "boxes"}`;
  bars("error-bars", "AP50 gained", "errors", toPhotos, gain, most);
  const at = runs.map((run) => run.threshold.toFixed(2)).join(" and "), recall = (row) => `${shown(row.value)} of ${row.count}`;
  bars("by-size", `Recall by size of the object, threshold ${at}`, "by_size", String, recall);
  bars("by-number", `Recall by number of objects in the photo, threshold ${at}`, "by_number", String, recall);
  lineChart($("calibration"), "Do scores mean what they say?", "mean score", "share that is correct", [
    { name: "if they did", xs: [0, 1], ys: [0, 1], style: "even" },
    ...runs.map(({ name, calibration }, i) => ({
      name: `${name}: off by ${shown(calibration.error)}`, xs: calibration.scores, ys: calibration.right, style: `first run${i}`, dots: true,
    })),
  ]);
}

function drawPhotos() {
  const photos = chosenPhotos(counts, state);
  const cell = $("cell");
  cell.hidden = !state.cell;
  if (state.cell) cell.textContent = `${nameOf(state.cell.object)} found as ${nameOf(state.cell.found)} ✕`;
  drawGallery(photos, state, counts, (place) => drawLarge(photos, place, state));
}

function choose(changes) {
  Object.assign(state, { page: 0 }, changes);
  const isChanged = (...names) => names.some((name) => name in changes);
  if (isChanged("threshold", "label")) {
    counts = runs.map((run) => countAt(run, state.threshold, state.label));
    $("class").value = state.label === null ? "" : state.label;
    drawCounts();
    drawCurves();
  }
  if (isChanged("threshold", "label", "search")) {
    drawClasses(counts[0], state, (label) => choose({ label: state.label === label ? null : label }));
  }
  if (isChanged("kind")) $("kind").value = state.kind;
  if (isChanged("threshold", "label", "cell")) {
    drawMatrix(counts[0].cells, state, (cell) => {
      const isOfClass = [cell.object, cell.found].includes(state.label);
      choose({ cell, label: isOfClass ? state.label : null });
      $("cell").focus();
    });
  }
  drawPhotos();
}

function begin() {
  document.title = report.title;
  document.querySelector("h1").textContent = report.title;
  const options = (list) => list.map(([value, text]) => make("option", { value }, text));
  $("class").append(...options([["", "all"], ...report.classes.map((name, label) => [label, name])]));
  $("kind").append(...options([["all", "all photos"], ...Object.entries(KINDS).map(([kind, text]) => [kind, `with some ${text}`])]));
  if (runs[1]) ORDERS.worse = [`worse than ${runs[1].name}`];
  $("order").append(...options(Object.entries(ORDERS).map(([key, [text]]) => [key, text])));
  $("legend").append(...Object.entries(KINDS).map(([kind, text]) => make("span", { class: `chip ${kind}` }, text)));
  $("threshold").min = report.lowest;
  state.threshold = Math.max(state.threshold, report.lowest);
  $("threshold").value = state.threshold;
  $("threshold").addEventListener("input", (event) => choose({ threshold: Number(event.target.value) }));
  $("class").addEventListener("change", ({ target }) => choose({ label: target.value === "" ? null : Number(target.value) }));
  $("class-search").addEventListener("input", (event) => choose({ search: event.target.value }));
  for (const id of ["kind", "order"]) $(id).addEventListener("change", (event) => choose({ [id]: event.target.value }));
  $("photo-search").addEventListener("input", (event) => choose({ file: event.target.value }));
  $("cell").addEventListener("click", () => choose({ cell: null }));
  $("before").addEventListener("click", () => choose({ page: state.page - 1 }));
  $("after").addEventListener("click", () => choose({ page: state.page + 1 }));
  $("matrix-table").addEventListener("keydown", moveInMatrix);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  });
  drawSummary();
  drawBars();
  choose({ threshold: state.threshold, label: null });
}

begin();
