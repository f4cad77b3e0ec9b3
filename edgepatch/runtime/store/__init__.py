"""The patch store: a directory on a device with one shared graph and the patches of its tasks (docs/store.md).

    STORE/state.json            what is installed; replaced whole, so that every change is one rename
    STORE/state.previous.json   the state before it: taken where state.json is damaged
    STORE/objects/SHA256.epatch, SHA256.tflite, SHA256.onnx    named by content, never changed
    STORE/lock                  held by whoever changes the store; readers need none

>>> from edgepatch.runtime.store import Store
>>> store = Store.create("/var/lib/tasks", "mobilenet.tflite")
>>> store.install("digits.epatch", "flowers.epatch")
>>> runtime = store.runtime()
"""

from edgepatch.runtime.store.change import Change, Outcome
from edgepatch.runtime.store.state import Newest, SharedGraph, State, Task, Version
from edgepatch.runtime.store.store import Active, Collected, Store
from edgepatch.runtime.store.verifying import Checked

__all__ = [
    "Active",
    "Change",
    "Checked",
    "Collected",
    "Newest",
    "Outcome",
    "SharedGraph",
    "State",
    "Store",
    "Task",
    "Version",
]
