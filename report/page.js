"use strict";
// Shows those claims that fit the search, the two lists and the verdict; without it the page shows all of them.
// What is asked for stands in the address behind "?", so that a link or the back button brings it back.
const form = document.getElementById("filters");
const search = document.getElementById("search");
const claims = [...document.querySelectorAll("li[data-verdict]")];
const documents = [...document.querySelectorAll("#filters ~ .group")];
const words = new Map(claims.map((claim) => [claim, claim.textContent.toLowerCase()]));
let narrowed = false;

function asked() {
  return new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim())).toString();
}

function filter() {
  const given = new FormData(form);
  const terms = given.get("search").toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const claim of claims) {
    const { verdict, group, document, kind } = claim.dataset;
    const has = { verdict: [verdict, group], document: [document], kind: [kind] };
    const fits = Object.keys(has).every((name) => !given.get(name) || has[name].includes(given.get(name)));
    claim.hidden = !(fits && terms.every((term) => words.get(claim).includes(term)));
    shown += !claim.hidden;
  }
  const narrows = asked() !== "";
  for (const part of documents) {
    const all = part.querySelectorAll("li[data-verdict]").length;
    const left = part.querySelectorAll("li[data-verdict]:not([hidden])").length;
    part.hidden = !left;
    if (narrows || narrowed) part.open = narrows && left > 0;
    part.querySelector(".left").textContent = left < all ? `${left} of ${all}` : all;
  }
  narrowed = narrows;
  document.getElementById("shown").textContent = `${shown} of ${claims.length} statements shown.`;
}

// The place and the filters that the address names, as in #claims?verdict=MISMATCH or #AF-050.
function address() {
  const [place, query = ""] = location.hash.slice(1).split("?");
  return [decodeURIComponent(place), new URLSearchParams(query)];
}

function ask(filters) {
  form.reset();
  for (const [name, value] of filters) if (form.elements[name]) form.elements[name].value = value;
  filter();
}

function write(place, typing) {
  const query = asked();
  const target = `#${place}${query && "?"}${query}`;
  if (target === location.hash) return;
  history[typing && history.state?.typing ? "replaceState" : "pushState"]({ typing }, "", target);
}

// A link to a claim, a run or a row opens it and all that it is folded into.
function show(place) {
  document.querySelector(".here")?.classList.remove("here");
  const target = document.getElementById(place);
  if (!target) return;
  const own = target.querySelector(":scope > details");
  if (own) own.open = true;
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.classList.add("here");
  target.scrollIntoView();
}

// A new address without filters keeps those that are asked for, unless they hide what it leads to.
function follow() {
  const [place, filters] = address();
  const isNew = history.state === null;
  const hidden = document.getElementById(place)?.matches("[hidden], [hidden] *");
  if (filters.size || hidden || !isNew) ask(filters);
  if (isNew) history.replaceState({}, "", `#${place}${asked() && "?"}${asked()}`);
  show(place);
}

function save() {
  const text = (claim, part) => claim.querySelector(part).textContent.trim();
  const rows = claims.filter((claim) => !claim.hidden).map((claim) => [
    claim.id, claim.dataset.document, text(claim, ".quantity"), text(claim, ".claimed"), text(claim, ".verdict"),
  ]);
  const lines = [["id", "document", "statement", "claimed", "verdict"], ...rows].map((row) =>
    row.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "statements.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const kind of ["input", "change"]) // some tools that set a value tell only the second
  form.addEventListener(kind, (event) => {
    filter();
    if (kind === "input" || event.target !== search) write("claims", event.target === search); // leaving it asks nothing
  });
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("all").addEventListener("click", () => {
  ask([]);
  write("claims", false);
});
document.getElementById("save").addEventListener("click", save);
addEventListener("hashchange", follow);

// On paper everything that is shown is also unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));

form.hidden = false;
ask(address()[1]);
if (location.hash) follow();
else history.replaceState({}, "");
