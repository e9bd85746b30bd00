// One event: what it says, how it was seen, and what became of it on its way to each subscriber.

import { get, v1 } from "./api.js";
import { explained } from "./explain.js";
import { badge, block, el, facts, heading, link, none, whole } from "./dom.js";
import { step } from "./events.js";
import { when } from "./format.js";
import { section } from "./parts.js";

export async function eventView(ctx, id) {
  const event = await get(v1("events", id), null, ctx.signal);
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
