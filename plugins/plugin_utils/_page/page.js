"use strict";
// The page is complete without this: it only hides changes that are not looked for.
for (const filter of document.querySelectorAll(".filter")) {
  const input = filter.querySelector("input");
  const output = filter.querySelector("output");
  const changes = [...filter.nextElementSibling.children];
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const change of changes) {
      change.hidden = !change.textContent.toLowerCase().includes(wanted);
    }
    const shown = changes.filter((change) => !change.hidden).length;
    output.textContent = wanted ? `${shown} of ${changes.length}` : "";
  });
  filter.hidden = false;
}
