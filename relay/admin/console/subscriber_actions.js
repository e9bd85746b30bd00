// What can be done about a subscriber: test, try now, disable and enable, rotate, delete.

import { call, post, v1 } from "./api.js";
import { block, button, el, facts, link } from "./dom.js";
import { attempt, confirm, open, showSecret } from "./dialogs.js";
import { milliseconds, when } from "./format.js";
import { choice, field } from "./forms.js";
import { ending } from "./words.js";

const OVERLAPS = [
  ["0", "at once, as every older one"],
  ["3600", "an hour"],
  ["86400", "a day"],
  ["604800", "a week"],
];
const HINT =
  "A subscriber that keeps failing is let rest, longer and longer, and then tried with one attempt at a time. " +
  "Once its receiver is mended, Try now ends the rest: what waits goes out at once.";

/**
 * The buttons of a subscriber's page, and what the least obvious of them does. `refresh` shows it anew; `tried` is told
 * of the rest that has just been ended.
 */
export function actions(one, refresh, tried) {
  const path = (action) => v1("subscribers", one.id, action);
  const going = () => tried(one.state.resting_until);
  return [
    el(
      "div",
      { class: "actions" },
      link(["subscribers", one.id, "edit"], "Edit"),
      button("Send a test", () => test(path, refresh, going), { key: `test ${one.state.resting_until ?? ""}` }),
      one.enabled ? tryNow(one, path, going) : enable(path, going),
      one.enabled ? disable(path, refresh) : null,
      button("Rotate secret", () => rotation(one, path).then(refresh), { key: `rotate ${olderUntil(one) ?? ""}` }),
      remove(one),
    ),
    one.state.status === "failing" ? el("p", { class: "hint" }, HINT) : null,
  ];
}

function tryNow(one, path, going) {
  const key = `try ${one.state.resting_until ?? ""}`;
  const kind = { key, describe: "Try now: end its rest and send what waits" };
  return button("Try now", () => enabling(path, "Its rest is over: what waits is tried now.", going), kind);
}

function enable(path, going) {
  const kind = { key: "turn", kind: "primary" };
  return button("Enable", () => enabling(path, "Enabled: what waits goes out.", going), kind);
}

async function enabling(path, done, going) {
  if (await attempt(() => post(path("enable")), done)) going();
}

function disable(path, refresh) {
  const ask = {
    title: "Disable this subscriber?",
    text: "Nothing is sent to it; its events wait in the log, and it gets them when it is enabled again.",
    action: "Disable",
    act: async () => {
      await post(path("disable"));
      refresh();
    },
  };
  return button("Disable", () => confirm(ask), { key: "turn" });
}

function test(path, refresh, going) {
  return attempt(async () => {
    const { attempt: made, resumed } = await post(path("test"));
    if (resumed) going();
    else refresh();
    await open(made.outcome === "delivered" ? "The test was delivered" : "The test failed", (dialog, finish) => [
      facts([
        ["Outcome", ending(made)],
        ["Took", milliseconds(made.duration_ms)],
        ["Detail", made.detail],
        resumed ? ["And then", "its rest is over: what waits is tried now"] : null,
      ]),
      made.response_body ? block(made.response_body, "answer's body") : null,
      el(
        "div",
        { class: "actions" },
        button("Close", () => finish(true), { kind: "primary" }),
      ),
    ]);
  });
}

function remove(one) {
  const ask = {
    title: "Delete this subscriber?",
    text: `Its dead letters go, and what waits for it is never sent. Nobody can undo this: ${one.url}`,
    action: "Delete for good",
    danger: true,
    act: () => call("DELETE", v1("subscribers", one.id)),
  };
  async function act() {
    if (await confirm(ask)) location.hash = "#/subscribers";
  }
  return button("Delete", act, { kind: "danger", key: `delete ${one.url}` });
}

function olderUntil(one) {
  return [...one.previous_secrets, ...one.previous_public_keys]
    .map(({ until }) => until)
    .sort()
    .at(-1);
}

/** Ask for how long the old secret signs too, rotate, and show the new one. */
async function rotation(one, path) {
  const overlap = choice(OVERLAPS, "86400");
  const older = olderUntil(one);
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
      older ? el("p", {}, "An older one signs too, until ", when(older), ".") : null,
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
