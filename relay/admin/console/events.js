// The live stream of transitions, newest first, with filters, and a pause that loses nothing.

import { all, get, preview } from "./api.js";
import { badge, button, el, fill, heading, href, link, long, none } from "./dom.js";
import { count, when } from "./format.js";
import { choice, text } from "./forms.js";
import { empty, part, table } from "./parts.js";
import { follow } from "./stream.js";
import { trouble } from "./words.js";

const KEPT = 500;
const BEGIN_WITH = 50;

const COLUMNS = [
  { title: "Seen", cell: (one) => when(one.timestamp ?? one.logged_at, { short: true }) },
  { title: "Type", kind: "subject", cell: (one) => eventLink(one, one.type) },
  { title: "Entity", cell: (one) => long(said(one).entity.id, ["entities", said(one).source, said(one).entity.id]) },
  { title: "Transition", cell: (one) => step(said(one).transition) },
  { title: "Source", cell: (one) => said(one).source },
];

/** A table of events, of the feed or of a preview. */
export function eventTable(items, caption) {
  return table(COLUMNS, items, caption);
}

/** What an event says: an item of the feed holds it under `data`, one of a preview says it itself. */
function said(one) {
  return one.data ?? one;
}

/** A link to an event; of one whose learner was erased only who leads there knows the entity. */
export function eventLink(one, ...children) {
  const { event_id, source, entity, erased } = said(one);
  return el("a", { href: href(["events", event_id], erased ? { source, entity: entity.id } : {}) }, ...children);
}

/** `Incomplete → Complete`; of an event whose learner was erased nothing is left to tell. */
export function step(transition) {
  if (!transition) return none("erased");
  return `${transition.from ?? "–"} → ${transition.to ?? "–"}`;
}

/** Follow the feed as long as the view is shown, or until `signal` ends; `state` says how it goes. */
export function live(ctx, { query, state, take, place, signal = ctx.signal }) {
  return follow({
    query,
    place,
    signal,
    tell: (items) => signal.aborted || take(items),
    state: (kind, words) => signal.aborted || tell(state, kind, words),
  });
}

function tell(state, kind, words) {
  state.className = `badge ${kind}`;
  fill(state, words);
}

export async function eventList(ctx) {
  const { event_type, source, entity_id } = ctx.query;
  const sources = await all("/v1/sources", ctx.signal);
  const wanted = { event_type, source, entity_id };
  const shown = eventTable([], "Events, the latest first");
  const state = el("span", { role: "status", class: "badge idle" });
  const told = el("p", { class: "muted" });
  const list = el("div", {});
  const place = { after: null };
  let number = 0;
  let running = null;
  function take(items) {
    number += items.length;
    shown.prepend(items.slice(-KEPT).reverse());
    shown.trim(KEPT);
    if (!shown.isConnected) fill(list, shown);
    fill(
      told,
      number > KEPT
        ? `The latest ${count(KEPT)} of ${count(number)} that this tab has seen.`
        : `${count(number)} shown.`,
    );
  }
  function resume() {
    running = new AbortController();
    ctx.signal.addEventListener("abort", () => running.abort());
    live(ctx, { query: wanted, state, take, place, signal: running.signal });
    hold.hidden = false;
  }
  const hold = button("Pause", () => {
    if (running.signal.aborted) {
      fill(hold, "Pause");
      resume();
    } else {
      running.abort();
      fill(hold, "Continue");
      tell(state, "warn", "paused: Continue shows what came meanwhile");
    }
  });
  hold.hidden = true;
  const beginning = part(ctx, async () => {
    const begun = await recent(wanted, ctx.signal).catch(refused);
    place.after = placeOf(begun);
    if (begun.length) take(begun);
    else fill(list, nothing(wanted, sources));
    resume();
  });
  return {
    title: "Events",
    content: [heading(1, "Events", state, hold), await filters(ctx, wanted, sources), beginning, list, told],
  };
}

/** A filter that is not accepted, in words for who has typed it. */
function refused(error) {
  if (error.status !== 422) throw error;
  throw Object.assign(error, {
    title: "This filter cannot be used",
    detail: `Event type: ${error.errors.map((one) => one.detail).join("; ")}.`,
    errors: [],
  });
}

/** The place of the last of these, or null: from now on. */
export function placeOf(items) {
  return items.length ? (items.at(-1).cursor ?? said(items.at(-1)).event_id) : null;
}

/** The latest events that a filter lets through, oldest first: a preview of what a subscriber would have got. */
export async function recent({ event_type, source, entity_id }, signal) {
  if (entity_id) {
    const page = await get("/v1/events", { event_type, source, entity_id, limit: 250 }, signal);
    return page.data;
  }
  const filter = source ? { sources: [source] } : {};
  const seen = await preview({ event_types: [event_type || "*"], filter, last: 1000 }, signal);
  return seen.events.slice(0, BEGIN_WITH).reverse();
}

function nothing(wanted, sources) {
  const filtered = Object.values(wanted).some(Boolean);
  const silent = sources.filter((one) => one.error && [one.name, undefined, ""].includes(wanted.source));
  if (silent.length) return empty("No event was seen yet, and not every source can be read:", silent.map(unreadable));
  return empty(
    filtered ? "No event fits these filters yet." : "No event was seen yet.",
    el(
      "p",
      {},
      filtered
        ? "They appear here as they are seen; or choose other filters."
        : "The first poll of a source is a silent baseline: events tell of what changes after it. " +
            "They appear here as they are seen.",
    ),
  );
}

function unreadable(one) {
  const said = `: ${trouble(one.error.reason)} (${one.error.detail}), since `;
  return el("p", {}, badge(one.status, "bad"), " ", link(["sources", one.name], one.name), said, when(one.error.since));
}

async function filters(ctx, wanted, sources) {
  const types = await all("/v1/event-types", ctx.signal);
  const type = text(wanted.event_type ?? "", {
    list: "event-types",
    placeholder: "lab.* or session.completed",
    "aria-label": "Event type",
  });
  const source = choice(
    [["", "Any source"], ...sources.map((one) => [one.name, one.name]), ["relay", "relay itself"]],
    wanted.source ?? "",
    { "aria-label": "Source" },
  );
  const entity = text(wanted.entity_id ?? "", { placeholder: "Entity id", "aria-label": "Entity id" });
  const form = el(
    "form",
    { class: "filters", novalidate: true },
    type,
    el(
      "datalist",
      { id: "event-types" },
      types.map((one) => el("option", { value: one.type })),
    ),
    source,
    entity,
    el("button", {}, "Filter"),
    Object.values(wanted).some(Boolean) ? link(["events"], "All events") : null,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = href(["events"], {
      event_type: type.value.trim(),
      source: source.value,
      entity_id: entity.value.trim(),
    });
  });
  source.addEventListener("change", () => form.requestSubmit());
  return form;
}
