"""Folders of images: found, split, read. Needs no TensorFlow: evaluation runs on devices too."""
