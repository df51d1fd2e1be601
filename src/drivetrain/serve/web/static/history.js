// Answers stay with this tab: small pictures and what was said, in sessionStorage, gone when the tab is.

const KEY = `drivetrain ${document.body.dataset.version ?? ""}`;
const MOST = 30;
const SIDE = 320;

// [{name, thumbnail, answer}], the newest first. What cannot be read is as if it had never been.
export function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return kept.filter((one) => typeof one.name === "string" && /^data:image\/jpeg;base64,/.test(one.thumbnail) && one.answer?.reasons);
  } catch {
    return [];
  }
}

export async function remember(file, answer) {
  const thumbnail = await shrink(file);
  if (!thumbnail) return;
  let kept = [{ name: file.name, thumbnail, answer }, ...recall()].slice(0, MOST);
  while (kept.length) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(kept));
      return;
    } catch {
      kept = kept.slice(0, -1); // full, or forbidden: then nothing is left in the end
    }
  }
}

export function forgetAll() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // a browser that keeps nothing has nothing to forget
  }
}

async function shrink(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas.toDataURL("image/jpeg", 0.8);
  } catch {
    return ""; // a picture that this browser cannot show, though the server can
  }
}

// The strip of thumbnails: one stop for Tab, arrow keys within, Enter leads to the card.
export function listenToStrip(strip) {
  strip.addEventListener("keydown", (event) => {
    const all = [...strip.children];
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    move(all, Math.min(Math.max(to, 0), all.length - 1));
  });
}

function move(all, to) {
  all.forEach((one, at) => { one.tabIndex = at === to ? 0 : -1; });
  all[to].focus();
}

// entries: [{name, words, thumbnail, state, card}]
export function drawStrip(strip, entries) {
  strip.hidden = entries.length < 2;
  strip.replaceChildren(...entries.map((entry, at) => {
    const thumb = document.createElement("button");
    thumb.type = "button";
    thumb.className = `thumb was-${entry.state}`;
    thumb.tabIndex = at ? -1 : 0;
    thumb.setAttribute("aria-label", `${entry.name}: ${entry.words}`);
    if (entry.thumbnail) {
      const image = document.createElement("img");
      image.src = entry.thumbnail;
      image.alt = "";
      thumb.append(image);
    } else thumb.append("!");
    thumb.addEventListener("click", () => {
      entry.card.scrollIntoView({ block: "nearest" });
      entry.card.focus({ preventScroll: true });
    });
    return thumb;
  }));
}
