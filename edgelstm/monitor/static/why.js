// Why the model said so: one moment of one stream, as the server found it.
import { TEXT, fillTexts } from "./texts.js";
import { setUpTheme } from "./theme.js";
import { COLOURS, DASHES, css, key } from "./plots.js";

const byId = (id) => document.getElementById(id);
let shown = null, asked = 0, waiting = 0;

fillTexts(document);
setUpTheme(byId("theme"), () => shown && draw());

async function ask(query) {
  clearTimeout(waiting); // what waits for the slider to stand still would ask for an old moment
  const number = ++asked;
  byId("answer").textContent = `${TEXT.asking} \u2026`;
  const answer = await fetch(`/api/why?${new URLSearchParams({ stream: byId("stream").value, ...query })}`);
  if (number !== asked) return; // a newer question is on its way
  if (!answer.ok) {
    byId("answer").textContent = answer.status === 401 ? TEXT.logInFirst : await answer.text();
    return;
  }
  const found = await answer.json();
  // The course stays as it was while moments are chosen in it.
  shown = { ...found, course: query.moment && shown ? shown.course : found.course };
  draw();
}

function askMoment() {
  if (shown) ask({ moment: shown.course.end + Number(byId("moment").value), output: byId("output").value });
}

function draw() {
  const at = shown.moment - shown.course.end;
  // Whole steps from 0, the newest sample: a slider counts its steps from min.
  byId("moment").min = Math.min(-1, Math.floor(10 * shown.course.times[0]) / 10).toFixed(1);
  byId("moment").value = at;
  byId("when").textContent = TEXT.before(Math.max(0, -at));
  byId("output").replaceChildren(...shown.outputs.map((name, i) => new Option(name.replaceAll("_", " "), i, false, i === shown.chosen)));
  byId("legend").replaceChildren(...shown.outputs.map((name, k) => key(name, k)));
  byId("answer").textContent = TEXT.answer(shown.outputs[shown.chosen].replaceAll("_", " "), shown.score);
  byId("again").textContent = TEXT.again(shown.warm_up_s, shown.difference ?? NaN);
  byId("noGates").hidden = shown.gates;
  drawCourse(at);
  drawFields();
  byId("maps").replaceChildren(...shown.maps.map(heatMap));
}

function canvasOf(canvas) {
  const scale = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * scale));
  canvas.height = Math.max(1, Math.round(box.height * scale));
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return [pen, box.width, box.height];
}

function drawCourse(at) {
  const [pen, width, height] = canvasOf(byId("course"));
  const { times, scores } = shown.course;
  const start = Math.min(times[0], -1), values = scores.flat().filter((x) => x !== null);
  const low = Math.min(0, ...values), high = Math.max(1, ...values);
  const x = (t) => 4 + (width - 8) * (t - start) / -start, y = (v) => 6 + (height - 24) * (high - v) / (high - low);
  pen.font = "12px system-ui";
  pen.fillStyle = css("--soft");
  pen.strokeStyle = css("--line");
  for (let t = 0; t >= start; t -= Math.max(1, Math.round(-start / 8))) {
    pen.beginPath(); pen.moveTo(x(t), 0); pen.lineTo(x(t), height - 16); pen.stroke();
    pen.fillText(`${t} s`, Math.min(x(t) - 8, width - 30), height - 3);
  }
  scores.forEach((column, k) => {
    pen.strokeStyle = css(COLOURS[k % COLOURS.length]);
    pen.setLineDash(DASHES[k % DASHES.length]);
    pen.lineWidth = k === shown.chosen ? 2.4 : 1.2;
    pen.beginPath();
    column.forEach((value, i) => { if (value !== null) pen.lineTo(x(times[i]), y(value)); });
    pen.stroke();
  });
  pen.setLineDash([]);
  pen.lineWidth = 2;
  pen.strokeStyle = css("--ink");
  pen.beginPath(); pen.moveTo(x(at), 0); pen.lineTo(x(at), height - 16); pen.stroke();
}

// From one colour over the paper's to another, by -1 to 1; told apart without red and green.
function shade(value) {
  const mix = (name) => `color-mix(in srgb, ${css(name)} ${Math.round(100 * Math.min(1, Math.abs(value)))}%, ${css("--paper")})`;
  return mix(value < 0 ? "--c1" : "--c0");
}

function drawFields() {
  const { channels, edges, by_stretch: table, by_channel: whole } = shown;
  const largest = Math.max(1e-9, ...table.flat().map(Math.abs), ...whole.map(Math.abs));
  const cell = (value, tag = "td") => {
    const found = document.createElement(tag);
    found.textContent = Math.abs(value) < 0.0005 ? "0" : `${value > 0 ? "+" : ""}${value.toFixed(3)}`;
    // A part of the colour, so that the number on it can be read.
    found.style.backgroundColor = shade(0.35 * value / largest);
    return found;
  };
  const head = (text, scope) => {
    const found = document.createElement("th");
    found.scope = scope;
    found.textContent = text;
    return found;
  };
  const row = (...cells) => { const found = document.createElement("tr"); found.append(...cells); return found; };
  byId("fields").replaceChildren(
    row(head("", "col"), ...edges.slice(1).map((end, k) => head(`${edges[k].toFixed(1)} to ${end.toFixed(1)} s`, "col")), head(TEXT.all, "col")),
    ...channels.map((name, c) => row(head(name, "row"), ...table[c].map((value) => cell(value)), cell(whole[c]))),
  );
}

function heatMap(map) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), canvas = document.createElement("canvas");
  const title = document.createElement("span"), range = document.createElement("span");
  title.textContent = `${map.layer}: ${map.name}`;
  range.textContent = `${Number(map.low.toPrecision(2))} to ${Number(map.high.toPrecision(2))}`;
  caption.append(title, range);
  canvas.className = "heat";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${map.layer}: ${map.name}, ${map.rows} units over ${(-shown.times[0]).toFixed(1)} seconds`);
  figure.append(caption, canvas);
  canvas.width = map.columns;
  canvas.height = map.rows;
  const bytes = Uint8Array.from(atob(map.data), (c) => c.charCodeAt(0)), pen = canvas.getContext("2d");
  const paper = rgb("--paper"), up = rgb("--c0"), down = rgb("--c1"), image = pen.createImageData(map.columns, map.rows);
  const zero = Math.round(255 * -map.low / (map.high - map.low));
  bytes.forEach((value, i) => {
    const at = value >= zero ? (value - zero) / Math.max(1, 255 - zero) : (zero - value) / Math.max(1, zero), to = value >= zero ? up : down;
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = paper[k] + at * (to[k] - paper[k]);
    image.data[4 * i + 3] = 255;
  });
  pen.putImageData(image, 0, 0);
  return figure;
}

function rgb(name) {
  const text = css(name).slice(1), wide = text.length === 3 ? [...text].map((c) => c + c).join("") : text;
  return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
}

byId("moment").addEventListener("input", () => {
  if (!shown) return;
  byId("when").textContent = TEXT.before(-Number(byId("moment").value));
  drawCourse(Number(byId("moment").value));
  clearTimeout(waiting);
  waiting = setTimeout(askMoment, 250);
});
byId("output").addEventListener("change", askMoment);
byId("stream").addEventListener("change", () => ask({}));
byId("newest").addEventListener("click", () => ask({}));
new ResizeObserver(() => shown && drawCourse(Number(byId("moment").value))).observe(byId("course").parentElement);

const known = await fetch("/api/streams");
if (known.ok) {
  const { streams } = await known.json();
  byId("stream").append(...streams.map((stream) => new Option(stream.patient || stream.name, stream.name)));
  if (streams.length) ask({});
} else byId("answer").textContent = TEXT.logInFirst;
