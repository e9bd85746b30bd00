// One subscriber: how it is doing, what it asks for, and everything that can be done about it.

import { call, get, post, v1 } from "./api.js";
import { badge, block, button, el, facts, heading, href, link, long, none } from "./dom.js";
import { deliveryColumns, redeliver } from "./deliveries.js";
import { attempt, confirm, open, showSecret } from "./dialogs.js";
import { count, counted, milliseconds, seconds, share, since, when } from "./format.js";
import { choice, field } from "./forms.js";
import { paged, part, section } from "./parts.js";
import { replays } from "./replays.js";
import { backlog, stateBadge } from "./subscribers.js";

const OVERLAPS = [
  ["0", "at once"],
  ["3600", "an hour"],
  ["86400", "a day"],
  ["604800", "a week"],
];

export async function subscriberView(ctx, id) {
  const first = await get(v1("subscribers", id), null, ctx.signal);
  const health = part(ctx, async () => healthOf(await get(v1("subscribers", id, "health"), null, ctx.signal)));
  let known = first;
  const about = part(ctx, async () => {
    const one = known ?? (await get(v1("subscribers", id), null, ctx.signal));
    known = null;
    return [head(one), actions(one, refresh)];
  });
  const wanted = part(ctx, async () => settings(await get(v1("subscribers", id), null, ctx.signal)));
  const dead = paged(ctx, {
    columns: deliveryColumns(["subscriber", "next", "status"]),
    caption: "Dead letters",
    read: (cursor) => get("/v1/deliveries", { subscriber_id: id, status: "dead", cursor, limit: 20 }, ctx.signal),
    nothing: () => el("p", { class: "muted" }, "None. A delivery becomes one when its last retry has failed."),
  });
  function refresh() {
    for (const one of [health, about, wanted]) one.refresh();
  }
  ctx.every(5000, () => {
    about.refresh();
    health.refresh();
  });
  const all = button("Redeliver all", () =>
    confirm({
      title: "Redeliver all dead letters?",
      text: "Each goes out again now, with the id that it had.",
      action: "Redeliver",
      act: () => redeliver({ subscriber_id: id, status: "dead" }, dead),
    }),
  );
  return {
    title: first.description || first.url,
    content: [
      about,
      section("Health", health, el("a", { href: href(["deliveries"], { subscriber_id: id }) }, "All its deliveries")),
      section("Dead letters", dead, all),
      section("Replays", replays(ctx, id)),
      section("What it asks for", wanted, link(["subscribers", id, "edit"], "Edit")),
    ],
  };
}

function head(one) {
  return [
    heading(1, one.description || "Subscriber", stateBadge(one)),
    long(one.url),
    one.state.reason
      ? el("p", {}, one.state.reason, one.state.failing_since ? [", since ", when(one.state.failing_since)] : null)
      : null,
  ];
}

function healthOf(told) {
  const { backlog: waits, recent, last_failure: failure } = told;
  return [
    facts([
      ["Backlog", waits.count ? [`${backlog(told)} pending, the oldest `, since(waits.oldest_at)] : "nothing waits"],
      ["Dead letters", count(told.dead_letters)],
      ["Last success", told.last_success_at ? since(told.last_success_at) : none("none lately")],
      ["Latest attempts", recent.attempts ? lately(recent) : "none on record lately"],
      failure
        ? ["Last failure", [since(failure.at), `: ${ending(failure)} after ${milliseconds(failure.duration_ms)}`]]
        : null,
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

function ending(made) {
  return made.status_code ? `${made.outcome} ${made.status_code}` : made.outcome;
}

function settings(one) {
  const filter = Object.entries(one.filter).filter(([, values]) => values.length);
  return facts([
    ["Id", long(one.id)],
    ["Event types", el("span", { class: "mono" }, one.event_types.join(", "))],
    [
      "Filter",
      filter.length
        ? filter.map(([name, values]) => el("div", {}, `${name}: ${values.join(", ")}`))
        : "none: every event of these types",
    ],
    ["Format", one.format],
    ["Signature", one.signature === "v1a" ? ["v1a ", long(one.public_key ?? "")] : "v1 (HMAC-SHA256)"],
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
    [
      "Retries after",
      one.retry_schedule_s ? one.retry_schedule_s.map(seconds).join(", ") : "the relay's own schedule",
    ],
    ["Private fields", one.include_pii ? badge("sent", "warn") : "left out (IP address, geolocation)"],
    ["Registered", when(one.created_at)],
    ["Changed", when(one.updated_at)],
  ]);
}

function actions(one, refresh) {
  const path = (action) => v1("subscribers", one.id, action);
  const turn = one.enabled
    ? button(
        "Disable",
        () =>
          confirm({
            title: "Disable this subscriber?",
            text: "Nothing is sent to it; its events wait in the log, and it gets them when it is enabled again.",
            action: "Disable",
            act: async () => {
              await post(path("disable"));
              refresh();
            },
          }),
        { key: "turn" },
      )
    : button(
        "Enable",
        async () => {
          await attempt(() => post(path("enable")), "Enabled: what waits goes out.");
          refresh();
        },
        { key: "turn", kind: "primary" },
      );
  const test = button(
    "Send a test",
    async () => {
      await attempt(async () => {
        const { attempt: made } = await post(path("test"));
        await open(made.outcome === "delivered" ? "The test was delivered" : "The test failed", (dialog, finish) => [
          facts([
            ["Outcome", ending(made)],
            ["Took", milliseconds(made.duration_ms)],
            ["Detail", made.detail],
          ]),
          made.response_body ? block(made.response_body, "answer's body") : null,
          el(
            "div",
            { class: "actions" },
            button("Close", () => finish(true), { kind: "primary" }),
          ),
        ]);
      });
    },
    { key: "test" },
  );
  const rotate = button(
    "Rotate secret",
    async () => {
      await rotation(one, path);
      refresh();
    },
    { key: "rotate" },
  );
  const remove = button(
    "Delete",
    async () => {
      const done = await confirm({
        title: "Delete this subscriber?",
        text: `Its dead letters go, and what waits for it is never sent. Nobody can undo this: ${one.url}`,
        action: "Delete for good",
        danger: true,
        act: () => call("DELETE", v1("subscribers", one.id)),
      });
      if (done) location.hash = "#/subscribers";
    },
    { kind: "danger", key: "delete" },
  );
  return el("div", { class: "actions" }, link(["subscribers", one.id, "edit"], "Edit"), test, turn, rotate, remove);
}

/** Ask for how long the old secret signs too, rotate, and show the new one. */
async function rotation(one, path) {
  const overlap = choice(OVERLAPS, "86400");
  let told = null;
  const done = await confirm({
    title: "Rotate the secret?",
    text: el(
      "div",
      {},
      field({
        label: "The old one signs too, until it ends",
        pointer: "/overlap_s",
        control: overlap,
        hint: "In that time every webhook carries a signature of each.",
      }),
    ),
    action: "Rotate",
    act: async () => {
      told = await post(path("rotate-secret"), { overlap_s: Number(overlap.value) });
    },
  });
  if (!done) return;
  if (told.secret) await showSecret(told.secret, "The new secret");
  else
    await open("The new public key", (dialog, finish) => [
      el("p", {}, "The receiver verifies with it:"),
      block(told.public_key, "public key"),
      el(
        "div",
        { class: "actions" },
        button("Close", () => finish(true), { kind: "primary" }),
      ),
    ]);
}
