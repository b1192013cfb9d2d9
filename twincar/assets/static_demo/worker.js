// Runs both networks off the page's thread: a message is {load} or {photo}, an answer {received}, {ready}, {step}, {result}
// or {error}, with the id of the message.

import * as ort from "./onnxruntime/ort.js";
import { gradCam, predict, preprocess } from "./classifier.js";
import { frameCars, isCutOff } from "./detector.js";
import { PhotoError, crop, decodePhoto } from "./pixels.js";

let classifier, detector, model;

self.onmessage = async ({ data: { id, load: what, photo, name } }) => {
  const tell = (answer) => self.postMessage({ id, ...answer });
  try {
    if (what) {
      await load(what, (received) => tell({ received }));
      tell({ ready: true });
    } else {
      tell({ result: await nameCars(photo, name, (step) => tell({ step })) });
    }
  } catch (error) {
    tell({ error: { message: error.message ?? String(error), isPhoto: error instanceof PhotoError } });
  }
};

async function load({ settings, threads }, onReceived) {
  model = settings.model;
  let received = 0;
  const more = (bytes) => onReceived((received += bytes));
  const [runtime, network, finder] = await Promise.all(
    [settings.files.runtime, settings.files.model, settings.files.detector].map((file) => file && fetchFile(file, more)),
  );
  ort.env.logLevel = "error";
  Object.assign(ort.env.wasm, { wasmBinary: runtime, numThreads: threads });
  const quiet = { logSeverityLevel: 3 }; // errors
  const session = await ort.InferenceSession.create(network, quiet);
  if (finder) detector = { header: settings.detector, session: await ort.InferenceSession.create(finder, quiet) };
  classifier = { session, head: await readHead(session) };
}

// The bytes of a file that is stored compressed, so that it is small on any host; some hosts unpack it themselves.
async function fetchFile({ name }, onBytes) {
  const response = await fetch(new URL(`../${name}`, import.meta.url)).catch(() => {
    throw new Error("The model is not on this device yet, and the network does not answer. Try again with a network.");
  });
  if (!response.ok) {
    throw new Error(
      `This page may have been renewed since it was opened: reload it. The site has no ${name} (answer ${response.status}).`,
    );
  }
  const parts = [];
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    onBytes(part.value.length);
  }
  const blob = new Blob(parts);
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const isPacked = first === 0x1f && second === 0x8b;
  const stream = isPacked ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The weights of the classifier are constant outputs; this first run also lets the runtime get ready.
async function readHead(session) {
  const { height, width } = model.preprocessing;
  const outputs = await session.run({ images: tensor(new Uint8Array(height * width * 3), height, width) });
  const arrays = session.outputNames.filter((name) => name.startsWith("head.")).map((name) => outputs[name]);
  return arrays.flatMap((found, place) =>
    place % 2 ? [] : [{ weight: found.data, columns: found.dims[1], bias: arrays[place + 1].data }],
  );
}

async function nameCars(file, name, onStep) {
  onStep("Reading the photo");
  const photo = await decodePhoto(file, name);
  onStep("Looking for cars");
  const boxes = detector ? await frameCars(photo, detector.header, model.margin, detect) : [];
  const places = boxes.length ? boxes : [null];
  const cars = [];
  for (const box of places) {
    if (places.length > 1) onStep(`Naming car ${cars.length + 1} of ${places.length}`);
    cars.push(await nameCar(photo, box));
  }
  return { width: photo.width, height: photo.height, cars };
}

// `box` is null for the whole photo.
async function nameCar(photo, box) {
  const { height, width } = model.preprocessing;
  const cut = box ? crop(photo, box) : photo;
  const { data, visible } = preprocess(cut, model.preprocessing);
  const { logits, features } = await classifier.session.run({ images: tensor(data, height, width) }, ["logits", "features"]);
  const target = logits.data.indexOf(Math.max(...logits.data));
  const [left, top] = box ?? [0, 0];
  const isCar = Boolean(box) || !detector;
  return {
    box,
    ...predict(logits.data, model, {
      width: cut.width, height: cut.height, isCar, isCutOff: Boolean(box) && isCutOff(box, photo.width, photo.height),
    }),
    heat: isCar && {
      ...gradCam(features.data, features.dims, classifier.head, target),
      target: model.classes[target].name,
      box: visible.map((edge, side) => edge + (side % 2 ? top : left)),
    },
  };
}

async function detect(pixels) {
  const { height, width } = detector.header;
  const { boxes, scores } = await detector.session.run({ images: tensor(pixels, height, width) });
  return { boxes: boxes.data, scores: scores.data };
}

const tensor = (data, height, width) => new ort.Tensor("uint8", new Uint8Array(data.buffer ?? data), [1, height, width, 3]);
