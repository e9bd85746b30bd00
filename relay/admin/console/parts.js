// Parts of a view that are loaded, fail and are refreshed on their own, and lists that go on page by page.

import { again as later, passing } from "./again.js";
import { button, el, fill, heading } from "./dom.js";
import { count } from "./format.js";
import { settle } from "./morph.js";
import { named } from "./words.js";

/** What went wrong, and the way out: whoever gives `again` tries by itself too what may pass. */
export function problemBox(error, again = null) {
  const fields = (error.errors ?? []).map((one) => {
    const name = named(one.pointer);
    return el("li", {}, name ? [el("strong", {}, name), ": "] : null, one.detail);
  });
  return el(
    "div",
    { class: "problem-box", role: "alert" },
    el("strong", {}, error.title ?? "The console has made a mistake"),
    fields.length ? null : el("p", {}, error.detail ?? String(error)),
    fields.length ? el("ul", {}, fields) : null,
    again && passing(error) ? el("p", { class: "muted" }, "The page tries again by itself.") : null,
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

const old = new Set();

/** One line at the top of the view, for all its parts that could not be refreshed. */
function tellOld(node, error = null) {
  if (error) old.add(node);
  else old.delete(node);
  for (const one of old) if (!one.isConnected) old.delete(one);
  const main = document.querySelector("main");
  const shown = main?.querySelector(":scope > .stale");
  if (!old.size) return shown?.remove();
  if (!error) return null;
  const words = `Not refreshed: ${error.title ?? error}. What is shown may be old.`;
  if (shown) return shown.textContent === words ? null : fill(shown, words);
  return main?.prepend(el("p", { class: "stale", role: "status" }, words));
}

/**
 * A part that `loader` makes; `refresh` makes it again, and leaves what stands there if that fails; a failure that may
 * pass is tried again by itself. What is shown is changed where it differs; with `anew` it is replaced, for content
 * that goes on by itself.
 */
export function part(ctx, loader, { anew = false } = {}) {
  const node = el("div", { class: "part", "aria-busy": "true" }, el("p", { class: "muted" }, "Loading…"));
  let loaded = false;
  let failures = 0;
  let forget = () => {};
  async function refresh() {
    forget();
    try {
      const content = await loader();
      if (ctx.signal.aborted) return;
      if (loaded && !anew) settle(node, [...fill(el("div"), content).childNodes]);
      else renew(node, content);
      loaded = true;
      failures = 0;
      tellOld(node);
    } catch (error) {
      if (ctx.signal.aborted || error.name === "AbortError") return;
      if (!(error.status >= 0)) console.error(error);
      if (!loaded) settle(node, [problemBox(error, refresh)]);
      else tellOld(node, error);
      forget();
      if (passing(error)) forget = later(ctx.signal, failures++, refresh);
    }
    node.removeAttribute("aria-busy");
  }
  node.refresh = refresh;
  refresh();
  return node;
}

/** Replace what a part holds, unless that has changed by itself; the focus does not leave it. */
function renew(node, content) {
  const wanted = [content].flat(Infinity);
  if (wanted.length === node.childNodes.length && wanted.every((one, at) => one === node.childNodes[at])) return;
  const held = node.contains(document.activeElement);
  fill(node, content);
  if (held) node.querySelector("a, button")?.focus({ preventScroll: true });
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
  node.show = (items) => settle(
    body,
    items.map((item) => row(columns, item)),
  );
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

/**
 * A list that reads its pages one after the other. `read(cursor)` answers a page, `nothing()` says what to do;
 * `loaded(rows)` is told how many rows there are.
 */
export function paged(ctx, { columns, caption, read, nothing, loaded = () => {} }) {
  const shown = table(columns, [], caption);
  const told = el("p", { class: "muted", role: "status" });
  let page = null;
  async function first() {
    const rows = [];
    const wanted = shown.rowsShown.length || 1; // a refresh takes nothing away, and an empty page is not the end
    let got = { next_cursor: null };
    do {
      got = await read(got.next_cursor);
      rows.push(...got.data);
    } while (rows.length < wanted && got.next_cursor);
    page = got;
    loaded(rows.length);
    shown.show(rows);
    tell();
    return rows.length ? [shown, foot] : nothing();
  }
  async function further() {
    const last = page;
    const before = shown.rowsShown.length;
    let got = last;
    do got = await read(got.next_cursor);
    while (!got.data.length && got.next_cursor);
    if (page !== last) return; // it was read again meanwhile
    page = got;
    shown.add(page.data);
    tell();
    const next = shown.rowsShown[before]?.querySelector("a, button");
    if (!page.next_cursor) next?.focus();
  }
  const more = button("Show more", async () => {
    try {
      await further();
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
  return part(ctx, first, { anew: true });
}
