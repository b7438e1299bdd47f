"use strict";
// The points, what is filtered and what is brushed. Everything else on the page asks here.
const content = JSON.parse(document.getElementById("content").textContent);
const { columns, knobs, measures, axes } = content.study;
const rows = columns.id.map((_, place) =>
  Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[place]])));

const filters = new Map(); // a column's name -> does a row pass?
const brushes = new Map(); // a figure's name -> is a row inside its brush?

const filtered = () => rows.filter((row) => [...filters.values()].every((passes) => passes(row)));
const brushed = (some) => some.filter((row) => [...brushes.values()].every((inside) => inside(row)));

function share(axis, row) {
  const value = row[axis.name];
  if (value === null || value === undefined) return NaN;
  if (axis.levels.length) return axis.levels.indexOf(value) / Math.max(1, axis.levels.length - 1);
  return (value - axis.worst) / (axis.best - axis.worst || 1);
}

const between = (value, [a, b]) => value !== null && value >= Math.min(a, b) && value <= Math.max(a, b);

// What a brush holds, from Vega's {field: [least, most]}; parallel coordinates have {axis: [...], share: [...]}.
function insideOf(area) {
  if (!area.axis) return (row) => Object.entries(area).every(([name, ends]) => between(row[name], ends));
  const crossed = axes.filter((axis) => area.axis.includes(axis.heading));
  return (row) => crossed.every((axis) => between(share(axis, row), area.share));
}
