// The theme puts the button that copies a block of code into a landmark of its own, one a block, and without a name.
new MutationObserver(() => {
  document.querySelectorAll(".md-code__nav:not([role])").forEach((part) => part.setAttribute("role", "none"));
}).observe(document, {childList: true, subtree: true});
