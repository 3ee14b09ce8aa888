"use strict";
// What the page shows, unpacked; and what is counted at a threshold.

const report = JSON.parse(document.getElementById("data").textContent);
report.classes = report.classes.map((name, label) => name.trim() || `(class ${label})`);
const NOTHING = report.classes.length; // the label of "no object"
const ONE = 65534; // stands for 1 where shares are written in 16 bits; the next number stands for no value
const [CORRECT, OTHER_CLASS, MISSED] = ["correct", "class", "missed"].map((kind) => report.kinds.indexOf(kind));
const truth = unpacked(report.truth);
const short = (text, most) => (text.length > most ? `${text.slice(0, most / 2)}…${text.slice(-most / 2 + 1)}` : text);
const runs = report.runs.map((run) => ({ ...run, name: short(run.name, 24), found: unpacked(run.found), curves: curvesOf(run.curves) }));

function numbers(text) { // base64 of numbers of 16 bits, the low byte first
  return new Uint16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function unpacked(columns) { // boxes lie photo after photo: those of photo i are starts[i] to starts[i + 1]
  const values = Object.fromEntries(Object.entries(columns).map(([name, text]) => [name, numbers(text)]));
  values.starts = [0];
  values.counts.forEach((count, photo) => values.starts.push(values.starts[photo] + count));
  return values;
}

function curvesOf(columns) { // by label, those of all classes last: precision, recall and F1 at each threshold
  const [precision, recall] = [numbers(columns.precision), numbers(columns.recall)];
  return Array.from({ length: NOTHING + 1 }, (_, label) => {
    const bounds = [label * report.steps, (label + 1) * report.steps];
    const [p, r] = [precision, recall].map((all) => Array.from(all.subarray(...bounds), (value) => (value > ONE ? null : value / ONE)));
    const f1 = p.map((value, i) => (value && r[i] ? (2 * value * r[i]) / (value + r[i]) : r[i] && 0));
    return { precision: p, recall: r, f1 };
  });
}

// Calls visit(photo, label of the object, label found, number of the object or -1, of the box or -1, kind).
function eachPair(run, threshold, visit, photos = report.files.keys()) {
  const lowest = threshold * ONE - 0.5, { starts, labels, scores, kinds, objects } = run.found;
  for (const photo of photos) {
    const first = truth.starts[photo], met = new Set();
    let end = starts[photo]; // boxes are ordered by score
    for (; end < starts[photo + 1] && scores[end] >= lowest; end++) if (kinds[end] === CORRECT) met.add(first + objects[end] - 1);
    for (let i = starts[photo]; i < end; i++) {
      const object = first + objects[i] - 1;
      // A box of another class takes an object that nobody else takes.
      if (kinds[i] === CORRECT || (kinds[i] === OTHER_CLASS && objects[i] && !met.has(object))) {
        met.add(object);
        visit(photo, truth.labels[object], labels[i], object, i, kinds[i]);
      } else visit(photo, NOTHING, labels[i], -1, i, kinds[i]);
    }
    for (let j = first; j < truth.starts[photo + 1]; j++) if (!met.has(j)) visit(photo, truth.labels[j], NOTHING, j, -1, MISSED);
  }
}

const cellKey = (object, found) => object * (NOTHING + 1) + found;

// Counts at a threshold: of each class, of each cell of the matrix, and of each photo by kind; the latter of one
// class if label is not null. The class after the last is all of them.
function countAt(run, threshold, label) {
  const cells = new Map(), photos = report.files.map(() => new Array(MISSED + 1).fill(0));
  const classes = Array.from({ length: NOTHING + 1 }, () => ({ objects: 0, found: 0, kinds: new Array(MISSED + 1).fill(0) }));
  eachPair(run, threshold, (photo, object, found, j, i, kind) => {
    for (const at of [i < 0 ? object : found, NOTHING]) {
      classes[at].kinds[kind]++;
      if (i >= 0) classes[at].found++;
    }
    if (j >= 0) for (const at of [object, NOTHING]) classes[at].objects++;
    const key = cellKey(object, found);
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(photo);
    if (label === null || object === label || found === label) photos[photo][kind]++;
  });
  return { cells, photos, classes };
}

const ratio = (part, whole) => (whole ? part / whole : null);
const precisionOf = (count) => ratio(count.kinds[CORRECT], count.found);
const recallOf = (count) => ratio(count.kinds[CORRECT], count.objects);
