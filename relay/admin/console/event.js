// One event: what it says, how it was seen, and what became of it on its way to each subscriber.

import { all, get, v1 } from "./api.js";
import { badge, block, el, facts, heading, link, long, none } from "./dom.js";
import { deliveryColumns } from "./deliveries.js";
import { when } from "./format.js";
import { empty, paged, section } from "./parts.js";
import { explained } from "./explain.js";

export async function eventView(ctx, id) {
  const event = await get(v1("events", id), null, ctx.signal);
  const { data } = event;
  const subscribers = await all("/v1/subscribers", ctx.signal);
  const names = Object.fromEntries(subscribers.map((one) => [one.id, one.description || one.url]));
  const deliveries = paged(ctx, {
    columns: deliveryColumns(["event"], { names }),
    caption: "Deliveries of this event",
    read: (cursor) => get("/v1/deliveries", { event_id: id, cursor }, ctx.signal),
    nothing: () =>
      empty("No subscriber was to get this event.", el("p", {}, "What each of them says to it stands below.")),
  });
  return {
    title: event.type,
    content: [
      heading(1, event.type, data.backfill ? badge("seen while catching up", "idle") : null),
      facts([
        ["Event", long(id)],
        ["Entity", [long(data.entity.id, ["entities", data.source, data.entity.id]), ` (${data.entity.kind})`]],
        ["Source", data.source === "relay" ? "relay" : link(["sources", data.source], data.source)],
        ["Transition", `${data.transition.from ?? "–"} → ${data.transition.to ?? "–"}`],
        ["Seen", when(data.observed.at)],
        ["Happened after", when(data.observed.after)],
        ["Upstream's own time", when(data.occurred_at)],
        ["Number", `${data.sequence} of its entity`],
        ["User", data.user_id ?? none()],
        ["Class", data.class_id ?? none()],
      ]),
      section("Deliveries", deliveries),
      explained(ctx, id),
      section("Payload", block(event, "payload")),
    ],
  };
}
