// The overview: how fresh the sources are, how deliveries go, what happens right now.

import { all, get } from "./api.js";
import { badge, el, fill, heading, href, link } from "./dom.js";
import { eventTable, live, placeOf, recent } from "./events.js";
import { SPANS, figures, statistics, tiles } from "./figures.js";
import { counted } from "./format.js";
import { empty, part, section } from "./parts.js";
import { sourceTable } from "./sources.js";
import { firstSubscriber } from "./subscribers.js";

const SHOWN = 8;

export function overview(ctx) {
  const span = SPANS[ctx.query.span] ? ctx.query.span : "1h";
  const sources = part(ctx, async () => sourceTable(await all("/v1/sources", ctx.signal)));
  const subscribers = part(ctx, async () => trouble((await get("/v1/subscribers", { limit: 250 }, ctx.signal)).data));
  const numbers = part(ctx, async () => {
    const read = await statistics(span, ctx.signal);
    return [tiles(read), figures(read)];
  });
  ctx.every(5000, sources.refresh);
  ctx.every(10_000, subscribers.refresh);
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
function trouble(subscribers) {
  if (!subscribers.length) return firstSubscriber();
  const ailing = subscribers.filter((one) => one.state.status === "failing");
  const off = subscribers.filter((one) => one.state.status === "disabled");
  if (!ailing.length && !off.length) {
    return el(
      "p",
      { class: "muted" },
      `${counted(subscribers.length, "subscriber")}, none of them told of as failing.`,
    );
  }
  const names = (some) =>
    some.slice(0, 3).map((one, at) => [at ? ", " : " ", link(["subscribers", one.id], one.description || one.url)]);
  return el(
    "p",
    {},
    ailing.length ? [badge(`${ailing.length} failing`, "bad"), names(ailing), " "] : null,
    off.length ? [badge(`${off.length} disabled`, "warn"), names(off)] : null,
  );
}
