// Finding what a text names: an event, a delivery, a subscriber, an entity of any source, or a learner.

import { all, get, preview, v1 } from "./api.js";
import { el, heading, href, link, long } from "./dom.js";
import { eventTable } from "./events.js";
import { count, counted } from "./format.js";
import { empty, section } from "./parts.js";
import { fits, nameOf, roster, stateBadge } from "./roster.js";

const NAMED = { evt_: "events", dlv_: "deliveries", sub_: "subscribers" };
const LOOK_BACK = 10_000;
const SHOWN = 20;

export async function searchView(ctx) {
  const wanted = ctx.query.q ?? "";
  const kind = NAMED[wanted.slice(0, 4)];
  if (kind) return lead([kind, wanted]);
  const [sources, learner, subscribers] = await Promise.all([
    all("/v1/sources", ctx.signal).then((those) => knowing(those, wanted, ctx.signal)),
    preview({ event_types: ["*"], filter: { user_ids: [wanted] }, last: LOOK_BACK }, ctx.signal),
    roster(ctx.signal).then(({ items }) => items.filter((one) => fits(one, wanted))),
  ]);
  const called = subscribers.some((one) => nameOf(one) === wanted);
  if (sources.length === 1 && !learner.matched && !called) return lead(["entities", sources[0], wanted]);
  const found = sources.length || learner.matched || subscribers.length;
  return {
    title: "Search",
    content: [
      heading(1, found ? `Found for ${wanted}` : "Search"),
      sources.length ? section("Lab instances and sessions", entities(sources, wanted)) : null,
      learner.matched ? section("Learner", events(learner, wanted)) : null,
      subscribers.length ? section("Subscribers", list(subscribers, wanted)) : null,
      found ? null : nothing(wanted, learner.examined),
    ],
  };
}

function lead(segments) {
  location.replace(href(segments));
  return { title: "Search", content: [] };
}

function entities(sources, wanted) {
  const links = sources.map((source) => el("li", {}, link(["entities", source, wanted], `${wanted} of ${source}`)));
  return el("ul", {}, links);
}

function events({ matched, examined, events: latest }, wanted) {
  const some = latest.length < matched ? `, the latest ${count(latest.length)} here` : "";
  return [
    el("p", {}, `${counted(matched, "event")} of learner ${wanted} among the latest ${count(examined)}${some}.`),
    eventTable(latest, "Events of the learner"),
  ];
}

function list(subscribers, wanted) {
  const rows = subscribers
    .slice(0, SHOWN)
    .map((one) => el("li", {}, long(nameOf(one), ["subscribers", one.id], ""), " ", stateBadge(one)));
  const more = subscribers.length - SHOWN;
  const all = el("a", { href: href(["subscribers"], { q: wanted }) }, `and ${count(more)} more`);
  return [el("ul", {}, rows), more > 0 ? el("p", {}, all) : null];
}

function nothing(wanted, examined) {
  return empty(
    `Nothing is known as ${wanted}.`,
    el(
      "p",
      {},
      "Ids of events begin with evt_, of deliveries with dlv_, of subscribers with sub_. Anything else is looked for " +
        "among the lab instances and sessions of every source by their whole id, among the subscribers by a part of " +
        `their name or URL, and among the learners of the latest ${counted(examined, "event")} by their whole id.`,
    ),
  );
}

/** The sources that know an entity of this id. */
async function knowing(sources, id, signal) {
  return (await Promise.all(sources.map((one) => known(one.name, id, signal)))).filter(Boolean);
}

/** The source, if it knows an entity of this id. */
async function known(source, id, signal) {
  try {
    await get(v1("entities", source, id), { limit: 1 }, signal);
    return source;
  } catch (error) {
    if (error.status === 404 || error.status === 422) return null;
    throw error;
  }
}
