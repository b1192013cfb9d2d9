"""What goes in and comes out as JSON; the OpenAPI description is made from it.

Predictions have the keys of `Prediction.to_dict` and its relatives; a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from twincar.models.levels import LevelName

_MOST_CANDIDATES = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Asked(_Strict):
    """What is asked about every photo of a request."""

    top_k: Annotated[int, Field(ge=1, le=_MOST_CANDIDATES, description="Candidates a photo.")] = 5
    level: Annotated[
        LevelName | None,
        Field(description="The level to answer at; unless given, the most specific one that is probable enough."),
    ] = None
    explain: Annotated[bool, Field(description="Also tell where the model looked (Grad-CAM++).")] = False


class PhotosAsJson(Asked):
    """Photos as base64."""

    photos: Annotated[
        list[str],
        Field(description="Each the bytes of a photo file as base64, bare or as a data: address. Nothing is fetched."),
    ]


class PhotosAsForm(Asked):
    """Photos as files of a form."""

    photos: Annotated[
        list[Annotated[str, Field(json_schema_extra={"format": "binary"})]],
        Field(description="JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF; one file or several."),
    ]


class CandidateItem(_Strict):
    """One possible class."""

    class_name: str
    probability: float


class ExplanationItem(_Strict):
    """Where the model looked."""

    target: Annotated[str, Field(description="The class that is explained.")]
    heatmap: Annotated[list[list[float]], Field(description="Rows of cells, from 0 to 1: what speaks for that class.")]
    visible_box: Annotated[
        tuple[float, float, float, float],
        Field(description="What the cells cover: left, top, right, bottom, pixels of the upright photo."),
    ]


class Answer(_Strict):
    """The answer for one photo."""

    photo: Annotated[str, Field(description="Its file name, or its number.")]
    accepted: Annotated[bool, Field(description="Whether there is an answer.")]
    reason: Annotated[
        str, Field(description="Why there is none: 'not sure', 'not a car this model knows' or 'not calibrated'.")
    ]
    answer: Annotated[str, Field(description="What is answered, such as 'BMW Sedan'; empty if nothing is.")]
    level: Annotated[str, Field(description="How specific that is.")]
    level_probability: float | None
    alternatives: Annotated[list[str], Field(description="Classes it may be, where the answer is a group of them.")]
    class_name: Annotated[str, Field(description="The likeliest class, whether or not it is sure enough.")]
    confidence: Annotated[float, Field(description="Its probability, calibrated.")]
    make: str
    model: str
    body: str
    year: int | None
    levels: Annotated[
        dict[str, tuple[str, float]], Field(description="The likeliest make, model, body and year, each for itself.")
    ]
    topk: list[CandidateItem]
    explanation: ExplanationItem | None = None


class Unreadable(_Strict):
    """A photo that could not be read."""

    photo: str
    error: str


class PredictResponse(_Strict):
    """One item a photo, in their order."""

    predictions: list[Answer | Unreadable]


class Refused(BaseModel):
    """Why there is no answer, in one sentence."""

    error: str
    predictions: Annotated[
        list[Unreadable] | None, Field(description="Where there were photos and none could be read.")
    ] = None


class ModelClass(_Strict):
    """One answer there can be."""

    index: int
    name: str
    make: str
    model: str
    body: str
    year: int | None


class ModelInput(_Strict):
    """How a photo becomes the network's input."""

    height: Annotated[int, Field(description="Pixels.")]
    width: Annotated[int, Field(description="Pixels.")]
    crop: float
    squash: bool


class ModelCalibration(_Strict):
    """How far answers are trusted."""

    temperature: float
    photos: Annotated[int, Field(description="Validation photos it was fitted on; 0 if it was not.")]
    confidence: Annotated[float, Field(description="How probable an answer has to be to be given.")]
    false_rejection: Annotated[float, Field(description="Share of known cars that may be turned away as unknown.")]


class RequestLimits(_Strict):
    """What a request may hold."""

    request_bytes: int
    photo_bytes: int
    photo_pixels: int
    photos: int


class ModelAnswer(_Strict):
    """What there is to know of the model."""

    name: str
    version: Annotated[str, Field(description="Of TwinCar.")]
    engine: str
    arithmetic: str
    backbone: str
    head: str
    input: ModelInput
    calibration: ModelCalibration
    provenance: Annotated[dict[str, object], Field(description="Recipe, data, epoch, scores, versions.")]
    limits: RequestLimits
    classes: list[ModelClass]


class State(_Strict):
    """How the server is."""

    status: str
