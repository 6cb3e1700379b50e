"use strict";
// Headings become buttons that sort their column; without this the rows stand in the order in which they were written.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const rows = Array.from(body.rows, (row) => {
        const text = row.cells[column].textContent.trim();
        // Foretold figures have a tilde before them, thousands a comma.
        return { row, text, empty: text === "" || text === "not known", number: Number(text.replace(/^~|[,%\s]/g, "")) };
      });
      const numeric = rows.every(({ empty, number }) => empty || Number.isFinite(number));
      const before = heading.getAttribute("aria-sort");
      const ascending = before === null ? !numeric : before === "descending";
      rows.sort((a, b) => {
        // Empty cells stay below in both directions.
        if (a.empty || b.empty) return a.empty - b.empty;
        const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
        return ascending ? order : -order;
      });
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...rows.map(({ row }) => row));
    });
  });
}
