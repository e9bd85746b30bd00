// Numbers with units, times local with the UTC time as title.

import { el, none } from "./dom.js";

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const SHORT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const WHOLE = new Intl.NumberFormat();
const MOMENTS = new Set(["Start", "End", "LastActivity"]);
const STEPS = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
];

/** `12,345`. */
export function count(number) {
  return WHOLE.format(number);
}

/** `12,345 events`, `1 event`. */
export function counted(number, noun, plural = `${noun}s`) {
  return `${count(number)} ${number === 1 ? noun : plural}`;
}

/** `0.4 ms`, `120 ms`, `3.5 s`, `2 min`, `5 h`. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  return seconds(ms / 1000);
}

/** `0.4 s`, `12 s`, `5 min`, `3 h`, `2 d`: two figures at least. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of STEPS) {
    if (value >= size * 2 || value === size) return `${trimmed(value / size)} ${unit}`;
  }
  return `${trimmed(value)} s`;
}

function trimmed(value) {
  return value < 10 ? String(Math.round(value * 10) / 10) : WHOLE.format(Math.round(value));
}

/** `99.2 %`; of a hundred thousand with one failure never `100 %`. */
export function share(part, whole) {
  if (!whole) return "–";
  const percent = (100 * part) / whole;
  if (part < whole && percent > 99.9) return "99.9 %";
  return `${Math.round(percent * 10) / 10} %`;
}

/** When something was or will be: local time, UTC in the title. */
export function when(text, { short = false } = {}) {
  if (!text) return none();
  const format = short && isToday(new Date(text)) ? CLOCK : MOMENT;
  return el("time", { datetime: text, title: `${text} (UTC)`, class: "figure" }, format.format(new Date(text)));
}

/** How long ago, or how long until; the moment itself in the title. */
export function since(text) {
  if (!text) return none();
  const gap = (Date.now() - new Date(text).getTime()) / 1000;
  const told =
    Math.abs(gap) < 1 ? "now" : gap > 0 ? `${seconds(Math.floor(gap))} ago` : `in ${seconds(Math.ceil(-gap))}`;
  return el("time", { datetime: text, title: `${MOMENT.format(new Date(text))} (local), ${text} (UTC)` }, told);
}

/** A label of a time axis. */
export function tick(date, spanS) {
  return spanS > 2 * 86_400 ? DAY.format(date) : SHORT.format(date);
}

/** A moment as a read-out says it. */
export function moment(date) {
  return MOMENT.format(date);
}

/** The same in the space of a read-out: with its day only where days differ. */
export function brief(date, spanS) {
  return spanS > 86_400 ? `${DAY.format(date)}, ${SHORT.format(date)}` : SHORT.format(date);
}

/** The name of an upstream's field; where it is too long for its place it breaks between its words. */
export function fieldName(name) {
  return name.split(/(?<=[a-z])(?=[A-Z])|(?<=_)/).flatMap((word, at) => (at ? [el("wbr"), word] : [word]));
}

/** What an upstream says in a field: a moment that it gives in seconds since 1970 as a time too. */
export function fieldValue(name, value) {
  if (value === null || value === undefined) return none();
  const at = MOMENTS.has(name) && typeof value === "number" ? new Date(value * 1000) : null;
  if (at && !Number.isNaN(at.getTime())) return [when(at.toISOString()), ` (${value})`];
  return typeof value === "string" && value ? value : JSON.stringify(value);
}

function isToday(date) {
  return date.toDateString() === new Date().toDateString();
}
