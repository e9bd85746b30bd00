// One entity: its last known state, and everything that was told of it.

import { get, v1 } from "./api.js";
import { badge, block, el, facts, heading, link, long } from "./dom.js";
import { when } from "./format.js";
import { empty, paged, part, section } from "./parts.js";

const COLUMNS = [
  { title: "No.", kind: "number", cell: (one) => one.sequence ?? one.data?.sequence },
  { title: "Seen", cell: (one) => when(one.timestamp ?? one.at) },
  {
    title: "Event",
    cell: (one) => link(["events", one.event_id ?? one.id ?? one.data?.event_id], one.type ?? one.event_type),
  },
  {
    title: "Transition",
    cell: (one) => {
      const { from, to } = one.transition ?? one.data?.transition ?? {};
      return `${from ?? "–"} → ${to ?? "–"}`;
    },
  },
  { title: "Deliveries", cell: (one) => outcomes(one.deliveries ?? []) },
];
const KINDS = { delivered: "good", pending: "idle", dead: "bad", cancelled: "warn" };

export async function entityView(ctx, source, id) {
  const path = v1("entities", source, id);
  const first = await get(path, null, ctx.signal);
  const timeline = paged(ctx, {
    columns: COLUMNS,
    caption: "What was told of it",
    read: async (cursor) => {
      const read = cursor ? await get(path, { cursor }, ctx.signal) : first;
      return {
        data: read.timeline?.data ?? read.timeline ?? read.events ?? [],
        next_cursor: read.timeline?.next_cursor ?? read.next_cursor ?? null,
      };
    },
    nothing: () =>
      empty(
        "No event of it is kept.",
        el("p", {}, "Its state is known from a silent baseline, or its events have outlived their retention."),
      ),
  });
  return {
    title: `${source} ${id}`,
    content: [
      heading(1, "Entity", badge(source, "idle")),
      part(ctx, async () => state(source, id, first)),
      section(
        "Timeline",
        timeline,
        el(
          "a",
          { href: `#/events?entity_id=${encodeURIComponent(id)}&source=${encodeURIComponent(source)}` },
          "Follow it",
        ),
      ),
    ],
  };
}

function state(source, id, read) {
  const known = read.state ?? read.snapshot ?? null;
  return [
    facts([
      ["Id", long(id)],
      ["Source", link(["sources", source], source)],
    ]),
    known ? block(known, "last known state") : null,
  ];
}

function outcomes(deliveries) {
  return deliveries.map((one) => [
    el(
      "a",
      { href: `#/deliveries/${encodeURIComponent(one.id)}`, title: one.subscriber_id },
      badge(one.status, KINDS[one.status] ?? "idle"),
    ),
    " ",
  ]);
}
