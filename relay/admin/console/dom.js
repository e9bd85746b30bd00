// Building what is shown. Everything that came from somewhere else goes in as text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "path", "line", "circle", "text", "rect", "title"]);

/** An element; attributes that are null or false are left out, functions listen, arrays of children are flattened. */
export function el(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.replace(/^on/, ""), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  return fill(node, ...children);
}

/** Replace what an element holds. */
export function fill(node, ...children) {
  const all = children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false);
  node.replaceChildren(...all.map((one) => (one instanceof Node ? one : document.createTextNode(String(one)))));
  return node;
}

/** The hash of a view: path segments are encoded, empty parameters left out. */
export function href(segments, query = {}) {
  const path = segments.map((one) => encodeURIComponent(one)).join("/");
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** A link to a view. */
export function link(segments, ...children) {
  return el("a", { href: href(segments) }, ...children);
}

/** An id, a URL or anything else that is long: one line that ends in an ellipsis, whole in its title. */
export function long(text, segments = null, kind = "mono") {
  const attributes = { class: `long ${kind}`, title: text };
  return segments ? el("a", { ...attributes, href: href(segments) }, text) : el("span", attributes, text);
}

/** An id that people copy: all of it, on as many lines as it takes. */
export function whole(text, segments = null) {
  return segments
    ? el("a", { class: "whole mono", href: href(segments) }, text)
    : el("span", { class: "whole mono" }, text);
}

/** A button that cannot be pressed again while what it started goes on. */
export function button(label, act, { kind = "", key = null, describe = null } = {}) {
  const node = el("button", { type: "button", class: kind, "data-key": key, "aria-label": describe }, label);
  node.addEventListener("click", async () => {
    if (node.getAttribute("aria-disabled") === "true") return;
    node.setAttribute("aria-disabled", "true");
    try {
      await act(node);
    } finally {
      node.removeAttribute("aria-disabled");
    }
  });
  return node;
}

/** A word that says how something is: `kind` is good, bad, warn or idle. */
export function badge(text, kind) {
  return el("span", { class: `badge ${kind}` }, text);
}

/** Names and values. A value may be a node; what is null is a dash. */
export function facts(pairs) {
  const rows = pairs
    .filter(Boolean)
    .map(([name, value]) =>
      el(
        "div",
        {},
        el("dt", {}, name),
        el("dd", {}, value === null || value === undefined || value === "" ? none() : value),
      ),
    );
  return el("dl", { class: "facts" }, rows);
}

/** Nothing to tell. */
export function none(text = "–") {
  return el("span", { class: "muted" }, text);
}

/** JSON, or anything else that is to be read as it is. It can be scrolled with the keyboard. */
export function block(content, label) {
  const text = typeof content === "string" ? content : JSON.stringify(content, null, 2);
  return el("pre", { tabindex: 0, role: "region", "aria-label": label }, text);
}

/** A heading with what belongs beside it. */
export function heading(level, text, ...beside) {
  return el("div", { class: "heading" }, el(`h${level}`, level === 1 ? { tabindex: -1 } : {}, text), ...beside);
}

/** A line to copy into a terminal. */
export function command(text) {
  const copy = button(
    "Copy",
    async () => {
      fill(copy, (await clip(text)) ? "Copied" : "Select and copy");
      setTimeout(() => fill(copy, "Copy"), 2000);
    },
    { kind: "small" },
  );
  return el("div", { class: "command" }, block(text, "command"), copy);
}

/** Put a text on the clipboard; false where the browser does not let us (plain http on another host). */
export async function clip(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
