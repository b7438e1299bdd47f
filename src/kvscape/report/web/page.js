// Filters, buttons, and the first drawing.
const form = document.querySelector("#filters form");
const levelsOf = new Map(knobs.map((knob) => [knob.name, knob.levels.map((level) => level.value)]));
levelsOf.set("front", [true]);
levelsOf.set("origin", ["measured", "predicted"]);

function readFilters() {
  filters.clear();
  for (const [name, levels] of levelsOf) {
    const wanted = [...form.querySelectorAll(`input[type=checkbox][name="${name}"]:checked`)].map((box) => levels[box.value]);
    if (wanted.length) filters.set(name, (row) => wanted.includes(row[name]));
    const ends = [...form.querySelectorAll(`input[type=number][name="${name}"]`)].filter((box) => box.value !== "");
    if (ends.length) filters.set(name, (row) => ends.every((box) =>
      (box.dataset.end === "least" ? row[name] >= Number(box.value) : row[name] <= Number(box.value))));
  }
  rowLimit = FIRST_ROWS;
  refilter();
}

form.addEventListener("input", readFilters);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { letGo(); readFilters(); }));

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // a page from a file may have no clipboard
      button.textContent = "Selected";
    }
  });
}

document.getElementById("shade").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.shade ? root.dataset.shade === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.shade = dark ? "light" : "dark";
});

if (matchMedia("(max-width: 700px)").matches) document.getElementById("filters").open = false;
showTable();
draw();
