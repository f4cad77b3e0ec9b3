"""Signed updates over the air, by The Update Framework (docs/updates.md).

`host` makes and extends a repository, a folder that any static web server hosts; `device` brings a store up to it.
What both must agree on stands here: names, custom metadata, the clock. `host` needs the extra `[publish]`, `device`
the extra `[update]`, which is pure Python; `edgepatch.runtime` imports neither.
"""
