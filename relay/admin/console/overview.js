// The overview: how fresh the sources are, how deliveries go, what happens right now.

import { all } from "./api.js";
import { badge, el, fill, heading, href, link, long } from "./dom.js";
import { eventTable, live, placeOf, recent } from "./events.js";
import { SPANS, figures, statistics, tiles } from "./figures.js";
import { count, counted, when } from "./format.js";
import { empty, part, section } from "./parts.js";
import { STATES, nameOf, roster, tally } from "./roster.js";
import { sourceTable } from "./sources.js";
import { firstSubscriber } from "./subscribers.js";

const SHOWN = 8;
const NAMED = 3;
const KINDS = { failing: "bad", disabled: "warn" };

export function overview(ctx) {
  const span = SPANS[ctx.query.span] ? ctx.query.span : "1h";
  const sources = part(ctx, async () => sourceTable(await all("/v1/sources", ctx.signal)));
  const subscribers = part(ctx, async () => trouble(await roster(ctx.signal)));
  const numbers = part(ctx, async () => {
    const read = await statistics(span, ctx.signal);
    return [tiles(read), figures(read)];
  });
  ctx.every(5000, sources.refresh);
  ctx.every(20_000, subscribers.refresh);
  ctx.every(span === "1h" ? 15_000 : 120_000, numbers.refresh);
  const state = el("span", { role: "status", class: "badge idle" });
  return {
    title: "Overview",
    content: [
      heading(1, "Overview"),
      subscribers,
      section("Deliveries", numbers, spanLinks(span)),
      section("Sources", sources, link(["sources"], "All about the sources")),
      section("Latest events", latest(ctx, state), state, link(["events"], "Follow and filter")),
    ],
  };
}

/** The latest few events, and those that come. */
function latest(ctx, state) {
  const shown = eventTable([], "Latest events");
  const list = el("div", {}, empty("No event was seen yet.", el("p", {}, "They appear here as they are seen.")));
  function take(items) {
    shown.prepend(items.slice(-SHOWN).reverse());
    shown.trim(SHOWN);
    if (!shown.isConnected) fill(list, shown);
  }
  const beginning = part(ctx, async () => {
    const begun = await recent({}, ctx.signal);
    if (begun.length) take(begun);
    live(ctx, { query: {}, state, take, place: { after: placeOf(begun) } });
  });
  return [beginning, list];
}

function spanLinks(span) {
  const links = Object.entries(SPANS).map(([name, [label]]) =>
    el("a", { href: href([], { span: name }), "aria-current": name === span ? "true" : null }, label),
  );
  return el("div", { class: "choices", role: "group", "aria-label": "Time shown" }, links);
}

/** Who needs attention; or, at the beginning, what to do first. */
function trouble({ items, complete }) {
  if (!items.length) return firstSubscriber();
  const counts = tally(items);
  const all = counted(items.length, "subscriber");
  const ailing = STATES.filter((state) => KINDS[state] && counts[state]);
  const from = complete ? "" : ` (the first ${count(items.length)} that were registered; there are more)`;
  if (!ailing.length) return el("p", { class: "muted" }, `${all}, none of them failing or disabled${from}.`);
  return el("div", { class: "attention" }, [
    ...ailing.map((state) =>
      line(
        state,
        items.filter((one) => one.state.status === state),
      ),
    ),
    el("p", { class: "muted" }, link(["subscribers"], `All ${all}`), from),
  ]);
}

/** How many are in a state, the first of them by name, and a way to the others. */
function line(state, some) {
  const named = some.slice(0, NAMED).map((one) => [" ", long(nameOf(one), ["subscribers", one.id], "")]);
  const rest = some.length - NAMED;
  const [next, ...later] = some
    .map((one) => one.state.resting_until)
    .filter(Boolean)
    .sort();
  const resting = [`${count(later.length + 1)} resting, the next try at `, when(next, { short: true })];
  const others = el("a", { href: href(["subscribers"], { state }) }, `and ${count(rest)} more`);
  return el(
    "p",
    { class: "names" },
    badge(`${count(some.length)} ${state}`, KINDS[state]),
    named,
    rest > 0 ? others : null,
    next ? el("span", { class: "hint" }, resting) : null,
  );
}
