// Charts of one stream: a plot for each unit, and one for what the model says.
import { TEXT, unitText } from "./texts.js";

export const COLOURS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
export const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 2], [1, 2], [12, 4], [6, 2, 2, 2]];
const GAP = 8; // of #plots, pixels

// Without a graphics card a line of one pixel is drawn a hundred times as fast as a wider one: 0.2 ms for a
// thousand points, not 20, which would hold up what is shown. Screens with smaller pixels come with a card.
const lineWidth = () => (devicePixelRatio > 1 ? 1.5 : 1);

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Plots {
  constructor(root, recentOf) {
    this.root = root;
    this.recentOf = recentOf;
    this.seconds = 10;
    this.isPaused = false;
    this.plots = [];
    new ResizeObserver(() => this.resize()).observe(root);
  }

  show(stream) {
    this.stream = stream;
    this.build();
  }

  build() {
    for (const { plot } of this.plots) plot.destroy();
    this.root.replaceChildren();
    this.plots = [];
    if (!this.stream) return;
    const groups = new Map();
    this.stream.channels.forEach((channel, i) => {
      if (!groups.has(channel.unit)) groups.set(channel.unit, []);
      groups.get(channel.unit).push([i, channel.name]);
    });
    for (const [unit, series] of groups) this.add(unit ? unitText(unit) : TEXT.signals, series, null);
    const offset = this.stream.channels.length;
    const scores = this.stream.scores.map((name, i) => [offset + i, name]);
    if (scores.length) this.add(TEXT.scores, scores, scores.length > 1 ? [0, 1] : null);
    this.resize();
    this.draw(true);
  }

  add(title, series, range) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const heading = document.createElement("strong");
    heading.textContent = title;
    caption.append(heading);
    series.forEach(([, name], k) => caption.append(key(name, k)));
    const place = document.createElement("div");
    figure.append(caption, place);
    this.root.append(figure);
    const grid = { stroke: css("--line"), width: 1 };
    const axis = { stroke: css("--soft"), grid, ticks: grid, font: "12px system-ui" };
    const plot = new uPlot({
      width: 300, height: 120, legend: { show: false }, cursor: { show: false }, select: { show: false },
      padding: [6, 10, 0, 0],
      scales: { x: { time: false, range: () => [-this.seconds, 0] }, y: range ? { range: () => [0, 1.02] } : {} },
      axes: [{ ...axis, size: 26, values: (_, ticks) => ticks.map((t) => `${t} s`) }, { ...axis, size: 48, space: 22 }],
      series: [{}, ...series.map(([, name], k) => ({
        label: name, stroke: css(COLOURS[k % COLOURS.length]), width: lineWidth(), dash: DASHES[k % DASHES.length],
        points: { show: false }, spanGaps: false,
      }))],
    }, [[], ...series.map(() => [])], place);
    plot.root.setAttribute("role", "img");
    plot.root.setAttribute("aria-label", `${title}: ${series.map(([, name]) => name).join(", ")}`);
    this.plots.push({ plot, place, columns: series.map(([i]) => i) });
  }

  resize() {
    const around = this.plots.reduce((sum, { place }) => sum + place.parentElement.offsetHeight - place.offsetHeight + GAP, -GAP);
    const room = (this.root.clientHeight || 480) - around;
    const height = Math.floor(Math.max(80, Math.min(230, room / Math.max(this.plots.length, 1))));
    for (const { plot, place } of this.plots) {
      const width = place.clientWidth;
      if (width && (plot.width !== width || plot.height !== height)) plot.setSize({ width, height });
    }
  }

  draw(force = false) {
    if (!this.stream || (this.isPaused && !force)) return;
    const recent = this.recentOf(this.stream.number);
    if (!recent || Number.isNaN(recent.last)) return;
    for (const { plot, columns } of this.plots) {
      plot.setData(recent.window(this.seconds, recent.last, 2 * plot.width, columns));
    }
  }
}

export function key(name, k) {
  const item = document.createElement("span");
  item.className = "key";
  const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  swatch.setAttribute("viewBox", "0 0 26 8");
  swatch.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [at, value] of [["x1", 0], ["x2", 26], ["y1", 4], ["y2", 4]]) line.setAttribute(at, value);
  line.setAttribute("class", `k${k % COLOURS.length}`);
  line.setAttribute("stroke-dasharray", DASHES[k % DASHES.length].join(" "));
  swatch.append(line);
  item.append(swatch, name);
  return item;
}
