// Deliveries: what became of events, and making many of them again.

import { all, get, post, v1 } from "./api.js";
import { badge, button, el, heading, href, link, long, none } from "./dom.js";
import { attempt, confirm } from "./dialogs.js";
import { counted, since, when } from "./format.js";
import { choice, text } from "./forms.js";
import { empty, paged } from "./parts.js";

/** How a status looks. */
export const KINDS = { delivered: "good", pending: "idle", dead: "bad", cancelled: "warn" };
const STATUSES = [
  ["", "Any status"],
  ["pending", "Pending"],
  ["delivered", "Delivered"],
  ["dead", "Dead letters"],
  ["cancelled", "Cancelled"],
];

/** Columns of a list of deliveries, without those that the list is about. */
export function deliveryColumns(without = [], ctx = null) {
  const columns = [
    {
      name: "event",
      title: "Event",
      cell: (one) => (one.event_id ? long(one.event_type, ["events", one.event_id], "") : none("kept no longer")),
    },
    { name: "at", title: "Entered the log", cell: (one) => when(one.event_at, { short: true }) },
    {
      name: "subscriber",
      title: "Subscriber",
      cell: (one) =>
        long(ctx?.names?.[one.subscriber_id] ?? one.subscriber_id, ["subscribers", one.subscriber_id], ""),
    },
    { name: "status", title: "Status", cell: (one) => status(one) },
    { name: "attempts", title: "Attempts", kind: "number", cell: (one) => one.attempts ?? "–" },
    { name: "next", title: "Next attempt", cell: (one) => since(one.next_attempt_at) },
    {
      name: "open",
      title: "Delivery",
      cell: (one) =>
        one.id
          ? el("a", { href: href(["deliveries", one.id]), "aria-label": `Delivery of ${one.event_type}` }, "Attempts")
          : none(),
    },
    { name: "again", title: "", cell: (one) => (one.id ? redeliverOne(one) : none()) },
  ];
  return columns.filter((one) => !without.includes(one.name));
}

function redeliverOne(one) {
  async function act(pressed) {
    const done = await attempt(() => post(v1("deliveries", one.id, "redeliver")), "It goes out again now.");
    if (done) pressed.replaceWith(badge("due now", "idle"));
  }
  return button("Redeliver", act, { kind: "small", describe: `Redeliver ${one.event_type}` });
}

/** How a delivery stands. */
export function status(one) {
  return [badge(one.status, KINDS[one.status] ?? "idle"), one.cause ? ` (${one.cause}'s failure)` : ""];
}

export async function deliveryList(ctx) {
  const subscribers = await all("/v1/subscribers", ctx.signal);
  const wanted = {};
  for (const name of ["subscriber_id", "status", "event_type", "cause", "event_id"])
    wanted[name] = ctx.query[name] ?? "";
  if (wanted.status !== "dead") wanted.cause = "";
  const names = Object.fromEntries(subscribers.map((one) => [one.id, one.description || one.url]));
  const list = paged(ctx, {
    columns: deliveryColumns(wanted.status === "dead" ? [] : ["again"], { names }),
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
        again(wanted, names, list),
      ),
      filters(wanted, subscribers),
      list,
    ],
  };
}

/** Make again what the filters name. */
function again(wanted, names, list) {
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
      act: () => redeliver(wanted, list),
    }),
  );
}

/** Make deliveries again that a filter names. */
export async function redeliver(wanted, list) {
  const body = { status: wanted.status };
  if (wanted.subscriber_id) body.subscriber_id = wanted.subscriber_id;
  else if (!wanted.event_id) body.all = true;
  if (wanted.event_id) body.event_id = wanted.event_id;
  if (wanted.event_type) body.event_types = [wanted.event_type];
  if (wanted.cause) body.cause = wanted.cause;
  await attempt(
    () => post("/v1/deliveries/redeliver", body),
    (done) => `${counted(done.count, "delivery", "deliveries")} made due now.`,
  );
  list.refresh();
}

function filters(wanted, subscribers) {
  const whose = choice(
    [["", "Every subscriber"], ...subscribers.map((one) => [one.id, one.description || one.url])],
    wanted.subscriber_id,
    { "aria-label": "Subscriber" },
  );
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
    location.hash = href(["deliveries"], {
      subscriber_id: whose.value,
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
