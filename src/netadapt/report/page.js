"use strict";
// Draws every figure of the page from the JSON beside it; the data never becomes code or markup.
for (const holder of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(holder.dataset.figure).textContent);
  if (window.innerWidth < 640) {
    figure.layout.legend = { orientation: "h", y: -0.28, x: 0, font: { size: 11 } };
    figure.layout.margin = { l: 48, r: 8, t: 8, b: 40 };
  }
  Plotly.newPlot(holder, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
