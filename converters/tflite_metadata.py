"""TFLite Metadata: how tools that know nothing of patches learn a model's labels and its input's normalisation.

A flatbuffer of its own in a model's metadata (tflite-support's metadata_schema.fbs), and the labels in a zip behind the
model: the .tflite is both. Written by field numbers, for tflite-support is no longer released.

Its Task Library runs these models as they are; MediaPipe, its successor, only those whose normalisation is the same
for all channels.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from typing import Any

import flatbuffers
import numpy as np

from edgepatch.blob import Patch
from edgepatch.imaging import Preprocessing

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
PARSER = "1.0.0"  # the first version knew all that is used here
LABELS = "labels.txt"
IMAGE_PROPERTIES, NORMALIZATION_OPTIONS = np.uint8(2), np.uint8(1)  # members of unions
RGB, TENSOR_AXIS_LABELS = np.uint8(1), np.uint8(2)

# the schema's tables with their fields in order, as far as they are used
FIELDS = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "Content": "content_properties_type content_properties range",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "Stats": "max min",
    "AssociatedFile": "name description type locale version",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be written: fields that are texts, tables, lists of tables, float32 arrays, or numpy scalars."""

    name: str
    fields: dict[str, Any]


def table(kind: str, **fields: Any) -> Table:
    """A table of the schema; empty fields are left out of the file."""
    return Table(kind, fields)


def dump(patch: Patch, image: str, logits: str) -> bytes:
    """The metadata of a model of one task.

    Args:
        image, logits: names of its input and its output.
    """
    labels = table("AssociatedFile", name=LABELS, description="The class of each logit.", type=TENSOR_AXIS_LABELS)
    size = np.uint32(patch.input.size)
    picture = table("ImageProperties", color_space=RGB, default_size=table("ImageSize", width=size, height=size))
    how = {"stretch": "stretched to a square", "crop": "cut to the centre, 224 of 256 of its short side"}
    ends = [patch.input.normalise(np.full(3, pixel, np.float32)) for pixel in (0, 255)]
    inputs = table(
        "TensorMetadata",
        name=image,
        description=f"An RGB picture, {how[patch.input.resize]}.",
        content=table("Content", content_properties_type=IMAGE_PROPERTIES, content_properties=picture),
        process_units=_normalisation(patch.input),
        stats=table("Stats", max=np.maximum(*ends), min=np.minimum(*ends)),
    )
    outputs = table(
        "TensorMetadata",
        name=logits,
        description="One logit a class; their softmax are probabilities.",
        associated_files=[labels],
    )
    model = table(
        "ModelMetadata",
        name=patch.task,
        description=f"Image classifier of {len(patch.labels)} classes, made by edgepatch.",
        version=str(patch.version),
        subgraph_metadata=[table("SubGraphMetadata", input_tensor_metadata=[inputs], output_tensor_metadata=[outputs])],
        license=patch.licence,
        min_parser_version=PARSER,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def with_labels(model: bytes, labels: tuple[str, ...]) -> bytes:
    """A model with a zip behind it that holds the labels, a line each; the same model gives the same bytes."""
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "w") as archive:  # stored, not packed: readers on devices take nothing else
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{label}\n" for label in labels))
    return stream.getvalue()


def _normalisation(preprocessing: Preprocessing) -> list[Table]:
    """Our pixel * scale + offset as their (pixel - mean) / std; nothing where a channel is constant, with no std."""
    scale, offset = (np.asarray(each, np.float64) for each in (preprocessing.scale, preprocessing.offset))
    if not scale.all():
        return []
    options = table(
        "NormalizationOptions", mean=(-offset / scale).astype(np.float32), std=(1 / scale).astype(np.float32)
    )
    return [table("ProcessUnit", options_type=NORMALIZATION_OPTIONS, options=options)]


def _write(builder: Any, value: Any) -> int:
    """Where a text, a table or a vector was written; what it refers to is written first, as flatbuffers demand."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, list):
        places = [_write(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())
    names = FIELDS[value.name].split()
    fields = {name: item for name, item in value.fields.items() if isinstance(item, np.ndarray) or item}
    written = {
        name: item if np.isscalar(item) and not isinstance(item, str) else _write(builder, item)
        for name, item in fields.items()
    }
    builder.StartObject(len(names))
    for name, item in written.items():
        slot = names.index(name)
        if isinstance(item, np.uint8):
            builder.PrependUint8Slot(slot, int(item), 0)
        elif isinstance(item, np.uint32):
            builder.PrependUint32Slot(slot, int(item), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, item, 0)
    return int(builder.EndObject())
