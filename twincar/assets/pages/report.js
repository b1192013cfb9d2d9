"use strict";

const byId = (id) => document.getElementById(id);

/* Tables: a button in each heading sorts, a field filters. */
const table = byId("class-table");
const rows = [...table.tBodies[0].rows];
const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

for (const heading of table.tHead.rows[0].cells) {
  heading.querySelector("button").addEventListener("click", () => {
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const column = heading.cellIndex;
    rows.sort((a, b) => (rising ? 1 : -1) * compare(valueOf(a, column), valueOf(b, column)));
    table.tBodies[0].append(...rows);
  });
}

const count = (what, shown, all) => (shown === all ? "" : `${shown} of ${all} ${what}`);

byId("class-filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const name = row.cells[0].textContent.toLowerCase();
    row.hidden = !words.every((word) => name.includes(word));
  }
  byId("class-count").textContent = count("classes", rows.filter((row) => !row.hidden).length, rows.length);
});

/* Mistakes: the first of them, all on demand, or those of one class, as truth or as prediction. */
const gallery = byId("gallery");
if (gallery) {
  const cards = [...gallery.children];
  const filter = byId("mistake-filter");
  const more = byId("more-mistakes");
  let most = 24;
  const show = () => {
    const name = filter.value;
    const fits = (card) => [card.dataset.truth, card.dataset.predicted].includes(name);
    cards.forEach((card, place) => { card.hidden = name ? !fits(card) : place >= most; });
    more.hidden = name !== "" || most >= cards.length;
    byId("mistake-count").textContent = count("mistakes", cards.filter((card) => !card.hidden).length, cards.length);
  };
  filter.addEventListener("change", show);
  more.addEventListener("click", () => {
    const next = cards[most];
    most = cards.length;
    show();
    next.focus();
  });
  show();
}

/* Cells of the confusion matrix: two lists choose one, and so does a click on the figure. */
const { names, cells } = JSON.parse(byId("cells").textContent);
const truths = byId("cell-truth");
const predictions = byId("cell-predicted");
const cards = new Map([...document.querySelectorAll("#gallery .card")].map((card) => [card.dataset.file, card]));
const option = (value, text) => new Option(text, value);
const of = (truth) => cells.filter((cell) => cell[0] === truth).sort((a, b) => b[2] - a[2]);

const pictured = ([file, confidence, picture]) => {
  if (cards.has(file)) {
    const card = cards.get(file).cloneNode(true);
    card.hidden = false;
    return card;
  }
  const card = document.createElement("figure");
  const image = new Image();
  const caption = document.createElement("figcaption");
  const code = document.createElement("code");
  card.className = "card small";
  image.src = picture;
  image.alt = `Photo ${file}`;
  code.textContent = file;
  caption.append(`${Math.round(100 * confidence)}% confidence `, code);
  card.append(image, caption);
  return card;
};

const showCell = () => {
  const [truth, predicted] = [Number(truths.value), Number(predictions.value)];
  const [, , count, listed] = cells.find((cell) => cell[0] === truth && cell[1] === predicted) ?? [0, 0, 0, []];
  const shown = listed.filter(([file, , picture]) => picture || cards.has(file));
  const rest = listed.filter((photo) => !shown.includes(photo));
  const photos = `${count.toLocaleString("en")} ${count === 1 ? "photo" : "photos"}`;
  byId("cell-count").textContent = shown.length < count ? `${photos}, ${shown.length} of them shown` : photos;
  byId("cell-photos").replaceChildren(...shown.map(pictured));
  const files = byId("cell-files");
  files.hidden = rest.length === 0;
  files.open = false;
  files.querySelector("summary").textContent = `Names of ${rest.length} more`;
  files.querySelector("code").textContent = rest.map(([file]) => file).join(", ");
};

const chooseCell = (truth, predicted) => {
  truths.value = truth;
  const found = of(truth);
  if (!found.some((cell) => cell[1] === predicted)) found.push([truth, predicted, 0, []]);
  predictions.replaceChildren(...found.map(([, index, count]) =>
    option(index, `${names[index] ?? ""} (${count}${index === truth ? ", correct" : ""})`)));
  predictions.value = predicted;
  showCell();
};

{
  truths.replaceChildren(...Object.entries(names).map(([index, name]) => option(index, name)));
  truths.addEventListener("change", () => {
    const truth = Number(truths.value);
    chooseCell(truth, of(truth)[0]?.[1] ?? truth);
  });
  predictions.addEventListener("change", showCell);
  const wrong = cells.filter(([truth, predicted]) => truth !== predicted);
  const [truth, predicted] = (wrong.length ? wrong : cells).reduce((a, b) => (b[2] > a[2] ? b : a));
  chooseCell(truth, predicted);
}

/* Figures. */
const narrow = window.matchMedia("(max-width: 40rem)").matches;
const touch = window.matchMedia("(hover: none)").matches;
const figures = JSON.parse(byId("figures").textContent);

for (const place of document.querySelectorAll("[data-figure]")) {
  const { data, layout, matrix } = figures[place.dataset.figure];
  const common = {
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 12 },
    margin: { l: 50, r: 12, t: 12, b: 45 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: "#23272b", bordercolor: "#23272b", font: { color: "#ffffff" }, namelength: -1 },
    dragmode: matrix && !touch ? "zoom" : false,
  };
  if (matrix && narrow) {  // names leave no room for cells there; a tap tells them
    layout.height = 360;
    data[0].texttemplate = "";
    for (const axis of [layout.xaxis, layout.yaxis]) axis.showticklabels = false;
  }
  Plotly.newPlot(place, data, { ...common, ...layout }, {
    responsive: true,
    displayModeBar: matrix && !narrow ? "hover" : false,
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d"]],  // not the one that sends a figure to Plotly's cloud
    displaylogo: false,
    showTips: false,
  });
  if (matrix) {
    place.on("plotly_click", ({ points: [{ pointIndex: [row, column] }] }) => {
      chooseCell(matrix[row], matrix[column]);
      byId("cell").scrollIntoView({ block: "nearest" });
    });
  }
}
