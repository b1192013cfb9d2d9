// From a crop to its prediction, as twincar/inference and twincar/models do it: input, calibration, levels, Grad-CAM++.

import { crop, resize, round } from "./pixels.js";

const STRIP = 64; // aspect ratio above which a photo is shortened before it is resized
const MOST_ALTERNATIVES = 3;
const ALTERNATIVE_SHARE = 0.1;
const TOP = 5;
const ROUNDING = 1e-4;
const REJECTED = ["no car found", "too small", "cut off", "unknown car"];

// The network's input for a photo, height×width×3 bytes, and the part of the photo that it shows.
export function preprocess(photo, settings) {
  const { height, width, squash } = settings;
  if (squash) return { data: resize(photo, width, height).data, visible: [0, 0, photo.width, photo.height] };
  const [fullWidth, fullHeight] = coverSize(settings, photo.width, photo.height);
  const x = photo.width / fullWidth, y = photo.height / fullHeight;
  const [left, top] = [round((fullWidth - width) / 2), round((fullHeight - height) / 2)];
  const whole = withoutEnds(photo);
  const [w, h] = coverSize(settings, whole.width, whole.height);
  const [l, t] = [round((w - width) / 2), round((h - height) / 2)];
  return {
    data: crop(resize(whole, w, h), [l, t, l + width, t + height]).data,
    visible: [left * x, top * y, (left + width) * x, (top + height) * y],
  };
}

function coverSize({ height, width, crop: share }, photoWidth, photoHeight) {
  const coverWidth = round(width / share), coverHeight = round(height / share);
  return coverWidth * photoHeight >= coverHeight * photoWidth
    ? [coverWidth, Math.max(coverHeight, Math.trunc((coverWidth * photoHeight) / photoWidth))]
    : [Math.max(coverWidth, Math.trunc((coverHeight * photoWidth) / photoHeight)), coverHeight];
}

function withoutEnds(photo) {
  const { width, height } = photo;
  if (Math.max(width, height) <= STRIP * Math.min(width, height)) return photo;
  const w = Math.min(width, STRIP * height), h = Math.min(height, STRIP * width);
  const left = Math.floor((width - w) / 2), top = Math.floor((height - h) / 2);
  return crop(photo, [left, top, left + w, top + h]);
}

// The prediction for one crop, {width, height, isCar, isCutOff}, from its logits, with the names and meanings of `twincar
// predict --json`.
export function predict(logits, model, { width, height, isCar, isCutOff }) {
  const probabilities = softmax(logits, model.calibration.temperature);
  const found = Object.fromEntries(
    Object.entries(model.levels).map(([name, level]) => [name, levelAnswer(name, level, probabilities, model)]),
  );
  let answer = model.answered.map((name) => found[name]).find((one) => one.probability >= model.minConfidence) ?? null;
  let status = !answer ? "not sure" : answer.level === "class" ? "named" : "named in part";
  if (!isCar) status = "no car found";
  else if (!model.calibrated) status = "not calibrated";
  else if (Math.min(width, height) < model.leastSide) status = "too small";
  else if (isCutOff) status = "cut off";
  else if (inDistributionScore(logits, model.calibration) < model.falseRejection) status = "unknown car";
  if (!status.startsWith("named")) answer = null;
  const ranked = order(probabilities).slice(0, TOP);
  return {
    answer,
    status,
    levels: REJECTED.includes(status) ? [] : model.single.map((name) => found[name]).filter((one) => one.name),
    topk: isCar ? ranked.map((index) => ({ name: model.classes[index].name, probability: probabilities[index] })) : [],
  };
}

export function softmax(logits, temperature = 1) {
  const highest = Math.max(...logits);
  const exponents = Array.from(logits, (logit) => Math.exp((logit - highest) / temperature));
  const sum = exponents.reduce((total, value) => total + value, 0);
  return exponents.map((value) => value / sum);
}

// The most likely group of classes at a level.
function levelAnswer(name, { groups, groupOf }, probabilities, model) {
  const sums = groups.map(() => 0);
  groupOf.forEach((group, index) => (sums[group] += groups[group] ? probabilities[index] : 0));
  const best = sums.indexOf(Math.max(...sums));
  const members = order(probabilities).filter((index) => groupOf[index] === best).slice(0, MOST_ALTERNATIVES);
  const possible = members.filter((index) => probabilities[index] >= ALTERNATIVE_SHARE * probabilities[members[0]]);
  const alternatives = name === "class" ? [] : possible.map((index) => model.classes[index].name);
  return { level: name, name: groups[best], probability: sums[best], alternatives };
}

// The share of the validation photos that look less like a known car; see twincar/models/calibration.py.
export function inDistributionScore(logits, calibration) {
  if (!calibration.min_quantile_quantiles.length) return 1;
  const count = logits.length, highest = Math.max(...logits);
  const mean = logits.reduce((sum, value) => sum + value, 0) / count;
  const deviation = Math.sqrt(logits.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count);
  const zscore = (highest - mean) / Math.max(deviation, 1e-6);
  const lower = Math.min(
    shareBelow(highest, calibration.max_logit_quantiles),
    shareBelow(zscore, calibration.max_logit_zscore_quantiles),
  );
  return shareBelow(lower, calibration.min_quantile_quantiles);
}

// The share of a distribution with evenly spaced quantiles that is below a value; extrapolated outside of them.
export function shareBelow(given, quantiles) {
  const value = given + ROUNDING;
  const last = quantiles.length - 1;
  const lowest = quantiles[0], middle = quantiles[Math.floor(quantiles.length / 2)], highest = quantiles[last];
  const below = Math.min(value - lowest, 0) / Math.max(middle - lowest, ROUNDING);
  const above = Math.max(value - highest, 0) / Math.max(highest - middle, ROUNDING);
  let within = value >= highest ? 1 : 0;
  const next = quantiles.findIndex((quantile) => quantile > value);
  if (next > 0) within = (next - 1 + (value - quantiles[next - 1]) / (quantiles[next] - quantiles[next - 1])) / last;
  return within + (below + above) / 2;
}

// Grad-CAM++ in closed form, see twincar/models/cam/gradcam.py: a map of h×w values from 0 to 1, of features, C×h×w.
export function gradCam(features, [, channels, height, width], head, target) {
  const cells = height * width;
  const sums = Array.from({ length: channels }, (_, c) =>
    features.subarray(c * cells, (c + 1) * cells).reduce((sum, value) => sum + value, 0),
  );
  const slopes = gradient(head, sums.map((sum) => sum / cells), target);
  const map = new Float64Array(cells);
  for (let c = 0; c < channels; c++) {
    const slope = slopes[c] / cells;
    if (slope <= 0) continue;
    const alpha = slope ** 2 / (2 * slope ** 2 + slope ** 3 * sums[c] + 1e-6);
    for (let k = 0; k < cells; k++) map[k] += cells * alpha * slope * features[c * cells + k];
  }
  const rectified = map.map((value) => Math.max(value, 0));
  const lowest = Math.min(...rectified), span = Math.max(...rectified) - lowest;
  return { height, width, values: Array.from(rectified, (value) => (value - lowest) / (span || 1)) };
}

// Of the target's logit by the pooled features; the head is one layer, or two with a ReLU between them.
function gradient(head, pooled, target) {
  const last = row(head.at(-1), target);
  if (head.length === 1) return last;
  const [first] = head;
  const slopes = new Float64Array(pooled.length);
  first.bias.forEach((bias, unit) => {
    const weights = row(first, unit);
    if (weights.reduce((sum, weight, c) => sum + weight * pooled[c], bias) <= 0) return;
    weights.forEach((weight, c) => (slopes[c] += last[unit] * weight));
  });
  return slopes;
}

const row = ({ weight, columns }, index) => weight.subarray(index * columns, (index + 1) * columns);
const order = (values) => [...values.keys()].sort((a, b) => values[b] - values[a] || a - b);
