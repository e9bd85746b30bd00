// Why an event came to be, and why each subscriber gets it, or not, or not yet.

import { get, v1 } from "./api.js";
import { badge, el, facts, href, long, none } from "./dom.js";
import { wait } from "./delivery.js";
import { status } from "./deliveries.js";
import { fieldName, fieldValue, seconds } from "./format.js";
import { empty, paged, part, section, table } from "./parts.js";
import { namesOf, roster } from "./roster.js";

const COLUMNS = [
  {
    title: "Subscriber",
    kind: "subject",
    cell: (one) => long(one.name, ["subscribers", one.subscriber_id], ""),
  },
  { title: "Delivery", cell: (one) => outcome(one) },
  { title: "Why", cell: (one) => reasons(one) },
  {
    title: "Attempts",
    cell: (one) =>
      one.delivery
        ? el(
            "a",
            { href: href(["deliveries", one.delivery.id]), "aria-label": "Attempts of this delivery" },
            String(one.delivery.attempts.length),
          )
        : none(),
  },
];
const CHANGES = [
  { title: "Field", cell: ([name]) => fieldName(name) },
  { title: "From", cell: ([name, change]) => fieldValue(name, change.from) },
  { title: "To", cell: ([name, change]) => fieldValue(name, change.to) },
];

/** GET /v1/events/{id}/explain, as sections of the event's view. */
export function explained(ctx, id) {
  const path = v1("events", id, "explain");
  const first = once(() => get(path, null, ctx.signal));
  const names = once(async () => namesOf((await roster(ctx.signal)).items));
  const why = part(ctx, async () => seen(await first()));
  const who = paged(ctx, {
    columns: COLUMNS,
    caption: "Subscribers and this event",
    read: async (cursor) => {
      const [page, known] = await Promise.all([cursor ? get(path, { cursor }, ctx.signal) : first(), names()]);
      const data = page.data.map((one) => ({ ...one, name: known[one.subscriber_id] ?? one.subscriber_id }));
      return { ...page, data };
    },
    nothing: () => empty("Nobody is subscribed."),
  });
  return [section("Subscribers", who), section("How it was seen", why)];
}

/** What `ask` answers, asked for once; again only after it has failed. */
function once(ask) {
  let asked = null;
  return () => {
    asked ??= ask().catch((error) => {
      asked = null;
      throw error;
    });
    return asked;
  };
}

function seen(told) {
  const { observed } = told;
  const changes = Object.entries(told.changes);
  return [
    facts([
      ["Meaning", told.meaning],
      ["Rule", told.rule],
      ["Happened within", observed.within_s === null ? "first sight of its entity" : seconds(observed.within_s)],
      ["Source is polled every", observed.poll_interval_s === null ? null : seconds(observed.poll_interval_s)],
    ]),
    changes.length ? el("div", { class: "below" }, table(CHANGES, changes, "Changed fields")) : null,
  ];
}

function outcome(one) {
  if (one.delivery) return status(one.delivery);
  return badge(one.verdict === "refused" ? "not wanted" : "none", "idle");
}

function reasons(one) {
  if (one.waits.length) {
    return one.waits.map(wait);
  }
  if (!one.refused_by) return one.delivery ? none() : one.detail;
  const { condition, allowed, value } = one.refused_by;
  if (condition === "erased") return "what it said was erased: it is for nobody";
  return `${condition} is ${value ?? "empty"}, and only ${allowed.join(", ")} will do`;
}
