"""The JSON of requests and responses, from which the OpenAPI description is made.

Predictions have the keys of `responses.photo_item`; a test compares them.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from twincar.core.options import Cars
from twincar.deploy.server.codes import OtherCode, PhotoCode, RefusalCode
from twincar.inference.results import Status
from twincar.inference.teach_errors import TeachCode
from twincar.models.levels import LevelName

_MOST_CANDIDATES = 1000
LEVELS = list(get_args(LevelName))
"""The levels of an answer, the most specific first."""


def _one_of(*values: str) -> WithJsonSchema:
    """The schema of a text that is one of these, or null."""
    return WithJsonSchema({"anyOf": [{"type": "string", "enum": list(values)}, {"type": "null"}]})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RequestOptions(_Strict):
    """The options for all photos of a request."""

    top_k: Annotated[
        int,
        Field(ge=1, le=_MOST_CANDIDATES, description="Number of candidates for each car, at most all classes."),
    ] = 5
    level: Annotated[
        LevelName | None,
        BeforeValidator(lambda value: value or None),  # a form has no null
        WithJsonSchema({"type": "string", "enum": LEVELS}),  # so that a generated client does not send one
        Field(
            description="The level of the answer, of which 'class' is make, model, body and year; by default the most "
            "specific one that is probable enough."
        ),
    ] = None
    cars: Annotated[Cars, Field(description="'main' names the main car of each photo only.")] = "all"
    explain: Annotated[bool, Field(description="Also return a Grad-CAM++ heatmap.")] = False


class TeachOptions(_Strict):
    """The car of all photos of a request."""

    name: Annotated[str, Field(max_length=200, description="The car in the photos, such as 'Seat Arona SUV 2018'.")]
    add: Annotated[bool, Field(description="Add the photos to a car that was taught before.")] = False


Base64Photos = Annotated[
    list[str],
    Field(description="The bytes of each photo file as base64, plain or as a data: URL. Nothing is fetched."),
]
Files = Annotated[
    list[Annotated[str, Field(json_schema_extra={"format": "binary"})]],
    Field(description="JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF; one file or several."),
]


class JsonPhotos(BaseModel):
    """The photos of a request in JSON, with any options."""

    model_config = ConfigDict(extra="allow")
    photos: Base64Photos


class PhotosAsJson(RequestOptions):
    """Photos as base64."""

    photos: Base64Photos


class PhotosAsForm(RequestOptions):
    """Photos as files of a form."""

    photos: Files


class TeachAsJson(TeachOptions):
    """Photos of one car as base64."""

    photos: Base64Photos


class TeachAsForm(TeachOptions):
    """Photos of one car as files of a form."""

    photos: Files


class CandidateItem(_Strict):
    """One possible class."""

    class_name: str
    probability: float


class LevelItem(_Strict):
    """The most likely group of classes at one level."""

    name: Annotated[
        str,
        Field(description="Such as 'BMW'; a model with its make, 'BMW M3'; a year as a text."),
    ]
    probability: float


class ExplanationItem(_Strict):
    """A Grad-CAM++ heatmap for one class."""

    target: Annotated[str, Field(description="The class that is explained.")]
    heatmap: Annotated[list[list[float]], Field(description="Rows of cells, from 0 to 1: the evidence for the class.")]
    visible_box: Annotated[
        tuple[float, float, float, float],
        Field(description="The area of the heatmap: left, top, right, bottom, pixels of the upright photo."),
    ]


class CarItem(_Strict):
    """The prediction for one car in a photo, or for the whole photo."""

    car: Annotated[
        int | None,
        Field(
            description="Its number in the photo, from 1; the most prominent car comes first. Null if no car was found."
        ),
    ]
    box: Annotated[
        tuple[int, int, int, int] | None,
        Field(
            description="The part of the photo that was cut out for it: left, top, right, bottom, pixels of the "
            "upright photo; null if the whole photo was taken."
        ),
    ]
    status: Annotated[
        str,
        WithJsonSchema({"type": "string", "enum": [str(status) for status in Status if status != Status.UNREADABLE]}),
        Field(description="'named' in full, 'named in part', such as by its make only, or why there is no answer."),
    ]
    answer: Annotated[str | None, Field(description="The answer, such as 'BMW Sedan'; null if there is none.")]
    level: Annotated[str | None, _one_of(*LEVELS), Field(description=f"The level of the answer: {', '.join(LEVELS)}.")]
    confidence: Annotated[
        float | None, Field(description="The calibrated probability of the answer; null if there is none.")
    ]
    make: Annotated[str | None, Field(description="Make of the answer; null if its level or its classes lack it.")]
    model: Annotated[str | None, Field(description="Model of the answer, likewise.")]
    body: Annotated[str | None, Field(description="Body of the answer, likewise.")]
    year: Annotated[int | None, Field(description="Model year of the answer, likewise.")]
    alternatives: Annotated[list[str], Field(description="The most likely classes, if the answer is a group.")]
    levels: Annotated[
        dict[Literal["make", "model", "body", "year"], LevelItem],
        Field(
            description="The most likely make, model, body and year, each by itself, whether or not they are the "
            "answer; empty if the car was rejected."
        ),
    ]
    top_k: Annotated[
        list[CandidateItem],
        Field(
            description="The most likely classes, most likely first, whether or not there is an answer; empty if no "
            "car was found."
        ),
    ]
    explanation: Annotated[
        ExplanationItem | None, Field(description="Only with `explain`: the evidence for the most likely class.")
    ] = None


class PredictionItem(CarItem):
    """The prediction for one photo: for its main car, and in `cars` for each."""

    photo: Annotated[str, Field(description="Its file name, or its number.")]
    car_count: Annotated[int, Field(description="Number of cars found in the photo; 1 if it was taken whole.")]
    width: Annotated[int, Field(description="Of the upright photo, pixels; boxes are within it.")]
    height: Annotated[int, Field(description="Of the upright photo, pixels.")]
    cars: Annotated[
        list[CarItem] | None,
        Field(
            description="All cars of the photo, the main one first, with the same fields; empty if no car was found, "
            "null with `cars=main`."
        ),
    ]


class Unreadable(_Strict):
    """A photo that could not be read."""

    photo: Annotated[str, Field(description="Its file name, or its number.")]
    status: Literal["unreadable"]
    error: Annotated[str, Field(description="Why, in one sentence.")]
    code: Annotated[PhotoCode, Field(description="Why, for programs.")]


class PredictResponse(_Strict):
    """One item per photo, in their order."""

    predictions: list[PredictionItem | Unreadable]


class TeachResponse(_Strict):
    """What became of the photos of a car."""

    name: Annotated[str, Field(description="The car, as the model names it.")]
    photos: Annotated[int, Field(description="By how many it is known now, those of before included.")]
    added: Annotated[int, Field(description="Photos of this request that it was taught by.")]
    repeated: Annotated[int, Field(description="Photos that were there already, or twice, and were left out.")]
    similarity: Annotated[
        float | None, Field(description="Mean similarity of any two of the added photos; null for a single one.")
    ]
    named: Annotated[
        float | None,
        Field(description="Share of the added photos that the others alone would name; null for fewer than three."),
    ]
    known_similarity: Annotated[
        float, Field(description="The similarity of photos of one car that the model was trained on, to compare.")
    ]
    warning: Annotated[str | None, Field(description="That there are too few photos, and what to expect; else null.")]
    classes: Annotated[int, Field(description="Number of classes of the model now.")]
    sha256: Annotated[str, Field(description="The model now, as in `/v1/model`.")]


class ForgetResponse(_Strict):
    """The model without a car that it was taught."""

    classes: Annotated[int, Field(description="Number of classes of the model now.")]
    sha256: Annotated[str, Field(description="The model now, as in `/v1/model`.")]


class Refused(BaseModel):
    """Why the request was refused, in one sentence."""

    error: Annotated[str, Field(description="Why, for people.")]
    code: Annotated[RefusalCode | TeachCode | PhotoCode | OtherCode, Field(description="Why, for programs.")]
    predictions: Annotated[list[Unreadable] | None, Field(description="The photos, if none of them could be read.")] = (
        None
    )


class ModelClass(_Strict):
    """One class of the model."""

    index: int
    name: str
    make: str
    model: str
    body: str
    year: int | None


class ModelInput(_Strict):
    """The preprocessing."""

    height: Annotated[int, Field(description="Pixels.")]
    width: Annotated[int, Field(description="Pixels.")]
    crop: float
    squash: bool


class ModelCalibration(_Strict):
    """The calibration and the thresholds of answers."""

    temperature: float
    photos: Annotated[int, Field(description="Validation photos it was fitted on; 0 if the model is not calibrated.")]
    confidence: Annotated[float, Field(description="Least probability with which an answer is given.")]
    false_rejection: Annotated[float, Field(description="Share of known cars that may be rejected as unknown.")]


class TaughtItem(_Strict):
    """One class that was added after training."""

    name: str
    photos: Annotated[int, Field(description="Number of photos it was taught by.")]
    date: Annotated[str, Field(description="Day on which it was taught last (UTC).")]


class ModelLicense(_Strict):
    """On what terms the model may be used."""

    id: Annotated[str | None, Field(description="Of the weights, such as 'apache-2.0'; null if it is not known.")]
    weights: Annotated[str, Field(description="The same as a phrase.")]
    data: Annotated[str, Field(description="Of the data it was trained on, as a phrase.")]


class RequestLimits(_Strict):
    """Limits on one request."""

    request_bytes: int
    photo_bytes: int
    photo_pixels: int
    photos: int


class ModelDescription(_Strict):
    """The description of the model."""

    name: str
    sha256: Annotated[
        str | None, Field(description="SHA-256 of the model file, which changes when it is taught; null for a folder.")
    ]
    version: Annotated[str, Field(description="Version of TwinCar.")]
    engine: str
    arithmetic: str
    backbone: str
    head: str
    input: ModelInput
    framing: Annotated[str, Field(description="'car' if it was trained on photos cut to the car, else 'photo'.")]
    finds_cars: Annotated[bool, Field(description="Whether the cars in photos are found and cut out first.")]
    calibration: ModelCalibration
    license: ModelLicense
    provenance: Annotated[dict[str, object], Field(description="Recipe, data, epoch, scores, versions.")]
    limits: RequestLimits
    taught: Annotated[list[TaughtItem], Field(description="The cars that it was taught; the last of the classes.")]
    classes: list[ModelClass]


class State(_Strict):
    """The state of the server."""

    status: str
