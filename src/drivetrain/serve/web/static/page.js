// Take pictures in (drop, pick, paste, photo), send them, keep the tally, speak to screen readers.

import { offerCamera } from "./camera.js";
import { doubt, makeCard } from "./card.js";
import { enqueue, forget } from "./send.js";
import { curlLines, errorSentence, fileSize, guessed, reasonSentences, sureness } from "./words.js";

const PICTURE_NAME = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;
const byId = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
let jobs = [];

function add(files) {
  const list = [...files];
  if (!list.length) return;
  byId("results").hidden = false;
  byId("cards").prepend(...list.map(take));
  tally();
  reveal(byId("results"));
}

// On a phone the answers start below what is in view.
function reveal(results) {
  if (results.getBoundingClientRect().top < innerHeight * 0.6) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  results.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}

function take(file) {
  const job = { file, state: "waiting", isDropped: false };
  job.card = makeCard(file, () => send(job));
  jobs.push(job);
  send(job);
  return job.card.root;
}

function send(job) {
  const settle = (state, speech) => {
    job.state = state;
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
      if (answer.decision === "defer") settle("deferred", `${doubt(answer)}. ${reasonSentences(answer).join(" ")}`);
      else settle("accepted", `${guessed(answer)}, ${sureness(answer)}`);
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
  listenForDrops();
  offerCamera((photo) => add([photo]));
}

function showCode() {
  const lines = curlLines(new URL("predict", document.baseURI).href);
  byId("curl-one").textContent = lines.one;
  byId("curl-many").textContent = lines.many;
  for (const button of document.querySelectorAll("[data-copies]")) {
    if (!navigator.clipboard) button.hidden = true; // absent outside https and localhost
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId(button.dataset.copies).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}

if (byId("intake")) {
  listen();
  showCode();
}
