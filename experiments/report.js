"use strict";

const SCALES = {
  "µs": 1e-6, ms: 1e-3, min: 60, h: 3600, d: 86400,
  kB: 1e3, MB: 1e6, GB: 1e9, mJ: 1e-3, kJ: 1e3, Wh: 3600, kWh: 3.6e6,
};

// The first number of a cell counts, in the unit behind the cell's numbers: "97.26 ± 0.18",
// "690 to 710", "1,000", "< 0.1", "1.2 GB". "3-NN" is a name.
const NUMBER = /^[<>≤≥≈~]?\s*([-−+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?=$|\s|[%×\p{L}])(.*)$/iu;

function value(text) {
  const found = text.trim().match(NUMBER);
  if (!found) return text.trim();
  const unit = found[2].match(/[µ\p{L}]+$/u);
  return Number(found[1].replaceAll(",", "").replace("−", "-")) * (SCALES[unit?.[0]] ?? 1);
}

// Numbers stand before names, and cells that say nothing come last in either direction.
function rank(value) {
  if (typeof value === "number") return 0;
  return value === "" || value === "—" ? 2 : 1;
}

function compare(a, b, direction) {
  if (rank(a) === 2 || rank(b) === 2) return rank(a) - rank(b);
  if (rank(a) !== rank(b)) return direction * (rank(a) - rank(b));
  return direction * (rank(a) === 0 ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sortRows(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value(row.cells[column].textContent), row]);
  rows.sort(([a], [b]) => compare(a, b, direction));
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll(".scroll table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isAscending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
      sortRows(table, column, isAscending ? 1 : -1);
    });
  });
}
