// One event: what it says, how it was seen, and what became of it on its way to each subscriber.

import { get, v1 } from "./api.js";
import { deliveryColumns } from "./deliveries.js";
import { badge, block, el, facts, heading, link, none, whole } from "./dom.js";
import { step } from "./events.js";
import { explained } from "./explain.js";
import { when } from "./format.js";
import { paged, section } from "./parts.js";
import { namesOf, roster } from "./roster.js";

export async function eventView(ctx, id) {
  const event = await get(v1("events", id), null, ctx.signal).catch(erased);
  if (!event) return gone(ctx, id);
  const { data } = event;
  return {
    title: event.type,
    content: [
      heading(1, event.type, data.backfill ? badge("seen while catching up", "idle") : null),
      facts([
        ["Event", whole(id)],
        ["Entity", [whole(data.entity.id, ["entities", data.source, data.entity.id]), ` (${data.entity.kind})`]],
        ["Source", data.source === "relay" ? "relay" : link(["sources", data.source], data.source)],
        ["Transition", step(data.transition)],
        ["Seen", when(data.observed.at)],
        ["Happened after", when(data.observed.after)],
        ["Upstream's own time", when(data.occurred_at)],
        ["Number", `${data.sequence} of its entity`],
        ["User", data.user_id ?? none()],
        ["Class", data.class_id ?? none()],
      ]),
      explained(ctx, id),
      section("Payload", block(event, "payload")),
    ],
  };
}

/** Null for an event whose learner was erased. */
function erased(error) {
  if (error.status === 410) return null;
  throw error;
}

/** What is left of it: what it was an event of, where whoever leads here says so, and what became of it. */
async function gone(ctx, id) {
  const { source, entity } = ctx.query;
  const names = namesOf((await roster(ctx.signal)).items);
  const deliveries = paged(ctx, {
    columns: deliveryColumns(["again", "died", "next"], { names }),
    caption: "Deliveries of this event",
    read: (cursor) => get("/v1/deliveries", { event_id: id, cursor }, ctx.signal),
    nothing: () => el("p", { class: "muted" }, "None on record."),
  });
  return {
    title: "Erased event",
    content: [
      heading(1, "Erased event", badge("erased", "idle")),
      el(
        "p",
        {},
        "What this event said was erased together with its learner. Nothing can bring it back, and nobody gets it " +
          "any more; that it was there, and what became of it, is all that is kept.",
      ),
      facts([
        ["Event", whole(id)],
        entity ? ["Entity", whole(entity, ["entities", source, entity])] : null,
        source ? ["Source", link(["sources", source], source)] : null,
        ["More", [link(["events"], "All events"), ", ", link(["deliveries"], "all deliveries")]],
      ]),
      section("Deliveries", deliveries),
    ],
  };
}
