// The API's short words in whole ones, for people: outcomes, reasons, and where in what was sent a mistake is.

const OUTCOMES = {
  delivered: "delivered",
  status: "answered",
  redirect: "answered with a redirect, which is not followed:",
  dns: "its name was not found",
  connect: "no connection",
  tls: "no secure connection (TLS)",
  timeout: "no answer in time",
  blocked: "not sent: the address is not allowed",
  body: "its answer is not readable HTTP",
  proxy: "not sent: the relay's proxy failed",
  local: "not sent: the relay had no socket or memory left",
  too_large: "not sent: too large",
};
const VERDICTS = {
  delivered: "done",
  retry: "tried again later",
  dead: "given up",
  held: "kept for the next try",
};
const TROUBLES = {
  refused: "the upstream refuses the credentials",
  http_status: "the upstream answers with an error",
  upstream_error: "the upstream answers with an error",
  timeout: "the upstream does not answer in time",
  connect: "the upstream cannot be reached",
  rate_limited: "the upstream asks to be asked less often",
  not_json: "the upstream's answer is not JSON",
  too_large: "the upstream's answer is too large",
};
const WAITS = {
  disabled: "its subscriber is disabled",
  resting: "its subscriber rests",
  retry: "the next try is set",
  due: "due, waits for its turn",
  queued: "in the queue",
  entity: "an earlier event of its entity comes first",
  under_way: "under way",
  no_replica: "no relay delivers for it just now",
};

/** What an attempt came to: `answered 500`. */
export function ending(made) {
  const words = OUTCOMES[made.outcome] ?? made.outcome;
  return made.status_code ? `${words} ${made.status_code}` : words;
}

/** The outcome of attempts in a table, as a noun can be read. */
export function outcomeName(outcome) {
  return (
    { status: "answered with an error", redirect: "answered with a redirect" }[outcome] ?? OUTCOMES[outcome] ?? outcome
  );
}

/** Why a subscriber is said to fail or to be disabled: an outcome or `status 500`, or a sentence already. */
export function failure(reason) {
  const status = /^status (\d+)$/.exec(reason);
  return status ? `it answered ${status[1]}` : (OUTCOMES[reason] ?? reason);
}

/** What became of a delivery after an attempt. */
export function afterwards(verdict) {
  return VERDICTS[verdict] ?? verdict;
}

/** Why a source could not be read. */
export function trouble(reason) {
  return TROUBLES[reason] ?? reason ?? "";
}

/** What a pending delivery waits for. */
export function waiting(reason) {
  return WAITS[reason] ?? reason;
}

/** Where a problem's pointer leads, counted from one: `event types, no. 1`. */
export function named(pointer) {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? `no. ${Number(part) + 1}` : part.replaceAll("_", " ")))
    .join(", ");
}

/** The first so many characters. */
export function cut(text, most = 60) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
