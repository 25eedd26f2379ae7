"use strict";

// Tables: a heading sorts, words and a data set filter. One listener serves all, so that a page of many tables opens
// at once.

const key = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.replaceAll(",", "");

function sort(heading) {
  const headings = [...heading.parentElement.cells], i = headings.indexOf(heading);
  const body = heading.closest("table").tBodies[0], numeric = heading.classList.contains("number");
  const up = heading.getAttribute("aria-sort") !== "ascending";
  headings.forEach(other => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const order = (a, b) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
  // What is empty comes last in both directions.
  body.append(...[...body.rows].sort((a, b) => {
    const [u, v] = [key(a, i), key(b, i)];
    return u === "" || v === "" ? (u === "") - (v === "") : u === v ? 0 : up ? order(u, v) : order(v, u);
  }));
}

function filter(box) {
  const choice = box.querySelector("select"), wanted = box.querySelector("input").value.toLowerCase().split(/\s+/);
  const rows = [...box.querySelector("tbody").rows];
  let left = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const other = choice?.value && row.cells[choice.dataset.column].textContent !== choice.value;
    row.hidden = other || !wanted.every(word => text.includes(word));
    left += !row.hidden;
  }
  box.querySelector("output").textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
}

document.addEventListener("click", event => {
  const heading = event.target.closest(".table thead th");
  if (heading) sort(heading);
});
document.addEventListener("input", event => {
  const box = event.target.closest(".tools")?.parentElement;
  if (box) filter(box);
});

// Charts: what the controls of a chart ask for, drawn by plotly when the chart comes into view. -------------------

// Plotly reads some markup in its texts.
const plain = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const last = values => values[values.length - 1];
const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Line colours are made for white; on a dark page they keep their hue and become lighter, black nearly white.
function ink(colour) {
  if (!dark.matches) return colour;
  const [r, g, b] = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16) / 255);
  const [high, low] = [Math.max(r, g, b), Math.min(r, g, b)], light = (high + low) / 2, wanted = Math.max(light, 0.9 - 0.6 * light);
  const mix = part => light < 1 ? 1 - (1 - part) * (1 - wanted) / (1 - light) : part;
  return "#" + [r, g, b].map(part => Math.round(255 * mix(part)).toString(16).padStart(2, "0")).join("");
}

function traces(line, label, style, axis, percent, options) {
  const x = line.x[axis], [mean, low, high] = [line.mean, line.low, line.high].map(percent);
  const dash = {color: style.colour, dash: style.dash, width: 2};
  const part = (from, to, more) => ({
    x: x.slice(from, to), y: mean.slice(from, to), mode: "lines+markers", line: dash, showlegend: false,
    marker: {symbol: style.symbol, color: style.colour, size: 8, maxdisplayed: 8, line: {color: theme("page"), width: 0.5}},
    customdata: x.map((_, i) => [low[i] === null ? "" : ` [${low[i].toPrecision(4)}, ${high[i].toPrecision(4)}]`,
      line.x.epoch[i], `${line.n[i]} seed${line.n[i] === 1 ? "" : "s"}`]).slice(from, to),
    hovertemplate: `<b>${plain(label)}</b><br>%{y:.4~g}%{customdata[0]}<br>epoch %{customdata[1]}, %{customdata[2]}`
      + (axis === "epoch" ? "" : `<br>${options.axis.toLowerCase()} %{x:,.5~r}`) + "<extra></extra>",
    ...more,
  });
  // As in the figures: after a run diverged, the mean of the others goes on, faint and without a band.
  const drawn = [];
  if (options.band) {
    const edge = y => ({x: x.slice(0, line.whole), y: y.slice(0, line.whole), mode: "lines", hoverinfo: "skip",
      showlegend: false, line: {width: 0}});
    drawn.push(edge(low), {...edge(high), fill: "tonexty", fillcolor: style.colour + options.alpha});
  }
  drawn.push(part(0, line.whole, {}));
  if (line.whole < x.length) drawn.push(part(Math.max(line.whole - 1, 0), x.length, {opacity: 0.4, mode: "lines"}));
  if (line.diverged) {
    const end = Math.max(line.whole - 1, 0);
    const cross = {symbol: "x-thin", size: 11, line: {color: style.colour, width: 2.5}};
    drawn.push(part(end, end + 1, {mode: "markers", marker: cross}));
  }
  return drawn;
}

// The means decide, not the bands; a line of which a run diverged leaves the chart if it likes. Accuracy, as in the
// figures: from the best down past the lowest end, since the steep start would take most of the room.
function range(all, measure, logarithmic) {
  const steady = all.filter(line => !line.diverged), lines = steady.length ? steady : all;
  const means = lines.flatMap(line => line.mean.filter(value => value !== null)), high = Math.max(...means);
  if (measure === "test_accuracy") {
    const low = Math.max(Math.min(...lines.map(line => last(line.mean))), high / 3);
    const room = Math.max(0.25 * (high - low), 0.02);
    return [100 * Math.max(low - room, 0), 100 * Math.min(high + 0.3 * room, 1.005)];
  }
  const place = logarithmic ? Math.log10 : value => value;
  const [bottom, top] = [place(Math.min(...means)), place(high)], pad = 0.06 * Math.max(top - bottom, 0.05);
  return [bottom - pad, top + pad];
}

// Rows of the final accuracies, the best on top: a dot a seed, the mean with its interval.
function dots(finals, labels, styles) {
  const rows = Object.keys(finals).filter(label => labels.includes(label)).reverse();
  return rows.flatMap(label => {
    const row = finals[label], colour = ink(styles[label].colour), lost = row.diverged
      ? `<br>${row.diverged} of ${row.runs} runs diverged` : "";
    const seeds = {x: row.seeds.map(value => 100 * value), y: row.seeds.map(() => plain(label)), mode: "markers",
      showlegend: false, marker: {color: colour, size: 5, opacity: 0.5},
      hovertemplate: `<b>${plain(label)}</b><br>one seed: %{x:.2f} %<extra></extra>`};
    if (row.mean === null) return [{...seeds, x: [null], y: [plain(label)]}];
    const reach = row.low === null ? {} : {error_x: {type: "data", symmetric: false, color: colour, thickness: 1.5,
      width: 3, array: [100 * (row.high - row.mean)], arrayminus: [100 * (row.mean - row.low)]}};
    const interval = row.low === null ? "" : ` [${(100 * row.low).toFixed(2)}, ${(100 * row.high).toFixed(2)}]`;
    return [seeds, {x: [100 * row.mean], y: [plain(label)], mode: "markers", showlegend: false, ...reach,
      marker: {symbol: styles[label].symbol, color: colour, size: 10, line: {color: theme("page"), width: 0.5}},
      hovertemplate: `<b>${plain(label)}</b><br>mean %{x:.2f} %${interval}, ${row.seeds.length} seeds${lost}<extra></extra>`}];
  });
}

// Means and seeds decide: an interval of a few seeds may reach beyond 100 %.
function reach(finals, labels) {
  const values = labels.flatMap(label => [...finals[label].seeds, ...(finals[label].mean === null ? [] : [finals[label].mean])]);
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1], pad = 0.06 * Math.max(high - low, 0.01);
  return [100 * (low - pad), 100 * (high + pad)];
}

function axis(more) {
  return {gridcolor: theme("line"), zerolinecolor: theme("line"), linecolor: theme("quiet"), automargin: true, ...more};
}

function draw(box, data) {
  const form = box.querySelector("form"), {view, panel, measure, axis: cost, log, band} = form.elements;
  const buttons = [...box.querySelectorAll("[data-label]")], finals = view.value === "finals";
  const there = data.panels[panel.value], plot = box.querySelector(".plot");
  for (const control of [measure, cost, log, band]) control.disabled = finals;
  for (const button of buttons) {
    button.disabled = finals ? !data.finals[panel.value][button.dataset.label] : !there[button.dataset.label]?.[measure.value];
    button.firstElementChild.style.color = ink(data.styles[button.dataset.label].colour);
  }
  const shown = buttons.filter(button => !button.disabled && button.getAttribute("aria-pressed") === "true")
    .map(button => button.dataset.label);
  const lines = finals ? [] : shown.map(label => there[label][measure.value]);
  const accuracy = measure.value === "test_accuracy";
  const percent = accuracy ? values => values.map(value => value === null ? null : 100 * value) : values => values;
  const name = select => select.selectedOptions[0].textContent;
  // Bands pale where many overlap: two hexadecimal digits of opacity.
  const alpha = Math.round(255 * Math.min(0.18, Math.max(0.07, 1 / lines.length))).toString(16).padStart(2, "0");
  const options = {band: band.checked, axis: name(cost), alpha};
  const logarithmic = data.log.includes(measure.value);
  const layout = {
    margin: {l: 56, r: 12, t: 12, b: 44}, hovermode: "closest", showlegend: false, dragmode: "zoom",
    font: {family: "system-ui, 'DejaVu Sans', sans-serif", size: 13, color: theme("text")},
    paper_bgcolor: theme("page"), plot_bgcolor: theme("page"),
    height: finals ? Math.max(260, 26 * shown.length + 90) : undefined,
    uirevision: [view.value, panel.value, measure.value, cost.value, log.checked].join("|"),
    hoverlabel: {bgcolor: theme("page"), bordercolor: theme("line"), font: {color: theme("text")}, align: "left"},
    xaxis: finals ? axis({title: {text: "Final test accuracy (%)"}, range: reach(data.finals[panel.value], shown)}) : axis({title: {text: options.axis},
      type: log.checked ? "log" : "linear", rangemode: "nonnegative", exponentformat: "SI", separatethousands: true}),
    yaxis: finals ? axis({type: "category", range: [-0.6, shown.length - 0.4]}) : axis({title: {text: name(measure)}, type: logarithmic ? "log" : "linear",
      exponentformat: "power", ...(lines.length ? {range: range(lines, measure.value, logarithmic)} : {})}),
  };
  const config = {
    responsive: true, displaylogo: false, showSendToCloud: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };
  const drawn = finals ? dots(data.finals[panel.value], shown, data.styles)
    : shown.flatMap((label, i) => traces(lines[i], label, {...data.styles[label], colour: ink(data.styles[label].colour)},
      cost.value, percent, options));
  Plotly.react(plot, drawn, layout, config);
  plot.style.height = finals ? "auto" : "";
  plot.setAttribute("aria-label", `${finals ? "Final test accuracy" : `${name(measure)} against ${options.axis.toLowerCase()}`}`
    + `, ${panel.value}: ${data.seen[panel.value]}`);
  const seeds = lines.flatMap(line => line.n);
  const notes = shown.length === 0 ? ["No line is chosen."] : finals ? ["Large: mean over seeds with its 95 % t interval; small: seeds."] : [
    Math.max(...seeds) > 1 ? `${logarithmic ? "Geometric mean" : "Mean"} over seeds; band: 95 % t interval.`
      : "One seed a line.",
    measure.value === "objective" ? "Each method's own objective: compare shapes, not levels." : "",
    lines.some(line => line.diverged) ? "×: a run diverged after this point; faint: the mean of the others." : "",
    "Drag to zoom, double-click to return.",
  ];
  if (panel.value.includes("†")) notes.push("† not the official copy of the data set.");
  box.querySelector(".note").textContent = notes.filter(Boolean).join(" ");
}

// Logarithmic from the start where costs or budgets lie far apart.
function wantsLog(data, panel, measure, axis) {
  const ends = Object.values(data.panels[panel]).filter(line => line[measure]).map(line => last(line[measure].x[axis]));
  return Math.min(...ends) > 0 && Math.max(...ends) > 3 * Math.min(...ends);
}

function start(box) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const form = box.querySelector("form"), {panel, measure, axis, log, band} = form.elements;
  dark.addEventListener("change", () => draw(box, data));
  const all = box.querySelector(".all"), buttons = [...box.querySelectorAll("[data-label]")];
  const scale = () => { log.checked = wantsLog(data, panel.value, measure.value, axis.value); };
  box.querySelector("noscript")?.remove();
  form.addEventListener("change", event => {
    if (event.target.tagName === "SELECT") scale();
    draw(box, data);
  });
  form.addEventListener("submit", event => event.preventDefault());
  for (const button of buttons) button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    draw(box, data);
  });
  all.addEventListener("click", () => {
    const hidden = buttons.some(button => button.getAttribute("aria-pressed") === "false");
    for (const button of buttons) button.setAttribute("aria-pressed", hidden);
    draw(box, data);
  });
  scale();
  band.checked = buttons.length <= 8;
  draw(box, data);
}

const watch = new IntersectionObserver(entries => {
  for (const entry of entries.filter(entry => entry.isIntersecting)) {
    watch.unobserve(entry.target);
    start(entry.target);
  }
}, {rootMargin: "400px"});
for (const box of document.querySelectorAll(".chart")) watch.observe(box);

// Further figures are packed, since as they stand they would fill the page. All are unpacked once the page stands, so
// that they are there, too, when it is printed.

async function unpack(image) {
  const packed = Uint8Array.from(atob(image.dataset.gzip), letter => letter.charCodeAt(0));
  delete image.dataset.gzip;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  image.src = "data:image/svg+xml," + encodeURIComponent(await new Response(stream).text());
}

addEventListener("load", () => document.querySelectorAll("img[data-gzip]").forEach(unpack));

// On paper claims show their details; long tables stay folded.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not(:has(.table))")) folded.open = true;
});
