// Talks to the worker: `load` fetches the networks, `name` finds and names the cars in a photo.

export class Client {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const waiting = this.#waiting.get(data.id);
      if (!waiting) return; // one of several files failed, and the others are still arriving
      const { resolve, reject, onReceived, onStep } = waiting;
      if ("received" in data) return onReceived?.(data.received);
      if ("step" in data) return onStep?.(data.step);
      this.#waiting.delete(data.id);
      return data.error ? reject(Object.assign(new Error(data.error.message), data.error)) : resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      const error = new Error(event.message || "This browser cannot start the program of this page. Update it.");
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  // `onReceived` gets the number of bytes that have arrived.
  load(settings, threads, onReceived) {
    return this.#send({ load: { settings, threads } }, { onReceived });
  }

  // The cars in a photo file; `onStep` gets what is being done.
  name(photo, name, onStep) {
    return this.#send({ photo, name }, { onStep });
  }

  #send(message, callbacks) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#last, { resolve, reject, ...callbacks });
      this.#worker.postMessage({ id: this.#last, ...message });
    });
  }
}

// Threads need a page that is isolated from other sites; the service worker sees to it.
export const threadCount = () => (globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1);
