// One subscriber: how it is doing, what it asks for, and everything that can be done about it.

import { soon } from "./again.js";
import { get, v1 } from "./api.js";
import { badge, block, button, el, facts, heading, href, link, long, none, whole } from "./dom.js";
import { deliveryColumns, redeliver } from "./deliveries.js";
import { confirm } from "./dialogs.js";
import { count, counted, milliseconds, seconds, share, since, when } from "./format.js";
import { paged, part, section } from "./parts.js";
import { replays } from "./replays.js";
import { nameOf, standing, stateBadge } from "./roster.js";
import { actions } from "./subscriber_actions.js";
import { backlog } from "./subscribers.js";
import { cut, ending } from "./words.js";

const TRIED_MS = 10_000;
const AT_ONCE = 20;

export async function subscriberView(ctx, id) {
  const first = await get(v1("subscribers", id), null, ctx.signal);
  let letters = null;
  const health = part(ctx, async () => {
    const told = await get(v1("subscribers", id, "health"), null, ctx.signal);
    const changed = letters !== null && letters !== told.dead_letters;
    letters = told.dead_letters;
    if (changed && dead.querySelectorAll("tbody tr").length <= AT_ONCE) dead.refresh(); // the count and the list agree
    return healthOf(told);
  });
  let known = first;
  let ended = null; // the rest that was ended from here, until the relay tells of another, or of none
  const about = part(ctx, async () => {
    const one = known ?? (await get(v1("subscribers", id), null, ctx.signal));
    known = null;
    if (one.state.resting_until !== ended) ended = null;
    return [head(one, ended), actions(one, refresh, tried)];
  });
  function tried(rest) {
    ended = rest;
    setTimeout(() => (ended = null), TRIED_MS);
    soon(ctx.signal, refresh);
  }
  const wanted = part(ctx, async () => settings(await get(v1("subscribers", id), null, ctx.signal)));
  const all = button("Redeliver all", () =>
    confirm({
      title: "Redeliver all dead letters?",
      text: "Each is due now, with the id that it had. A subscriber that rests gets them after its next try.",
      action: "Redeliver",
      act: () => redeliver({ subscriber_id: id, status: "dead" }, redelivering),
    }),
  );
  all.hidden = true;
  const dead = paged(ctx, {
    columns: deliveryColumns(["subscriber", "next", "status"], { changed: () => redelivering() }),
    caption: "Dead letters",
    read: (cursor) => get("/v1/deliveries", { subscriber_id: id, status: "dead", cursor, limit: AT_ONCE }, ctx.signal),
    loaded: (rows) => {
      all.hidden = !rows;
    },
    nothing: () => el("p", { class: "muted" }, "None. A delivery becomes one when its last retry has failed."),
  });
  function redelivering() {
    soon(ctx.signal, () => [dead, health].forEach((one) => one.refresh()));
  }
  function refresh() {
    for (const one of [health, about, wanted]) one.refresh();
  }
  ctx.every(5000, () => {
    about.refresh();
    health.refresh();
  });
  return {
    title: cut(nameOf(first), 120),
    content: [
      about,
      section("Health", health, el("a", { href: href(["deliveries"], { subscriber_id: id }) }, "All its deliveries")),
      section("Dead letters", dead, all),
      section("Replays", replays(ctx, id)),
      section("What it asks for", wanted, link(["subscribers", id, "edit"], "Edit")),
    ],
  };
}

/** Who it is and how it stands; a rest that has just been ended is not told of as if it went on. */
function head(one, ended) {
  const name = one.description || "Subscriber";
  const now = ended ? { ...one, state: { ...one.state, resting_until: null } } : one;
  const title = heading(1, cut(name, 120), stateBadge(now), ended ? badge("being tried", "idle") : null);
  return [title, long(one.url), standing(now.state)];
}

function healthOf(told) {
  const { backlog: waits, recent, last_failure: failure, last_failure_at: failedAt } = told;
  const failed = failure ? `: ${ending(failure)}, after ${milliseconds(failure.duration_ms)}` : "";
  return [
    facts([
      ["Backlog", waits.count ? [`${backlog(told)} pending, the oldest `, since(waits.oldest_at)] : "nothing waits"],
      ["Dead letters", count(told.dead_letters)],
      ["Last success", told.last_success_at ? since(told.last_success_at) : none("never")],
      ["Latest attempts", recent.attempts ? lately(recent) : none("never any")],
      ["Last failure", failedAt ? [since(failedAt), failed] : none("never")],
      failure?.detail ? ["Its detail", failure.detail] : null,
    ]),
    failure?.response_body
      ? el("details", {}, el("summary", {}, "What it answered"), block(failure.response_body, "answer's body"))
      : null,
  ];
}

function lately(recent) {
  const attempts = counted(recent.attempts, "attempt");
  return [`${share(recent.delivered, recent.attempts)} of ${attempts} since `, when(recent.since, { short: true })];
}

function settings(one) {
  const filter = Object.entries(one.filter).filter(([, values]) => values.length);
  return facts([
    ["Id", whole(one.id)],
    ["Description", one.description || null],
    ["Event types", el("span", { class: "mono" }, one.event_types.join(", "))],
    [
      "Filter",
      filter.length
        ? filter.map(([name, values]) => el("div", {}, `${name}: ${values.join(", ")}`))
        : "none: every event of these types",
    ],
    ["Format", one.format],
    ["Signature", one.signature === "v1a" ? ["v1a ", whole(one.public_key ?? "")] : "v1 (HMAC-SHA256)"],
    one.previous_secrets.length
      ? ["Older secrets", one.previous_secrets.map(({ until }) => el("div", {}, "one signs too until ", when(until)))]
      : null,
    one.previous_public_keys.length
      ? [
          "Older keys",
          one.previous_public_keys.map((key) => el("div", {}, long(key.public_key), " until ", when(key.until))),
        ]
      : null,
    [
      "Headers",
      Object.keys(one.headers).length
        ? Object.entries(one.headers).map(([name, value]) => el("div", {}, long(`${name}: ${value}`)))
        : "none of its own",
    ],
    ["Ordering", one.ordering],
    ["In flight", `${count(one.max_in_flight)} at most`],
    ["Rate", one.rate_per_s ? `${one.rate_per_s} per second at most` : "as fast as it answers"],
    ["Time-out", seconds(one.timeout_s)],
    ["Retries after", one.retry_schedule_s ? one.retry_schedule_s.map(seconds).join(", ") : "the relay's own schedule"],
    ["Private fields", one.include_pii ? badge("sent", "warn") : "left out (IP address, geolocation)"],
    ["Registered", when(one.created_at)],
    ["Changed", when(one.updated_at)],
  ]);
}
