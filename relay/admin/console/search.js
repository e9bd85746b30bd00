// Finding what an id names: an event, a delivery, a subscriber, or an entity of any source.

import { all, get, v1 } from "./api.js";
import { el, heading, href, link } from "./dom.js";
import { empty } from "./parts.js";

const NAMED = { evt_: "events", dlv_: "deliveries", sub_: "subscribers" };

export async function searchView(ctx) {
  const wanted = ctx.query.q ?? "";
  const kind = NAMED[wanted.slice(0, 4)];
  if (kind) {
    location.replace(href([kind, wanted]));
    return { title: "Search", content: [] };
  }
  const sources = await all("/v1/sources", ctx.signal);
  const found = (await Promise.all(sources.map((one) => known(one.name, wanted, ctx.signal)))).filter(Boolean);
  if (found.length === 1) {
    location.replace(href(["entities", found[0], wanted]));
    return { title: "Search", content: [] };
  }
  return {
    title: "Search",
    content: [
      heading(1, "Search"),
      found.length
        ? el(
            "ul",
            {},
            found.map((source) => el("li", {}, link(["entities", source, wanted], `${wanted} of ${source}`))),
          )
        : empty(
            `Nothing is known as ${wanted}.`,
            el(
              "p",
              {},
              "Ids of events begin with evt_, of deliveries with dlv_, of subscribers with sub_; " +
                "anything else is looked for among the lab instances and sessions of every source.",
            ),
          ),
    ],
  };
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
