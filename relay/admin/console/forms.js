// Fields with their hints, and a problem's pointers next to the fields that they name.

import { el, fill } from "./dom.js";
import { problemBox } from "./parts.js";

/** A labelled field. `pointer` is where the API's problems name it (`/filter/from`). */
export function field({ label, pointer, hint = "", control, wide = false }) {
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

/** What stands in a control, line by line, without empty ones. */
export function listed(control) {
  return control.value
    .split(/[\n,]/)
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
    const where = one.pointer.slice(owner.dataset.pointer.length + 1);
    fill(said, said.textContent ? `${said.textContent}; ` : "", where ? `${where}: ${one.detail}` : one.detail);
    control.setAttribute("aria-invalid", "true");
    owner.closest("details")?.setAttribute("open", "");
    first ??= control;
  }
  const named = (error.errors ?? []).length - elsewhere.length;
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
