// Says why the page cannot start, and sees to it that visitors get its newest version. Unlike the other scripts it has the
// same name in every version: it also has to run in an old page that a cache has kept, whose other files are gone.

const find = (id) => document.getElementById(id);

function stop(text) {
  const say = () => {
    find("stopped").textContent = text;
    find("stopped").hidden = false;
    find("loading").hidden = true;
    for (const button of document.querySelectorAll("main button")) button.disabled = true;
  };
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", say) : say();
}

if (location.protocol === "file:") {
  stop("Browsers do not let a page from a disk compute. Serve its folder, and open the address that this command prints: "
    + "python -m http.server --bind 127.0.0.1 --directory FOLDER");
} else if (!("noModule" in HTMLScriptElement.prototype && "DecompressionStream" in self && "OffscreenCanvas" in self)) {
  stop("This browser is too old for this page. It needs one of 2023 or later.");
} else {
  addEventListener("error", ({ target }) => { // of files; those of programs have the window as target
    if (target instanceof HTMLScriptElement || target.rel === "stylesheet") {
      stop("A file of this page is missing, or the network is: the page may have been renewed. Reload it.");
    }
  }, true);
  addEventListener("DOMContentLoaded", () => {
    find("reload").onclick = () => location.reload();
    find("offline").hidden = !navigator.serviceWorker;
    find("insecure").hidden = isSecureContext;
    keep().catch(() => {}); // without it the page works, with a network and on one thread
  });
}

// The first visit is loaded a second time, before anything large, because only then the service worker can isolate it;
// so is a page that is older than the site, unless the visitor has begun. The service worker never comes from a cache.
async function keep() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  const known = Boolean(serviceWorker.controller);
  serviceWorker.addEventListener("controllerchange", () => known && leave(`left ${version()}`));
  const changed = new Promise((done) => serviceWorker.addEventListener("controllerchange", done, { once: true }));
  const registration = await serviceWorker.register("sw.js", { updateViaCache: "none" });
  registration.update().catch(() => {}); // without a network the page stays as it is
  if (crossOriginIsolated) document.body.dataset.isolated = "yes";
  if (known || crossOriginIsolated) return;
  await (serviceWorker.controller ?? changed);
  leave("isolated");
}

// Once for each reason, so that a host that serves two versions by turns, or a browser that isolates no page, ends.
function leave(reason) {
  const begun = "begun" in document.body.dataset;
  if (!begun && !(reason in sessionStorage)) {
    sessionStorage[reason] = "yes";
    location.reload();
  } else if (reason !== "isolated") {
    find("renewed").hidden = false;
  }
}

const version = () => document.querySelector("script[type=module]").getAttribute("src");
