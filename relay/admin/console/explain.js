// Why an event came to be, who was to get it and who not; and why an entity made none.

import { get, v1 } from "./api.js";
import { block } from "./dom.js";
import { part } from "./parts.js";

/** GET /v1/events/{id}/explain, shown. */
export function explained(ctx, id) {
  return part(ctx, async () => block(await get(v1("events", id, "explain"), null, ctx.signal), "explanation"));
}

/** GET /v1/entities/{source}/{id}/explain, shown. */
export function entityExplained(ctx, source, id) {
  return part(ctx, async () =>
    block(await get(v1("entities", source, id, "explain"), null, ctx.signal), "explanation"),
  );
}
