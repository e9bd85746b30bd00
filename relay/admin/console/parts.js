// Parts of a view that are loaded, fail and are refreshed on their own, and lists that go on page by page.

import { button, el, fill, heading } from "./dom.js";
import { count } from "./format.js";

/** What went wrong, and the way out. */
export function problemBox(error, again = null) {
  const fields = (error.errors ?? []).map((one) => el("li", {}, el("code", {}, one.pointer || "/"), " ", one.detail));
  return el(
    "div",
    { class: "problem-box", role: "alert" },
    el("strong", {}, error.title ?? "The console has made a mistake"),
    el("p", {}, error.detail ?? String(error)),
    fields.length ? el("ul", {}, fields) : null,
    again ? button("Try again", again, { kind: "small" }) : null,
  );
}

/** What to do where there is nothing yet. */
export function empty(title, ...rest) {
  return el("div", { class: "empty" }, el("p", { class: "strong" }, title), rest);
}

/** A titled region of a view. */
export function section(title, content, ...beside) {
  const id = `section-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  const head = heading(2, title, ...beside);
  head.querySelector("h2").id = id;
  return el("section", { "aria-labelledby": id }, head, content);
}

/** A part that `loader` makes; `refresh` makes it again, and leaves what stands there if that fails. */
export function part(ctx, loader) {
  const node = el("div", { class: "part", "aria-busy": "true" }, el("p", { class: "muted" }, "Loading…"));
  let loaded = false;
  async function refresh() {
    try {
      const content = await loader();
      if (ctx.signal.aborted) return;
      keepFocus(node, () => fill(node, content));
      loaded = true;
    } catch (error) {
      if (ctx.signal.aborted || error.name === "AbortError") return;
      if (!(error.status >= 0)) console.error(error);
      if (!loaded) fill(node, problemBox(error, refresh));
      else stale(node, error);
    }
    node.removeAttribute("aria-busy");
  }
  node.refresh = refresh;
  refresh();
  return node;
}

function stale(node, error) {
  const note = el(
    "p",
    { class: "stale", role: "status" },
    `Not refreshed: ${error.title}. What is shown may be old.`,
  );
  const first = node.firstElementChild;
  if (first?.classList.contains("stale")) first.replaceWith(note);
  else node.prepend(note);
}

/** Run `act`, which replaces what is in `node`, so that the focus stays on the control with the same key. */
function keepFocus(node, act) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  act();
  if (key) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A table. `columns`: {title, cell, kind}; on a narrow screen each row becomes a card with the titles in it. */
export function table(columns, rows, caption) {
  const body = el("tbody", { role: "rowgroup" });
  const node = el(
    "table",
    { role: "table" },
    el("caption", { class: "hidden" }, caption),
    el(
      "thead",
      { role: "rowgroup" },
      el(
        "tr",
        { role: "row" },
        columns.map((one) => el("th", { scope: "col", role: "columnheader", class: one.kind }, one.title)),
      ),
    ),
    body,
  );
  node.add = (items) => body.append(...items.map((item) => row(columns, item)));
  node.prepend = (items) => body.prepend(...items.map((item) => row(columns, item)));
  node.rowsShown = body.rows;
  node.trim = (most) => {
    while (body.rows.length > most) body.lastElementChild.remove();
  };
  node.add(rows);
  return node;
}

function row(columns, item) {
  return el(
    "tr",
    { role: "row" },
    columns.map((one) =>
      el("td", { role: "cell", class: one.kind, "data-title": one.title }, el("div", {}, one.cell(item))),
    ),
  );
}

/** A list that reads its pages one after the other. `read(cursor)` answers a page, `nothing()` says what to do. */
export function paged(ctx, { columns, caption, read, nothing }) {
  return part(ctx, async () => {
    let page = await read(null);
    const shown = table(columns, page.data, caption);
    const told = el("p", { class: "muted", role: "status" });
    const more = button("Show more", async () => {
      try {
        const before = shown.rowsShown.length;
        page = await read(page.next_cursor);
        shown.add(page.data);
        tell();
        const next = shown.rowsShown[before]?.querySelector("a, button");
        if (!page.next_cursor) next?.focus();
      } catch (error) {
        if (!ctx.signal.aborted) fill(told, `Not loaded: ${error.title}. ${error.detail}`);
      }
    });
    const foot = el("div", { class: "foot" }, told, more);
    function tell() {
      const rows = count(shown.rowsShown.length);
      fill(told, page.next_cursor ? `${rows} shown, there may be more` : `${rows} shown, that is all`);
      more.hidden = !page.next_cursor;
    }
    tell();
    if (!page.data.length && !page.next_cursor) return nothing();
    return [shown, foot];
  });
}
