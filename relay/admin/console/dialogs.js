// Questions, secrets that are shown once, and short notes about what was done.

import { button, clip, el, fill } from "./dom.js";
import { problemBox } from "./parts.js";

const notes = el("div", { class: "notes", role: "status", "aria-live": "polite" });

/** Where notes appear. */
export function notePlace() {
  return notes;
}

/** Say what was done. */
export function note(text, kind = "good") {
  const one = el("p", { class: `note ${kind}` }, text);
  notes.append(one);
  setTimeout(() => one.remove(), 8000);
}

/** Do something that may fail, and say how it ended; answers whether it was done. */
export async function attempt(act, done = null) {
  try {
    const result = await act();
    if (done) note(typeof done === "function" ? done(result) : done);
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    note(`${error.title ?? "The console has made a mistake"}: ${error.detail ?? error}`, "bad");
    return false;
  }
}

/** Ask before something that cannot be undone; `act` runs while the dialog is open, and its problem is shown in it. */
export function confirm({ title, text, action, danger = false, act }) {
  return open(title, (dialog, finish) => {
    const trouble = el("div", {});
    const go = button(
      action,
      async () => {
        try {
          await act();
          finish(true);
        } catch (error) {
          fill(trouble, problemBox(error));
        }
      },
      { kind: danger ? "danger" : "primary" },
    );
    const cancel = button("Cancel", () => finish(false));
    return [el("p", {}, text), trouble, el("div", { class: "actions" }, cancel, go)];
  });
}

/** A new secret: no other answer will ever hold it. */
export function showSecret(secret, why) {
  return open(
    why,
    (dialog, finish) => {
      const shown = el("input", {
        class: "mono wide",
        readonly: true,
        value: secret,
        "aria-label": "Signing secret",
      });
      shown.addEventListener("focus", () => shown.select());
      const told = el("span", { role: "status", class: "muted" });
      const copy = button(
        "Copy",
        async () => {
          const copied = await clip(secret);
          shown.select();
          fill(told, copied ? "Copied." : "Press Ctrl+C to copy.");
        },
        { kind: "primary" },
      );
      return [
        el(
          "p",
          {},
          "The receiver verifies webhooks with this secret. It is shown only now: store it before you close this.",
        ),
        el("div", { class: "row" }, shown, copy),
        told,
        el(
          "div",
          { class: "actions" },
          button("I have stored it", () => finish(true)),
        ),
      ];
    },
    { modal: true },
  );
}

/** A dialog with any content; `build(dialog, finish)` makes it. Resolves with what `finish` is called with. */
export function open(title, build, { modal = false } = {}) {
  return new Promise((resolve) => {
    const head = el("h2", { id: "dialog-title" }, title);
    const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, head);
    let result = false;
    function finish(value) {
      result = value;
      dialog.close();
    }
    dialog.append(el("div", { class: "dialog-body" }, build(dialog, finish)));
    if (modal) dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
