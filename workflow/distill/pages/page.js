"use strict";

const byId = (id) => document.getElementById(id);

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  element.textContent = text ?? "";
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  return element;
}

/* Sorting: numbers by value, text by letters, empty cells last whatever the direction. */

function keyOf(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent.trim() || null;
  return value === "" || Number.isNaN(Number(value)) ? null : Number(value);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const direction = heads[column].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: keyOf(row, column) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * compare(a.key, b.key);
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => sortBy(table, column));
  });
}

/* The grid: one decoding at a time; of one set also the differences */

function showGrid() {
  const [decoding, set] = [byId("grid-decoding").value, byId("grid-set").value];
  for (const box of document.querySelectorAll("#grid [data-decoding]")) box.hidden = box.dataset.decoding !== decoding;
  for (const cell of document.querySelectorAll("#grid [data-set]")) cell.hidden = set !== "" && cell.dataset.set !== set;
  for (const note of document.querySelectorAll("#grid .difference")) note.hidden = set === "";
}

if (byId("grid")) {
  for (const caption of document.querySelectorAll("#grid caption")) caption.classList.add("hidden");
  for (const id of ["grid-decoding", "grid-set"]) byId(id).addEventListener("change", showGrid);
  showGrid();
}

/* Filters */

const contains = (text, wanted) => text.toLowerCase().includes(wanted.trim().toLowerCase());

for (const input of document.querySelectorAll("input[data-table]")) {
  const name = input.dataset.table;
  const rows = [...document.querySelector(`table[data-name="${name}"]`).tBodies[0].rows];
  input.addEventListener("input", () => {
    for (const row of rows) {
      row.hidden = ![...row.cells].some((cell) => contains(cell.textContent, input.value));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    document.querySelector(`[data-count="${name}"]`).textContent = `${shown} of ${rows.length} rows`;
  });
}

/* Answers side by side */

const data = JSON.parse(byId("data").textContent);
const INITIAL_SYSTEMS = 4;

function fill(select, values) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => make("option", value)));
  if (values.map(String).includes(before)) select.value = before;
}

function chosenSystems() {
  return [...document.querySelectorAll("#answer-systems input:checked")].map((box) => box.value);
}

function promptCell(prompt) {
  const cell = make("th", [prompt.instruction, prompt.input].filter(Boolean).join("\n\n"), { scope: "row" });
  const label = prompt.references.length > 1 ? "References: " : "Reference: ";
  cell.append(make("div", label + prompt.references.join(" | "), { class: "reference" }));
  return cell;
}

/* An answer with its score, and what the judge said of it against the other systems shown. */
function answerCell(answer, system, index, judged, metric) {
  if (!answer) return make("td", "no answer");
  const cell = make("td", answer[0]);
  cell.append(make("div", `${metric} ${answer[1].toFixed(1)}`, { class: "reference" }));
  for (const pair of judged.filter((one) => one.opponent === system)) {
    cell.append(make("div", `judge: ${pair.system} ${pair.words[index]}`, { class: "reference" }));
  }
  return cell;
}

function showAnswers() {
  const systems = chosenSystems();
  const { total, metric, prompts } = data.datasets[byId("dataset").value];
  const judged = data.verdicts.filter(
    (pair) => systems.includes(pair.system) && ["dataset", "decoding", "seed"].every((id) => pair[id] === byId(id).value)
  );
  const rows = prompts.map((prompt, index) => {
    const row = make("tr");
    row.append(promptCell(prompt));
    for (const system of systems) {
      const answers = data.answers[system]?.[byId("dataset").value]?.[byId("decoding").value]?.[byId("seed").value];
      row.append(answerCell(answers?.[index], system, index, judged, metric));
    }
    return row;
  });
  const shown = rows.filter((row) => contains(row.textContent, byId("answer-filter").value));
  const head = make("tr");
  head.append(...["prompt", ...systems].map((name) => make("th", name, { scope: "col" })));
  byId("answer-table").tHead.replaceChildren(head);
  byId("answer-table").tBodies[0].replaceChildren(...shown);
  byId("answer-count").textContent = `${shown.length} of the first ${prompts.length} of ${total} prompts`;
}

function decodingChanged() {
  fill(byId("seed"), data.decodings[byId("decoding").value]);
  showAnswers();
}

function offerAnswers() {
  data.systems.forEach((system, index) => {
    const label = make("label");
    const box = make("input", "", { type: "checkbox", value: system });
    box.checked = index < INITIAL_SYSTEMS;
    label.append(box, ` ${system}`);
    byId("answer-systems").append(label);
  });
  fill(byId("dataset"), Object.keys(data.datasets));
  fill(byId("decoding"), Object.keys(data.decodings));
  byId("decoding").addEventListener("change", decodingChanged);
  for (const id of ["dataset", "seed", "answer-systems"]) byId(id).addEventListener("change", showAnswers);
  byId("answer-filter").addEventListener("input", showAnswers);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  decodingChanged();
}

if (data.limits.prompts > 0) offerAnswers();

/* Theme and printing */

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("main details")) details.open = true;
});

for (const element of document.querySelectorAll(".js, #theme")) element.hidden = false;
