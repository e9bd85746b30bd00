// Registering and editing a subscriber, with a preview of what its filter would have let through.

import { call, get, newKey, post, preview as previewed, v1 } from "./api.js";
import { button, el, fill, heading, href } from "./dom.js";
import { drop, keepDraft } from "./drafts.js";
import { note, showSecret } from "./dialogs.js";
import { byComma, clearProblems, choice, field, lines, listed, numbered, showProblem, text } from "./forms.js";
import { previewOf } from "./preview.js";

const FILTERS = [
  ["sources", "Sources"],
  ["user_ids", "Users"],
  ["class_ids", "Classes"],
  ["lab_profile_ids", "Lab profiles"],
  ["activity_ids", "Activities"],
  ["from", "Status before"],
  ["to", "Status after"],
];
const BLANK = {
  url: "",
  description: "",
  event_types: ["*"],
  filter: {},
  headers: {},
  format: "standard",
  signature: "v1",
  ordering: "none",
  max_in_flight: 16,
  rate_per_s: null,
  timeout_s: 15,
  retry_schedule_s: null,
  include_pii: false,
};

export async function subscriberNew(ctx) {
  let key = newKey();
  let answered = true;
  return view(ctx, "Register a subscriber", BLANK, ["subscribers"], "Register", async (body) => {
    if (answered) key = newKey(); // a repeat of a request that was not answered must not register twice
    answered = false;
    const made = await post("/v1/subscribers", body, { key }).catch((error) => {
      answered = error.status > 0;
      throw error;
    });
    answered = true;
    if (made.secret) await showSecret(made.secret, "Its secret");
    location.hash = href(["subscribers", made.id]);
  });
}

export async function subscriberEdit(ctx, id) {
  const old = await get(v1("subscribers", id), null, ctx.signal);
  return view(ctx, "Edit a subscriber", old, ["subscribers", id], "Save", async (body) => {
    const changed = await call("PATCH", v1("subscribers", id), {
      body: changes(old, body),
      headers: { "Content-Type": "application/merge-patch+json" },
    });
    if (changed.secret) await showSecret(changed.secret, "Its new secret");
    note("Saved.");
    location.hash = href(["subscribers", id]);
  });
}

/** What differs, as a merge patch: what nobody has touched is not sent, and a header that was taken out is null. */
function changes(old, body) {
  const gone = Object.keys(old.headers).filter((name) => !(name in body.headers));
  const headers = { ...Object.fromEntries(gone.map((name) => [name, null])), ...body.headers };
  const same = (name) => JSON.stringify(body[name]) === JSON.stringify(old[name]);
  return Object.fromEntries(Object.entries({ ...body, headers }).filter(([name]) => !same(name)));
}

function view(ctx, title, one, back, action, save) {
  const c = controls(one);
  const trouble = el("div", { tabindex: -1 });
  const seen = el("div", { class: "preview", "aria-live": "polite" });
  const submit = el("button", { class: "primary" }, action);
  const name = href(back);
  const cancel = el("a", { href: name, onclick: () => drop(name) }, "Cancel");
  const preview = button("Preview", async () => {
    clearProblems(form, trouble);
    try {
      const { event_types, filter } = body(c);
      fill(seen, previewOf(await previewed({ event_types, filter, last: 1000 })));
    } catch (error) {
      showProblem(form, trouble, error);
    }
  });
  const form = el(
    "form",
    { class: "panel form", novalidate: true },
    trouble,
    fields(c),
    el("div", { class: "actions" }, cancel, preview, submit),
    seen,
  );
  const draft = keepDraft(ctx, name, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await save(body(c));
      drop(name);
    } catch (error) {
      showProblem(form, trouble, error);
    } finally {
      submit.disabled = false;
    }
  });
  return { title, content: [heading(1, title), draft, form] };
}

function controls(one) {
  const filter = Object.fromEntries(FILTERS.map(([name]) => [name, lines(one.filter[name] ?? [], { rows: 2 })]));
  return {
    url: text(one.url, {
      type: "url",
      inputmode: "url",
      required: true,
      class: "mono",
      placeholder: "https://lms.example.org/hooks",
    }),
    description: text(one.description, { maxlength: 1000 }),
    event_types: lines(one.event_types),
    filter,
    headers: lines(Object.entries(one.headers).map(([name, value]) => `${name}: ${value}`)),
    format: choice(
      [
        ["standard", "Standard Webhooks"],
        ["cloudevents", "CloudEvents"],
      ],
      one.format,
    ),
    signature: choice(
      [
        ["v1", "v1: shared secret (HMAC-SHA256)"],
        ["v1a", "v1a: key pair (ed25519)"],
      ],
      one.signature,
    ),
    ordering: choice(
      [
        ["none", "none: as fast as possible"],
        ["entity", "entity: one entity's events in order"],
      ],
      one.ordering,
    ),
    max_in_flight: text(String(one.max_in_flight), { inputmode: "numeric" }),
    rate_per_s: text(one.rate_per_s === null ? "" : String(one.rate_per_s), { inputmode: "decimal" }),
    timeout_s: text(String(one.timeout_s), { inputmode: "decimal" }),
    retry_schedule_s: text((one.retry_schedule_s ?? []).join(", ")),
    include_pii: el("input", { type: "checkbox", checked: one.include_pii }),
  };
}

function fields(c) {
  const one = (name, label, hint = "", { wide = false, each = "" } = {}) =>
    field({ label, hint, wide, each, pointer: `/${name}`, control: c[name] });
  const chosen = FILTERS.some(([name]) => c.filter[name].value);
  return [
    one("url", "URL", "Webhooks are posted to it.", { wide: true }),
    one("description", "Description", "For people.", { wide: true }),
    one("event_types", "Event types", "One a line: exact, or with a star (lab.*, *.completed, *).", {
      wide: true,
      each: "line",
    }),
    el(
      "details",
      { class: "wide", open: chosen },
      el("summary", {}, "Filter"),
      el("p", { class: "hint" }, "One value a line; empty means any, and all that are not empty must hold."),
      el(
        "div",
        { class: "fields" },
        FILTERS.map(([name, label]) =>
          field({ label, pointer: `/filter/${name}`, control: c.filter[name], each: "line" }),
        ),
      ),
    ),
    el(
      "details",
      { class: "wide" },
      el("summary", {}, "How it is sent"),
      el(
        "div",
        { class: "fields" },
        one("format", "Format"),
        one("signature", "Signature", "A change of it makes new keys at once."),
        one("ordering", "Ordering"),
        one("max_in_flight", "In flight at most", "Attempts at the same time, 1 to 256."),
        one("rate_per_s", "Rate at most", "Attempts per second; empty: no limit."),
        one("timeout_s", "Time-out", "Seconds for a whole attempt, 1 to 60."),
        one(
          "retry_schedule_s",
          "Retries after",
          "Seconds after each failed attempt, with commas; empty: the relay's own.",
          { each: "value" },
        ),
        one("headers", "Headers", "One a line: Name: value.", { each: "line" }),
        one("include_pii", "Send private fields", "IP address and geolocation."),
      ),
    ),
  ];
}

function body(c) {
  const retries = byComma(c.retry_schedule_s).map((one) => (Number.isNaN(Number(one)) ? one : Number(one)));
  return {
    url: c.url.value.trim(),
    description: c.description.value,
    event_types: listed(c.event_types),
    filter: Object.fromEntries(FILTERS.map(([name]) => [name, listed(c.filter[name])])),
    headers: headers(c.headers),
    format: c.format.value,
    signature: c.signature.value,
    ordering: c.ordering.value,
    max_in_flight: numbered(c.max_in_flight),
    rate_per_s: numbered(c.rate_per_s),
    timeout_s: numbered(c.timeout_s),
    retry_schedule_s: retries.length ? retries : null,
    include_pii: c.include_pii.checked,
  };
}

/** `Name: value` line by line; throws what the API would say of a line that is none. */
function headers(control) {
  const given = listed(control).map((line) => [line, line.indexOf(":")]);
  const names = given.map(([line, colon]) => line.slice(0, colon).trim().toLowerCase());
  const errors = given.flatMap(([, colon], at) => {
    const pointer = `/headers/${at}`;
    if (colon < 1) return [{ pointer, detail: "write it as Name: value" }];
    return names.indexOf(names[at]) < at ? [{ pointer, detail: "stands twice: case does not count" }] : [];
  });
  if (errors.length) throw Object.assign(new Error(), { title: "Not sent", detail: "", errors });
  return Object.fromEntries(given.map(([line, colon]) => [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]));
}
