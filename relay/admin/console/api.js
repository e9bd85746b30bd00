// The API's client: the token of this tab, problems as errors, pages of lists.

const KEY = "relay.token";

/** What went wrong, in the API's words. */
export class Problem extends Error {
  constructor(status, body, retryAfterS = null) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.title = body.title || "The request failed";
    this.detail = body.detail || "";
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.retryAfterS = retryAfterS;
  }
}

/** The token, kept by this tab only: it is in no URL, and another tab asks for it again. */
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

let refused = () => {};

/** What is called when a token that was good is not any more. */
export function onRefused(act) {
  refused = act;
}

/** One request; answers the parsed body, or null where there is none. Throws `Problem`. */
export async function call(method, path, { body, query, signal, headers = {}, presented = token.get() } = {}) {
  const response = await send(method, path, { body, query, signal, headers, presented });
  if (response.status === 204) return null;
  return response.json();
}

/** One request, its answer unread: for streams. Throws `Problem` unless it is a success. */
export async function send(method, path, { body, query, signal, headers = {}, presented = token.get() } = {}) {
  const sent = { ...headers };
  if (presented) sent.Authorization = `Bearer ${presented}`;
  if (body !== undefined) sent["Content-Type"] ??= "application/json";
  const init = { method, headers: sent, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) init.body = JSON.stringify(body);
  const url = withQuery(path, query);
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {
      title: "The relay cannot be reached",
      detail: "it does not answer",
    });
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && presented && presented === token.get()) refused(problem);
  throw problem;
}

/** GET. */
export function get(path, query, signal) {
  return call("GET", path, { query, signal });
}

/** POST; the key makes a repeat after a lost answer harmless. */
export function post(path, body, { signal, key = newKey() } = {}) {
  return call("POST", path, { body, signal, headers: { "Idempotency-Key": key } });
}

/** Every item of a list, up to a bound; `complete` says whether that is all of them. */
export async function everything(path, signal, most = 5000) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(path, { limit: 250, cursor }, signal);
    items.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, complete: cursor === null };
}

/** Every item of a list that is short. */
export async function all(path, signal) {
  return (await everything(path, signal)).items;
}

/** Which of the latest events a subscription would have got. It changes nothing, so it needs no key. */
export function preview(wishes, signal) {
  return call("POST", "/v1/subscribers/preview", { body: wishes, signal });
}

/** A path below /v1: each part is encoded. */
export function v1(...segments) {
  return `/v1/${segments.map((one) => encodeURIComponent(one)).join("/")}`;
}

/** A key of one intention. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("")}`;
}

/** A path with the parameters that are given. */
export function withQuery(path, query) {
  const given = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function problemOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    body = { title: `HTTP ${response.status}`, detail: "the answer is not JSON: is there a proxy in between?" };
  }
  return new Problem(response.status, body, Number(response.headers.get("Retry-After")) || null);
}
