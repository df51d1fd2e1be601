// One picture's card: waiting, sending, answered or failed. Names and labels are not ours: textContent only.

import {
  decimal, errorSentence, fileSize, guessInWords, guessed, isLabels, isUnknown, isValues, mayPass, percent, reach, reasonSentences,
  sureness,
} from "./words.js";
import { offerVerdict } from "./feedback.js";
import { offerWhy } from "./why.js";

const BARS_SHOWN = 5;
const MARKS = { present: ["✓", "is there"], absent: ["–", "is not there"], defer: ["?", "a person should look"] };

// item: {name, size, file (or null, of an answer kept from before), thumbnail (its address then)}
export function makeCard(item, { onRetry, onSaid }) {
  const title = element("h3", "answer", "Waiting");
  const detail = element("div", "detail");
  const meter = element("progress", "meter");
  meter.max = 1;
  meter.value = 0;
  meter.setAttribute("aria-label", `Sending ${item.name}`);
  const name = element("p", "file-name", item.name);
  name.title = item.size ? `${item.name}, ${fileSize(item.size)}` : item.name;
  const frame = preview(item);
  const root = element("li", "card is-waiting", frame, element("div", "card-head", name, title), detail);
  root.tabIndex = -1; // the strip of thumbnails leads here

  const show = (state, headline, ...parts) => {
    root.className = `card is-${state}`;
    title.textContent = headline;
    detail.replaceChildren(...parts);
  };

  const actions = (answer) => {
    const row = element("div", "actions");
    offerWhy(row, { root, frame, detail, item, answer, onSaid });
    offerVerdict(row, { item, answer, onSaid });
    return row.childElementCount ? [row] : [];
  };

  return {
    root,
    sending() {
      meter.value = 0;
      show("sending", "Sending", meter);
    },
    progress(share) {
      meter.value = share;
      if (share < 1) return;
      meter.removeAttribute("value"); // no value: the browser shows that work goes on
      title.textContent = "Looking";
    },
    busy() {
      show("waiting", "Waiting", element("p", "quiet", "The server is busy. I will try again by myself."));
    },
    answer(answer) {
      const state = isUnknown(answer) ? "deferred is-unknown" : "deferred";
      if (answer.decision === "defer") show(state, doubt(answer), ...deferred(answer), ...actions(answer));
      else show("accepted", capital(guessed(answer)), ...sure(answer), ...facts(answer), ...actions(answer));
    },
    fail(error) {
      const parts = [element("p", "reason", errorSentence(error))];
      if (error.request_id) parts.push(element("p", "quiet", `Request ${error.request_id}`));
      if (mayPass(error)) {
        const again = button("link", "Try again");
        again.addEventListener("click", onRetry);
        parts.push(again);
      }
      show("failed", "No answer", ...parts);
    },
    thumbnail: () => frame.querySelector("img")?.src ?? "",
    release() {
      if (item.file) URL.revokeObjectURL(frame.querySelector("img")?.src ?? "");
    },
  };
}

// The headline of what a person should look at.
export function doubt(answer) {
  if (answer.reasons.length === 1 && answer.reasons[0] === "shifted") return "I may be wrong";
  const isPartly = isLabels(answer) && !isUnknown(answer);
  return isPartly && Object.values(answer.decisions).some((one) => one !== "defer") ? "I know some of it" : "I don’t know";
}

function deferred(answer) {
  const reasons = reasonSentences(answer).map((sentence) => element("p", "reason", sentence));
  const guess = element("p", "guess", `${guessInWords(answer)} `);
  if (!isSeveral(answer)) guess.append(element("strong", "", guessed(answer)));
  return [...reasons, guess, ...facts(answer)];
}

// Of several values the rows below say all of it.
const isSeveral = (answer) => isValues(answer) && Object.keys(answer.values).length > 1;

function sure(answer) {
  return isSeveral(answer) ? [] : [element("p", "sure", sureness(answer))];
}

function facts(answer) {
  if (!isValues(answer)) return bars(answer);
  if (!isSeveral(answer)) return [];
  return [element("ul", "numbers", ...Object.entries(answer.values).map(([name, value]) => {
    return element("li", "", element("span", "label", name), element("span", "number", decimal(value)), element("span", "reach", reach(answer, name)));
  }))];
}

function capital(text) {
  return text === "none of its labels" ? "None of its labels" : text;
}

// What a person should look at comes first, then the likeliest.
function bars(answer) {
  const isOpen = ([label]) => Number(isLabels(answer) && answer.decisions[label] === "defer");
  const ranked = Object.entries(answer.probabilities).sort((a, b) => isOpen(b) - isOpen(a) || b[1] - a[1]);
  const shown = [list(ranked.slice(0, BARS_SHOWN), answer)];
  const rest = ranked.slice(BARS_SHOWN);
  if (rest.length) {
    const fold = element("details", "fold", element("summary", "", `${rest.length} more`), list(rest, answer));
    shown.push(fold);
  }
  return shown;
}

// Those of the label set are marked: the right label is among them as often as the model states.
function list(ranked, answer) {
  const set = new Set(answer.label_set?.length > 1 ? answer.label_set : []);
  return element("ul", isLabels(answer) ? "bars of-labels" : "bars", ...ranked.map(([label, p]) => {
    const fill = element("span", "fill");
    fill.style.setProperty("--share", p);
    const track = element("span", "track", fill);
    track.setAttribute("aria-hidden", "true");
    const text = element("span", "label", label);
    text.title = set.has(label) ? `${label}: in the label set` : label;
    const row = element("li", set.has(label) ? "in-set" : "", text, track, element("span", "percent", percent(p)));
    if (isLabels(answer)) row.append(mark(answer.decisions[label]));
    return row;
  }));
}

function mark(decision) {
  const [sign, words] = MARKS[decision] ?? MARKS.defer;
  const shown = element("span", `mark is-${decision}`, sign);
  shown.title = words;
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", words);
  return shown;
}

function preview(item) {
  const frame = element("div", "preview");
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("error", () => {
    if (item.file) URL.revokeObjectURL(image.src);
    const kind = /\.(\w{1,5})$/.exec(item.name)?.[1] ?? "file";
    frame.replaceChildren(element("span", "tile", kind.toUpperCase()));
  });
  image.src = item.file ? URL.createObjectURL(item.file) : item.thumbnail;
  frame.append(image);
  return frame;
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children); // strings become text nodes, never markup
  return made;
}

export function button(className, ...children) {
  const made = element("button", className, ...children);
  made.type = "button";
  return made;
}
