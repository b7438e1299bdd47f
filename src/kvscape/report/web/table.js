// The table: the points that are filtered and brushed, sorted by a heading, a hundred rows at first.
const FIRST_ROWS = 100;
const table = document.getElementById("points");
const more = document.getElementById("more");
const order = { name: null, rising: true };
let rowLimit = FIRST_ROWS;

const formats = new Map([
  ...knobs.map((knob) => [knob.name, knobFormat(knob)]),
  ...measures.map((measure) => [measure.name, measureFormat(measure)]),
  ["status", (value, row) => (row.reason ? `${value}: ${row.reason}` : value)],
]);

function knobFormat(knob) {
  const words = new Map(knob.levels.map((level) => [level.value, level.words]));
  return (value) => words.get(value) ?? "-";
}

function measureFormat({ digits }) {
  const form = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value) => (value === null || value === undefined ? "-" : form.format(value));
}

function compare(a, b) {
  const [x, y] = [a[order.name] ?? null, b[order.name] ?? null];
  if (x === null || y === null) return (x === null) - (y === null); // what is unknown comes last, either way
  const sign = order.rising ? 1 : -1;
  return typeof x === "number" ? sign * (x - y) : sign * String(x).localeCompare(String(y));
}

function showTable() {
  const some = brushed(filtered());
  const sorted = order.name ? [...some].sort(compare) : [...some].sort((a, b) => rank(a) - rank(b));
  table.tBodies[0].replaceChildren(...sorted.slice(0, rowLimit).map(tableRow));
  more.hidden = sorted.length <= rowLimit;
  more.textContent = `Show all ${sorted.length.toLocaleString("en")} points`;
  const all = some.length === rows.length;
  document.getElementById("count").textContent =
    all ? `${rows.length.toLocaleString("en")} points` : `${some.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} points`;
}

const rank = (row) => (row.recommended ? 0 : row.front ? 1 : row.origin === "measured" ? 2 : row.origin === "predicted" ? 3 : 4);

function tableRow(row) {
  const line = document.createElement("tr");
  line.dataset.id = row.id;
  line.className = [row.front && "front", row.recommended && "recommended", row.origin].filter(Boolean).join(" ");
  for (const button of table.tHead.querySelectorAll("button")) {
    const name = button.dataset.sort;
    const cell = line.insertCell();
    cell.className = button.parentElement.classList.contains("number") ? "number" : "text";
    cell.textContent = formats.get(name)(row[name], row);
  }
  return line;
}

function sortBy(button) {
  const head = button.parentElement;
  Object.assign(order, { name: button.dataset.sort, rising: head.getAttribute("aria-sort") !== "ascending" });
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order.rising ? "ascending" : "descending");
  showTable();
}

table.tHead.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) sortBy(button);
});
more.addEventListener("click", () => { rowLimit = Infinity; showTable(); });
table.tBodies[0].addEventListener("pointerover", (event) => {
  const line = event.target.closest("tr");
  if (line) point(Number(line.dataset.id));
});
table.tBodies[0].addEventListener("pointerleave", () => point(null));
