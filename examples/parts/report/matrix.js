// The confusion matrix: of the classes that are confused most, if there are many.

const MOST_IN_MATRIX = 25;

function labelsInMatrix(cells, chosen) {
  const errors = new Array(NOTHING).fill(0), size = NOTHING + 1;
  for (const [key, photos] of cells) {
    const [object, found] = [Math.floor(key / size), key % size];
    for (const label of object === found ? [] : [object, found]) if (label !== NOTHING) errors[label] += photos.length;
  }
  const order = errors.map((_, label) => label);
  order.sort((a, b) => (b === chosen) - (a === chosen) || errors[b] - errors[a] || report.objects[b] - report.objects[a]);
  return [...order.slice(0, MOST_IN_MATRIX).sort((a, b) => a - b), NOTHING];
}

const nameOf = (label) => (label === NOTHING ? "(nothing)" : report.classes[label]);

function drawMatrix(cells, { label, cell }, choose) {
  const labels = labelsInMatrix(cells, label), table = document.getElementById("matrix-table");
  const left = NOTHING + 1 - labels.length;
  document.getElementById("matrix-note").textContent =
    left ? `These are the ${MOST_IN_MATRIX} classes with the most errors. The other ${left} are not shown.` : "";
  const count = (object, found) => (cells.get(cellKey(object, found)) || []).length;
  const heads = labels.map((found) => make("th", { scope: "col" }, make("span", { title: nameOf(found) }, nameOf(found))));
  const head = make("tr", {}, make("td", {}, "is ↓  found as →"), ...heads);
  const rows = labels.map((object) => {
    const all = labels.reduce((sum, found) => sum + count(object, found), 0);
    return make("tr", {}, make("th", { scope: "row", title: nameOf(object) }, nameOf(object)), ...labels.map((found) => {
      const number = count(object, found), share = all ? number / all : 0;
      const isChosen = cell && cell.object === object && cell.found === found;
      return make("td", {}, number === 0 ? "" : make("button", {
        type: "button", tabindex: "-1", "aria-pressed": String(Boolean(isChosen)), class: object === found ? "right" : "wrong",
        style: `--share:${Math.round(share * 100)}%`, title: `${nameOf(object)} found as ${nameOf(found)}: ${number}`,
        click: () => choose({ object, found }),
      }, number));
    }));
  });
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  const first = table.querySelector("[aria-pressed=true]") || table.querySelector("button");
  if (first) first.tabIndex = 0; // one stop for the Tab key; arrows do the rest
}

function moveInMatrix(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const place = event.target.closest("td");
  if (!step || !place) return;
  event.preventDefault();
  let [row, column] = [place.parentNode.sectionRowIndex, place.cellIndex];
  const rows = place.closest("tbody").rows;
  for (row += step[0], column += step[1]; rows[row] && rows[row].cells[column]; row += step[0], column += step[1]) {
    const next = rows[row].cells[column].querySelector("td button");
    if (next) { event.target.tabIndex = -1; next.tabIndex = 0; next.focus(); return; }
  }
}
