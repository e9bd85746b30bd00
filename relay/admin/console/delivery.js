// One delivery with its attempts: what was answered, how long each phase took, and once more.

import { get, post, v1 } from "./api.js";
import { block, button, el, facts, heading, link, long, none } from "./dom.js";
import { status } from "./deliveries.js";
import { attempt } from "./dialogs.js";
import { milliseconds, since, when } from "./format.js";
import { empty, part, section, table } from "./parts.js";

const COLUMNS = [
  { title: "No.", kind: "number", cell: (one) => one.attempt_no },
  { title: "At", cell: (one) => when(one.at) },
  { title: "Outcome", cell: (one) => [one.outcome, one.status_code ? ` ${one.status_code}` : ""] },
  { title: "Then", cell: (one) => one.verdict },
  { title: "Took", kind: "number", cell: (one) => milliseconds(one.duration_ms) },
  { title: "DNS", kind: "number", cell: (one) => milliseconds(one.dns_ms) },
  { title: "Connect", kind: "number", cell: (one) => milliseconds(one.connect_ms) },
  { title: "First byte", kind: "number", cell: (one) => milliseconds(one.first_byte_ms) },
  { title: "Detail", cell: (one) => one.detail || none() },
];

export async function deliveryView(ctx, id) {
  const shown = part(ctx, async () => {
    const one = await get(v1("deliveries", id), null, ctx.signal);
    return [
      facts([
        ["Status", status(one)],
        ["Delivery", long(one.id)],
        ["Event", long(`${one.event_type} ${one.event_id}`, ["events", one.event_id], "")],
        ["Entered the log", when(one.event_at)],
        ["Subscriber", long(one.subscriber_id, ["subscribers", one.subscriber_id])],
        ["Next attempt", one.next_attempt_at ? [when(one.next_attempt_at), ", ", since(one.next_attempt_at)] : null],
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
      await attempt(
        () => post(v1("deliveries", id, "redeliver")),
        (done) => (done.note ? `Asked for: ${done.note}.` : "It goes out again now."),
      );
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
