// One picture after the other: number keys, undo, search, zoom. All of it works without this, by forms.

import { startZoom } from "./zoom.js";

const main = document.getElementById("main");
const form = document.getElementById("answer");
const undo = document.getElementById("undo");
const find = document.getElementById("find");
const picture = document.getElementById("picture");
let isSent = false;

// The bar goes when it would no longer help.
if (undo) setTimeout(() => undo.remove(), 1000 * Number(undo.dataset.left));
if (main.dataset.left !== undefined) {
  setTimeout(() => { document.getElementById("lapsed").hidden = false; }, 1000 * Number(main.dataset.left));
}

const zoom = picture ? startZoom(document.getElementById("frame"), document.getElementById("canvas")) : null;

// One press is one answer, however often it comes.
form?.addEventListener("submit", (event) => {
  if (isSent) return event.preventDefault();
  isSent = true;
  event.submitter?.classList.add("is-sent");
  return undefined;
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const labels = form ? [...document.querySelectorAll("#labels .label")] : [];
const seen = () => labels.filter((button) => !button.parentElement.hidden);

function number() {
  for (const button of labels) {
    button.querySelector("kbd").textContent = "";
    button.removeAttribute("aria-keyshortcuts");
  }
  seen().slice(0, 9).forEach((button, place) => {
    button.querySelector("kbd").textContent = place + 1;
    button.setAttribute("aria-keyshortcuts", place + 1);
  });
}

find?.addEventListener("input", () => {
  const wanted = find.value.trim().toLowerCase();
  for (const button of labels) button.parentElement.hidden = !button.value.toLowerCase().includes(wanted);
  number();
  const count = seen().length;
  document.getElementById("found").textContent = `${count} ${count === 1 ? "label" : "labels"}`;
});
find?.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && find.value) {
    event.preventDefault();
    find.value = "";
    find.dispatchEvent(new Event("input"));
  } else if (event.key === "Escape") find.blur();
  else if (event.key === "Enter") {
    event.preventDefault();
    const found = seen();
    if (found.length === 1) found[0].click();
    else found[0]?.focus();
  }
});

// Each says whether there was something to do; where there was not, the key is the browser's.
const help = document.getElementById("help");
const done = (thing, act) => { if (thing) act(thing); return Boolean(thing); };
const say = (value) => done(form?.querySelector(`[name='say'][value='${value}']`), (button) => button.click());
const acts = {
  n: () => say("none"),
  u: () => say("unsure"),
  z: () => done(undo?.isConnected, () => undo.requestSubmit()),
  "?": () => done(help, () => { help.open = !help.open; }),
  "/": () => done(find, () => find.focus()),
  "+": () => done(zoom, () => zoom.by(1.5)),
  "=": () => done(zoom, () => zoom.by(1.5)),
  "-": () => done(zoom, () => zoom.by(1 / 1.5)),
  0: () => done(zoom, () => zoom.reset()),
  arrowleft: () => zoom?.move(80, 0),
  arrowright: () => zoom?.move(-80, 0),
  arrowup: () => zoom?.move(0, 80),
  arrowdown: () => zoom?.move(0, -80),
};

document.addEventListener("keydown", (event) => {
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key still held from the picture before
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
  const label = /^[1-9]$/.test(event.key) ? seen()[Number(event.key) - 1] : null;
  if (label) label.click();
  else if (!acts[event.key.toLowerCase()]?.()) return;
  event.preventDefault();
});

// Why: fetched once, then shown and hidden. The server notes that it was asked.
const why = document.getElementById("why");
why?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("why-button");
  const words = document.getElementById("why-words");
  const known = document.getElementById("heat");
  if (known) {
    known.hidden = !known.hidden;
    button.setAttribute("aria-pressed", String(!known.hidden));
    return;
  }
  button.disabled = true;
  words.textContent = "Looking …";
  try {
    const reply = await fetch(why.action, { method: "POST", body: new URLSearchParams(new FormData(why)), headers: { Accept: "text/html" } });
    const told = new DOMParser().parseFromString(await reply.text(), "text/html");
    const heat = told.getElementById("heat");
    if (!reply.ok && !told.getElementById("why-words")) throw new Error();
    words.textContent = told.getElementById("why-words").textContent;
    if (heat) {
      document.getElementById("canvas").append(document.importNode(heat));
      button.setAttribute("aria-pressed", "true");
    }
  } catch {
    words.textContent = "The server did not say. Load this page again.";
  }
  button.disabled = false;
});
