// One picture's card: waiting, sending, answered or failed. Names and labels are not ours: textContent only.

import { errorSentence, fileSize, mayPass, percent, reasonSentences } from "./words.js";

const BARS_SHOWN = 5;

export function makeCard(file, onRetry) {
  const title = element("h3", "answer", "Waiting");
  const detail = element("div", "detail");
  const meter = element("progress", "meter");
  meter.max = 1;
  meter.value = 0;
  meter.setAttribute("aria-label", `Sending ${file.name}`);
  const name = element("p", "file-name", file.name);
  name.title = `${file.name}, ${fileSize(file.size)}`;
  const root = element("li", "card is-waiting", preview(file), element("div", "card-head", name, title), detail);

  const show = (state, headline, ...parts) => {
    root.className = `card is-${state}`;
    title.textContent = headline;
    detail.replaceChildren(...parts);
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
      if (answer.decision === "defer") show("deferred", "I don’t know", ...deferred(answer));
      else show("accepted", answer.label, element("p", "sure", `${percent(answer.probability)} sure`), ...bars(answer));
    },
    fail(error) {
      const parts = [element("p", "reason", errorSentence(error))];
      if (error.request_id) parts.push(element("p", "quiet", `Request ${error.request_id}`));
      if (mayPass(error)) {
        const again = element("button", "link", "Try again");
        again.type = "button";
        again.addEventListener("click", onRetry);
        parts.push(again);
      }
      show("failed", "No answer", ...parts);
    },
    release() {
      URL.revokeObjectURL(root.querySelector("img")?.src ?? "");
    },
  };
}

function deferred(answer) {
  const reasons = reasonSentences(answer).map((sentence) => element("p", "reason", sentence));
  const guess = element("p", "guess", "If I had to guess: ", element("strong", "", answer.label));
  return [...reasons, guess, ...bars(answer)];
}

function bars(answer) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const shown = [list(ranked.slice(0, BARS_SHOWN))];
  const rest = ranked.slice(BARS_SHOWN);
  if (rest.length) {
    const fold = element("details", "fold", element("summary", "", `${rest.length} more`), list(rest));
    shown.push(fold);
  }
  return shown;
}

function list(ranked) {
  return element("ul", "bars", ...ranked.map(([label, p]) => {
    const fill = element("span", "fill");
    fill.style.setProperty("--share", p);
    const track = element("span", "track", fill);
    track.setAttribute("aria-hidden", "true");
    const text = element("span", "label", label);
    text.title = label;
    return element("li", "", text, track, element("span", "percent", percent(p)));
  }));
}

function preview(file) {
  const frame = element("div", "preview");
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  image.addEventListener("error", () => {
    URL.revokeObjectURL(image.src);
    const kind = /\.(\w{1,5})$/.exec(file.name)?.[1] ?? "file";
    frame.replaceChildren(element("span", "tile", kind.toUpperCase()));
  });
  image.src = URL.createObjectURL(file);
  frame.append(image);
  return frame;
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children); // strings become text nodes, never markup
  return made;
}
