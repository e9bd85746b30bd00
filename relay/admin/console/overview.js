// The overview: how fresh the sources are, how deliveries go, what happens right now.

import { all, get } from "./api.js";
import { badge, el, heading, href, link } from "./dom.js";
import { eventTable, live } from "./events.js";
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
  const latest = eventTable([], "Latest events");
  const place = el(
    "div",
    {},
    latest,
    empty("Nothing yet in this tab.", el("p", {}, "Events appear as they are seen.")),
  );
  const state = el("span", { role: "status", class: "badge idle" });
  live(ctx, {
    query: {},
    state,
    take: (items) => {
      place.querySelector(".empty")?.remove();
      latest.prepend(items.slice(-SHOWN).reverse());
      latest.trim(SHOWN);
    },
  });
  return {
    title: "Overview",
    content: [
      heading(1, "Overview"),
      subscribers,
      section("Deliveries", numbers, spanLinks(span)),
      section("Sources", sources, link(["sources"], "All about the sources")),
      section("Latest events", place, state, link(["events"], "Follow and filter")),
    ],
  };
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
