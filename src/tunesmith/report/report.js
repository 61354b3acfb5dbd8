// Sorts tables by their heads, and picks among changed rows. The page is whole without it.
(() => {
  "use strict";

  const value = cell => {
    const said = cell.dataset.v ?? cell.textContent.trim();
    if (said === "" || said === "-") return null;
    return Number.isNaN(Number(said)) ? said : Number(said);
  };

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last, always
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return sign * order;
  };

  const sort = (table, heads, column) => {
    const rows = [...table.tBodies[0].rows];
    const values = new Map(rows.map(row => [row, value(row.cells[column])]));
    const numbers = [...values.values()].some(found => typeof found === "number");
    const before = heads[column].getAttribute("aria-sort");
    const down = before === "none" ? numbers : before === "ascending";
    rows.sort((a, b) => compare(values.get(a), values.get(b), down ? -1 : 1));
    table.tBodies[0].append(...rows);
    for (const head of heads) if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", "none");
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.dataset.fixed !== undefined) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, heads, column));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    });
  }

  for (const picker of document.querySelectorAll(".picker")) {
    const buttons = [...picker.querySelectorAll("button")];
    for (const button of buttons) button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const group of document.querySelectorAll("[data-change]"))
        group.hidden = button.dataset.pick !== "all" && group.dataset.change !== button.dataset.pick;
    });
    picker.hidden = false;
  }
})();
