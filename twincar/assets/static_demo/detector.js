// Where the cars are in a photo, as twincar/detection finds them: the detector's two looks, suppression, and framing.

import { resize, round } from "./pixels.js";

const MOST_OVERLAP = 0.5;
const COMPETING = 0.5; // share of the threshold from which boxes take part in suppression
const BORDER = 0.5; // of the photo's size, added on each side for a second look
const GAP = 2;
const MOST_CANDIDATES = 1000;
const GREY = 114;
const FILLING = 0.8; // least share of a photo that a car covers if the photo is of this car from edge to edge
const FILLING_THRESHOLD = 0.5; // least probability of such a car, as a share of the threshold
const FRAME_SURER = 1.4; // how many times as probable a smaller car is for which such a box is a frame around it
const MOSTLY_WITHIN = 0.85, WITHIN = 0.95; // least share of a part's area within the box of its car
const AS_LARGE = 0.3; // least area of a part, as a share of that of its car
const SURER = 1.25; // how many times as probable the car is at least, or the part at most, which is within its car
const NARROWEST = 0.6, WIDEST = 4; // width over height of a car of which the photo's edge does not cut off much
const AT_EDGE = 0.01; // most distance of a box from the edge that it reaches, as a share of the photo's size

// The boxes to cut the cars out of a photo, [left, top, right, bottom] each, the most prominent first. `run` computes the
// detector's {boxes, scores} of height×width×3 bytes.
export async function frameCars(photo, header, margin, run) {
  const views = [];
  const look = async (number) => (views[number] ??= await runLook(photo, header, number ? BORDER : 0, run));
  const cars = async (number, least) =>
    withoutParts(suppress(candidates(await look(number), photo, header, COMPETING * least)).filter(atLeast(least)));
  const find = async (least) => {
    const first = await cars(0, least);
    return first.length ? first : cars(1, least);
  };
  const share = (car) => area(car) / (photo.width * photo.height);
  const isFrame = (box, cars) => cars.some((car) => car.probability >= FRAME_SURER * box.probability);
  const whole = [[0, 0, photo.width, photo.height]];
  let found = await find(header.threshold);
  if (!found.length) {
    const faint = await find(FILLING_THRESHOLD * header.threshold);
    const filling = faint.find((car) => share(car) >= FILLING);
    return filling && !isFrame(filling, faint) ? whole : [];
  }
  if (share(found[0]) >= FILLING) {
    if (!isFrame(found[0], found)) return whole;
    found = found.slice(1);
  }
  return found.map((car) => cutBox(car, photo.width, photo.height, margin));
}

// Whether the photo's edge cuts off so much of a car that what is left has proportions that no whole car has.
export function isCutOff([left, top, right, bottom], width, height) {
  const proportion = (right - left) / (bottom - top);
  const x = AT_EDGE * width, y = AT_EDGE * height;
  const beside = left <= x !== right >= width - x, aboveOrBelow = top <= y !== bottom >= height - y;
  return (beside && proportion < NARROWEST) || (aboveOrBelow && proportion > WIDEST);
}

// In whole pixels; the box grows by `margin`, a share of its size, and is clipped to the photo.
export function cutBox({ box: [x1, y1, x2, y2] }, width, height, margin) {
  const x = margin * (x2 - x1), y = margin * (y2 - y1);
  const left = Math.min(Math.max(Math.floor(x1 - x), 0), width - 1);
  const top = Math.min(Math.max(Math.floor(y1 - y), 0), height - 1);
  const right = Math.min(Math.ceil(x2 + x), width), bottom = Math.min(Math.ceil(y2 + y), height);
  return [left, top, Math.max(right, left + 1), Math.max(bottom, top + 1)];
}

// One box for each object, the most prominent first.
export function suppress(cars) {
  const kept = [];
  for (const car of [...cars].sort((a, b) => b.prominence - a.prominence)) {
    if (kept.every((other) => overlap(other, car) <= MOST_OVERLAP)) kept.push(car);
  }
  return kept;
}

// The cars that are no part of a more prominent one, of cars with the most prominent first.
export function withoutParts(cars) {
  const isPart = (car, other) => {
    const inside = common(car, other), surer = inside >= WITHIN * area(car) ? 1 / SURER : SURER;
    return (
      area(car) >= AS_LARGE * area(other) &&
      inside >= MOSTLY_WITHIN * area(car) &&
      other.probability >= surer * car.probability
    );
  };
  return cars.filter((car, k) => !cars.slice(0, k).some((other) => isPart(car, other)));
}

async function runLook(photo, header, border, run) {
  const place = placeOf(photo, header, border);
  return { place, ...(await run(inputOf(photo, header, place))) };
}

function placeOf(photo, header, border) {
  let width = header.width / (1 + 2 * border), height = header.height / (1 + 2 * border);
  const left = Math.trunc((header.width - width) / 2), top = Math.trunc((header.height - height) / 2);
  if (header.fit === "letterbox") {
    const scale = Math.min(width / photo.width, height / photo.height);
    width = photo.width * scale;
    height = photo.height * scale;
  }
  return [left, top, Math.max(1, round(width)), Math.max(1, round(height))];
}

function inputOf(photo, header, [left, top, width, height]) {
  const resized = resize(photo, width, height, GAP);
  if (width === header.width && height === header.height) return resized.data;
  const canvas = new Uint8Array(header.width * header.height * 3).fill(GREY);
  for (let y = 0; y < height; y++) {
    canvas.set(resized.data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * header.width + left) * 3);
  }
  return canvas;
}

// Boxes in pixels of the photo that may overlap.
function candidates({ place: [left, top, width, height], boxes, scores }, photo, header, threshold) {
  const wanted = header.cars.map((name) => header.classes.indexOf(name));
  const count = header.classes.length, least = Math.fround(threshold);
  const likely = [];
  for (let k = 0; k < boxes.length / 4; k++) {
    const probability = Math.max(...wanted.map((index) => scores[k * count + index]));
    if (probability >= least) likely.push({ k, probability });
  }
  likely.sort((a, b) => b.probability - a.probability);
  const limit = (value) => Math.min(Math.max(value, 0), 1);
  return likely
    .slice(0, MOST_CANDIDATES)
    .map(({ k, probability }) => {
      const [x1, y1, x2, y2] = boxes.subarray(4 * k, 4 * k + 4);
      const x = (share) => limit((share * header.width - left) / width) * photo.width;
      const y = (share) => limit((share * header.height - top) / height) * photo.height;
      const car = { probability, box: [x(x1), y(y1), x(x2), y(y2)] };
      return { ...car, prominence: probability * Math.sqrt(area(car)) };
    })
    .filter(({ box: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1);
}

const atLeast = (threshold) => (car) => car.probability >= threshold;
const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);

// The area that two boxes share.
function common(first, second) {
  const [a, b] = [first.box, second.box];
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

function overlap(first, second) {
  const shared = common(first, second);
  return shared / (area(first) + area(second) - shared || 1);
}
