// Sources: how fresh what the relay knows is, what it could not read, and polling now.

import { all, get, post, v1 } from "./api.js";
import { badge, button, el, facts, heading, href, link, long, none } from "./dom.js";
import { attempt } from "./dialogs.js";
import { count, counted, seconds, since, when } from "./format.js";
import { empty, part, section, table } from "./parts.js";
import { trouble } from "./words.js";

const KINDS = { ok: "good", failing: "warn", degraded: "bad", pending: "idle" };

const COLUMNS = [
  {
    title: "Source",
    kind: "subject",
    cell: (one) => [
      link(["sources", one.name], one.name),
      one.kind === one.name ? null : el("span", { class: "muted" }, ` ${one.kind}`),
    ],
  },
  { title: "Status", cell: (one) => health(one) },
  { title: "Last good poll", cell: (one) => since(one.last_good_poll_at) },
  { title: "Lag", kind: "number", cell: (one) => seconds(one.lag_s) },
  { title: "Read up to", cell: (one) => when(one.watermark, { short: true }) },
  { title: "Entities", kind: "number", cell: (one) => `${count(one.entities)} (${count(one.open_entities)} open)` },
  { title: "Not read", kind: "number", cell: (one) => counted(unread(one), "row") },
  { title: "", cell: (one) => pollNow(one) },
];

const SAMPLES = [
  { title: "At", cell: (one) => when(one.at, { short: true }) },
  { title: "Entity", cell: (one) => (one.entity_id ? long(one.entity_id) : none("unreadable")) },
  { title: "Field", cell: (one) => one.field ?? "the row" },
  { title: "Reason", cell: (one) => one.reason },
  { title: "Found", cell: (one) => one.shape },
];
const OVERDUE_S = 30;

/** A table of sources. */
export function sourceTable(sources) {
  if (!sources.length)
    return empty(
      "No source is configured.",
      el(
        "p",
        {},
        "Describe one in a TOML file ([sources.NAME]) and start the relay with --config, or try relay run --sandbox.",
      ),
    );
  return table(COLUMNS, sources, "Sources");
}

function health(one) {
  return [
    one.freshness === "stale" ? [badge("stale", "bad"), " "] : null,
    badge(one.status, KINDS[one.status] ?? "idle"),
    one.held_back ? [" ", badge("held back", "warn")] : null,
    one.error ? el("span", { class: "muted" }, ` ${trouble(one.error.reason)}`) : null,
  ];
}

function unread(one) {
  return Object.values(one.invalid_rows).reduce((total, number) => total + number, 0);
}

function pollNow(one) {
  return button(
    "Poll now",
    () =>
      attempt(
        () => post(v1("sources", one.name, "poll")),
        (told) => (told.note ? `Asked: ${told.note}.` : `${one.name} is polled now.`),
      ),
    { kind: "small", key: `poll-${one.name}`, describe: `Poll ${one.name} now` },
  );
}

export async function sourceList(ctx) {
  const shown = part(ctx, async () => sourceTable(await all("/v1/sources", ctx.signal)));
  ctx.every(3000, shown.refresh);
  return { title: "Sources", content: [heading(1, "Sources"), shown] };
}

export async function sourceView(ctx, name) {
  const shown = part(ctx, async () => source(await get(v1("sources", name), null, ctx.signal)));
  ctx.every(3000, shown.refresh);
  return {
    title: `Source ${name}`,
    content: [
      heading(
        1,
        `Source ${name}`,
        el("a", { href: href(["events"], { source: name }) }, "Its events"),
        link(["sources"], "All sources"),
      ),
      shown,
    ],
  };
}

function source(one) {
  return [
    facts([
      ["Status", [health(one), " ", pollNow(one)]],
      ["Kind", one.kind],
      ["Polled every", seconds(one.interval_s)],
      ["Last poll", one.last_poll_at ? [when(one.last_poll_at), ", ", since(one.last_poll_at)] : none("not yet")],
      [
        "Last good poll",
        one.last_good_poll_at ? [when(one.last_good_poll_at), ", ", since(one.last_good_poll_at)] : none("not yet"),
      ],
      ["Next poll", one.overdue_s > OVERDUE_S ? overdue(one) : since(one.next_poll_at)],
      one.wait_until ? ["Upstream asks to wait", ["until ", when(one.wait_until)]] : null,
      ["Read completely up to", when(one.watermark)],
      ["Lag", seconds(one.lag_s)],
      ["Failures in a row", count(one.failures)],
      ["Entities", `${count(one.entities)}, ${count(one.open_entities)} of them open`],
      ["Rows of the last poll", `${count(one.rows)}, ${count(one.older_rows)} of them older than what is known`],
      one.held_back_entities.length ? ["Among them", long(one.held_back_entities.join(", "))] : null,
      [
        "Held back",
        one.held_back
          ? `${counted(one.held_back, "change")} wait for a second poll to agree: so many at once are implausible`
          : "nothing",
      ],
    ]),
    one.error ? section("Last failure", facts(failure(one.error))) : null,
    section("Rows that could not be read", quarantine(one)),
  ];
}

/** By reason how many; and some of them, without anything of what they say. */
function quarantine(one) {
  const reasons = Object.entries(one.invalid_rows);
  if (!reasons.length) return el("p", { class: "muted" }, "None in the last poll.");
  const told = reasons.map(([reason, number]) => `${reason}: ${counted(number, "row")}`).join(", ");
  return [el("p", {}, told), one.invalid_samples.length ? table(SAMPLES, one.invalid_samples, "Some of them") : null];
}

function failure(error) {
  return [
    ["Reason", trouble(error.reason)],
    ["Detail", error.detail],
    ["Since", when(error.since)],
  ];
}

function overdue(one) {
  return [badge("overdue", "bad"), ` for ${seconds(one.overdue_s)}: does a relay with the role poll run?`];
}
