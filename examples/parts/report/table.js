// The table of classes: it sorts by any column, and its search hides rows.

const sorting = { column: 1, descending: true };

function columnsOfClasses(counts) {
  const [one, other] = runs;
  const columns = [
    ["class", (k) => report.classes[k], (value) => value],
    ["objects", (k) => report.objects[k], String],
    ["AP", (k) => one.classes.AP[k]], ["AP50", (k) => one.classes.AP50[k]], ["AP75", (k) => one.classes.AP75[k]],
    ["precision", (k) => precisionOf(counts.classes[k])],
    ["recall", (k) => recallOf(counts.classes[k])],
    ["best F1", (k) => one.classes.F1[k]],
    ["best threshold", (k) => one.classes.threshold[k], (value) => shown(value, 2)],
  ];
  if (other) columns.splice(3, 0,
    ["AP of the other", (k) => other.classes.AP[k]],
    ["difference", (k) => (one.classes.AP[k] === null || other.classes.AP[k] === null ? null : one.classes.AP[k] - other.classes.AP[k]),
      (value) => (value > 0 ? "+" : "") + shown(value)]);
  return columns;
}

function compare(a, b) { // classes without a value come last, whatever the order
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return sorting.descending ? -order : order;
}

function drawClasses(counts, { search, label }, choose) {
  const columns = columnsOfClasses(counts), table = document.getElementById("class-table");
  const value = columns[sorting.column][1];
  const labels = report.classes.map((_, k) => k).filter((k) => contains(report.classes[k], search));
  labels.sort((a, b) => compare(value(a), value(b)) || a - b);
  const heads = columns.map(([name], index) => make("th", {
    scope: "col", "aria-sort": index !== sorting.column ? "none" : sorting.descending ? "descending" : "ascending",
  }, make("button", { type: "button", click: () => {
    sorting.descending = index === sorting.column ? !sorting.descending : index > 0;
    sorting.column = index;
    drawClasses(counts, { search, label }, choose);
    table.querySelectorAll("thead button")[index].focus();
  } }, name)));
  const focusOn = (k) => table.querySelectorAll("tbody button")[labels.indexOf(k)].focus();
  const rows = labels.map((k) => make("tr", k === label ? { class: "chosen" } : {}, ...columns.map(([, valueOf, write = shown], index) => {
    const text = valueOf(k) === null ? "–" : write(valueOf(k));
    return index ? make("td", { class: "number" }, text)
      : make("th", { scope: "row" }, make("button", { type: "button", click: () => { choose(k); focusOn(k); } }, text));
  })));
  table.replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}
