// The choice of a model takes effect at once; without a script its button does the same.

for (const form of document.querySelectorAll(".picker")) {
  form.querySelector("select").addEventListener("change", () => form.requestSubmit());
  form.querySelector("button").hidden = true;
}
