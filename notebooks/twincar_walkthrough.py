# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # TwinCar walkthrough
#
# This notebook goes from photos to a model that tells look-alike cars apart, rejects what it does not know, shows what
# it looked at, and predicts without torch: prepare, audit, train, evaluate, explain, compare, export, predict, publish.
#
# The cars are drawn by TwinCar itself: 24 invented ones, twelve pairs of *twins* that differ in one small part only. So
# nothing has to be downloaded, and the ground truth is known for every pixel. On two cores the notebook takes a few
# minutes. To run it on Stanford Cars, change `DATA` in the first cell; a GPU is useful then.
#
# Each step is one function of `twincar`, and also a command; the headings name it. The pictures are drawn with numpy,
# pandas and matplotlib from what these functions return.

# %%
import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image as Shown
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import twincar

DATA = "toycars"  # or "hub:tanganke/stanford_cars"

OUT = Path("walkthrough")  # everything is written here; delete it to start again
RECIPE = "toycars" if DATA == "toycars" else "stanford"
QUICK = (
    {"epochs": 1, "limit_batches": 20} if "TWINCAR_WALKTHROUGH_QUICK" in os.environ else {}
)  # to try the notebook itself

logging.getLogger("twincar").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, where there are no widgets
pd.set_option("display.max_colwidth", None)


def show(picture, width=860):
    """A small picture of a file, a photo or a figure, so that the notebook stays small too."""
    if isinstance(picture, Figure):
        file = io.BytesIO()
        picture.savefig(file, dpi=110)
        picture = file
    image = picture if isinstance(picture, Image.Image) else Image.open(picture)
    image = image.convert("RGB")
    image.thumbnail((width, 10 * width))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return Shown(file.getvalue(), format="jpeg")


def gallery(pictures, titles, columns=4):
    """Pictures in rows, a title above each."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(9, 9 / columns * 0.86 * rows), layout="constrained")
    for axes, picture, title in zip(figure.subplots(rows, columns).flat, pictures, titles, strict=False):
        axes.imshow(picture)
        axes.set_title(title, fontsize=8)
    for axes in figure.axes:
        axes.axis("off")
    return show(figure)


# %% [markdown]
# ## Prepare the data · `twincar prepare`
#
# A source is a hub data set, the original release of Stanford Cars, class folders, a CSV, or `toycars`. Every photo is
# opened and checked; photos that are damaged, listed twice or without a known label are left out and listed with the
# reason. The result is one folder: photos, `annotations.csv`, class names, and a manifest with hashes.

# %%

data = twincar.prepare(DATA, OUT / "data")
print(f"{len(data.classes)} classes;", ", ".join(f"{n} {split}" for split, n in data.manifest["photos"].items()))

# %% [markdown]
# One photo of each of the first eight classes. Note the years: *Finch Hatchback* 2009 and 2012 differ in the lamps,
# *Osprey Coupe* 2010 and 2012 in the wheels.

# %%
train_photos = data.split("train")
first_of = {photo.label: photo for photo in reversed(train_photos)}
chosen = [first_of[label] for label in range(8)]
gallery([Image.open(data.path(photo)) for photo in chosen], [data.classes[photo.label] for photo in chosen])

# %% [markdown]
# ## Audit the data · `twincar audit --deep`
#
# Real data sets have defects. This folder has four on purpose: a truncated file, a mirrored copy in another class, a
# copy that leaked from training into the test photos, and a text file named `.jpg`. The audit finds all four,
# recommends an action for each, and writes a page to look at and a list for `twincar prepare --exclude`.

# %%

messy = OUT / "messy"
for photo in [*train_photos[:400:10], *data.split("test")[:200:10]]:
    copy = messy / photo.split / data.classes[photo.label].replace("/", "-") / Path(photo.file).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    Image.open(data.path(photo)).save(copy, quality=92)

one, two, three, *_, other = sorted((messy / "train").rglob("*.jpg"))
one.write_bytes(one.read_bytes()[:900])
Image.open(two).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other.with_name("mirrored.jpg"))
leak = messy / "test" / three.parent.name / "leak.jpg"
leak.parent.mkdir(exist_ok=True)
Image.open(three).resize((150, 100)).save(leak, quality=60)
(messy / "train" / other.parent.name / "notes.jpg").write_text("no photo at all")

audit = twincar.audit(str(messy), OUT / "audit")
print("unusable:", {str(defect): count for defect, count in audit.data.invalid.counts().items()})
pd.DataFrame(audit.rows)[["file", "reason", "action", "detail"]]

# %% [markdown]
# ## Train · `twincar train`
#
# A recipe is a named set of settings, which `TrainConfig.resolve` changes where you want other values; all are saved in
# the run folder as `config.yaml`. After Ctrl-C or a crash, `twincar.resume` continues the run, with the same result as
# without the interruption. The weights of the epoch with the best macro-F1 on the validation photos are kept; then a
# temperature is fitted to calibrate the probabilities.

# %%

config = twincar.TrainConfig.resolve(recipe=RECIPE, flags={"data": str(data.folder), **QUICK})
trained = twincar.train(config, OUT / "run")
run = trained.run
history = pd.DataFrame(trained.history).set_index("epoch")
history[["train_loss", "val_loss", "train_acc", "val_acc", "val_f1_macro", "val_top5"]].round(3)

# %%
figure = Figure(figsize=(8, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
history[["train_loss", "val_loss"]].plot(ax=left, ylabel="cross-entropy loss", marker=".")
history[["val_acc", "val_f1_macro"]].plot(ax=right, ylabel="validation", marker=".")
show(figure)

# %% [markdown]
# ## Evaluate · `twincar evaluate`
#
# The test photos were used neither for training nor to choose the epoch. Results have 95% intervals, which are wide
# where there are few photos. Test-time augmentation averages over mirrored and wider views.

# %%

evaluation = twincar.evaluate(run.path, split="test", tta=True)
print(f"{evaluation.photos} photos: accuracy {evaluation.accuracy}, macro-F1 {evaluation.macro_f1}")
pd.DataFrame({"plain": evaluation.metrics, "with TTA": evaluation.tta}).round(3)

# %% [markdown]
# The confusion matrix: most of what is off the diagonal is a twin.

# %%
show(evaluation.folder / "confusion_matrix.png")

# %% [markdown]
# **Calibration.** Of the predictions with a confidence of 80%, about 80% should be right: the nearer to the diagonal,
# the better.

# %%
print(f"Temperature {evaluation.calibration.temperature:.2f}")
show(evaluation.folder / "reliability.png", 560)

# %% [markdown]
# **Levels.** Where no class is probable enough, the answer is the most specific level that is, for example model and
# body without the year.

# %%
levels = pd.DataFrame([vars(level) for level in evaluation.levels]).drop(columns="intervals")
levels.round(3).astype(object).fillna("")

# %% [markdown]
# ## Explain predictions · `twincar explain`
#
# Grad-CAM++ shows which parts of the photo the prediction is based on: a green title is a correct prediction, a red one
# is wrong. The map has the resolution of the last feature map, 2×3 cells for these small photos. Maps that look
# plausible need not be faithful to the network: `twincar explain --score` compares them with baselines.

# %%

explanation = twincar.explain(run.path, split="test", count=8)
show(explanation.grid)

# %% [markdown]
# ## Compare twins · `twincar compare`
#
# The figure is of the pair that is confused most often. Orange speaks for the first class, blue for the second. The
# last column hides parts of the photo and shows how the logits change, which is finer than the cells of the feature
# map. `comparison.page` is an HTML page of the pairs.

# %%

comparison = twincar.compare(run.path, split="test", count=1)
pair = comparison.pairs[0]
print(f"{pair.first} was predicted as {pair.second} in {pair.first_as_second} of {pair.photos_first} photos,")
print(f"the other way round in {pair.second_as_first} of {pair.photos_second}.")
show(comparison.page.parent / pair.pngs[0])

# %% [markdown]
# ## Export · `twincar export`
#
# The exported file contains preprocessing, class names, calibration and provenance, and predicts without torch. Before
# it gets its final name it is loaded as a user would load it and compared with the network on validation photos.

# %%

exported = twincar.export(run.path)
compared = exported.comparison
print(f"{exported.path.name}, {exported.bytes / 1e6:.1f} MB")
print(f"{compared.equal_predictions:.1%} equal predictions on {compared.photos} validation photos")
print("a probability differs by less than 0.001:", compared.largest_difference < 0.001)

# %% [markdown]
# ## Predict · `twincar predict`
#
# `twincar.load` loads a run, an exported file or published weights, and `predict` takes a path, bytes, a Pillow image,
# an array, or a list of them. This photo is a hard one, a car of the pair above.

# %%
classifier = twincar.load(exported.path)
photo = next(photo for photo in data.split("test") if data.classes[photo.label] == pair.first)
prediction = classifier.predict(data.path(photo))

print("The truth: ", data.classes[photo.label])
print("The answer:", prediction.answer.name if prediction.answer else prediction.status)
print("The most likely class:", prediction.top1.name)
pd.DataFrame([{"class": one.name, "probability": round(one.probability, 3)} for one in prediction.topk])

# %% [markdown]
# The same file gives the heat map: a value for each cell of the last feature map, here 2×3, which `overlay` draws over
# the photo.

# %%
why = classifier.explain(data.path(photo))
pictures = [Image.open(data.path(photo)), why.overlay(data.path(photo))]
gallery(pictures, ["the photo", f"Grad-CAM++ for {why.target}"], columns=2)

# %% [markdown]
# **Images without cars.** A classifier always predicts one of its classes, so TwinCar rejects photos that look like
# none of them. The threshold is set so that 5% of the validation photos are rejected. `twincar evaluate --open-set`
# measures how many other images are rejected; for a small network that was trained for minutes it is far from all.

# %%
size, random = (192, 128), np.random.default_rng(0)
noise = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
plain = Image.new("RGB", size, "steelblue")
gradient = Image.linear_gradient("L").resize(size)
board = Image.fromarray(np.kron(np.indices((8, 12)).sum(axis=0) % 2 * 255, np.ones((16, 16))).astype(np.uint8))
page, disc = Image.new("RGB", size, "white"), Image.new("RGB", size, "seagreen")
for line in range(8):
    ImageDraw.Draw(page).text((6, 4 + 15 * line), "This page has no car on it.", fill="black")
ImageDraw.Draw(disc).ellipse((46, 14, 146, 114), fill="gold")

kinds = ["noise", "one colour", "a gradient", "a chessboard", "text", "a disc"]
pictures = [noise, plain, gradient.convert("RGB"), board.convert("RGB"), page, disc]
predictions = classifier.predict(pictures)
said = [each.answer.name if each.answer else each.status for each in predictions]
gallery(pictures, [f"{kind}:\n{text}" for kind, text in zip(kinds, said, strict=True)], columns=3)

# %% [markdown]
# To show that torch is not needed, this starts a new process in which it cannot be imported.

# %%
code = """
import sys
sys.modules["torch"] = None  # importing it would now fail
import twincar
print(twincar.load(sys.argv[1]).predict(sys.argv[2]).top1.name)
"""
command = [sys.executable, "-c", code, exported.path, data.path(photo)]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## Report · `twincar report`
#
# The report is one HTML file to send to somebody: summary, learning curves, calibration, confused classes, the most
# confident mistakes with their heat maps. It opens anywhere, without network or server.

# %%

page = twincar.report(run.path)
print(f"{page.path.name}: {page.bytes / 1e6:.1f} MB")

# %% [markdown]
# ## Next steps
#
# ```sh
# twincar serve walkthrough/run/model-fp32.onnx     # an HTTP server: POST a photo, get the prediction (twincar[serve])
# twincar demo walkthrough/run/model-fp32.onnx      # a web page to drop photos on (twincar[demo])
# twincar push walkthrough/run user/name            # to the hub, with a model card made from the run
# ```
#
# Anybody can then use it in two lines, without torch:
#
# ```python
# classifier = twincar.load("user/name")
# classifier.predict("car.jpg")
# ```
#
# For your own photos, put them into `train/<class>/` and `test/<class>/`, and give that folder to `prepare` instead of
# `DATA`. Class names of the form *Make Model Body Year* are split into their parts.
