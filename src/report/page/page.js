"use strict";
// Shows the rows of one flow. Without this script all rows are shown and the choice is hidden.
(() => {
  const filter = document.getElementById("filter");
  const choice = document.getElementById("flow");
  const said = document.getElementById("shown");
  if (!filter || !choice || !said) return;
  const rows = document.querySelectorAll("tr[data-flow]");
  const apply = () => {
    let packets = 0;
    for (const row of rows) {
      row.hidden = choice.value !== "" && row.dataset.flow !== choice.value;
      if (!row.hidden && row.classList.contains("packet")) packets += 1;
    }
    said.textContent = packets === 1 ? "1 packet is shown" : `${packets} packets are shown`;
  };
  choice.addEventListener("change", apply);
  filter.hidden = false;
  apply();
})();
