// One delivery with its attempts: what was answered, how long each phase took, and once more.

import { get, post, v1 } from "./api.js";
import { block, button, el, facts, heading, link, long, none, whole } from "./dom.js";
import { redelivered, status } from "./deliveries.js";
import { attempt } from "./dialogs.js";
import { milliseconds, since, when } from "./format.js";
import { empty, part, section, table } from "./parts.js";
import { nameOf } from "./roster.js";
import { afterwards, ending } from "./words.js";

const COLUMNS = [
  { title: "No.", kind: "number", cell: (one) => one.attempt_no },
  { title: "At", cell: (one) => when(one.at) },
  { title: "Outcome", cell: (one) => ending(one) },
  { title: "Then", cell: (one) => afterwards(one.verdict) },
  { title: "Took", kind: "number", cell: (one) => milliseconds(one.duration_ms) },
  { title: "DNS", kind: "number", cell: (one) => milliseconds(one.dns_ms) },
  { title: "Connect", kind: "number", cell: (one) => milliseconds(one.connect_ms) },
  { title: "First byte", kind: "number", cell: (one) => milliseconds(one.first_byte_ms) },
  { title: "Detail", cell: (one) => one.detail || none() },
];

export async function deliveryView(ctx, id) {
  let whose = null;
  const shown = part(ctx, async () => {
    const one = await get(v1("deliveries", id), null, ctx.signal);
    whose ??= await subscriber(one.subscriber_id, ctx.signal);
    return [
      facts([
        ["Status", status(one)],
        ["Delivery", whole(one.id)],
        ["Event", [link(["events", one.event_id], one.event_type), " ", whole(one.event_id)]],
        ["Entered the log", when(one.event_at)],
        ["Subscriber", whose],
        one.died_at ? ["Given up", when(one.died_at)] : null,
        one.status === "pending" ? ["Next attempt", next(one)] : null,
        one.waits.length ? ["Waits", one.waits.map(wait)] : null,
      ]),
      section(
        "Attempts",
        one.attempts.length
          ? [table(COLUMNS, one.attempts, "Attempts, the oldest first"), answers(one)]
          : empty(
              "No attempt on record.",
              el("p", {}, one.status === "pending" ? "The first one is to come." : "Their record has expired."),
            ),
      ),
      one.attempts_complete
        ? null
        : el(
            "p",
            { class: "muted" },
            "There may have been more: their record has expired, or lies too far back to be searched.",
          ),
    ];
  });
  ctx.every(2000, shown.refresh);
  const again = button(
    "Redeliver",
    async () => {
      await attempt(() => post(v1("deliveries", id, "redeliver")), redelivered);
      shown.refresh();
    },
    { kind: "primary" },
  );
  return {
    title: "Delivery",
    content: [heading(1, "Delivery", again, link(["deliveries"], "All deliveries")), shown],
  };
}

function answers(one) {
  const told = one.attempts.filter((each) => each.response_body);
  if (!told.length) return null;
  const last = told.at(-1);
  return el(
    "div",
    {},
    el("h3", {}, `What attempt ${last.attempt_no} was answered`),
    block(last.response_body, "answer's body"),
  );
}

/** Who it is for, by name; of whoever was deleted only the id is left. */
async function subscriber(id, signal) {
  try {
    return long(nameOf(await get(v1("subscribers", id), null, signal)), ["subscribers", id], "");
  } catch (error) {
    if (error.status === 404) return [whole(id), " (deleted)"];
    throw error;
  }
}

function next(one) {
  if (!one.next_attempt_at) return none(one.waits.length ? "when what it waits for is over" : "the next in line");
  return [when(one.next_attempt_at), ", ", since(one.next_attempt_at)];
}

/** One of the things that it waits for. */
export function wait({ detail, until }) {
  const ahead = new Date(until) > new Date();
  return el("div", {}, ahead ? ["until ", when(until, { short: true }), " (", since(until), "): "] : null, detail);
}
