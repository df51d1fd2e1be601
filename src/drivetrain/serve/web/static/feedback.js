// "Right" and "wrong": what a person says of an answer, sent to the server's memory. A voice, never a label.

import { button, element } from "./card.js";
import { ask } from "./send.js";
import { errorSentence, guessed, isLabels, isValues } from "./words.js";

const NONE = "\u0000none"; // the choice "none of these", which no label can be
const byId = (id) => document.getElementById(id);
let current = null; // {item, answer, settle} of the dialog

export function offerVerdict(row, { item, answer, onSaid }) {
  if (document.body.dataset.hasStore === undefined || !answer.prediction_id) return;
  const right = button("button small", "Right");
  const wrong = button("button small", "Wrong");
  const group = element("span", "verdict", right, wrong);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Is this answer right?");

  const settle = (words) => {
    const change = button("link", "Change");
    change.addEventListener("click", () => {
      group.replaceChildren(right, wrong);
      right.focus();
    });
    group.replaceChildren(element("span", "thanks", words), change);
    change.focus();
    onSaid(`${item.name}: ${words}`);
  };

  right.addEventListener("click", async () => {
    right.disabled = wrong.disabled = true;
    const reply = await send(answer, { verdict: "right" });
    right.disabled = wrong.disabled = false;
    if (reply.ok) settle("Noted: right.");
    else onSaid(`${item.name}: ${errorSentence(reply.body)}`, group);
  });
  wrong.addEventListener("click", () => open({ item, answer, settle, wrong }));
  row.append(group);
}

export function listenForVerdicts() {
  if (!byId("feedback")) return;
  byId("feedback-search").addEventListener("input", narrow);
  byId("feedback-search").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // the one that is left is meant
    const left = [...byId("feedback-labels").querySelectorAll("label:not([hidden]) input")];
    if (left.length) {
      left[0].checked = true;
      left[0].focus();
    }
  });
  byId("feedback-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("feedback-unsure").addEventListener("click", () => finish({ verdict: "unsure" }, "Noted: cannot be told."));
  byId("feedback-close").addEventListener("click", () => byId("feedback").close());
  byId("feedback").addEventListener("close", () => current?.wrong.isConnected && current.wrong.focus());
}

function open(given) {
  current = given;
  const { answer } = given;
  byId("feedback-title").textContent = isLabels(answer) ? "Which label is it wrong about?" : "What would be right?";
  byId("feedback-said").textContent = `It said: ${guessed(answer)}.`;
  byId("feedback-value").hidden = !isValues(answer);
  byId("feedback-choice").hidden = isValues(answer);
  byId("feedback-search").value = byId("feedback-note").value = "";
  tell("");
  if (isValues(answer)) askValues(Object.keys(answer.values));
  else list(answer);
  byId("feedback").showModal();
  byId(isValues(answer) ? "feedback-number-0" : "feedback-search").focus();
}

// A number for each value that it measures.
function askValues(names) {
  byId("feedback-value").replaceChildren(...names.flatMap((name, at) => {
    const input = document.createElement("input");
    Object.assign(input, { id: `feedback-number-${at}`, type: "number", step: "any", inputMode: "decimal" });
    const label = element("label", "", names.length > 1 ? `The true ${name}` : "The true value");
    label.htmlFor = input.id;
    return [label, input];
  }));
}

// The likeliest first; what it said itself cannot be what is right instead.
function list(answer) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]).map(([label]) => label);
  const offered = ranked.filter((label) => label !== answer.label).map((label) => choice(label, label));
  const none = choice(NONE, isLabels(answer) ? "Something else" : "None of these");
  none.classList.add("is-none");
  byId("feedback-labels").replaceChildren(...offered, none);
  narrow();
}

function choice(value, words) {
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "right-label";
  input.value = value;
  return element("label", "choice", input, element("span", "", words));
}

function narrow() {
  const wanted = byId("feedback-search").value.trim().toLocaleLowerCase();
  let left = 0;
  for (const label of byId("feedback-labels").children) {
    label.hidden = !label.classList.contains("is-none") && !label.textContent.toLocaleLowerCase().includes(wanted);
    if (!label.hidden && !label.classList.contains("is-none")) left += 1;
    if (label.hidden) label.firstChild.checked = false;
  }
  byId("feedback-found").textContent = wanted ? `${left} ${left === 1 ? "label" : "labels"} left` : "";
}

function submit() {
  const said = { verdict: "wrong" };
  if (isValues(current.answer)) {
    const given = [...byId("feedback-value").querySelectorAll("input")].map((input) => input.value);
    if (given.some(Boolean) && !given.every(Boolean)) return tell("Give every value, or none of them.");
    if (given.every(Boolean)) said.label = given.map((value) => String(Number(value))).join(";");
  } else {
    const chosen = byId("feedback-labels").querySelector("input:checked");
    if (!chosen) return tell("Choose a label first, or “None of these”.");
    if (chosen.value !== NONE) said.label = chosen.value;
  }
  return finish(said, said.label ? `Noted: ${said.label}.` : "Noted: wrong.");
}

async function finish(said, words) {
  const note = byId("feedback-note").value.trim();
  if (note) said.note = note;
  byId("feedback-send").disabled = true;
  const reply = await send(current.answer, said);
  byId("feedback-send").disabled = false;
  if (!reply.ok) return tell(errorSentence(reply.body));
  const { settle } = current;
  current = null;
  byId("feedback").close();
  return settle(words);
}

function tell(words) {
  byId("feedback-error").textContent = words;
  byId("feedback-error").hidden = !words;
}

function send(answer, said) {
  return ask(`feedback/${answer.prediction_id}`, JSON.stringify(said), { "Content-Type": "application/json" });
}
