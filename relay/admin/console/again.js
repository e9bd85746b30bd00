// Trying again by itself: what the relay could not answer, and what has not come to its end yet.

const SHORTEST_MS = 1000;
const LONGEST_MS = 15_000;

/** Whether a failure may pass without anybody's doing: no answer at all, or one that says "not now". */
export function passing(error) {
  return [0, 429, 502, 503, 504].includes(error.status);
}

/**
 * Call `act` after a pause that grows with `failures` (how many there were before); sooner if the tab is looked at
 * again or the network is back. A tab that nobody looks at asks for nothing. It ends with the signal, and by what this
 * answers.
 */
export function again(signal, failures, act) {
  const done = new AbortController();
  const over = { signal: AbortSignal.any([signal, done.signal]) };
  function go() {
    if (document.hidden || over.signal.aborted) return;
    done.abort();
    act();
  }
  const timer = setTimeout(go, Math.min(SHORTEST_MS * 2 ** failures, LONGEST_MS));
  over.signal.addEventListener("abort", () => clearTimeout(timer));
  document.addEventListener("visibilitychange", go, over);
  addEventListener("online", go, over);
  return () => done.abort();
}

/** Call `act` now and a few times more: what was asked for takes the relay some moments. */
export function soon(signal, act) {
  act();
  const timers = [500, 1500, 4000].map((ms) => setTimeout(act, ms));
  signal.addEventListener("abort", () => timers.forEach(clearTimeout));
}
