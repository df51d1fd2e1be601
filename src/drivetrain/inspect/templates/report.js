// Comfort only: without it a cell is a link that shows its pictures through :target.
(() => {
  document.documentElement.classList.add("js");
  const cells = [...document.querySelectorAll(".matrix td[title]")];
  const links = [...document.querySelectorAll(".matrix a, .pair")];
  const readout = document.querySelector(".readout");
  let opener = null;

  function open(id) {
    for (const panel of document.querySelectorAll(".panel")) panel.classList.toggle("open", panel.id === id);
    for (const link of links) link.setAttribute("aria-expanded", String(link.hash === "#" + id));
    const panel = id && document.getElementById(id);
    if (panel) panel.scrollIntoView({ block: "nearest" });
  }

  for (const link of links) {
    link.setAttribute("aria-expanded", "false");
    link.addEventListener("click", (event) => {
      event.preventDefault(); // a jump would take the matrix out of sight
      opener = link;
      open(link.getAttribute("aria-expanded") === "true" ? "" : link.hash.slice(1));
    });
  }
  for (const close of document.querySelectorAll(".close")) {
    close.addEventListener("click", (event) => {
      event.preventDefault();
      open("");
      if (opener) opener.focus();
    });
  }
  for (const cell of cells) {
    const tell = () => { readout.textContent = cell.title; };
    cell.addEventListener("mouseenter", tell);
    cell.addEventListener("focusin", tell);
  }
  if (navigator.clipboard) {
    for (const path of document.querySelectorAll(".path")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "copy";
      button.setAttribute("aria-label", "Copy the path " + path.dataset.full);
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(path.dataset.full);
          button.textContent = "copied";
        } catch {
          button.textContent = "not allowed"; // the path can still be selected
        }
      });
      path.append(button);
    }
  }
  if (location.hash.startsWith("#cell-")) open(location.hash.slice(1));
})();
