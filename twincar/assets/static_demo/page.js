// The page: takes a photo, shows what the worker finds, and says it to those who cannot see it.

import { openCamera } from "./camera.js";
import { Client, threadCount } from "./client.js";
import { headlineOf, showAnswer } from "./answer.js";
import { drawHeat } from "./heat.js";

const find = (id) => document.getElementById(id);
const show = (id, visible) => (find(id).hidden = !visible);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

let settings, client, ready, shown;
let latest = 0; // number of the photo that was handed in last; the answer for an earlier one is not shown

async function start() {
  listen();
  settings = await (await fetch(new URL("settings.json", import.meta.url))).json();
  find("notices").append(...settings.notices.flatMap(({ text, file }) => [link(text, file), " "]));
  find("known").textContent = `The ${settings.model.classes.length} cars that it knows${until(settings.model.classes)}`;
  find("classes").replaceChildren(...names(settings.model.classes.map(({ name }) => name).sort()));
  showExamples();
  const files = Object.values(settings.files).filter(Boolean);
  const stored = globalThis.caches ? await Promise.all(files.map(({ name }) => caches.match(name))) : [];
  if (stored.length && stored.every(Boolean)) return load();
  find("size").textContent =
    `The first photo loads ${megabytes(total())} MB, once: the model, the detector and what computes them.`;
  show("load", true);
}

// ", up to 2012": a newer car cannot be named.
function until(classes) {
  const latest = Math.max(...classes.map(({ year }) => year ?? 0));
  return latest ? `, up to ${latest}` : "";
}

const total = () => Object.values(settings.files).reduce((sum, file) => sum + (file?.bytes ?? 0), 0);

// Loads the networks, once.
function load() {
  ready ??= loadOnce().catch((error) => {
    ready = undefined; // so that it can be tried again
    show("progress", false);
    show("load", true);
    find("size").textContent = `It could not be loaded: ${error.message}`;
    throw error;
  });
  return ready;
}

async function loadOnce() {
  const all = total();
  show("load", false);
  show("progress", true);
  Object.assign(find("progress"), { max: all, value: 0 });
  const tell = (received) => {
    find("progress").value = received;
    find("size").textContent = `Loading: ${megabytes(Math.min(received, all))} of ${megabytes(all)} MB`;
    if (received >= all) find("size").textContent = "Getting ready…";
  };
  tell(0);
  client = new Client();
  await client.load(settings, threadCount(), tell);
  show("loading", false);
  document.body.dataset.ready = "yes";
}

async function handIn(file) {
  const number = ++latest;
  document.body.dataset.begun = "yes";
  const say = (text) => number === latest && tellStatus(text);
  showPhoto(file);
  try {
    say("Loading the model…");
    await load();
    const started = performance.now();
    const result = await client.name(file, file.name || "this photo", (step) => say(`${step}…`));
    if (number !== latest) return;
    shown = result;
    document.body.dataset.milliseconds = Math.round(performance.now() - started);
    showBoxes();
    choose(0);
    find("answers").scrollIntoView({ block: "nearest" }); // on a phone it is below the photo
  } catch (error) {
    if (number !== latest) return;
    if (error.isPhoto) ["scene", "under"].forEach((id) => show(id, false));
    say(error.message);
    find("status").classList.add("bad");
  }
}

function showPhoto(file) {
  URL.revokeObjectURL(find("photo").src);
  Object.assign(find("photo"), { src: URL.createObjectURL(file), alt: "Your photo" });
  for (const id of ["boxes", "cars", "answer"]) find(id).replaceChildren();
  find("status").classList.remove("bad");
  ["heat", "cars", "under"].forEach((id) => show(id, false));
  show("scene", true);
  shown = undefined;
}

const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

function showBoxes() {
  const { width, height, cars } = shown;
  find("photo").alt = cars[0].box ? `Your photo, with ${cars.length === 1 ? "one car" : `${cars.length} cars`}` : "Your photo";
  find("boxes").replaceChildren(
    ...cars.flatMap(({ box }, number) => {
      if (!box) return [];
      const button = document.createElement("button");
      const [left, top, right, bottom] = box;
      button.type = "button";
      button.append(Object.assign(document.createElement("span"), { textContent: number + 1 }));
      button.ariaLabel = `Car ${number + 1} of ${cars.length}`;
      button.onclick = () => choose(number);
      Object.assign(button.style, {
        left: `${(100 * left) / width}%`,
        top: `${(100 * top) / height}%`,
        width: `${(100 * (right - left)) / width}%`,
        height: `${(100 * (bottom - top)) / height}%`,
        zIndex: cars.filter((other) => area(other.box) > area(box)).length, // a small car before a large one is hit
      });
      return [button];
    }),
  );
  find("cars").replaceChildren(
    ...cars.map((car, number) => {
      const [item, button] = ["li", "button"].map((tag) => document.createElement(tag));
      Object.assign(button, { type: "button", textContent: `${number + 1} ${headlineOf(car, settings.model)}` });
      button.onclick = () => choose(number);
      item.append(button);
      return item;
    }),
  );
  show("cars", cars.length > 1); // boxes may be too small for a finger
}

// `heard` is for those who do not see the answer, which says the same.
function tellStatus(said, heard = "") {
  find("said").textContent = said;
  find("heard").textContent = heard;
}

function choose(number) {
  const car = shown.cars[number], count = shown.cars.length;
  for (const buttons of [find("boxes").children, find("cars").querySelectorAll("button")]) {
    [...buttons].forEach((button, place) => (button.ariaPressed = String(place === number)));
  }
  const sentence = showAnswer(find("answer"), car, settings.model, number, count);
  tellStatus(count > 1 ? `${count} cars found; choose one by its box or its name.` : "", sentence);
  show("under", Boolean(car.heat));
  if (!car.heat) return;
  drawHeat(find("heat"), shown, car.heat, settings.heat);
  find("heat").ariaLabel = `Heat map: what speaks for ${car.heat.target}`;
  showHeat();
}

function showHeat() {
  show("heat", find("show-heat").checked);
  show("legend", find("show-heat").checked);
}

const names = (list) =>
  list.map((name) => {
    const item = document.createElement("li");
    item.textContent = name;
    return item;
  });

const link = (text, href) => Object.assign(document.createElement("a"), { textContent: text, href });

function showExamples() {
  const buttons = settings.examples.map((name, number) => {
    const [item, button, image] = ["li", "button", "img"].map((tag) => document.createElement(tag));
    Object.assign(image, { src: name, alt: `Example ${number + 1}`, loading: "lazy" });
    Object.assign(button, { type: "button" });
    button.onclick = async () => handIn(new File([await (await fetch(name)).blob()], `example ${number + 1}`));
    button.append(image);
    item.append(button);
    return item;
  });
  find("examples").querySelector("ul").replaceChildren(...buttons);
  show("examples", buttons.length);
}

function listen() {
  const accept = (files) => files?.length && handIn(files[0]);
  for (const id of ["file", "camera-file"]) {
    find(id).onchange = ({ target }) => {
      accept([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    };
  }
  find("choose").onclick = () => find("file").click();
  find("take").onclick = () =>
    matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices ? find("camera-file").click() : openCamera(handIn);
  find("load").onclick = () => {
    document.body.dataset.begun = "yes";
    load().catch(() => {});
  };
  find("show-heat").onchange = showHeat;
  addEventListener("paste", ({ clipboardData }) => accept(clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  addEventListener("dragleave", () => find("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    accept(event.dataTransfer.files);
  });
}

start().catch((error) => (find("size").textContent = `This page could not start: ${error.message}`));
