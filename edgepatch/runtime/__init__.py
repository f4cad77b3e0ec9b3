"""The device side: numpy and one interpreter. Nothing here imports TensorFlow, or anything above `blob`."""

from edgepatch.runtime.runtime import Runtime

__all__ = ["Runtime"]
