// Signing in: the same token as curl sends, checked by a request, kept in this tab.

import { call, token } from "./api.js";
import { el, fill } from "./dom.js";

/** The form that asks for the token; resolves once one was accepted. */
export function signIn(place, message = "") {
  return new Promise((resolve) => {
    const input = el("input", {
      id: "token",
      name: "token",
      type: "password",
      required: true,
      autocomplete: "off",
      spellcheck: "false",
      "aria-describedby": "token-help token-problem",
      class: "mono",
    });
    const problem = el("p", { id: "token-problem", class: "problem", role: "alert" }, message);
    const submit = el("button", { class: "primary" }, "Sign in");
    const form = el(
      "form",
      { class: "sign-in panel", novalidate: true },
      el("h1", { tabindex: -1 }, "Sign in to the relay"),
      el("label", { for: "token" }, "Admin token"),
      input,
      el(
        "p",
        { id: "token-help", class: "hint" },
        "It is in the file ",
        el("code", {}, ".relay/admin-token"),
        " of the directory in which the relay was started, or one of ",
        el("code", {}, "RELAY_ADMIN_TOKENS"),
        ". This tab keeps it until it is closed.",
      ),
      problem,
      submit,
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const presented = input.value.trim();
      if (!presented) return say("Enter the token.");
      submit.disabled = true;
      try {
        await call("GET", "/v1/sources", { query: { limit: 1 }, presented });
        token.set(presented);
        resolve();
      } catch (error) {
        say(sentence(error));
        input.select();
      } finally {
        submit.disabled = false;
      }
    });
    function say(text) {
      fill(problem, text);
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
    fill(place, form);
    document.title = "Sign in · relay";
    input.focus();
  });
}

function sentence(error) {
  if (error.status === 401)
    return "The relay refuses this token. Copy the whole line of .relay/admin-token, without spaces.";
  if (error.status === 429)
    return `Too many refused tokens: wait ${error.retryAfterS ?? "a few"} s, then try a valid one.`;
  return `${error.title}: ${error.detail}`;
}
