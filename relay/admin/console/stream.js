// The live feed: Server-Sent Events read with fetch, because EventSource cannot send a token.
//
// It resumes after the last cursor that was seen, so a pause or a broken connection loses nothing; where there is no
// stream, it reads the same feed page by page.

import { get, send } from "./api.js";

const POLL_MS = 2000;
const LONGEST_MS = 15_000;

/**
 * Follow the feed until the signal ends. `tell` gets items in order, `state` what goes on (kind, words).
 * `place.after` is where to begin (null: from now on), and is kept up to date: whoever follows again goes on there.
 */
export async function follow({ query, place, signal, tell, state }) {
  const gentle = { retryMs: 1000, failures: 0 };
  while (!signal.aborted) {
    try {
      state("idle", "connecting");
      await stream(query, place, signal, gentle, tell, state);
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (error.status === 404 || error.status === 405) return poll(query, place, signal, tell, state);
      if (error.status === 410 || error.status === 422) {
        state("warn", `cannot resume (${error.detail}): going on from now`);
        place.after = null;
      }
    }
    if (signal.aborted) return;
    gentle.failures += 1;
    const waitMs = Math.min(gentle.retryMs * 2 ** (gentle.failures - 1), LONGEST_MS);
    state("warn", `interrupted, trying again in ${Math.ceil(waitMs / 1000)} s`);
    await pause(waitMs, signal);
  }
}

async function stream(query, place, signal, gentle, tell, state) {
  const headers = { Accept: "text/event-stream" };
  if (place.after) headers["Last-Event-ID"] = place.after;
  const response = await send("GET", "/v1/events/stream", { query, signal, headers });
  state("good", "live");
  for await (const message of messages(response.body)) {
    gentle.failures = 0;
    if (message.retry) gentle.retryMs = message.retry;
    if (message.id) place.after = message.id;
    if (!message.data) continue;
    if (message.event?.startsWith("relay.feed.")) state("warn", "events were left out: they are kept no longer");
    else tell([JSON.parse(message.data)]);
  }
}

/** The messages of an event stream (the WHATWG HTML standard, 9.2.6), one by one. */
export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (Object.keys(message).length) yield message;
          message = {};
        } else if (!line.startsWith(":")) {
          take(message, line);
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function take(message, line) {
  const colon = line.indexOf(":");
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "data") message.data = message.data === undefined ? value : `${message.data}\n${value}`;
  else if (name === "retry") message.retry = Number(value) || undefined;
  else if (name === "id" || name === "event") message[name] = value;
}

async function poll(query, place, signal, tell, state) {
  while (!signal.aborted) {
    try {
      const page = await get("/v1/events", { ...query, after: place.after, limit: 100 }, signal);
      state("good", "live, asking every 2 s");
      if (page.data.length) tell(page.data);
      place.after = page.next_cursor ?? page.data.at(-1)?.cursor ?? place.after;
      if (page.next_cursor) continue;
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      state("warn", `interrupted: ${error.title}`);
    }
    await pause(POLL_MS, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
