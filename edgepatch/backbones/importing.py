"""Any Keras model of MobileNet's layers as a backbone. No code in its file is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepatch import files
from edgepatch.backbones import backbone, drafts, plan_json
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.keras_layers import KINDS, Layer, Walk, refuse
from edgepatch.backbones.weights import archive, keras_names, torchvision
from edgepatch.container import load_json
from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require
from edgepatch.imaging import Preprocessing

Scaling = tuple[tuple[float, ...], tuple[float, ...]]  # a channel's value is pixel x scale + offset
PREPROCESSING: dict[str, Scaling] = {
    "keras": (keras_names.SCALE, keras_names.OFFSET),
    "torch": (torchvision.SCALE, torchvision.OFFSET),
    "raw": ((1.0,) * 3, (0.0,) * 3),
}
SUFFIXES = (".keras", ".h5", ".hdf5")
MAX_CONFIG = 64 * 1024 * 1024


def read(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    preprocess: str | Scaling | None = None,
    labels: tuple[str, ...] = (),
) -> Backbone:
    """The backbone in a .keras or .h5 model.

    Args:
        path: of the file.
        size: side of the input in pixels, where the model leaves it open.
        preprocess: one of `PREPROCESSING`, or scale and offset of the three channels, for a model that does not prepare
            its pictures itself; `keras` if not given.
        labels: class names of its classifier; `class_0` and so on if not given.

    Raises:
        UsageError: an option does not fit the model.
        BadFileError: it is no functional Keras model, or has layers that a plan cannot express.
        MissingPackageError: Keras is not installed.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError("is not a name of a Keras model", file=path, expected=f"a name ending in {' '.join(SUFFIXES)}")
    if size is not None:
        _input(size, PREPROCESSING["raw"])
    keras = require("keras", extra="train", why="reading a Keras model")
    data = files.read(path, limit=backbone.MAX_BYTES)
    with _reading(path):
        refuse_strangers(_config(data, Path(path).suffix.lower()), path)
        loaded = keras.models.load_model(path, compile=False, safe_mode=True)
        model = keras.Model(loaded.inputs, loaded.outputs)  # a sequential model's functional form
        for name, count in (("inputs", len(model.inputs)), ("outputs", len(model.outputs))):
            if count != 1:
                raise BadFileError(f"has several {name}", file=path, field=name, got=count, expected=1)
        config = model.get_config()
        layers, output = [Layer(entry) for entry in config["layers"]], config["output_layers"][0][0]
        walk = Walk(layers, output, keras_names.of_model(model), size, path)
        plan = drafts.plan(backbone.IMPORTED, walk.drafts)
        # what is written must be read again
        plan_json.from_json(plan_json.to_json(plan.nodes), walk.size, plan.padding)
        tensors = drafts.tensors(plan, walk.drafts)
    if walk.head:
        tensors["head_kernel"], tensors["head_bias"] = walk.head
    backbone.check_tensors(plan, tensors, path)
    preprocessing, said = _preprocessing(walk, preprocess)
    facts = {
        "name": Path(path).name,
        "file": Path(path).name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "preprocessing": said,
        "licence": "",
    }
    return Backbone(plan, tensors, preprocessing, _labels(walk, labels), facts)


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names, one a line.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is not text, or has an empty line.
    """
    try:
        lines = files.read(path, limit=MAX_CONFIG).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadFileError("is not text", file=path) from error
    if not all(line.strip() for line in lines):
        raise BadFileError("has an empty line", file=path, expected="one class name a line")
    return tuple(line.strip() for line in lines)


def refuse_strangers(config: Any, path: object) -> None:
    """Refuse a model by its configuration before Keras makes anything of it.

    Raises:
        BadFileError: it is not a functional or sequential model of known layers of Keras itself.
    """
    kind = config.get("class_name") if isinstance(config, dict) else None
    inner = config["config"] if kind in ("Functional", "Sequential", "Model") else None
    entries = inner.get("layers") if isinstance(inner, dict) else inner  # Keras' first sequential models were lists
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadFileError(
            "is not a functional Keras model",
            file=path,
            field="class_name",
            got=kind,
            expected="a model made by keras.Model(inputs, outputs) or keras.Sequential",
        )
    before: list[str] = []
    for entry in entries:
        options = entry.get("config") if isinstance(entry.get("config"), dict) else {}
        name = entry.get("name") or options.get("name") or "?"
        layer = Layer({"inbound_nodes": [], "class_name": "?", **entry, "name": name, "config": options})
        layer.sources = layer.sources or before[-1:]
        before.append(layer.name)
        if layer.kind in ("Functional", "Sequential", "Model"):
            raise refuse(layer, "it is a model within the model", path)
        module = str(entry.get("module") or "keras")
        if layer.kind not in KINDS or module.partition(".")[0] != "keras":
            raise refuse(layer, "", path)


def _config(data: bytes, suffix: str) -> Any:
    """The configuration in a model's file; the suffix says which kind of file it is to Keras, too."""
    if suffix == ".keras":
        with archive.opened(data, backbone.MAX_BYTES) as packed:
            text = archive.content(packed, "config.json", MAX_CONFIG)
    else:
        h5py = require("h5py", extra="train", why="reading an .h5 model")
        with h5py.File(io.BytesIO(data)) as model:
            if "model_config" not in model.attrs:
                raise ValueError("it holds weights without a model")
            text = model.attrs["model_config"]
    if len(text) > MAX_CONFIG:
        raise ValueError("its configuration is too long")
    return load_json(text)


@contextlib.contextmanager
def _reading(path: object) -> Iterator[None]:
    """What goes wrong with a damaged or hostile model is the file's fault: zipfile, h5py and Keras raise anything."""
    try:
        yield
    except EdgepatchError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0] if isinstance(error, ValueError | OSError) else repr(error)
        raise BadFileError(
            f"is not a Keras model that can be read: {said[:200]}",
            file=path,
            mend=None if Path(str(path)).suffix == ".keras" else "Keras reads its models best from .keras files.",
        ) from error


def _preprocessing(walk: Walk, chosen: str | Scaling | None) -> tuple[Preprocessing, str]:
    """How pictures are prepared, and who says so."""
    scaling, said = chosen, "as given"
    if walk.scale is not None and walk.offset is not None:
        if chosen is not None:
            raise UsageError(
                "the model prepares its pictures itself",
                field="--preprocess",
                got=chosen if isinstance(chosen, str) else "scale and offset",
                mend="Leave it out.",
            )
        scaling, said = (tuple(walk.scale.tolist()), tuple(walk.offset.tolist())), "the model's own"
    elif scaling is None:
        scaling, said = "keras", "keras, for nothing in the model says otherwise"
    if isinstance(scaling, str):
        if scaling not in PREPROCESSING:
            raise UsageError(
                "there is no such preprocessing", field="--preprocess", got=scaling, expected=", ".join(PREPROCESSING)
            )
        said, scaling = said if chosen is None else scaling, PREPROCESSING[scaling]
    return _input(walk.size, scaling), said


def _input(size: int, scaling: Scaling) -> Preprocessing:
    try:
        return Preprocessing(size, "crop", *scaling)  # type: ignore[arg-type]  # it counts them
    except ValueError as error:
        raise UsageError(f"the input cannot be built: {error}", field="--size", got=size) from error


def _labels(walk: Walk, given: tuple[str, ...]) -> tuple[str, ...]:
    classes = 0 if walk.head is None else len(walk.head[1])
    if given and len(given) != classes:
        raise UsageError("there are labels for another classifier", field="--labels", got=len(given), expected=classes)
    return given or tuple(f"class_{index}" for index in range(classes))
