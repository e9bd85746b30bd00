// Subscribers: all of them, to be searched, filtered and sorted, with how each is doing.

import { get, v1 } from "./api.js";
import { button, command, el, fill, heading, href, link, long, none } from "./dom.js";
import { count, counted, share, since, when } from "./format.js";
import { choice, text } from "./forms.js";
import { empty, table } from "./parts.js";
import { STATES, fits, nameOf, roster, stateBadge, tally } from "./roster.js";

const AT_ONCE = 4;
const STEP = 50;
const FIRST = "attention";
const ORDERS = {
  attention: ["Failing first", (one, other) => rank(one) - rank(other)],
  registered: ["As registered", null],
  name: ["By name", (one, other) => nameOf(one).localeCompare(nameOf(other), undefined, { numeric: true })],
};

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
  const { items, complete } = await roster(ctx.signal);
  const head = heading(1, "Subscribers", link(["subscribers", "new"], "Register a subscriber"));
  if (!items.length) return { title: "Subscribers", content: [head, firstSubscriber()] };
  const turns = limited(AT_ONCE);
  const told = el("p", { class: "muted", role: "status" });
  const place = el("div", {});
  const more = button("Show more", () => grow());
  let fitting = [];
  let shown = null;
  function grow() {
    const from = shown.rowsShown.length;
    shown.add(fitting.slice(from, from + STEP));
    tell();
    if (more.hidden) shown.rowsShown[from]?.querySelector("a")?.focus();
  }
  function tell() {
    const first = complete ? "" : `Only the first ${count(items.length)} that were registered are searched. `;
    const of =
      fitting.length === items.length ? counted(items.length, "subscriber") : `${count(fitting.length)} that fit`;
    fill(told, `${first}${count(shown.rowsShown.length)} of ${of} shown`);
    more.hidden = shown.rowsShown.length === fitting.length;
  }
  function apply(wanted) {
    fitting = chosen(items, wanted);
    shown = table(columns(ctx, turns), fitting.slice(0, STEP), "Subscribers");
    fill(
      place,
      fitting.length ? shown : empty("No subscriber fits.", el("p", {}, "Search for a part of a name or URL.")),
    );
    tell();
  }
  const form = filters(items, ctx.query, apply);
  return { title: "Subscribers", content: [head, form, place, el("div", { class: "foot" }, told, more)] };
}

function chosen(items, { q, state, order }) {
  const some = items.filter((one) => (!q || fits(one, q)) && (!state || one.state.status === state));
  const compare = ORDERS[order]?.[1];
  return compare ? some.sort(compare) : some;
}

function rank(one) {
  const at = STATES.indexOf(one.state.status);
  return at < 0 ? -1 : at;
}

/** Controls that act at once; what they say is part of the address. */
function filters(items, query, apply) {
  const counts = tally(items);
  const words = text(query.q ?? "", {
    type: "search",
    "aria-label": "Name or URL",
    placeholder: "Part of a name or URL",
  });
  const state = choice(
    [
      ["", `Any state (${count(items.length)})`],
      ...Object.entries(counts).map(([name, all]) => [name, `${name} (${count(all)})`]),
    ],
    query.state ?? "",
    { "aria-label": "State" },
  );
  const order = choice(
    Object.entries(ORDERS).map(([name, [label]]) => [name, label]),
    query.order ?? FIRST,
    { "aria-label": "Order" },
  );
  function act() {
    const wanted = { q: words.value.trim(), state: state.value, order: order.value };
    const said = { ...wanted, order: wanted.order === FIRST ? "" : wanted.order };
    history.replaceState(null, "", href(["subscribers"], said));
    apply(wanted);
  }
  const form = el(
    "form",
    { class: "filters", novalidate: true, role: "search", "aria-label": "Subscribers" },
    words,
    state,
    order,
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", act);
  apply({ q: words.value.trim(), state: state.value, order: order.value });
  return form;
}

function columns(ctx, turns) {
  return [
    {
      title: "Subscriber",
      kind: "subject",
      cell: (one) => [
        long(nameOf(one), ["subscribers", one.id], ""),
        one.description ? long(one.url, null, "mono muted") : null,
      ],
    },
    {
      title: "State",
      cell: (one) => [stateBadge(one), lately(one.state)],
    },
    { title: "Event types", cell: (one) => long(one.event_types.join(", ")) },
    { title: "Backlog", kind: "number", cell: (one) => health(ctx, turns, one, "backlog") },
    { title: "Dead letters", kind: "number", cell: (one) => health(ctx, turns, one, "dead") },
    { title: "Success lately", kind: "number", cell: (one) => health(ctx, turns, one, "share") },
    { title: "Last success", cell: (one) => health(ctx, turns, one, "success") },
  ];
}

/** Since when it fails, and until when it rests. */
function lately({ failing_since: from, resting_until: until }) {
  if (!from && !until) return null;
  const rest = until ? [from ? ", " : "", "rests until ", when(until, { short: true })] : null;
  return el("div", { class: "hint" }, from ? ["since ", when(from, { short: true })] : null, rest);
}

const CELLS = {
  backlog,
  dead: (told, one) =>
    told.dead_letters
      ? el("a", { href: href(["deliveries"], { subscriber_id: one.id, status: "dead" }) }, count(told.dead_letters))
      : "0",
  share: (told) => share(told.recent.delivered, told.recent.attempts),
  success: (told) => (told.last_success_at ? since(told.last_success_at) : none("never")),
};

/** A cell of a subscriber's health, which is asked for once for all its cells. */
function health(ctx, turns, one, what) {
  const cell = el("span", {}, none("…"));
  one.health ??= turns(() => get(v1("subscribers", one.id, "health"), null, ctx.signal));
  one.health.then(
    (told) => fill(cell, CELLS[what](told, one)),
    () => fill(cell, none("?")),
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
