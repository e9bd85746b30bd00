// Subscribers: who they are and how each is doing; the first one's registration as a line for the terminal.

import { get, v1 } from "./api.js";
import { badge, command, el, heading, link, long, none } from "./dom.js";
import { count, share, since } from "./format.js";
import { empty, paged } from "./parts.js";

const KINDS = { ok: "good", failing: "bad", disabled: "warn" };
const AT_ONCE = 4;

/** How a subscriber stands, in a word. */
export function stateBadge(one) {
  return badge(one.state.status, KINDS[one.state.status] ?? "idle");
}

/** How many deliveries wait; `1,000+` where the count was given up. */
export function backlog(health) {
  return `${count(health.backlog.count)}${health.backlog.complete ? "" : "+"}`;
}

/** What to do where nobody is subscribed. */
export function firstSubscriber() {
  const lines = [
    `curl -X POST ${location.origin}/v1/subscribers \\`,
    '  -H "Authorization: Bearer $(cat .relay/admin-token)" -H "Content-Type: application/json" \\',
    `  -d '{"url": "https://lms.example.org/hooks", "event_types": ["lab.*", "session.completed"]}'`,
  ];
  return empty(
    "Nobody is subscribed yet.",
    el("p", {}, link(["subscribers", "new"], "Register a subscriber"), ", or do it from a terminal:"),
    command(lines.join("\n")),
  );
}

export async function subscriberList(ctx) {
  const turns = limited(AT_ONCE);
  const list = paged(ctx, {
    caption: "Subscribers",
    columns: [
      {
        title: "Subscriber",
        cell: (one) => [
          long(one.description || one.url, ["subscribers", one.id], ""),
          one.description ? long(one.url, null, "mono muted") : null,
        ],
      },
      {
        title: "State",
        cell: (one) => [
          stateBadge(one),
          one.state.failing_since ? [" since ", since(one.state.failing_since)] : null,
        ],
      },
      { title: "Event types", cell: (one) => long(one.event_types.join(", ")) },
      { title: "Backlog", kind: "number", cell: (one) => health(ctx, turns, one, "backlog") },
      { title: "Dead letters", kind: "number", cell: (one) => health(ctx, turns, one, "dead") },
      { title: "Success lately", kind: "number", cell: (one) => health(ctx, turns, one, "share") },
      { title: "Last success", cell: (one) => health(ctx, turns, one, "success") },
    ],
    read: (cursor) => get("/v1/subscribers", { cursor }, ctx.signal),
    nothing: firstSubscriber,
  });
  return {
    title: "Subscribers",
    content: [heading(1, "Subscribers", link(["subscribers", "new"], "Register a subscriber")), list],
  };
}

/** A cell of a subscriber's health, which is asked for once for all its cells. */
function health(ctx, turns, one, what) {
  const cell = el("span", {}, none("…"));
  one.health ??= turns(() => get(v1("subscribers", one.id, "health"), null, ctx.signal));
  one.health.then(
    (told) => {
      if (what === "backlog") cell.replaceChildren(backlog(told));
      else if (what === "dead")
        cell.replaceChildren(
          told.dead_letters
            ? el(
                "a",
                { href: `#/deliveries?subscriber_id=${encodeURIComponent(one.id)}&status=dead` },
                count(told.dead_letters),
              )
            : "0",
        );
      else if (what === "share") cell.replaceChildren(share(told.recent.delivered, told.recent.attempts));
      else cell.replaceChildren(told.last_success_at ? since(told.last_success_at) : none("none lately"));
    },
    () => cell.replaceChildren(none("?")),
  );
  return cell;
}

/** A function that runs what it is given, so many at a time. */
function limited(most) {
  const waiting = [];
  let running = 0;
  function next() {
    if (running >= most || !waiting.length) return;
    running += 1;
    const [act, resolve, reject] = waiting.shift();
    act()
      .then(resolve, reject)
      .finally(() => {
        running -= 1;
        next();
      });
  }
  return (act) =>
    new Promise((resolve, reject) => {
      waiting.push([act, resolve, reject]);
      next();
    });
}
