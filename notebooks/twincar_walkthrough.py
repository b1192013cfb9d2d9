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
# # TwinCar, the whole road
#
# From photos to a model that tells look-alike cars apart, knows when it does not know, shows what it looked at, and
# answers without torch: prepare, audit, train, evaluate, explain, compare, export, predict, publish.
#
# The cars here are drawn by TwinCar itself: 24 made-up ones, twelve pairs of *twins* that differ in one small part
# only. So nothing has to be downloaded, and the truth is known to the pixel. On two cores it takes a few minutes. To
# walk the same road with Stanford Cars, change `DATA` in the first cell (a GPU is worth having then).
#
# Everything below is also a command: `twincar prepare`, `twincar train` and so on; the headings name them.

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
from PIL import Image

import twincar

DATA = "toycars"  # or "hub:tanganke/stanford_cars"

OUT = Path("walkthrough")  # everything is written here; delete it to start anew
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
# ## Photos, checked and split · `twincar prepare`
#
# A source is a hub data set, the original release of Stanford Cars, class folders, a CSV, or `toycars`. Every photo is
# opened and checked; what is damaged, repeated or without a known label is left out and listed with the reason. The
# result is one folder: photos, `annotations.csv`, class names, and a manifest with hashes.

# %%
from twincar.data.prepare import prepare

data = prepare(DATA, OUT / "data")
print(f"{len(data.classes)} classes;", ", ".join(f"{n} {split}" for split, n in data.manifest["photos"].items()))

# %% [markdown]
# One photo each of the first classes. Read the years: *Finch Hatchback* 2009 and 2012 differ in the lamps, *Osprey
# Coupe* 2010 and 2012 in the wheels.

# %%
train_photos = data.split("train")
first_of = {photo.label: photo for photo in reversed(train_photos)}
chosen = [first_of[label] for label in range(8)]
gallery([Image.open(data.path(photo)) for photo in chosen], [data.classes[photo.label] for photo in chosen])

# %% [markdown]
# ## Is the data sound? · `twincar audit --deep`
#
# Data found in the wild is never clean. Here is a folder in which some things are wrong on purpose: a file cut short, a
# mirrored copy under another class, a copy that leaked from training into the test photos, and a text named `.jpg`. The
# audit finds all four, says what to do about each, and writes a page to look at and a list for
# `twincar prepare --exclude`.

# %%
from twincar.auditing.audit import deep_audit

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

audit = deep_audit(str(messy), OUT / "audit")
print("unusable:", {str(defect): count for defect, count in audit.data.unsound.counts().items()})
pd.DataFrame(audit.rows)[["file", "reason", "action", "detail"]]

# %% [markdown]
# ## What the network gets to see
#
# In training each photo is varied anew every time: cropped, mirrored, brightened. These are the strengths of the
# recipe, for one photo; the last step of the way, mean and standard deviation, is inside the network.

# %%
from twincar.core.config import TrainConfig
from twincar.data.loading.augment import augment_photo, sample_params

config = TrainConfig.resolve(recipe=RECIPE, flags={"data": str(data.folder), **QUICK})
size = {"height": config.image_height, "width": config.image_width}
pixels = np.asarray(Image.open(data.path(chosen[3])).convert("RGB"))
full = pixels.shape[1], pixels.shape[0]
random = np.random.default_rng(0)
varied = [augment_photo(sample_params(config.augment, random, *full), pixels, full=full, **size) for _ in range(7)]
gallery([pixels, *varied], ["the photo", *(f"as seen, {place}" for place in range(1, 8))])

# %% [markdown]
# ## Train · `twincar train`
#
# A recipe is a name for a set of settings that were measured together; the resolved ones are kept in the run folder as
# `config.yaml`. After Ctrl-C or a crash, `twincar train --resume` goes on as if never stopped. The epoch with the best
# macro-F1 on validation photos is kept; then a temperature is fitted, so that probabilities mean what they say.

# %%
from twincar.training.train import train

trained = train(config, OUT / "run")
run = trained.run
history = pd.DataFrame(trained.history).set_index("epoch")
history[["train_loss", "val_loss", "train_acc", "val_acc", "val_f1_macro", "val_top5"]].round(3)

# %%
from twincar.evaluation import overlay_figures, plots

show(plots.training_curves(trained.history)["curve_accuracy_f1"])

# %% [markdown]
# ## How good is it, honestly? · `twincar evaluate`
#
# On test photos that neither trained it nor chose the epoch, with 95% intervals: few photos leave much open. Test-time
# augmentation averages over mirrored and wider views.

# %%
from twincar.evaluation.evaluate import evaluate

evaluation = evaluate(run.path, split="test", tta=True)
print(f"{evaluation.photos} photos: accuracy {evaluation.accuracy}, macro-F1 {evaluation.macro_f1}")
pd.DataFrame({"plain": evaluation.metrics, "with TTA": evaluation.tta}).round(3)

# %% [markdown]
# What is taken for what. Most of what is off the diagonal is a twin.

# %%
show(evaluation.folder / "confusion_matrix.png")

# %% [markdown]
# **Calibration.** Of answers given at 80%, about 80% should be right: the nearer to the diagonal, the better.

# %%
print(f"Temperature {evaluation.calibration.temperature:.2f}")
show(evaluation.folder / "reliability.png", 560)

# %% [markdown]
# **Levels.** Where no class is sure enough, the answer is the most specific thing that is: perhaps the model and body,
# with the year left open.

# %%
pd.DataFrame([vars(level) for level in evaluation.levels]).round(3).astype(object).fillna("")

# %% [markdown]
# ## What did it look at? · `twincar explain`
#
# Grad-CAM++ shows where in the photo the answer comes from: green titles are right answers, red ones wrong. The map is
# as fine as the last feature map, which is 2×3 cells for these small pictures. `twincar explain --score` puts such maps
# to the test against baselines, instead of trusting that they look plausible.

# %%
from twincar.explanation.explain import explain

explanation = explain(run.path, split="test", count=8)
show(explanation.grid)

# %% [markdown]
# ## Why this car and not its twin? · `twincar compare`
#
# The pair most often confused. Orange speaks for the first, blue for the second; the last column hides parts of the
# photo and looks how the answer moves, which is finer than the cells. `comparison.page` is a page with all pairs.

# %%
from twincar.explanation.compare import compare

comparison = compare(run.path, split="test", count=1)
pair = comparison.pairs[0]
print(f"{pair.first} was taken for {pair.second} in {pair.first_as_second} of {pair.photos_first} photos,")
print(f"the other way round in {pair.second_as_first} of {pair.photos_second}.")
show(comparison.page.parent / pair.pngs[0])

# %% [markdown]
# ## One file that answers without torch · `twincar export`
#
# Preprocessing, class names, calibration and provenance travel in the file. Before it takes its place it is opened as a
# user would open it and compared with the network on validation photos.

# %%
from twincar.deploy.export import export

exported = export(run.path)
compared = exported.comparison
print(f"{exported.path.name}, {exported.bytes / 1e6:.1f} MB")
print(f"{compared.equal_answers:.1%} equal answers on {compared.photos} validation photos")
print("a probability differs by less than 0.001:", compared.largest_difference < 0.001)

# %% [markdown]
# ## Name the cars · `twincar predict`
#
# `twincar.load` opens a run, an exported file or published weights, and `predict` takes a path, bytes, a Pillow image,
# an array, or a list of them. Here is a hard one, a car of the pair above.

# %%
classifier = twincar.load(exported.path)
photo = next(photo for photo in data.split("test") if data.classes[photo.label] == pair.first)
answer = classifier.predict(data.path(photo))

print("The truth: ", data.classes[photo.label])
print("The answer:", answer.answer.name if answer.accepted else answer.reason)
print("The likeliest class in parts:", answer.make, "·", answer.model, "·", answer.body, "·", answer.year)
pd.DataFrame([{"class": one.name, "probability": round(one.probability, 3)} for one in answer.topk])

# %% [markdown]
# The heat map comes from the same file:

# %%
why = classifier.explain(data.path(photo))
pixels = np.asarray(Image.open(data.path(photo)).convert("RGB"))
heat = overlay_figures.overlay(
    overlay_figures.Explained(pixels, why.heatmap, why.visible_box, why.target, answer.confidence)
)
gallery([pixels, heat], ["the photo", f"what speaks for {why.target}"], columns=2)

# %% [markdown]
# **Pictures that are no cars.** A classifier has to answer something, unless it may say that it does not know. The
# threshold is set on validation photos, of which it turns 5% away; how many others it turns away is measured by
# `twincar evaluate --open-set`, and with a small network trained for minutes that is far from all.

# %%
from twincar.data.toy.non_cars import non_car_images

kinds, pictures = zip(*non_car_images(6), strict=True)
answers = classifier.predict(list(pictures))
said = [answer.answer.name if answer.accepted else answer.reason for answer in answers]
gallery(pictures, [f"{kind}:\n{text}" for kind, text in zip(kinds, said, strict=True)], columns=3)

# %% [markdown]
# And really without torch: a new process in which it cannot be imported.

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
# ## All of it in one file · `twincar report`
#
# A page to send to somebody: summary, curves, calibration, the classes it confuses, its surest mistakes with their heat
# maps. It opens anywhere, without network or server.

# %%
from twincar.evaluation.report.page import report

page = report(run.path)
print(f"{page.path.name}: {page.bytes / 1e6:.1f} MB")

# %% [markdown]
# ## And then
#
# ```sh
# twincar serve walkthrough/run/model-fp32.onnx     # an HTTP server: POST a photo, get the answer (twincar[serve])
# twincar demo walkthrough/run/model-fp32.onnx      # a page to drop photos on (twincar[demo])
# twincar push walkthrough/run user/name            # to the hub, with a model card made from the run
# ```
#
# After which anybody has it in two lines, without torch:
#
# ```python
# classifier = twincar.load("user/name")
# classifier.predict("car.jpg")
# ```
#
# For your own cars, put them into `train/<class>/` and `test/<class>/` and give that folder to `prepare` in place of
# `DATA`. Names of the form *Make Model Body Year* are split into their parts.
