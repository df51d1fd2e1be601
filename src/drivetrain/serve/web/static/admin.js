// What an act of the admin came to is spoken, and where the focus was is where it goes on.

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.requestConfig?.verb !== "post") return;
  const said = event.detail.target.querySelector(".said");
  document.getElementById("admin-status").textContent = said?.textContent ?? "";
  event.detail.target.querySelector("button")?.focus();
});

// A part is not exchanged under the hands of who is using it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (requestConfig?.verb === "get" && target.contains(document.activeElement)) event.detail.shouldSwap = false;
});

document.addEventListener("htmx:responseError", (event) => {
  const { status } = event.detail.xhr;
  document.getElementById("admin-status").textContent = status === 401
    ? "You are no longer signed in. Load this page again to sign in."
    : `The server refused with status ${status}.`;
});
