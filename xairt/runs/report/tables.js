"use strict";
// Sorts a table by the column whose heading is pressed; what was not computed stays last either way.
// Opens a figure that is pressed over the whole window.
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    const stored = cell.dataset.key;
    if (stored !== undefined) return Number(stored);
    return cell.classList.contains("missing") ? null : cell.textContent.trim();
  };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const column = Number(heading.dataset.column);
    // Numbers are first shown from the largest, texts from A.
    const first = heading.classList.contains("number") ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row, column) }));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
      return sign * compare(a.key, b.key);
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };

  for (const heading of document.querySelectorAll("th[data-column]")) {
    heading.querySelector("button").addEventListener("click", () => sort(heading));
  }

  const element = (name, content) => Object.assign(document.createElement(name), content);

  // The figure has its own size there, to be scrolled.
  const enlarge = (image) => {
    const dialog = element("dialog", { ariaLabel: image.alt });
    const bar = element("p");
    const button = element("button", { type: "button", textContent: "Close" });
    button.addEventListener("click", () => dialog.close());
    bar.append(element("span", { textContent: image.alt }), button);
    dialog.append(bar, element("img", { src: image.src, alt: image.alt }));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };

  for (const image of document.querySelectorAll("figure img")) {
    const button = element("button", { type: "button", className: "zoom", ariaLabel: `Enlarge: ${image.alt}` });
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => enlarge(image));
  }

  // On paper everything that is folded stands open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
