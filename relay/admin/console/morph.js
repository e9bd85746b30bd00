// Refreshing what is shown without taking it away: only what differs changes.
//
// A button that is being pressed, a text that is being selected, details that were opened, the focus: all of them stay,
// because the elements stay. What has a life of its own (a control, a form, a plot) is kept or replaced as a whole.

const WHOLE = new Set(["BUTTON", "FORM", "FIGURE", "SELECT", "INPUT", "TEXTAREA"]);

/** Make the children of `node` say what `wanted` (its new children) say. */
export function settle(node, wanted) {
  const olds = [...node.childNodes];
  wanted.forEach((one, at) => {
    if (at >= olds.length) node.append(one);
    else if (!olds[at].isEqualNode(one)) change(olds[at], one);
  });
  for (const one of olds.slice(wanted.length)) one.remove();
}

function change(old, wanted) {
  if (old.nodeName !== wanted.nodeName) return old.replaceWith(wanted);
  if (WHOLE.has(old.nodeName)) return inUse(old) || replace(old, wanted);
  if (old.nodeType === Node.TEXT_NODE) {
    old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  settle(old, [...wanted.childNodes]);
}

/** A button whose action goes on, a plot that is being read: the next refresh will do. */
function inUse(old) {
  if (old.nodeName === "BUTTON") return old.getAttribute("aria-disabled") === "true";
  return old.contains(document.activeElement);
}

function replace(old, wanted) {
  const opened = old.querySelector("details[open]");
  if (opened) wanted.querySelector("details")?.setAttribute("open", "");
  const focused = old === document.activeElement;
  old.replaceWith(wanted);
  if (focused) wanted.focus({ preventScroll: true });
}
