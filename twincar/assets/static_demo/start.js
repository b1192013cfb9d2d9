// Says why the page cannot start, where modules cannot: opened from a disk, or in an old browser.
addEventListener("DOMContentLoaded", () => {
  const stop = (text) => {
    const place = document.getElementById("stopped");
    place.textContent = text;
    place.hidden = false;
  };
  if (location.protocol === "file:") {
    stop("Browsers do not let a page from a disk compute. Serve its folder: python -m http.server --directory FOLDER");
  } else if (!("noModule" in HTMLScriptElement.prototype && "DecompressionStream" in self && "OffscreenCanvas" in self)) {
    stop("This browser is too old for this page. It needs one of 2023 or later.");
  }
});
