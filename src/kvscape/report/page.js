"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
for (const [name, spec] of Object.entries(specs)) vegaEmbed(document.getElementById(name), spec, options);

function sortBy(head) {
  const body = head.closest("table").tBodies[0];
  const rising = head.getAttribute("aria-sort") !== "ascending";
  const numeric = head.classList.contains("number");
  const value = (row) => {
    const text = row.cells[head.cellIndex].textContent;
    if (!numeric) return text;
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? Infinity : number;
  };
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (rising ? 1 : -1);
  const rows = [...body.rows].map((row) => [value(row), row]).sort((a, b) => order(a[0], b[0]));
  body.append(...rows.map((pair) => pair[1]));
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

for (const head of document.querySelectorAll("table.sortable th")) {
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sortBy(head); });
}
