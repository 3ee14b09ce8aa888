// Photos with what is in them beside what was found, and one photo in large.

const PAGE = 12;
const KINDS = { // what a kind is for a reader
  correct: "correct", class: "of another class", localisation: "badly placed", both: "of another class and badly placed",
  duplicate: "second on one object", background: "on background", missed: "missed",
};
const errorsIn = (numbers) => numbers.reduce((sum, number) => sum + number, -numbers[CORRECT]);
const ORDERS = {
  errors: ["most errors first", errorsIn],
  missed: ["most missed first", (numbers) => numbers[MISSED]],
  found: ["most wrong boxes first", (numbers) => errorsIn(numbers) - numbers[MISSED]],
  file: ["as in the data set", () => 0],
};

// A caption beside its box where it covers no other; none if there is no such place.
function placeOf([x1, y1, x2, y2], width, height, limits, taken) {
  const [above, right, low] = [y1 - height, x2 - width, y2 - height];
  for (const [x, y] of [[x1, above], [x1, y1], [right, above], [x1, y2], [right, low], [right, y2]]) {
    const place = [Math.max(0, Math.min(x, limits[0] - width)), Math.max(0, Math.min(y, limits[1] - height))];
    const covers = ([a, b, c, d]) => place[0] < c && a < place[0] + width && place[1] < d && b < place[1] + height;
    if (!taken.some(covers)) { taken.push([place[0], place[1], place[0] + width, place[1] + height]); return place; }
  }
  return null;
}

function picture(photo, title, boxes, wide) {
  const high = Math.round((wide * report.heights[photo]) / report.widths[photo]), taken = [];
  const drawn = make("svg", { viewBox: `0 0 ${wide} ${high}` });
  const frames = [], captions = [];
  for (const { box, kind, text } of boxes) { // best first: it is drawn last, and its caption finds a place first
    const [x1, y1, x2, y2] = [box[0] * wide, box[1] * high, box[2] * wide, box[3] * high];
    const place = { x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1) };
    frames.unshift(make("g", {}, make("rect", { class: "rim", ...place }), make("rect", { class: `frame ${kind}`, ...place }),
      make("title", {}, `${text}: ${KINDS[kind]}`)));
    const caption = short(text, 24), width = 4 + 6.6 * caption.length;
    const free = placeOf([x1, y1, x2, y2], width, 14, [wide, high], taken);
    if (free) captions.push(make("rect", { class: `fill ${kind}`, x: free[0], y: free[1], width, height: 14 }),
      make("text", { x: free[0] + 2, y: free[1] + 11 }, caption));
  }
  drawn.append(...frames, ...captions);
  const file = `photos/${String(photo).padStart(6, "0")}.jpg`;
  const image = make("img", { src: file, loading: "lazy", alt: "", error: (event) => event.target.remove() });
  return make("figure", {}, make("figcaption", {}, title),
    make("div", { class: "picture", style: `aspect-ratio:${report.widths[photo]}/${report.heights[photo]}` }, image, drawn));
}

function boxesOf(run, photo, threshold, label) {
  const at = (columns, i) => Array.from(columns.boxes.subarray(4 * i, 4 * i + 4), (value) => value / ONE);
  const objects = [], found = [];
  eachPair(run, threshold, (_, object, as, j, i, number) => {
    if (label !== null && object !== label && as !== label) return;
    const kind = report.kinds[number];
    if (j >= 0) objects.push({ box: at(truth, j), kind, text: report.classes[object] });
    if (i >= 0) found.push({ box: at(run.found, i), kind, text: `${report.classes[as]} ${(run.found.scores[i] / ONE).toFixed(2)}` });
  }, [photo]);
  return { objects, found };
}

function pictures(photo, state, wide) {
  const parts = runs.map((run) => boxesOf(run, photo, state.threshold, state.label));
  const { objects } = parts[0], by = (run) => (runs[1] ? ` by ${run.name}` : "");
  return [picture(photo, `${objects.length} ${objects.length === 1 ? "object" : "objects"}`, objects, wide),
    ...runs.map((run, i) => picture(photo, `${parts[i].found.length} found${by(run)}`, parts[i].found, wide))];
}

function chosenPhotos(counts, state) {
  const { kind, order, file, cell } = state;
  const inCell = cell ? new Set(counts[0].cells.get(cellKey(cell.object, cell.found)) || []) : null;
  const numbersOf = (photo) => counts[0].photos[photo];
  const value = order === "worse" ? (photo) => errorsIn(numbersOf(photo)) - errorsIn(counts[1].photos[photo])
    : (photo) => ORDERS[order][1](numbersOf(photo));
  const photos = [...report.files.keys()].filter((photo) => (!inCell || inCell.has(photo))
    && (kind === "all" || numbersOf(photo)[report.kinds.indexOf(kind)]) && contains(report.files[photo], file));
  return photos.sort((a, b) => value(b) - value(a) || a - b);
}

const contains = (text, part) => text.toLowerCase().includes(part.toLowerCase());
const saidOf = (numbers) => report.kinds.map((kind, i) => numbers[i] && `${numbers[i]} ${KINDS[kind]}`).filter(Boolean).join(", ");

function drawGallery(photos, state, counts, open) {
  const first = state.page * PAGE, some = photos.slice(first, first + PAGE);
  document.getElementById("photo-count").textContent = photos.length
    ? `${first + 1} to ${first + some.length} of ${photos.length} photos` : "No photo is of this kind.";
  document.getElementById("before").disabled = first === 0;
  document.getElementById("after").disabled = first + PAGE >= photos.length;
  document.getElementById("gallery").replaceChildren(...some.map((photo, place) => {
    const said = saidOf(counts[0].photos[photo]);
    return make("button", { type: "button", class: "card", click: () => open(first + place) },
      make("span", { class: "file" }, report.files[photo]), make("span", { class: "said" }, said || "no objects, nothing found"),
      make("span", { class: "pair" }, ...pictures(photo, state, 400)));
  }));
}

function drawLarge(photos, place, state) {
  const dialog = document.getElementById("large"), photo = photos[place];
  const move = (step) => { if (photos[place + step] !== undefined) drawLarge(photos, place + step, state); };
  dialog.replaceChildren(
    make("form", { method: "dialog", class: "row" },
      make("strong", {}, report.files[photo]), make("span", {}, `${place + 1} of ${photos.length}`),
      make("button", { type: "button", click: () => move(-1) }, "← previous"),
      make("button", { type: "button", click: () => move(1) }, "next →"), make("button", { autofocus: true }, "Close")),
    make("div", { class: "pair" }, ...pictures(photo, state, 640)));
  dialog.onkeydown = (event) => { if (event.key === "ArrowLeft") move(-1); if (event.key === "ArrowRight") move(1); };
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("[autofocus]").focus(); // so that the arrow keys reach the dialog
}
