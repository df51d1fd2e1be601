// "Why": a heat map over the picture, fetched when it is first asked for.

import { button, element } from "./card.js";
import { ask } from "./send.js";
import { errorSentence, isValues, whyLimits, whySentence } from "./words.js";

export function offerWhy(row, { root, frame, detail, item, answer, onSaid }) {
  if (document.body.dataset.canExplain === undefined) return;
  const toggle = button("button small", "Why?");
  toggle.setAttribute("aria-pressed", "false");
  const note = element("div", "why");
  const shown = new Map(); // label -> the answer of /explain
  let heat = null;

  const labels = Object.keys(isValues(answer) ? answer.values : answer.probabilities);
  const choice = labels.length > 1 ? picker(labels, firstLabel(answer), (label) => show(label)) : null;

  async function show(label) {
    toggle.disabled = true;
    const found = shown.get(label) ?? (await fetchWhy(item, answer, label));
    toggle.disabled = false;
    if (!found.ok) {
      note.replaceChildren(element("p", "reason", errorSentence(found.body)));
      onSaid(`${item.name}: ${errorSentence(found.body)}`);
      detail.append(note);
      return false;
    }
    shown.set(label, found);
    if (choice && label === undefined) choice.select.value = found.body.label;
    heat ??= element("img", "heat");
    heat.alt = "";
    heat.src = found.body.heat;
    frame.append(heat);
    frame.style.setProperty("--ratio", found.body.width / found.body.height);
    const limits = [whyLimits(found.body), item.file ? "" : "Of the small picture that this tab kept."].filter(Boolean);
    note.replaceChildren(element("p", "", whySentence(found.body)), ...limits.map((each) => element("p", "quiet", each)), ...(choice ? [choice.root] : []));
    detail.append(note);
    root.classList.add("is-explained");
    toggle.setAttribute("aria-pressed", "true");
    onSaid(`${item.name}: ${whySentence(found.body)}`);
    return true;
  }

  toggle.addEventListener("click", () => {
    if (toggle.getAttribute("aria-pressed") === "false") return show(choice?.select.value);
    toggle.setAttribute("aria-pressed", "false");
    root.classList.remove("is-explained");
    heat?.remove();
    note.remove();
    return undefined;
  });
  row.append(toggle);
}

function firstLabel(answer) {
  if (isValues(answer)) return Object.keys(answer.values)[0];
  return Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1])[0][0];
}

let pickers = 0;
function picker(labels, chosen, onPick) {
  pickers += 1;
  const select = element("select", "", ...labels.map((label) => {
    const option = element("option", "", label);
    option.value = label;
    return option;
  }));
  select.id = `why-${pickers}`;
  select.value = chosen;
  select.addEventListener("change", () => onPick(select.value));
  const label = element("label", "quiet", "And for");
  label.htmlFor = select.id;
  return { select, root: element("p", "why-label", label, select) };
}

function fetchWhy(item, answer, label) {
  const form = new FormData();
  form.append("file", item.file ?? keptPicture(item.thumbnail), item.name);
  const asked = new URLSearchParams({ version: answer.version }); // the very version that answered
  const model = new URLSearchParams(document.body.dataset.query).get("model");
  if (model) asked.set("model", model);
  if (label !== undefined) asked.set("label", label);
  return ask(`explain?${asked}`, form);
}

// The small picture of an answer from before a reload, as a file.
function keptPicture(address) {
  const bytes = Uint8Array.from(atob(address.split(",")[1]), (one) => one.charCodeAt(0));
  return new Blob([bytes], { type: "image/jpeg" });
}
