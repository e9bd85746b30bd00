// Sending a range of events again, or only the latest state of each entity, and how far that has come.

import { call, get, post, v1 } from "./api.js";
import { badge, button, el, fill } from "./dom.js";
import { attempt, confirm } from "./dialogs.js";
import { count, counted, when } from "./format.js";
import { choice, clearProblems, byComma, field, showProblem, text } from "./forms.js";
import { part, table } from "./parts.js";

const KINDS = { running: "idle", done: "good", cancelled: "warn", failed: "bad" };
const EVERY_MS = 2000;
const IN_THE_WAY = {
  title: "A replay to this subscriber is running",
  detail: "There is one at a time: wait for its end, or stop it above.",
};

/** The replays of a subscriber, with the forms that begin one. */
export function replays(ctx, id) {
  const trouble = el("div", { tabindex: -1 });
  const list = part(ctx, async () => {
    const page = await get(v1("subscribers", id, "replays"), { limit: 10 }, ctx.signal);
    const running = page.data.some((one) => one.status === "running");
    if (!running) trouble.querySelector(":scope > [data-running]")?.remove();
    if (!page.data.length) return el("p", { class: "muted" }, "None yet.");
    return table(
      columns(id, () => list.refresh()),
      page.data,
      "Replays",
    );
  });
  ctx.every(EVERY_MS, () => list.querySelector("progress") && list.refresh());
  return [
    list,
    el("details", {}, el("summary", {}, "Replay a range of events"), replayForm(id, list, trouble)),
    el("div", { class: "actions" }, reconcile(id)),
  ];
}

function columns(id, refresh) {
  return [
    { title: "Events", cell: (one) => [when(one.since, { short: true }), " to ", when(one.until, { short: true })] },
    { title: "Only", cell: (one) => one.only },
    {
      title: "Status",
      cell: (one) => [
        badge(one.status, KINDS[one.status] ?? "idle"),
        one.reason ? ` ${one.reason}` : "",
        one.note ? el("div", { class: "hint" }, one.note) : null,
      ],
    },
    { title: "Progress", cell: (one) => progress(one) },
    {
      title: "Sent",
      kind: "number",
      cell: (one) => `${count(one.sent)} of ${count(one.count)}${one.count_complete ? "" : "+"}`,
    },
    {
      title: "",
      cell: (one) =>
        one.status === "running"
          ? button("Stop", () => stop(id, one, refresh), { kind: "small", key: `stop ${one.id}` })
          : "",
    },
  ];
}

function stop(id, one, refresh) {
  return confirm({
    title: "Stop this replay?",
    text: "Nothing more of it is sent. What was sent stays sent; another replay can send the rest.",
    action: "Stop",
    act: async () => {
      await call("DELETE", v1("subscribers", id, "replays", one.id));
      refresh();
    },
  });
}

function progress(one) {
  if (one.status !== "running") return when(one.finished_at, { short: true });
  const percent = Math.round(100 * one.progress);
  return [el("progress", { max: 100, value: percent, "aria-label": "Progress of the replay" }), ` ${percent} %`];
}

function replayForm(id, list, trouble) {
  const since = text(localTime(Date.now() - 3_600_000), { type: "datetime-local", step: 1 });
  const until = text("", { type: "datetime-local", step: 1 });
  const only = choice(
    [
      ["undelivered", "what it has not acknowledged"],
      ["all", "everything, once more"],
    ],
    "undelivered",
  );
  const types = text("", { placeholder: "all that it asks for", class: "mono" });
  const form = el(
    "form",
    { class: "form", novalidate: true },
    trouble,
    el(
      "div",
      { class: "fields" },
      field({ label: "Since", pointer: "/since", control: since, hint: "When events entered the log, local time." }),
      field({ label: "Until", pointer: "/until", control: until, hint: "Empty: up to now." }),
      field({ label: "Only", pointer: "/only", control: only }),
      field({ label: "Event types", pointer: "/event_types", control: types, hint: "With commas.", each: "type" }),
    ),
    el("div", { class: "actions" }, el("button", { class: "primary" }, "Replay")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearProblems(form, trouble);
    const body = { since: instant(since), only: only.value };
    if (until.value) body.until = instant(until);
    if (byComma(types).length) body.event_types = byComma(types);
    try {
      const begun = await post(v1("subscribers", id, "replay"), body);
      fill(
        trouble,
        el(
          "p",
          { role: "status" },
          `Begun: ${counted(begun.count, "event")}${begun.count_complete === false ? " at least" : ""}.`,
        ),
      );
      list.refresh();
    } catch (error) {
      showProblem(form, trouble, error.status === 409 ? IN_THE_WAY : error);
      trouble.firstElementChild.toggleAttribute("data-running", error.status === 409);
      list.refresh();
    }
  });
  return form;
}

function reconcile(id) {
  return button("Reconcile", () =>
    confirm({
      title: "Reconcile this subscriber?",
      text:
        "For every entity, only the latest event that it has not acknowledged is sent, also from before it was " +
        "registered: it gets up to date without the steps in between.",
      action: "Reconcile",
      act: () =>
        attempt(
          () => post(v1("subscribers", id, "reconcile")),
          (done) => `${counted(done.entities, "entity", "entities")} looked at, ${counted(done.sent, "event")} sent.`,
        ),
    }),
  );
}

function localTime(ms) {
  const local = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}

/** A local time with its zone; what is no time is sent as it is, so that the API names the mend. */
function instant(control) {
  const date = new Date(control.value);
  return Number.isNaN(date.getTime()) ? control.value : date.toISOString();
}
