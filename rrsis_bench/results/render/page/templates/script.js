"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("has-js");

  // Theme: as the system, light, dark; remembered where the browser allows it.
  const themes = ["auto", "light", "dark"];
  const theme = document.getElementById("theme");
  const paint = (name) => {
    if (name === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", name);
    theme.textContent = "Theme: " + name;
    theme.setAttribute("aria-label", "Colour theme: " + (name === "auto" ? "as the system" : name));
    theme.dataset.name = name;
  };
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch (error) { kept = null; }
  paint(themes.includes(kept) ? kept : "auto");
  theme.addEventListener("click", () => {
    const name = themes[(themes.indexOf(theme.dataset.name) + 1) % themes.length];
    paint(name);
    try { localStorage.setItem("theme", name); } catch (error) { /* a page opened from disk may have no storage */ }
  });

  // Sorting: numbers best first, words from A; empty cells last in both directions; equal rows keep their order.
  const value = (row, index) => {
    const cell = row.cells[index];
    return cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent;
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    const body = table.tBodies[0];
    const original = Array.from(body.rows);
    heads.forEach((head, index) => {
      head.querySelector("button").addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric && head.textContent !== "#";
        const sign = down ? -1 : 1;
        const key = (row) => {
          const text = value(row, index);
          return numeric ? Number(text.replaceAll(",", "")) : text.toLowerCase();
        };
        const filled = original.filter((row) => value(row, index) !== "");
        const empty = original.filter((row) => value(row, index) === "");
        filled.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          return x < y ? -sign : x > y ? sign : 0;
        });
        body.append(...filled, ...empty);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      });
    });
  }

  // Filter: by dataset, split and protocol; kept in the address, so that a view can be linked.
  const form = document.getElementById("filter");
  if (!form) return;
  const choice = (key) => form.querySelector("[data-key=" + key + "]");
  const apply = () => {
    const [data, split, protocol] = ["data", "split", "protocol"].map((key) => choice(key).value);
    let boards = 0;
    let tables = 0;
    for (const section of document.querySelectorAll(".dataset")) {
      let shown = 0;
      for (const board of section.querySelectorAll(".board")) {
        board.hidden = (split && board.dataset.split !== split) || (protocol && board.dataset.protocol !== protocol);
        if (!board.hidden) shown += 1;
      }
      const own = shown;
      for (const printed of section.querySelectorAll(".printed")) {
        let rows = 0;
        for (const row of printed.querySelectorAll("tbody tr")) {
          row.hidden = Boolean(split) && row.dataset.split !== split;
          if (!row.hidden) rows += 1;
        }
        printed.hidden = rows === 0;
        if (rows) shown += 1;
      }
      section.hidden = (data && section.dataset.data !== data) || shown === 0;
      if (!section.hidden) {
        boards += own;
        tables += shown - own;
      }
    }
    document.getElementById("none").hidden = boards + tables > 0;
    document.getElementById("shown").textContent =
      boards + (boards === 1 ? " board" : " boards") + ", " + tables + " printed" + (tables === 1 ? " table" : " tables");
  };
  const remember = () => {
    const chosen = new URLSearchParams();
    for (const select of form.querySelectorAll("select")) if (select.value) chosen.set(select.dataset.key, select.value);
    try { history.replaceState(null, "", "#" + chosen.toString()); } catch (error) { /* not allowed everywhere */ }
  };
  for (const [key, name] of new URLSearchParams(location.hash.slice(1))) {
    const select = ["data", "split", "protocol"].includes(key) ? choice(key) : null;
    if (select && Array.from(select.options).some((option) => option.value === name)) select.value = name;
  }
  form.addEventListener("change", () => { apply(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
