// A picture that is looked into: wheel, pinch, double tap, drag, and whoever calls `by`, `move` and `reset`.

const MOST = 12;

export function startZoom(frame, canvas) {
  let scale = 1;
  let x = 0;
  let y = 0;
  let wasMoved = false;
  const held = new Map(); // pointer -> where it is

  canvas.setAttribute("aria-label", "Zoom in, or out again");
  canvas.setAttribute("role", "button");
  canvas.draggable = false;

  function place(newScale, newX, newY) {
    scale = Math.min(MOST, Math.max(1, newScale));
    // the picture covers its frame, so that it cannot be lost
    x = Math.min(0, Math.max(frame.clientWidth * (1 - scale), newX));
    y = Math.min(0, Math.max(frame.clientHeight * (1 - scale), newY));
    canvas.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
    canvas.classList.toggle("is-zoomed", scale > 1);
  }

  // around a point of the frame, which stays where it is
  function around(factor, atX, atY) {
    const after = Math.min(MOST, Math.max(1, scale * factor));
    place(after, atX - ((atX - x) * after) / scale, atY - ((atY - y) * after) / scale);
  }

  const inFrame = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [[ax, ay], [bx, by]] = [...held.values()];
    return { far: Math.hypot(ax - bx, ay - by), atX: (ax + bx) / 2, atY: (ay + by) / 2 };
  };

  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    around(Math.exp(-event.deltaY / (event.deltaMode === 1 ? 12 : 300)), ...inFrame(event));
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, inFrame(event));
    wasMoved = held.size > 1;
    if (scale > 1 || held.size > 1) canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("is-held");
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [oldX, oldY] = held.get(event.pointerId);
    const [newX, newY] = inFrame(event);
    if (held.size === 2) {
      const before = spread();
      held.set(event.pointerId, [newX, newY]);
      const after = spread();
      if (before.far > 0) around(after.far / before.far, after.atX, after.atY);
      place(scale, x + after.atX - before.atX, y + after.atY - before.atY);
    } else if (Math.hypot(newX - oldX, newY - oldY) > 3 || wasMoved) {
      wasMoved = true;
      held.set(event.pointerId, [newX, newY]);
      if (scale > 1) place(scale, x + newX - oldX, y + newY - oldY);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      held.delete(event.pointerId);
      if (!held.size) canvas.classList.remove("is-held");
    });
  }
  canvas.addEventListener("click", (event) => {
    event.preventDefault(); // without a script it opens the picture by itself
    if (wasMoved && event.detail) return;
    if (scale > 1) place(1, 0, 0);
    else if (event.detail) around(2.5, ...inFrame(event));
    else around(2.5, frame.clientWidth / 2, frame.clientHeight / 2); // by the keyboard
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") { event.preventDefault(); canvas.click(); }
  });

  // false where the whole picture is seen, so that there is nothing to move
  function move(dx, dy) {
    if (scale === 1) return false;
    place(scale, x + dx, y + dy);
    return true;
  }

  const by = (factor) => around(factor, frame.clientWidth / 2, frame.clientHeight / 2);
  document.getElementById("zoom-in").addEventListener("click", () => by(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => by(1 / 1.5));
  return { by, reset: () => place(1, 0, 0), move };
}
