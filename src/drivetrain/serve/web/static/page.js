// Take pictures in (drop, pick, paste, photo, example), send them, keep the tally, speak to screen readers.

import { offerCamera } from "./camera.js";
import { doubt, makeCard } from "./card.js";
import { listenForVerdicts } from "./feedback.js";
import { drawStrip, forgetAll, listenToStrip, recall, remember } from "./history.js";
import "./picker.js";
import { enqueue, forget } from "./send.js";
import { errorSentence, fileSize, guessed, reasonSentences, sureness } from "./words.js";

document.documentElement.classList.add("js");

const PICTURE_NAME = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;
const byId = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
let jobs = []; // the newest last
let keeping = Promise.resolve();

function add(files) {
  const list = [...files];
  if (!list.length) return;
  byId("results").hidden = false;
  byId("cards").prepend(...list.map(take));
  tally();
  reveal(byId("results"));
}

// What this tab was told before it was loaded again.
function restore() {
  const kept = recall();
  if (!kept.length) return;
  for (const { name, thumbnail, answer } of kept) {
    const job = { file: { name }, words: words(answer), isDropped: false };
    job.card = makeCard({ name, size: 0, file: null, thumbnail }, { onSaid: announce });
    job.card.answer(answer);
    job.state = stateOf(answer);
    jobs.unshift(job);
    byId("cards").append(job.card.root);
  }
  byId("results").hidden = false;
  tally();
}

const stateOf = (answer) => (answer.decision === "defer" ? "deferred" : "accepted");

function words(answer) {
  return answer.decision === "defer" ? `${doubt(answer)}. ${reasonSentences(answer).join(" ")}` : `${guessed(answer)}, ${sureness(answer)}`;
}

// On a phone the answers start below what is in view.
function reveal(results) {
  if (results.getBoundingClientRect().top < innerHeight * 0.6) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  results.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}

function take(file) {
  const job = { file, state: "waiting", isDropped: false };
  const item = { name: file.name, size: file.size, file };
  job.card = makeCard(item, { onRetry: () => send(job), onSaid: announce });
  jobs.push(job);
  send(job);
  return job.card.root;
}

function send(job) {
  const settle = (state, speech) => {
    job.state = state;
    job.words = speech;
    tally();
    announce(`${job.file.name}: ${speech}`);
  };
  const fail = (error) => {
    job.card.fail(error);
    settle("failed", errorSentence(error));
  };
  if (job.file.size > maxBytes) {
    fail({ code: "client", message: `This file has ${fileSize(job.file.size)}; this server takes at most ${fileSize(maxBytes)}.` });
    return;
  }
  job.state = "waiting";
  enqueue(Object.assign(job, {
    onStart: () => job.card.sending(),
    onProgress: (share) => job.card.progress(share),
    onBusy: () => job.card.busy(),
    onError: fail,
    onAnswer: (answer) => {
      job.card.answer(answer);
      settle(stateOf(answer), words(answer));
      keeping = keeping.then(() => job.isDropped || remember(job.file, answer)); // one by one, in order
    },
  }));
}

function tally() {
  const count = (state) => jobs.filter((job) => job.state === state).length;
  const parts = [
    [count("accepted"), "decided"],
    [count("deferred"), "for a person"],
    [count("failed"), "without an answer"],
    [count("waiting"), "to go"],
  ];
  byId("tally").textContent = parts.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(", ");
  const at = new Map([...byId("cards").children].map((card, place) => [card, place]));
  const done = jobs.filter((job) => job.state !== "waiting").sort((a, b) => at.get(a.card.root) - at.get(b.card.root));
  drawStrip(byId("strip"), done.map((job) => ({
    name: job.file.name, words: job.words, state: job.state, thumbnail: job.state === "failed" ? "" : job.card.thumbnail(), card: job.card.root,
  })));
}

// Many answers in a moment are read out as one sentence, or a screen reader would never stop.
let spoken = [];
let speaking = 0;
function announce(sentence) {
  spoken.push(sentence);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const left = jobs.filter((job) => job.state === "waiting").length;
    const said = spoken.length <= 3 ? spoken.join(". ") : `${spoken.length} pictures answered: ${byId("tally").textContent}`;
    byId("announcer").textContent = left ? `${said}. ${left} to go.` : said;
    spoken = [];
  }, 400);
}

function clear() {
  for (const job of jobs) {
    job.isDropped = true;
    job.abort?.();
    job.card.release();
  }
  jobs = [];
  forget();
  keeping.then(forgetAll);
  byId("strip").replaceChildren();
  byId("cards").replaceChildren();
  byId("results").hidden = true;
  byId("pick").focus();
}

// A dropped folder is walked; what is not a picture by its name is passed over there, but not when dropped itself.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return add(transfer.files);
  for (const entry of entries) add(await filesIn(entry, true));
}

async function filesIn(entry, isTop) {
  if (entry.isFile) {
    if (!isTop && !PICTURE_NAME.test(entry.name)) return [];
    return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return found;
    for (const child of batch) found.push(...(await filesIn(child, false)));
  }
}

function listenForDrops() {
  const intake = byId("intake");
  let depth = 0; // dragenter and dragleave fire for each child
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    intake.classList.add("is-over");
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    if (depth <= 0) intake.classList.remove("is-over");
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    intake.classList.remove("is-over");
    dropped(event.dataTransfer);
  });
}

function listen() {
  byId("pick").addEventListener("click", () => byId("files").click());
  for (const id of ["files", "capture"]) {
    byId(id).addEventListener("change", (event) => {
      add(event.target.files);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add(event.clipboardData.files);
  });
  byId("clear").addEventListener("click", clear);
  byId("intake").addEventListener("submit", (event) => event.preventDefault()); // the form is for who has no script
  for (const example of document.querySelectorAll("[data-example]")) {
    example.addEventListener("click", async () => {
      const reply = await fetch(example.dataset.example);
      if (reply.ok) add([new File([await reply.blob()], `${example.getAttribute("aria-label")}.png`.toLowerCase(), { type: "image/png" })]);
    });
  }
  listenForDrops();
  offerCamera((photo) => add([photo]));
}

function showCode() {
  const endpoint = new URL(`predict${document.body.dataset.query}`, document.baseURI).href; // as this browser reaches it
  for (const place of document.querySelectorAll("[data-endpoint]")) place.textContent = endpoint;
  for (const copy of document.querySelectorAll("[data-copies]")) {
    if (!navigator.clipboard) copy.hidden = true; // absent outside https and localhost
    const words = copy.firstChild;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId(copy.dataset.copies).textContent);
      words.data = "Copied";
      announce("Copied");
      setTimeout(() => { words.data = "Copy"; }, 1500);
    });
  }
}

if (byId("intake")) {
  listen();
  listenForVerdicts();
  listenToStrip(byId("strip"));
  showCode();
  restore();
}
