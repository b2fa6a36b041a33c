"use strict";
// Shows those claims that fit the search, the two lists and the verdict; without it the page shows all of them.
const form = document.getElementById("filters");
const claims = [...document.querySelectorAll(".claims > li")];
const words = new Map(claims.map((claim) => [claim, claim.textContent.toLowerCase()]));

function filter() {
  const asked = new FormData(form);
  const terms = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const claim of claims) {
    const fits = ["verdict", "document", "kind"].every((name) => !asked.get(name) || asked.get(name) === claim.dataset[name]);
    claim.hidden = !(fits && terms.every((term) => words.get(claim).includes(term)));
    shown += !claim.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${claims.length} claims shown.`;
}

// A link to a claim or a run opens it, even where the filter had put it away.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.hidden) form.reset();
  const details = target.matches("details") ? target : target.querySelector(":scope > details");
  if (details) details.open = true;
  target.scrollIntoView();
}

form.addEventListener("input", filter);
form.addEventListener("change", filter); // some tools that set a value tell only this
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
addEventListener("hashchange", open);

// On paper everything that is shown is also unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));

form.hidden = false;
form.reset();
filter();
open();
