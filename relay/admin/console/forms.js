// Fields with their hints, and a problem's pointers next to the fields that they name.

import { el, fill } from "./dom.js";
import { problemBox } from "./parts.js";
import { cut } from "./words.js";

/**
 * A labelled field. `pointer` is where the API's problems name it (`/filter/from`), `each` is what one of its values is
 * called (`line`). What was said against a field goes as soon as it is changed.
 */
export function field({ label, pointer, hint = "", control, wide = false, each = "" }) {
  const id = `field${pointer.replace(/[^a-z0-9_]+/gi, "-")}`;
  control.id = id;
  control.setAttribute("aria-describedby", `${id}-hint ${id}-problem`);
  const node = el(
    "div",
    { class: `field ${wide ? "wide" : ""}` },
    el("label", { for: id }, label),
    control,
    hint ? el("p", { id: `${id}-hint`, class: "hint" }, hint) : el("span", { id: `${id}-hint`, hidden: true }),
    el("p", { id: `${id}-problem`, class: "problem" }),
  );
  node.dataset.pointer = pointer;
  node.dataset.each = each;
  control.addEventListener("input", () => {
    control.removeAttribute("aria-invalid");
    fill(node.querySelector(".problem"));
    const form = node.closest("form");
    if (form && !form.querySelector("[aria-invalid]")) form.querySelector("[data-marked]")?.replaceChildren();
  });
  return node;
}

/** A text input. */
export function text(value = "", attributes = {}) {
  return el("input", { type: "text", value, autocomplete: "off", spellcheck: "false", ...attributes });
}

/** Several lines. */
export function lines(value = [], attributes = {}) {
  return el(
    "textarea",
    { rows: Math.min(Math.max(value.length, 2), 8), spellcheck: "false", class: "mono", ...attributes },
    value.join("\n"),
  );
}

/** One of several. `choices`: [value, label]. */
export function choice(choices, value, attributes = {}) {
  return el(
    "select",
    attributes,
    choices.map(([one, label]) => el("option", { value: one, selected: one === value }, label)),
  );
}

/** What stands in a control, line by line, without empty ones. A comma is part of a value. */
export function listed(control) {
  return parts(control.value, "\n");
}

/** What stands in a control of one line, with commas in between. */
export function byComma(control) {
  return parts(control.value, ",");
}

function parts(text, between) {
  return text
    .split(between)
    .map((one) => one.trim())
    .filter(Boolean);
}

/** A number, or null where nothing stands; what is no number is sent as it is, so that the API names the mend. */
export function numbered(control) {
  const given = control.value.trim();
  if (given === "") return null;
  return Number.isNaN(Number(given)) ? given : Number(given);
}

/** Show a problem: next to the fields that it names, and in `place`; the first such field gets the focus. */
export function showProblem(form, place, error) {
  clearProblems(form, place);
  const fields = [...form.querySelectorAll("[data-pointer]")];
  const elsewhere = [];
  let first = null;
  for (const one of error.errors ?? []) {
    const owner = nearest(fields, one.pointer);
    if (!owner) {
      elsewhere.push(one);
      continue;
    }
    const control = owner.querySelector("input, textarea, select");
    const said = owner.querySelector(".problem");
    const where = within(owner, control, one.pointer.slice(owner.dataset.pointer.length + 1));
    fill(said, said.textContent ? `${said.textContent}; ` : "", where ? `${where}: ${one.detail}` : one.detail);
    control.setAttribute("aria-invalid", "true");
    owner.closest("details")?.setAttribute("open", "");
    first ??= control;
  }
  const named = (error.errors ?? []).length - elsewhere.length;
  place.toggleAttribute("data-marked", named > 0 && !elsewhere.length);
  fill(
    place,
    problemBox({
      title: error.title,
      detail: named ? "See the fields that are marked." : error.detail,
      errors: elsewhere,
    }),
  );
  (first ?? place).focus();
}

/** Which of a field's values is meant, counted as people count: `line 2 (lab.complet)`. */
function within(owner, control, where) {
  if (!owner.dataset.each || !/^\d+$/.test(where)) return where;
  const { each } = owner.dataset;
  const values = control.value.split(each === "line" ? "\n" : ",");
  const at = [...values.keys()].filter((one) => values[one].trim())[Number(where)];
  return at === undefined ? `${each} ${Number(where) + 1}` : `${each} ${at + 1} (${cut(values[at].trim())})`;
}

/** Forget the last problem. */
export function clearProblems(form, place) {
  fill(place);
  for (const one of form.querySelectorAll("[data-pointer] > .problem")) fill(one);
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

/** The field whose pointer is the longest beginning of this one. */
function nearest(fields, pointer) {
  const fitting = fields.filter(
    (one) => pointer === one.dataset.pointer || pointer.startsWith(`${one.dataset.pointer}/`),
  );
  return fitting.sort((one, other) => other.dataset.pointer.length - one.dataset.pointer.length)[0];
}
