// The plots: those that are linked take the page's points, and a brush in one picks points in all.
const views = new Map();
// Only errors are logged: a layer for what is pointed at has no rows at first, which Vega warns of.
const embedding = { renderer: "svg", actions: false, logLevel: 1, tooltip: { theme: "custom" } };

async function draw() {
  for (const [name, { spec, linked }] of Object.entries(content.figures)) {
    const place = document.querySelector(`#${CSS.escape(name)} .view`);
    const whole = linked ? { ...spec, datasets: { ...spec.datasets, points: copies(filtered()) } } : spec;
    const { view } = await vegaEmbed(place, whole, embedding);
    if (!linked) continue;
    views.set(name, view);
    if (hasBrush(view)) view.addSignalListener("brush", (_, area) => brush(name, area));
  }
  document.documentElement.dataset.drawn = "yes";
}

const hasBrush = (view) => "brush" in view.getState({ signals: (signal) => signal === "brush" }).signals;

// Each view writes into its rows what its transforms compute.
const copies = (some) => some.filter((row) => row.origin !== "none").map((row) => ({ ...row }));

function brush(name, area) {
  if (Object.keys(area ?? {}).length) brushes.set(name, insideOf(area));
  else brushes.delete(name);
  later(pick);
}

function letGo() {
  for (const [name, view] of views) {
    if (brushes.has(name)) view.signal("brush_x", []).signal("brush_y", []).runAsync();
  }
  brushes.clear();
}

// Draw at most once a frame, however fast the pointer moves; of thousands of points, when it rests.
const MANY = 1000;
const waiting = new Map();
function later(work) {
  clearTimeout(waiting.get(work));
  waiting.set(work, setTimeout(() => requestAnimationFrame(work), rows.length > MANY ? 120 : 0));
}

const FEW = 300; // lines that can still be told apart
function pick() {
  const inside = brushed(filtered());
  const picked = brushes.size ? Object.fromEntries(inside.map((row) => [row.id, true])) : null;
  for (const view of views.values()) view.signal("picked", picked).signal("few", inside.length <= FEW).runAsync();
  showTable();
}

function refilter() {
  for (const view of views.values()) view.data("points", copies(filtered()));
  pick();
}

let pointedAt = null;
function point(id) {
  pointedAt = id;
  later(showPointed);
}
function showPointed() {
  for (const view of views.values()) view.signal("hovered", pointedAt).runAsync();
}
