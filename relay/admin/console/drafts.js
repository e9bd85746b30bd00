// What was typed into a form and is not saved yet. It outlives the view, so whoever looks elsewhere finds it again; it
// does not outlive the tab, nor signing out.

import { button, el } from "./dom.js";

const drafts = new Map();

/** Forget everything. */
export function forgetDrafts() {
  drafts.clear();
}

/** Keep what is typed into `form` under a name, put back what was typed before, and ask before the tab goes with it. */
export function keepDraft(ctx, name, form) {
  const controls = [...form.querySelectorAll("input, textarea, select")];
  const before = drafts.get(name);
  for (const one of controls.filter((each) => before?.has(each.id))) {
    state(one, before.get(one.id));
    one.closest("details")?.setAttribute("open", "");
  }
  function keep() {
    const typed = new Map(controls.filter((one) => state(one) !== initial(one)).map((one) => [one.id, state(one)]));
    if (typed.size) drafts.set(name, typed);
    else drafts.delete(name);
  }
  form.addEventListener("input", keep);
  form.addEventListener("change", keep);
  const ask = (event) => drafts.has(name) && event.preventDefault();
  addEventListener("beforeunload", ask, { signal: ctx.signal });
  if (!before) return null;
  const back = el("p", { class: "draft", role: "status" }, "What you had typed is here again. ");
  back.append(
    button(
      "Discard it",
      () => {
        drop(name);
        form.reset();
        back.remove();
        form.querySelector("input").focus();
      },
      { kind: "small" },
    ),
  );
  return back;
}

/** It was saved, or is not wanted. */
export function drop(name) {
  drafts.delete(name);
}

function state(control, value) {
  const what = control.type === "checkbox" ? "checked" : "value";
  if (value !== undefined) control[what] = value;
  return control[what];
}

function initial(control) {
  if (control.type === "checkbox") return control.defaultChecked;
  if (control.options)
    return [...control.options].find((one) => one.defaultSelected)?.value ?? control.options[0].value;
  return control.defaultValue;
}
