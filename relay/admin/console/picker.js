// Choosing one of many subscribers: a part of a name will do, and the whole list is suggested.

import { el, fill } from "./dom.js";
import { text } from "./forms.js";
import { fits, nameOf } from "./roster.js";

/** The field. `chosen()` is the id, "" for all of them, or null where it is not clear who is meant: then it says so. */
export function picker(subscribers, id) {
  const ids = new Map();
  for (const one of subscribers) ids.set(ids.has(nameOf(one)) ? `${nameOf(one)} (${one.id})` : nameOf(one), one.id);
  const known = [...ids].find(([, each]) => each === id);
  const input = text(known?.[0] ?? id, {
    list: "subscriber-names",
    "aria-label": "Subscriber",
    "aria-describedby": "picker-problem",
    placeholder: "Every subscriber",
  });
  const problem = el("span", { class: "problem", id: "picker-problem", role: "alert" });
  const names = el(
    "datalist",
    { id: "subscriber-names" },
    [...ids.keys()].map((name) => el("option", { value: name })),
  );
  const node = el("div", { class: "picker" }, input, names, problem);
  node.chosen = () => {
    const wanted = input.value.trim();
    const found = ids.has(wanted) ? [ids.get(wanted)] : some(subscribers, wanted);
    const one = !wanted || wanted === id ? wanted : found.length === 1 ? found[0] : null;
    fill(problem, one !== null ? "" : found.length ? `${found.length} are called so` : "Nobody is called so");
    input.setAttribute("aria-invalid", String(one === null));
    return one;
  };
  return node;
}

function some(subscribers, wanted) {
  return subscribers.filter((one) => fits(one, wanted)).map((one) => one.id);
}
