// Sources: how fresh what the relay knows is, what it could not read, and polling now.

import { all, get, post, v1 } from "./api.js";
import { badge, button, el, facts, heading, link, none } from "./dom.js";
import { attempt } from "./dialogs.js";
import { count, counted, seconds, since, when } from "./format.js";
import { empty, part, section, table } from "./parts.js";

const KINDS = { ok: "good", failing: "warn", degraded: "bad", pending: "idle" };

const COLUMNS = [
  {
    title: "Source",
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
    badge(one.status, KINDS[one.status] ?? "idle"),
    one.held_back ? [" ", badge("held back", "warn")] : null,
    one.error ? el("span", { class: "muted" }, ` ${one.error.reason ?? ""}`) : null,
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
        (told) =>
          told.expected_at
            ? ["Asked. ", one.name, " is polled ", since(told.expected_at).textContent, "."].join("")
            : `${one.name} is polled now.`,
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
    content: [heading(1, `Source ${name}`, link(["events"], "Events"), link(["sources"], "All sources")), shown],
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
      one.next_poll_at ? ["Next poll", since(one.next_poll_at)] : null,
      ["Read completely up to", when(one.watermark)],
      ["Lag", seconds(one.lag_s)],
      ["Failures in a row", count(one.failures)],
      ["Entities", `${count(one.entities)}, ${count(one.open_entities)} of them open`],
      ["Rows of the last poll", `${count(one.rows)}, ${count(one.older_rows)} of them older than what is known`],
      [
        "Held back",
        one.held_back
          ? `${counted(one.held_back, "change")} wait for a second poll to agree: so many at once are implausible`
          : "nothing",
      ],
    ]),
    one.error ? section("Last failure", facts(Object.entries(one.error).map(([key, value]) => [key, value]))) : null,
    section("Rows that could not be read", quarantine(one)),
  ];
}

function quarantine(one) {
  const reasons = Object.entries(one.invalid_rows);
  if (!reasons.length) return el("p", { class: "muted" }, "None in the last poll.");
  return el(
    "table",
    { class: "plain" },
    el(
      "thead",
      {},
      el("tr", {}, el("th", { scope: "col" }, "Reason"), el("th", { scope: "col", class: "number" }, "Rows")),
    ),
    el(
      "tbody",
      {},
      reasons.map(([reason, number]) =>
        el("tr", {}, el("th", { scope: "row" }, reason), el("td", { class: "number" }, count(number))),
      ),
    ),
  );
}
