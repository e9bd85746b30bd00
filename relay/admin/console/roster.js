// Who is subscribed, all of them: how they are called, how each stands, and which of them fit a search.

import { everything } from "./api.js";
import { badge, el } from "./dom.js";
import { count, since, when } from "./format.js";
import { failure } from "./words.js";

const KINDS = { ok: "good", failing: "bad", disabled: "warn" };
/** The order of those that need attention first. */
export const STATES = ["failing", "disabled", "ok"];

/** All subscribers as {items, complete}: beyond some thousands it stops, and says so. */
export function roster(signal) {
  return everything("/v1/subscribers", signal);
}

/** What people call it. */
export function nameOf(one) {
  return one.description || one.url;
}

/** Names by id. */
export function namesOf(subscribers) {
  return Object.fromEntries(subscribers.map((one) => [one.id, nameOf(one)]));
}

/** How many there are of each state. */
export function tally(subscribers) {
  const counts = Object.fromEntries(STATES.map((name) => [name, 0]));
  for (const one of subscribers) counts[one.state.status] = (counts[one.state.status] ?? 0) + 1;
  return counts;
}

/** Whether a text is in anything that a subscriber is known by. */
export function fits(one, text) {
  const wanted = text.toLowerCase();
  return [one.id, one.description, one.url, ...one.event_types].some((each) => each.toLowerCase().includes(wanted));
}

/** How a subscriber stands, in a word, and whether it rests. */
export function stateBadge(one) {
  const { status } = one.state;
  return [badge(status, KINDS[status] ?? "idle"), one.state.resting_until ? [" ", badge("resting", "warn")] : null];
}

/** Why, since when, and until when it rests, in sentences; null where all is well. */
export function standing({ reason, failing_since: from, failures, resting_until: until }) {
  if (!reason && !until) return null;
  const times = failures > 1 ? ` (${count(failures)} attempts in a row)` : "";
  const why = reason ? [failure(reason), times, from ? [", since ", when(from)] : null, ". "] : null;
  return el("p", { class: "sentence" }, why, until ? rest(until) : null);
}

function rest(until) {
  if (new Date(until) <= new Date()) return "Its rest is over: one attempt tries it out.";
  return ["It rests until ", when(until, { short: true }), " (", since(until), "), then one attempt tries it out."];
}
