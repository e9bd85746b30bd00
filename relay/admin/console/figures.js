// The plots of the overview: throughput, success and latency from /v1/statistics.

import { get } from "./api.js";
import { el } from "./dom.js";
import { count, counted, milliseconds, share } from "./format.js";
import { plot } from "./plot.js";
import { outcomeName } from "./words.js";

/** Label, seconds shown, seconds of one step. */
export const SPANS = {
  "1h": ["Last hour", 3600, 60],
  "24h": ["Last day", 86_400, 900],
  "7d": ["Last week", 604_800, 7200],
};
const LOOKS = ["first", "second", "third", "fourth"];
const PARTS = ["p50", "p95", "p99"];

/** Read the statistics of a span. */
export function statistics(span, signal) {
  const [, seconds, stepS] = SPANS[span];
  const since = new Date(Date.now() - seconds * 1000).toISOString();
  return get("/v1/statistics", { since, step_s: stepS }, signal);
}

/** The sums of a span, as tiles. */
export function tiles(read) {
  const sum = (of) => read.data.reduce((total, step) => total + of(step), 0);
  const attempts = sum((step) => step.attempts);
  const delivered = sum((step) => step.delivered);
  const dead = sum((step) => step.dead);
  const events = sum((step) => Object.values(step.events).reduce((total, one) => total + one, 0));
  const slow = Math.max(0, ...read.data.map((step) => step.attempt_ms?.p95 ?? 0));
  return el(
    "div",
    { class: "tiles" },
    tile("Events", count(events), "entered the log"),
    tile("Delivered", count(delivered), counted(attempts, "attempt")),
    tile("Success", share(delivered, attempts), "of all attempts"),
    tile("Dead letters", count(dead), "given up", dead ? "bad" : ""),
    tile("Slowest p95", attempts ? milliseconds(slow) : "–", "of an attempt, in any step"),
  );
}

function tile(name, value, note, kind = "") {
  return el(
    "div",
    { class: `tile ${kind}` },
    el("p", { class: "muted" }, name),
    el("p", { class: "value" }, value),
    el("p", { class: "hint" }, note),
  );
}

/** All plots of a span. */
export function figures(read) {
  const steps = read.data;
  const times = steps.map((step) => new Date(step.at));
  const common = { times, stepS: read.step_s };
  const sources = [...new Set(steps.flatMap((step) => Object.keys(step.events)))].sort();
  const per =
    read.step_s === 60 ? "minute" : read.step_s % 3600 ? `${read.step_s / 60} min` : `${read.step_s / 3600} h`;
  const failed = (step) => step.attempts - step.delivered;
  return el(
    "div",
    { class: "figures" },
    plot({
      ...common,
      title: `Events per ${per}, by source`,
      format: whole,
      series: sources.slice(0, LOOKS.length).map((name, at) => ({
        name,
        kind: LOOKS[at],
        values: steps.map((step) => step.events[name] ?? 0),
      })),
    }),
    plot({
      ...common,
      title: `Attempts per ${per}`,
      format: whole,
      series: [
        { name: "delivered", kind: "first", values: steps.map((step) => step.delivered) },
        { name: "failed", kind: "failed", values: steps.map(failed) },
      ],
    }),
    plot({
      ...common,
      title: "Success, share of attempts",
      format: percent,
      top: 100,
      most: 100,
      series: [
        {
          name: "success",
          kind: "first",
          values: steps.map((step) => (step.attempts ? (100 * step.delivered) / step.attempts : null)),
        },
      ],
    }),
    plot({ ...common, title: "How long attempts took", format: time, series: latency(steps, "attempt_ms") }),
    plot({ ...common, title: "From the log to the acknowledgement", format: time, series: latency(steps, "lag_ms") }),
    failures(steps),
  );
}

function latency(steps, name) {
  return PARTS.map((part, at) => ({
    name: part,
    kind: LOOKS[at],
    values: steps.map((step) => step[name]?.[part] ?? null),
  }));
}

/** What failed attempts came to, by outcome. */
function failures(steps) {
  const totals = {};
  for (const step of steps) {
    for (const [outcome, number] of Object.entries(step.outcomes)) totals[outcome] = (totals[outcome] ?? 0) + number;
  }
  const all = Object.values(totals).reduce((total, one) => total + one, 0);
  const rows = Object.entries(totals).sort(([, one], [, other]) => other - one);
  return el(
    "figure",
    {},
    el("figcaption", {}, "Attempts by outcome"),
    rows.length
      ? el(
          "table",
          { class: "plain" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { scope: "col" }, "Outcome"),
              el("th", { scope: "col", class: "number" }, "Attempts"),
              el("th", { scope: "col", class: "number" }, "Share"),
            ),
          ),
          el(
            "tbody",
            {},
            rows.map(([outcome, number]) =>
              el(
                "tr",
                {},
                el("th", { scope: "row" }, outcomeName(outcome)),
                el("td", { class: "number" }, count(number)),
                el("td", { class: "number" }, share(number, all)),
              ),
            ),
          ),
        )
      : el("p", { class: "muted" }, "No attempt was made in this time."),
  );
}

function whole(value) {
  return value === null ? "–" : count(Math.round(value * 10) / 10);
}

function percent(value) {
  return value === null ? "–" : `${Math.round(value * 10) / 10} %`;
}

function time(value) {
  return value === null ? "–" : milliseconds(value);
}
