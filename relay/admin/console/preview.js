// What a subscription would have got of the latest events, and which condition kept the rest away.

import { el } from "./dom.js";
import { count, counted } from "./format.js";
import { eventTable } from "./events.js";

const SHOWN = 10;

/** The answer of POST /v1/subscribers/preview, shown. */
export function previewOf(seen) {
  return [
    el("h2", {}, `${count(seen.matched)} of the last ${counted(seen.examined, "event")} would have been sent`),
    tally("By type", seen.matched_by_type),
    tally("Kept away by", seen.refused_by),
    seen.events.length ? eventTable(seen.events.slice(0, SHOWN), "The latest that match") : null,
  ];
}

function tally(title, counts) {
  const rows = Object.entries(counts).sort(([, one], [, other]) => other - one);
  if (!rows.length) return null;
  return el(
    "p",
    {},
    el("span", { class: "muted" }, `${title}: `),
    rows.map(([name, number]) => `${name} ${count(number)}`).join(", "),
  );
}
