"""Backbones: the frozen networks that tasks share."""
