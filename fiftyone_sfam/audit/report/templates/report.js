"use strict";
// Draws the figures, whose data stand in the page as JSON, and filters the findings.
(function () {
  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    window.Plotly.newPlot(place, figure.data, figure.layout, config);
  }
  const kinds = document.getElementById("kinds");
  if (kinds) {
    kinds.addEventListener("change", () => {
      for (const one of document.querySelectorAll(".finding")) {
        one.hidden = kinds.value !== "" && one.dataset.kind !== kinds.value;
      }
    });
  }
})();
