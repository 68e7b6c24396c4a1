"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const printed = matchMedia("print");
const PRINTED = 330; // Width of a chart on paper, in pixels: two fit.
const PLAYING = 8000; // Milliseconds from the first frame to the last.

function element(tag, parent, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  parent.append(made);
  return made;
}

const css = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Frames: two hexadecimal digits for each candidate of each edge.
function probabilities(timeline, frame) {
  let at = 0;
  return timeline.edges.map((edge) =>
    edge.ops.map(() => {
      at += 2;
      return parseInt(timeline.frames[frame].slice(at - 2, at), 16) / 255;
    }),
  );
}

const largest = (row) => row.indexOf(Math.max(...row));

// Few edges: a table of all candidates. Returns a function that shows a frame.
function detailed(timeline, parent) {
  const table = element("table", parent, undefined, { class: "alpha" });
  const head = element("tr", element("thead", table));
  element("td", head, undefined, { class: "none" });
  for (const op of timeline.ops) element("th", head, op, { scope: "col" });
  const body = element("tbody", table);
  const cells = timeline.edges.map((edge) => {
    const row = element("tr", body);
    element("th", row, edge.name, { scope: "row" });
    const all = timeline.ops.map(() =>
      element("td", row, "", { class: "none" }),
    );
    return edge.ops.map((op) => all[op]);
  });
  return (probs) =>
    cells.forEach((row, e) => {
      const best = largest(probs[e]);
      row.forEach((cell, j) => {
        const percent = Math.round(100 * probs[e][j]);
        const share = `var(--c0) ${0.75 * percent}%`;
        const op = timeline.ops[timeline.edges[e].ops[j]];
        cell.className = j === best ? "best" : "";
        cell.style.background = `color-mix(in srgb, ${share}, var(--card))`;
        cell.textContent = percent ? String(percent) : "";
        cell.title = `${timeline.edges[e].name}: ${op} ${percent} %`;
      });
    });
}

// Many edges: a column for each block, and the leading candidate of each edge.
function compact(timeline, parent) {
  const hue = (op) => `hsl(${(op * 137.5 + 205) % 360} 60% 50%)`;
  const legend = document.getElementById("legend");
  timeline.ops.forEach((op, i) => {
    const entry = element("span", legend);
    element("i", entry).style.background = hue(i);
    entry.append(op);
  });
  element(
    "p",
    legend,
    "A column for each block, with its edges from top to bottom: the most " +
      "probable candidate of each, the stronger the more probable.",
  );
  const columns = element("div", parent, undefined, { class: "cells" });
  let group, column;
  const cells = timeline.edges.map((edge) => {
    if (edge.group !== group) column = element("div", columns);
    group = edge.group;
    return element("i", column);
  });
  return (probs) =>
    cells.forEach((cell, e) => {
      const { name, ops } = timeline.edges[e];
      const best = largest(probs[e]);
      const percent = Math.round(100 * probs[e][best]);
      cell.style.background = hue(ops[best]);
      cell.style.opacity = 0.2 + 0.8 * probs[e][best];
      cell.title = `${name}: ${timeline.ops[ops[best]]} ${percent} %`;
    });
}

function showTimeline(timeline) {
  const slider = document.getElementById("slider");
  const button = document.getElementById("play");
  const parent = document.getElementById("moved");
  const show = (timeline.detailed ? detailed : compact)(timeline, parent);
  const last = timeline.steps.length - 1;
  let timer = 0;
  const update = () => {
    show(probabilities(timeline, Number(slider.value)));
    const step = timeline.steps[slider.value].toLocaleString("en");
    document.getElementById("step").textContent = `step ${step}`;
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const next = () => {
    slider.value = Number(slider.value) + 1;
    update();
    if (Number(slider.value) >= last) stop();
  };
  slider.max = last;
  slider.value = last;
  slider.addEventListener("input", () => (stop(), update()));
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) >= last) slider.value = 0;
    update();
    button.textContent = "Pause";
    timer = setInterval(next, Math.max(50, PLAYING / (last + 1)));
  });
  update();
}

async function loadPlotly() {
  const packed = document.getElementById("plotly").textContent;
  if (!packed) return false;
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes])
    .stream()
    .pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  return true;
}

function layoutOf(chart) {
  const axis = {
    gridcolor: css("--line"),
    zerolinecolor: css("--line"),
    linecolor: css("--line"),
    automargin: true,
    exponentformat: "SI",
  };
  const { xaxis, yaxis, shapes, ...rest } = chart.layout;
  return {
    ...rest,
    xaxis: { ...axis, ...xaxis, title: { ...xaxis.title, standoff: 8 } },
    yaxis: { ...axis, ...yaxis, title: { ...yaxis.title, standoff: 8 } },
    shapes: (shapes || []).map((shape) => ({
      ...shape,
      line: { ...shape.line, color: css("--faint") },
    })),
    colorway: ["--c0", "--c1", "--c2", "--c3"].map(css),
    font: { color: css("--ink"), size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 8, b: 40 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    showlegend: true,
    hovermode: "closest",
  };
}

// On paper the page is light, and a chart cannot fit itself to its width.
function drawCharts() {
  const size = printed.matches ? { width: PRINTED, height: 260 } : {};
  for (const div of document.querySelectorAll(".chart")) {
    const chart = data.charts[div.dataset.chart];
    const config = { responsive: !printed.matches, displayModeBar: false };
    Plotly.react(div, chart.traces, { ...layoutOf(chart), ...size }, config);
  }
}

async function showCharts() {
  if (!(await loadPlotly())) return;
  drawCharts();
  dark.addEventListener("change", drawCharts);
  printed.addEventListener("change", drawCharts);
}

if (data.timeline) showTimeline(data.timeline);
showCharts();
