// Keeps the page's files, so that it works without a network after the first visit, and isolates the page from other
// sites, which browsers require before they let it compute on several threads. FILES, which is written before this, has
// the version: {page, needed: [...], others: [...]}. A new one keeps all of its files before it takes the place of an old.

const CACHE = `twincar ${self.registration.scope}`;
const addresses = (names) => names.map((name) => new URL(name, self.registration.scope).href);

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(addresses(FILES.needed).map((url) => new Request(url, { cache: "reload" }))))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const wanted = new Set(addresses([...FILES.needed, ...FILES.others]));
  event.waitUntil(
    caches
      .open(CACHE)
      .then(async (cache) => {
        const stored = await cache.keys();
        await Promise.all(stored.filter(({ url }) => !wanted.has(url)).map((request) => cache.delete(request)));
      })
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && event.request.url.startsWith(self.registration.scope)) {
    event.respondWith(answer(event));
  }
});

async function answer(event) {
  const { request } = event;
  const cache = await caches.open(CACHE);
  const [asked] = request.url.split(/[?#]/);
  const stored = await cache.match(addresses(["", "index.html"]).includes(asked) ? addresses([FILES.page])[0] : request);
  if (stored) return isolated(stored);
  const fetched = await fetch(request);
  if (fetched.ok && addresses(FILES.others).includes(request.url)) {
    event.waitUntil(cache.put(request, fetched.clone()).catch(() => {})); // where the browser has room
  }
  return isolated(fetched);
}

function isolated(response) {
  if (response.type !== "basic" && response.type !== "default") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
