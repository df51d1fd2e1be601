// What the page says, as plain text. No DOM here.

const UNKNOWN = "This does not look like anything I was trained on.";
const SHIFTED = "This is the right kind of thing, in a style I have not seen";
const SO_PERHAPS = "If it shows something I should know, that may be why.";
const NAMED_AT_MOST = 3;

export function percent(p) {
  if (p > 0.99 && p < 1) return ">\u00a099\u00a0%";
  if (p < 0.01 && p > 0) return "<\u00a01\u00a0%";
  return `${Math.round(p * 100)}\u00a0%`;
}

function all(labels) {
  if (labels.length === 1) return labels[0];
  if (labels.length <= NAMED_AT_MOST) return `${labels.slice(0, -1).join(", ")} and ${labels.at(-1)}`;
  const others = labels.length - NAMED_AT_MOST;
  return `${labels.slice(0, NAMED_AT_MOST).join(", ")} and ${others} ${others === 1 ? "other" : "others"}`;
}

function oneOf(labels) {
  if (labels.length <= NAMED_AT_MOST) return `${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}`;
  const others = labels.length - NAMED_AT_MOST;
  return `${labels.slice(0, NAMED_AT_MOST).join(", ")} or one of ${others} ${others === 1 ? "other" : "others"}`;
}

// Three kinds of answer: of a class (label), of any number of labels (labels), of measured values (values).
export const isLabels = (answer) => Array.isArray(answer.labels);
export const isValues = (answer) => "values" in answer;
export const isUnknown = (answer) => answer.reasons.includes("unknown");

export function decimal(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

export function openLabels(answer) {
  return Object.keys(answer.decisions).filter((label) => answer.decisions[label] === "defer");
}

// What it takes the picture for, whether or not it decides that by itself.
export function guessed(answer) {
  if (isLabels(answer)) return answer.labels.length ? answer.labels.join(", ") : "none of its labels";
  if (!isValues(answer)) return answer.label;
  const all = Object.entries(answer.values);
  return all.length === 1 ? decimal(answer.value) : all.map(([name, value]) => `${name}: ${decimal(value)}`).join(", ");
}

// What stands before a guess that decides nothing; of something unknown its numbers are no measure of anything.
export function guessInWords(answer) {
  return isUnknown(answer) ? "What I would say if I had to:" : "If I had to guess:";
}

// Between which numbers one of its values lies.
export function reach(answer, name) {
  const ends = answer.intervals[name];
  return ends ? `${decimal(ends[0])} to ${decimal(ends[1])}` : "how far off is not known";
}

export function sureness(answer) {
  if (isLabels(answer)) return "sure of every label";
  if (!isValues(answer)) return `${percent(answer.probability)} sure`;
  const told = Object.entries(answer.intervals).filter(([, ends]) => ends).map(([name, [low, high]]) => {
    const of = Object.keys(answer.values).length > 1 ? `${name} ` : "";
    return `${of}between ${decimal(low)} and ${decimal(high)}`;
  });
  return told.length ? `likely ${told.join(", ")}` : "how far off is not known";
}

// words: comparatives, such as "darker".
function styleSentence(words) {
  return words.length ? `It is ${all(words)} than the pictures I know` : "";
}

export function reasonSentences(answer) {
  const style = styleSentence(answer.shifted_by ?? []);
  // Of something unknown, "it may be A or B" says nothing. Its style may be why it is unknown, or beside the point.
  if (isUnknown(answer)) return style ? [UNKNOWN, `${style}. ${SO_PERHAPS}`] : [UNKNOWN];
  const said = answer.reasons.map((reason) => {
    if (reason === "shifted") return style ? `${SHIFTED}. ${style}.` : `${SHIFTED}.`;
    if (reason !== "low_confidence") return `I was told to leave this to a person (${reason}).`;
    if (isLabels(answer)) return `I am not sure about ${all(openLabels(answer))}.`;
    return answer.label_set.length > 1
      ? `I am not sure enough: it may be ${oneOf(answer.label_set)}.`
      : "I am not sure enough to decide this by myself.";
  });
  return said.length ? said : ["A person should look at this one."];
}

export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function errorSentence(error) {
  switch (error.code) {
    case "unreadable_picture":
      return "I cannot read this file as a picture. Open it in a viewer and save it again, or leave it out.";
    case "too_large":
      return "This file is larger than this server takes.";
    case "overloaded":
      return "The server is too busy right now.";
    case "deadline_passed":
      return "The server took too long over this picture.";
    case "offline":
      return "The server did not answer. Is it still running?";
    case "unauthorized":
      return "You are no longer signed in. Load this page again to sign in.";
    case "rate_limited":
      return "You ask more often than this server allows. Wait a little.";
    case "internal":
      return "Something broke in the server, not in your picture.";
    default:
      return error.message;
  }
}

// Whether the same picture may fare better at another time.
export function mayPass(error) {
  return ["overloaded", "rate_limited", "deadline_passed", "offline", "internal", "unavailable", "upload_stalled", "unknown"].includes(error.code);
}

// explained: the answer of POST /explain.
export function whySentence(explained) {
  const most = explained.where ? ` Most of it lies ${explained.where}.` : "";
  if ("value" in explained) return `Lit: what moves ${explained.label === "value" ? "the value" : `“${explained.label}”`}.${most}`;
  return `Lit: what speaks for “${explained.label}”.${most}`;
}

export function whyLimits(explained) {
  const { left, top, right, bottom } = explained.frame;
  const said = [];
  if (Math.max(left, top) > 0.005 || Math.min(right, bottom) < 0.995) said.push("Grey was cropped away before it looked.");
  if (explained.share_explained < 0.995) said.push(`The map accounts for ${percent(explained.share_explained)} of what the answer weighs; the rest has no place in the picture.`);
  return said.join(" ");
}
