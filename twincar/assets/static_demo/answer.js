// The answer for one car, in the words of the demo (twincar/deploy/demo.py).

const STILL_OPEN = {
  "model and body": "Which model year",
  model: "Which body and year",
  "make and body": "Which model",
  make: "Which model",
  body: "Which make and model",
};

// As `percent` in twincar/core/wording.py: a share above 0 is never 0%, and one below 1 never 100%.
export function percent(share) {
  const text = `${(100 * share).toFixed(1)}%`;
  if (share > 0 && text === "0.0%") return "<0.1%";
  return share < 1 && text === "100.0%" ? ">99.9%" : text;
}

const anyOf = (names) => names.join(", ").replace(/, ([^,]*)$/, " or $1");

// Puts the answer into `place`, and returns it in one sentence.
export function showAnswer(place, car, model, number, count) {
  const { state, chip, headline, text } = wording(car, model);
  const which = car.box && count > 1 ? `Car ${number + 1} of ${count}` : "";
  const card = element("article", { className: state });
  card.append(
    ...(which ? [element("p", { className: "which", textContent: which })] : []),
    element("p", { className: "chip", textContent: chip }),
    element("h3", { textContent: headline }),
    ...(text ? [element("p", { textContent: text })] : []),
    ...facts(car),
    ...(car.topk.length ? [element("h4", { textContent: "Most likely classes" }), bars(car.topk)] : []),
  );
  place.replaceChildren(card);
  const answer = ["good", "partly"].includes(state) ? `${headline}, ${chip}.` : `${headline}.`;
  return [which, answer].filter(Boolean).join(": ");
}

export const headlineOf = (car, model) => wording(car, model).headline;

function wording({ answer, status }, model) {
  const sure = percent(answer?.probability ?? 0) + " sure";
  switch (status) {
    case "no car found":
      return {
        state: "away", chip: "No answer", headline: "No car found",
        text: "Try another photo, or cut this one to the car.",
      };
    case "too small":
      return {
        state: "away", chip: "No answer", headline: "Too small",
        text: `A car must be at least ${model.leastSide} pixels high and wide for this model: take a closer or a larger photo. Below is what it would have answered.`,
      };
    case "cut off":
      return {
        state: "away", chip: "No answer", headline: "Cut off",
        text: "The edge of the photo cuts off most of this car: take a photo of all of it. Below is what the model would have answered.",
      };
    case "unknown car":
      return {
        state: "away", chip: "No answer", headline: "Unknown car",
        text: `It looks less like a car that this model knows than ${Math.round(100 * (1 - model.falseRejection))}% of the validation photos. Below is what the model would have answered.`,
      };
    case "not calibrated":
      return {
        state: "open", chip: "Not sure", headline: "This model is not calibrated",
        text: "The probabilities of this model are not reliable. The most likely cars are below.",
      };
    case "not sure":
      return {
        state: "open", chip: "Not sure", headline: "Not sure which car this is",
        text: `No make, model or body is ${Math.round(100 * model.minConfidence)}% probable. The most likely cars are below.`,
      };
  }
  if (!(answer.level in STILL_OPEN)) return { state: "good", chip: sure, headline: answer.name, text: "" };
  const text = `${STILL_OPEN[answer.level]} is open: ${anyOf(answer.alternatives)}.`;
  return { state: "partly", chip: `${sure} of ${answer.level}`, headline: answer.name, text };
}

// Make, model, body and year; the model without the make, which is shown beside it.
function facts({ levels }) {
  if (!levels.length) return [];
  const make = levels.find(({ level }) => level === "make")?.name ?? "";
  const list = element("dl");
  for (const { level, name, probability } of levels) {
    const value = level === "model" && name.startsWith(`${make} `) ? name.slice(make.length + 1) : name;
    const group = element("div"), meaning = element("dd");
    meaning.append(element("b", { textContent: value }), element("span", { textContent: percent(probability) }));
    group.append(element("dt", { textContent: level }), meaning);
    list.append(group);
  }
  return [list];
}

function bars(topk) {
  const list = element("ol", { className: "bars" });
  for (const { name, probability } of topk) {
    const item = element("li"), bar = element("i", { ariaHidden: "true" });
    bar.style.width = `${100 * probability}%`;
    item.append(element("span", { textContent: name }), element("span", { className: "share", textContent: percent(probability) }), bar);
    list.append(item);
  }
  return list;
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
