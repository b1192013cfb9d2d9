// What is no picture, or too large to be sent, is refused here, where it is chosen or dropped: Gradio's own answer to
// it would be a red "Error".
(() => {
  const MOST = $max_bytes;
  const refusal = (file) => {
    if (!file.type.startsWith("image/")) return `$${file.name} is no photo. Choose a JPEG, PNG or WebP file.`;
    if (file.size > MOST) return `$${file.name} has $${Math.round(file.size / 1e6)} MB, and $${MOST / 1e6} MB are the most. Choose a smaller photo.`;
    return "";
  };
  const judge = (event, files) => {
    if (!(event.target instanceof Element) || !event.target.closest("#photo") || !files.length) return;
    const sentence = [...files].map(refusal).find(Boolean) ?? "";
    const place = document.getElementById("refused");
    place.textContent = sentence;
    place.hidden = !sentence;
    if (sentence) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  };
  window.addEventListener("change", (event) => judge(event, event.target.files ?? []), true);
  window.addEventListener("drop", (event) => judge(event, event.dataTransfer?.files ?? []), true);
})();

// Gradio names its example buttons nothing, and the place for photos otherwise than it is labelled: people who speak to
// the page, or have it read to them, need both.
new MutationObserver(() => {
  document.querySelectorAll("#examples .gallery-item:not([aria-label])").forEach((button) => {
    const all = [...document.querySelectorAll("#examples .gallery-item")];
    button.setAttribute("aria-label", `Example $${all.indexOf(button) + 1} of $${all.length}`);
  });
  document.querySelectorAll("#photo button[aria-dropeffect][aria-label]").forEach((button) => button.removeAttribute("aria-label"));
}).observe(document, {childList: true, subtree: true});
