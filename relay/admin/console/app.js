// The frame: signing in, the navigation, and which view a hash names.

import { again, passing } from "./again.js";
import { onRefused, token } from "./api.js";
import { forgetDrafts } from "./drafts.js";
import { button, el, fill, href } from "./dom.js";
import { notePlace } from "./dialogs.js";
import { settle } from "./morph.js";
import { problemBox } from "./parts.js";
import { signIn } from "./session.js";
import { applyTheme, themeSwitch } from "./theme.js";
import { deliveryList } from "./deliveries.js";
import { deliveryView } from "./delivery.js";
import { entityView } from "./entity.js";
import { eventView } from "./event.js";
import { eventList } from "./events.js";
import { overview } from "./overview.js";
import { searchView } from "./search.js";
import { sourceList, sourceView } from "./sources.js";
import { subscriberEdit, subscriberNew } from "./subscriber_form.js";
import { subscriberView } from "./subscriber.js";
import { subscriberList } from "./subscribers.js";

const VIEWS = [
  [[""], overview],
  [["events"], eventList],
  [["events", null], eventView],
  [["entities", null, null], entityView],
  [["subscribers"], subscriberList],
  [["subscribers", "new"], subscriberNew],
  [["subscribers", null], subscriberView],
  [["subscribers", null, "edit"], subscriberEdit],
  [["deliveries"], deliveryList],
  [["deliveries", null], deliveryView],
  [["sources"], sourceList],
  [["sources", null], sourceView],
  [["search"], searchView],
];
const MENU = [
  ["", "Overview"],
  ["events", "Events"],
  ["subscribers", "Subscribers"],
  ["deliveries", "Deliveries"],
  ["sources", "Sources"],
];

const main = el("main", { id: "main", tabindex: -1 });
const menu = el(
  "ul",
  {},
  MENU.map(([path, label]) => el("li", {}, el("a", { href: `#/${path}`, "data-path": path }, label))),
);
let leaving = new AbortController();
let asking = false;

function frame() {
  const box = el("input", {
    type: "search",
    "aria-label": "Search",
    placeholder: "Id, learner or subscriber",
    spellcheck: "false",
  });
  const search = el("form", { role: "search", novalidate: true }, box);
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    if (box.value.trim()) location.hash = href(["search"], { q: box.value.trim() });
  });
  return [
    button("Skip to content", () => main.focus(), { kind: "skip" }),
    el(
      "header",
      {},
      el(
        "a",
        { class: "brand", href: "#/" },
        el("img", { src: "/console/icon.svg", alt: "", width: 22, height: 22 }),
        "relay",
      ),
      el("nav", { "aria-label": "Main" }, menu),
      search,
      el("div", { class: "row" }, themeSwitch(), button("Sign out", signOut, { kind: "quiet" })),
    ),
    main,
    notePlace(),
  ];
}

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { segments: path.split("/").map(decoded), query: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function found(segments) {
  for (const [pattern, view] of VIEWS) {
    if (pattern.length !== segments.length) continue;
    if (pattern.every((one, at) => (one === null ? segments[at] !== "" : one === segments[at]))) {
      return [view, segments.filter((_, at) => pattern[at] === null)];
    }
  }
  return null;
}

function nowhere() {
  const title = "There is no such page";
  return {
    title,
    content: [el("h1", { tabindex: -1 }, title), el("p", {}, el("a", { href: "#/" }, "To the overview"))],
  };
}

/** What a view is given: a signal that ends with it, its query, and a way to do something every so often. */
function context(signal, query) {
  function every(ms, act) {
    const idle = () => document.hidden || document.querySelector("dialog[open]");
    const timer = setInterval(() => idle() || act(), ms);
    signal.addEventListener("abort", () => clearInterval(timer));
  }
  return { signal, query, every };
}

/** Show what the hash names. After so many `failures` it is looked for again, and the problem stands until then. */
async function show({ quiet = false, failures = 0 } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  if (!failures) main.setAttribute("aria-busy", "true");
  const { segments, query } = place();
  for (const one of menu.querySelectorAll("a")) {
    if (one.dataset.path === segments[0]) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  const match = found(segments);
  try {
    const [view, parameters] = match ?? [nowhere, []];
    const { title, content } = await view(context(signal, query), ...parameters);
    if (signal.aborted) return;
    document.title = `${title} · relay`;
    quiet &&= !main.contains(document.activeElement);
    fill(main, content);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error.status >= 0)) console.error(error);
    document.title = "Problem · relay";
    const told = [
      el("h1", { tabindex: -1 }, error.status === 404 ? "Not found" : "Problem"),
      problemBox(error, () => show()),
    ];
    if (failures) settle(main, told);
    else fill(main, told);
    if (passing(error)) again(signal, failures, () => show({ quiet: true, failures: failures + 1 }));
    if (failures) return;
  }
  main.dataset.view = location.hash;
  main.removeAttribute("aria-busy");
  scrollTo(0, 0);
  if (!quiet) main.querySelector("h1")?.focus({ preventScroll: true });
}

function signOut() {
  token.forget();
  forgetDrafts();
  return ask();
}

async function ask(message = "") {
  if (asking) return;
  asking = true;
  leaving.abort();
  await signIn(fill(document.body, el("main", { class: "alone" })).firstElementChild, message);
  asking = false;
  begin();
}

function begin() {
  fill(document.body, frame());
  show({ quiet: true });
}

applyTheme();
onRefused(() => {
  token.forget();
  ask("The relay does not accept this tab's token any more. Enter a valid one; it is in .relay/admin-token.");
});
addEventListener("hashchange", () => asking || show());
if (token.get()) begin();
else ask();
