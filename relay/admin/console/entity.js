// One entity: its last known state, everything that was told of it, and why there was nothing more.

import { get, v1 } from "./api.js";
import { badge, el, facts, heading, href, link, none, whole } from "./dom.js";
import { KINDS } from "./deliveries.js";
import { eventLink, step } from "./events.js";
import { count, fieldName, fieldValue, when } from "./format.js";
import { empty, paged, part, section } from "./parts.js";

const COLUMNS = [
  { title: "No.", kind: "number", cell: (one) => one.data.sequence ?? none() },
  { title: "Seen", cell: (one) => when(one.timestamp) },
  { title: "Event", kind: "subject", cell: (one) => eventLink(one, one.type) },
  { title: "Transition", cell: (one) => step(one.data.transition) },
  { title: "Deliveries", cell: (one) => outcomes(one) },
];

export async function entityView(ctx, source, id) {
  const path = v1("entities", source, id);
  const first = await get(path, null, ctx.signal);
  const timeline = paged(ctx, {
    columns: COLUMNS,
    caption: "What was told of it, in order",
    read: (cursor) => get(path, { cursor }, ctx.signal),
    nothing: () =>
      empty(
        "No event of it is kept.",
        el("p", {}, "It was there at the first poll, which is silent, or its events have outlived their retention."),
      ),
  });
  return {
    title: `${source} ${id}`,
    content: [
      heading(1, first.entity.kind === "session" ? "Session" : "Lab instance", whole(id)),
      facts([["Source", link(["sources", source], source)], ...known(first.state)]),
      section("Timeline", timeline, el("a", { href: href(["events"], { entity_id: id, source }) }, "Follow it")),
      section("Why there was nothing more", reasons(ctx, path)),
    ],
  };
}

function known(state) {
  if (!state) return [["State", "kept no longer"]];
  return [
    ["Status", [badge(state.status, "idle"), state.open ? " still open" : " ended"]],
    ["Events so far", count(state.sequence)],
    ["Seen like this", when(state.seen_at)],
    ...Object.entries(state.fields).map(([name, value]) => [fieldName(name), fieldValue(name, value)]),
  ];
}

/** GET /v1/entities/{source}/{id}/explain. */
function reasons(ctx, path) {
  return part(ctx, async () => {
    const told = await get(`${path}/explain`, null, ctx.signal);
    return [
      el(
        "ul",
        {},
        told.no_event.map((one) => el("li", {}, one.detail)),
      ),
      el("p", { class: "muted" }, "Last good poll of its source: ", when(told.last_good_poll_at)),
    ];
  });
}

/** How many deliveries came to what; which ones, the event says. */
function outcomes(one) {
  if (!one.deliveries.length) return one.data.erased ? none("erased") : "nobody's";
  const counts = {};
  for (const { status } of one.deliveries) counts[status] = (counts[status] ?? 0) + 1;
  const told = Object.entries(KINDS).filter(([status]) => counts[status]);
  const badges = told.map(([status, kind]) => [badge(`${count(counts[status])} ${status}`, kind), " "]);
  return eventLink(one, badges);
}
