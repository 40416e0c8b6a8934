// Filters, sorts and folds long tables, answers the search of the static site, and loads the flights of a day.
"use strict";

const SHOWN_ROWS = 15;

function cellValue(row, index, isText) {
  const text = row.cells[index].textContent.trim();
  if (isText) return text;
  const number = Number(text.replace(/[,:%]/g, "").replace("−", "-"));
  return text === "" || Number.isNaN(number) ? null : number;
}

function makeSortable(table, changed) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    if (head.tagName !== "TH") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      const isText = head.classList.contains("t");
      const index = head.cellIndex;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const order = (left, right) => {
        const [a, b] = [cellValue(left, index, isText), cellValue(right, index, isText)];
        if (a === null || b === null) return (a === null) - (b === null); // without a number: always last
        return a < b ? -direction : a > b ? direction : 0;
      };
      body.append(...[...body.rows].sort(order));
      changed();
    });
  }
}

function makeLong(table) {
  const name = table.dataset.long;
  const rows = () => table.tBodies[0].rows;
  const form = document.createElement("form");
  form.className = "filter gap";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = `Filter ${name}`;
  input.setAttribute("aria-label", `Filter ${name}`);
  const all = document.createElement("button");
  all.type = "button";
  let isOpen = rows().length <= SHOWN_ROWS;
  all.hidden = isOpen;
  form.append(input, all);
  form.addEventListener("submit", (event) => event.preventDefault());

  function show() {
    const wanted = input.value.toLowerCase();
    let shown = 0;
    for (const row of rows()) {
      const matches = row.textContent.toLowerCase().includes(wanted);
      row.hidden = !matches || (!isOpen && ++shown > SHOWN_ROWS);
    }
    all.textContent = isOpen ? `Show ${SHOWN_ROWS}` : `Show all ${rows().length}`;
    all.setAttribute("aria-expanded", String(isOpen));
  }

  input.addEventListener("input", show);
  all.addEventListener("click", () => { isOpen = !isOpen; show(); });
  makeSortable(table, show);
  table.parentElement.before(form);
  show();
}

// The list of airports answers ?airport=LGA&day=2013-02-08 itself, because the static site has no server.
function answerSearch(message) {
  const query = new URLSearchParams(location.search);
  const wanted = (query.get("airport") || "").trim();
  const day = query.get("day") || "";
  if (!wanted) return;
  const rows = [...document.querySelectorAll("tr[data-airport]")];
  const isCalled = (row) => row.cells[1].textContent.toLowerCase().includes(wanted.toLowerCase());
  const exact = rows.filter((row) => row.dataset.airport === wanted.toUpperCase());
  const found = exact.length ? exact : rows.filter(isCalled);
  if (found.length === 1) {
    const [row] = found;
    const year = [...row.querySelectorAll("td a")].find((link) => link.textContent === day.slice(0, 4));
    if (year || !day) return location.replace(year ? `${year.href}#${day}` : row.querySelector("th a").href);
  }
  message.hidden = false;
  message.textContent = `No airport is called ${wanted}. Write its code, such as LGA, or its city.`;
  if (!found.length) return;
  const isOne = found.length === 1;
  message.textContent = isOne ? `${found[0].dataset.airport} has no data of ${day}.` : `${found.length} airports are called ${wanted}.`;
  const filter = document.querySelector("form.filter input");
  filter.value = isOne ? found[0].dataset.airport : wanted;
  filter.dispatchEvent(new Event("input"));
}

async function loadPart(section) {
  const answer = await fetch(section.dataset.src, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return; // redirected: to the login
  section.innerHTML = await answer.text();
  section.querySelectorAll("table[data-long]").forEach(makeLong);
}

document.querySelectorAll("table[data-long]").forEach(makeLong);
document.querySelectorAll("[data-src]").forEach(loadPart);
const searchMessage = document.getElementById("search-message");
if (searchMessage) answerSearch(searchMessage);
