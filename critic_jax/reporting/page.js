"use strict";

for (const deck of document.querySelectorAll(".deck")) {
  const bar = deck.querySelector(".filters");
  const search = bar.querySelector("input");
  const cards = Array.from(deck.querySelectorAll(".card"), (card) => ({
    card,
    tags: new Set(JSON.parse(card.dataset.tags)),
    text: card.textContent.toLowerCase(),
  }));
  const refresh = () => {
    const chosen = Array.from(
      bar.querySelectorAll('button[aria-pressed="true"]'), (b) => b.dataset.tag,
    ).filter((tag) => tag);
    const words = search.value.toLowerCase().split(/\s+/).filter((word) => word);
    let shown = 0;
    for (const { card, tags, text } of cards) {
      const fits = chosen.every((t) => tags.has(t)) && words.every((w) => text.includes(w));
      card.hidden = !fits;
      shown += fits;
    }
    bar.querySelector("output").textContent = `${shown.toLocaleString("en")} shown`;
  };
  for (const button of bar.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const other of button.parentElement.children) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      refresh();
    });
  }
  search.addEventListener("input", refresh);
  bar.hidden = false;
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((th, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const up = th.getAttribute("aria-sort") !== "ascending";
      const key = (row) => {
        const cell = row.cells[column];
        return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent;
      };
      const order = (a, b) => typeof a === "number" && typeof b === "number"
        ? a - b
        : String(a).localeCompare(String(b), "en", { numeric: true });
      const rows = Array.from(table.tBodies[0].rows);
      rows.sort((a, b) => (up ? 1 : -1) * order(key(a), key(b)));
      table.tBodies[0].append(...rows);
      for (const other of th.parentElement.cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
