// Deliveries: what became of events, and making many of them again.

import { soon } from "./again.js";
import { get, post, v1 } from "./api.js";
import { badge, button, el, heading, href, link, long, none } from "./dom.js";
import { attempt, confirm } from "./dialogs.js";
import { counted, moment, since, when } from "./format.js";
import { choice, text } from "./forms.js";
import { empty, paged } from "./parts.js";
import { picker } from "./picker.js";
import { namesOf, roster } from "./roster.js";
import { waiting } from "./words.js";

/** How a status looks. */
export const KINDS = { delivered: "good", pending: "idle", dead: "bad", cancelled: "warn" };
const STATUSES = [
  ["", "Any status"],
  ["pending", "Pending"],
  ["delivered", "Delivered"],
  ["dead", "Dead letters"],
  ["cancelled", "Cancelled"],
];

/** In what order the API tells them. */
const ORDERS = {
  "": "Some of what has not been attempted comes first, then the latest attempt first, then the rest of the queue.",
  pending: "By their next attempt, the earliest first; then what has not been attempted.",
  delivered: "The latest attempt first.",
  dead: "The one that died last comes first.",
  cancelled: "The latest attempt first.",
  event: "By subscriber.",
};

/** Columns of a list of deliveries, without those that the list is about; `changed` is called after a redelivery. */
export function deliveryColumns(without = [], ctx = null) {
  const columns = [
    {
      name: "event",
      title: "Event",
      kind: "subject",
      cell: (one) => (one.event_id ? long(one.event_type, ["events", one.event_id], "") : none("kept no longer")),
    },
    { name: "at", title: "Entered the log", cell: (one) => when(one.event_at, { short: true }) },
    {
      name: "subscriber",
      title: "Subscriber",
      cell: (one) => long(ctx?.names?.[one.subscriber_id] ?? one.subscriber_id, ["subscribers", one.subscriber_id], ""),
    },
    { name: "died", title: "Given up", cell: (one) => when(one.died_at, { short: true }) },
    { name: "status", title: "Status", cell: (one) => status(one) },
    { name: "next", title: "Next attempt", cell: (one) => next(one) },
    { name: "open", title: "Delivery", cell: (one) => (one.id ? attempts(one) : none()) },
    { name: "again", title: "", cell: (one) => (one.id ? redeliverOne(one, ctx.changed) : none()) },
  ];
  return columns.filter((one) => !without.includes(one.name));
}

function attempts(one) {
  const made = one.attempts === null ? "attempts" : counted(one.attempts, "attempt");
  const to = { href: href(["deliveries", one.id]), "aria-label": `Delivery of ${one.event_type}, ${made}` };
  return el("a", to, made);
}

function redeliverOne(one, changed) {
  async function act() {
    if (await attempt(() => post(v1("deliveries", one.id, "redeliver")), redelivered)) changed();
  }
  return button("Redeliver", act, { kind: "small", key: one.id, describe: `Redeliver ${one.event_type}` });
}

/** What a redelivery has come to so far: it may have to wait for its subscriber. */
export function redelivered(done) {
  const resting = done.waits.find((one) => one.reason === "resting");
  if (resting)
    return `Asked for: ${resting.detail}${resting.until ? `, next at ${moment(new Date(resting.until))}` : ""}.`;
  return done.note ? `Asked for: ${done.note}.` : "It is due now.";
}

/** When a delivery goes out, or what it waits for where no time is known. */
function next(one) {
  if (one.status !== "pending") return none();
  const why = one.waits_for && one.waits_for !== "retry" ? waiting(one.waits_for) : null;
  if (new Date(one.next_attempt_at) > new Date()) return [since(one.next_attempt_at), why ? ` (${why})` : null];
  return why ?? waiting(one.next_attempt_at ? "due" : "queued");
}

/** How a delivery stands. */
export function status(one) {
  return [badge(one.status, KINDS[one.status] ?? "idle"), one.cause ? ` (${one.cause}'s failure)` : ""];
}

export async function deliveryList(ctx) {
  const { items: subscribers } = await roster(ctx.signal);
  const wanted = {};
  for (const name of ["subscriber_id", "status", "event_type", "cause", "event_id"])
    wanted[name] = ctx.query[name] ?? "";
  if (wanted.status !== "dead") wanted.cause = "";
  const names = namesOf(subscribers);
  const changed = () => soon(ctx.signal, () => list.refresh());
  const list = paged(ctx, {
    columns: deliveryColumns(wanted.status === "dead" ? ["next"] : ["again", "died"], { names, changed }),
    caption: "Deliveries",
    read: (cursor) => get("/v1/deliveries", { ...wanted, cursor }, ctx.signal),
    nothing: () => nothing(wanted, subscribers.length),
  });
  return {
    title: "Deliveries",
    content: [
      heading(
        1,
        wanted.status === "dead" ? "Dead letters" : "Deliveries",
        button("Refresh", list.refresh),
        again(wanted, names, changed),
      ),
      filters(wanted, subscribers),
      el("p", { class: "muted" }, ORDERS[wanted.event_id ? "event" : wanted.status]),
      list,
    ],
  };
}

/** Make again what the filters name. */
function again(wanted, names, changed) {
  if (!["dead", "pending", "delivered"].includes(wanted.status)) return null;
  const whose = wanted.subscriber_id
    ? `of ${names[wanted.subscriber_id] ?? wanted.subscriber_id}`
    : "of every subscriber";
  const what = {
    dead: "dead letters",
    pending: "pending deliveries (their retries are due now)",
    delivered: "delivered events, once more",
  }[wanted.status];
  const type = wanted.event_type ? ` of type ${wanted.event_type}` : "";
  const cause = wanted.cause ? `, failed by the ${wanted.cause}` : "";
  return button("Redeliver all that match", () =>
    confirm({
      title: "Redeliver all that match?",
      text: `All ${what} ${whose}${type}${cause}. The ids stay the same.`,
      action: "Redeliver",
      act: () => redeliver(wanted, changed),
    }),
  );
}

/** Make deliveries again that a filter names. */
export async function redeliver(wanted, changed) {
  const body = { status: wanted.status };
  if (wanted.subscriber_id) body.subscriber_id = wanted.subscriber_id;
  else if (!wanted.event_id) body.all = true;
  if (wanted.event_id) body.event_id = wanted.event_id;
  if (wanted.event_type) body.event_types = [wanted.event_type];
  if (wanted.cause) body.cause = wanted.cause;
  await attempt(
    () => post("/v1/deliveries/redeliver", body),
    (done) => `${counted(done.count, "delivery", "deliveries")} made due now${done.note ? `: ${done.note}` : ""}.`,
  );
  changed();
}

function filters(wanted, subscribers) {
  const whose = picker(subscribers, wanted.subscriber_id);
  const how = choice(STATUSES, wanted.status, { "aria-label": "Status" });
  const cause = choice(
    [
      ["", "Whoever failed"],
      ["subscriber", "The subscriber failed"],
      ["relay", "The relay failed"],
    ],
    wanted.cause,
    { "aria-label": "Cause", hidden: wanted.status !== "dead" },
  );
  const type = text(wanted.event_type, { placeholder: "lab.* or session.completed", "aria-label": "Event type" });
  const event = text(wanted.event_id, { placeholder: "Event id", "aria-label": "Event id" });
  const form = el(
    "form",
    { class: "filters", novalidate: true },
    whose,
    how,
    cause,
    type,
    event,
    el("button", {}, "Filter"),
    Object.values(wanted).some(Boolean) ? link(["deliveries"], "All deliveries") : null,
  );
  form.addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    const subscriber = whose.chosen();
    if (subscriber === null) return;
    location.hash = href(["deliveries"], {
      subscriber_id: subscriber,
      status: how.value,
      cause: how.value === "dead" ? cause.value : "",
      event_type: type.value.trim(),
      event_id: event.value.trim(),
    });
  });
  for (const one of [whose, how, cause]) one.addEventListener("change", () => form.requestSubmit());
  return form;
}

function nothing(wanted, subscribers) {
  if (wanted.status === "dead")
    return empty(
      "No dead letters.",
      el("p", {}, "A delivery becomes one when its last retry has failed, or when its event outlives its retention."),
    );
  if (!subscribers)
    return empty(
      "Nobody is subscribed.",
      el(
        "p",
        {},
        link(["subscribers", "new"], "Register a subscriber"),
        ": from then on every event that it asks for is delivered.",
      ),
    );
  return empty(
    "No delivery fits.",
    el(
      "p",
      {},
      "Events are delivered to subscribers that were registered before they happened; " +
        "choose other filters, or wait for an event.",
    ),
  );
}
