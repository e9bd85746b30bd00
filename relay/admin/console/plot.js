// Plots of values over time, as SVG: axes with units, a read-out for pointer and arrow keys, and the same as a table.

import { el, fill } from "./dom.js";
import { brief, moment, tick } from "./format.js";

const HEIGHT = 170;
const EDGE = { top: 10, right: 12, bottom: 24, left: 54 };

/**
 * A figure. `series`: {name, kind, values} with one value or null per time; `kind` is its class (its look).
 * `format` tells a value with its unit; `top` is the least that the axis reaches to.
 */
export function plot({ title, times, series, format, stepS, top = 2, most = Infinity }) {
  const box = el("div", {
    class: "plot",
    tabindex: 0,
    role: "slider",
    "aria-label": `${title}: read-out over time`,
    "aria-orientation": "horizontal",
    "aria-valuemin": 0,
    "aria-valuemax": times.length - 1,
    "aria-valuenow": times.length - 1,
  });
  const readout = el("p", { class: "readout" });
  const data = { title, times, series, format, spanS: stepS * times.length, high: ceiling(series, top, most) };
  let at = times.length - 1;
  let width = 0;
  function point(index, marked = true) {
    at = Math.min(Math.max(index, 0), times.length - 1);
    const said = [`${moment(times[at])}:`, ...series.map((one) => ` ${one.name} ${format(one.values[at])}`)].join("");
    box.setAttribute("aria-valuenow", at);
    box.setAttribute("aria-valuetext", said);
    fill(
      readout,
      el("span", { class: "muted" }, `${brief(times[at], data.spanS)} `),
      series.map((one) => [
        el(
          "span",
          { class: "read" },
          el("span", { class: `key ${one.kind}` }),
          `${one.name} `,
          el("b", {}, format(one.values[at])),
        ),
        " ",
      ]),
    );
    const cursor = box.querySelector(".cursor");
    if (cursor) {
      const x = across(at, times.length, width);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.classList.toggle("shown", marked);
    }
  }
  function draw(now) {
    if (now === width || now < 80) return;
    width = now;
    fill(box, drawn(data, width));
    point(at, false);
  }
  box.addEventListener("pointermove", (event) =>
    point(nearest(event.clientX - box.getBoundingClientRect().left, times.length, width)),
  );
  box.addEventListener("pointerleave", () => point(times.length - 1, false));
  box.addEventListener("blur", () => point(times.length - 1, false));
  box.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      ArrowDown: at - 1,
      ArrowUp: at + 1,
      PageDown: at - 10,
      PageUp: at + 10,
      Home: 0,
      End: times.length - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    point(moves[event.key]);
  });
  new ResizeObserver(([entry]) => draw(Math.floor(entry.contentRect.width))).observe(box);
  point(at, false);
  return el("figure", {}, el("figcaption", {}, title), box, readout, asTable(data));
}

/** The axis' end: a round number above every value. */
function ceiling(series, top, most) {
  const highest = Math.max(top, ...series.flatMap((one) => one.values.map((value) => value ?? 0)));
  const size = 10 ** Math.floor(Math.log10(highest));
  const round = [1, 2, 4, 5, 10].find((one) => one * size >= highest) * size;
  return Math.min(round, most);
}

function across(index, length, width) {
  return EDGE.left + ((width - EDGE.left - EDGE.right) * index) / Math.max(length - 1, 1);
}

function upward(value, high) {
  return HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * value) / high;
}

function nearest(x, length, width) {
  return Math.round(((x - EDGE.left) / (width - EDGE.left - EDGE.right)) * (length - 1));
}

function drawn({ times, series, format, spanS, high }, width) {
  const levels = [0, 0.5, 1].map((part) => part * high);
  const labels = Math.max(2, Math.min(7, Math.floor(width / 110)));
  const marks = Array.from({ length: labels }, (_, one) => Math.round((one * (times.length - 1)) / (labels - 1)));
  return el(
    "svg",
    { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true", focusable: "false" },
    levels.map((value) => [
      el("line", {
        class: "grid",
        x1: EDGE.left,
        x2: width - EDGE.right,
        y1: upward(value, high),
        y2: upward(value, high),
      }),
      el("text", { x: EDGE.left - 8, y: upward(value, high) + 4, "text-anchor": "end" }, format(value)),
    ]),
    marks.map((index, one) =>
      el(
        "text",
        {
          x: across(index, times.length, width),
          y: HEIGHT - 6,
          "text-anchor": one === 0 ? "start" : one === marks.length - 1 ? "end" : "middle",
        },
        tick(times[index], spanS),
      ),
    ),
    series.map((one) => [
      el("path", { class: `series ${one.kind}`, d: pathOf(one.values, width, high) }),
      alone(one.values).map((index) =>
        el("circle", {
          class: `dot ${one.kind}`,
          r: 2.5,
          cx: across(index, times.length, width),
          cy: upward(one.values[index], high),
        }),
      ),
    ]),
    el("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, x1: 0, x2: 0 }),
  );
}

/** A line through the values; nothing is drawn where there is none. */
function pathOf(values, width, high) {
  return values
    .map((value, index) => {
      if (value === null) return "";
      const x = across(index, values.length, width).toFixed(1);
      return `${missing(values[index - 1]) ? "M" : "L"}${x} ${upward(value, high).toFixed(1)}`;
    })
    .join("");
}

/** Where a value has no neighbour to draw a line to. */
function alone(values) {
  return [...values.keys()].filter(
    (index) => !missing(values[index]) && missing(values[index - 1]) && missing(values[index + 1]),
  );
}

function missing(value) {
  return value === null || value === undefined;
}

function asTable({ title, times, series, format }) {
  const details = el("details", { class: "as-table" }, el("summary", {}, "Show as a table"));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const rows = times.map((time, index) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, moment(time)),
        series.map((one) => el("td", { class: "number" }, format(one.values[index]))),
      ),
    );
    details.append(
      el(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title} as a table` },
        el(
          "table",
          { class: "plain" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { scope: "col" }, "From"),
              series.map((one) => el("th", { scope: "col", class: "number" }, one.name)),
            ),
          ),
          el("tbody", {}, rows.reverse()),
        ),
      ),
    );
  });
  return details;
}
