// The numbers are fetched anew every few seconds while somebody looks; forms are never exchanged under their hands.

const EVERY_MS = 5000;
const main = document.getElementById("main");
const now = document.getElementById("now");
const moved = document.getElementById("moved");
let last = "";

function tell(words, link) {
  if (moved.dataset.words === words) return;
  moved.dataset.words = words;
  moved.textContent = words;
  moved.hidden = !words;
  if (!link) return;
  const again = document.createElement("a");
  again.href = link;
  again.textContent = "Load it again";
  moved.append(" ", again);
}

const isInUse = () =>
  [...document.querySelectorAll("main form")].some((form) =>
    form.contains(document.activeElement) ||
    [...form.elements].some((field) =>
      field.type === "checkbox" ? field.checked !== field.defaultChecked : field.defaultValue !== undefined && field.value !== field.defaultValue));

async function refresh() {
  if (document.visibilityState !== "visible" || now.contains(document.activeElement)) return;
  let reply;
  try {
    reply = await fetch(main.dataset.part, { headers: { Accept: "text/html" }, redirect: "manual" });
  } catch {
    return tell("The server cannot be reached; what you see may be old.");
  }
  if (reply.type === "opaqueredirect" || reply.status === 401) return tell("You are no longer signed in.", main.dataset.page);
  if (!reply.ok) return tell(`The server answered with status ${reply.status}; what you see may be old.`);
  const text = await reply.text();
  if (text !== last) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const state = fresh.querySelector("[data-state]")?.dataset.state;
    if (main.dataset.state && state !== main.dataset.state) {
      if (!isInUse()) return location.replace(main.dataset.page);
      now.replaceChildren(...fresh.body.childNodes);
      last = text;
      return tell("It has moved on since you loaded this page.", main.dataset.page);
    }
    if (last || now.textContent.trim() !== fresh.body.textContent.trim()) now.replaceChildren(...fresh.body.childNodes);
    last = text;
  }
  if (!main.dataset.state || !moved.querySelector("a")) tell("");
}

if (main?.dataset.part) {
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}
