"""edgepatch soak: does it go on for years?"""

from __future__ import annotations

from typing import Any

import click

from edgepatch.cli.common import engine_option, json_option, number_of, patch_option, show


@click.command()
@click.argument("graph", metavar="GRAPH")
@click.argument("images", metavar="IMAGE...", nargs=-1)
@patch_option(help="A task; give several.")
@click.option("--answers", type=int, default=200_000, show_default=True, help="Predictions, each behind a switch.")
@click.option("--workers", type=int, default=4, show_default=True, help="Threads that switch and predict at once.")
@click.option("--memory", "memory_mb", type=float, metavar="MB", help="For baked models; by default for half of them.")
@engine_option
@json_option
def command(
    graph: str,
    images: tuple[str, ...],
    patches: tuple[str, ...],
    answers: int,
    workers: int,
    memory_mb: float | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Switch and predict among the tasks of GRAPH, in several threads, for very long; tell what that does to answers,
    memory and file handles. Without IMAGEs, of random pictures.

    Each answer is compared to the last bit with what its task says in a runtime of its own; if one differs, the exit
    code is 1. Some 200 answers a second; whether memory grows is told of 20,000 and more.

    \b
    edgepatch soak mobilenet.tflite --patch flowers.epatch --patch digits.epatch photos/*.jpg
    edgepatch soak mobilenet.tflite --patch flowers.epatch --patch digits.epatch --answers 1000000 --json
    """
    from edgepatch.bench.soak import soak

    found = soak(graph, patches, images, answers=answers, workers=workers, engine=engine, memory_mb=memory_mb)
    show(found, _text(found), as_json)
    return 1 if found["wrong"] else 0


def _text(found: dict[str, Any]) -> str:
    memory, forms = found["memory"], found["forms"]
    slope = memory["slope_kib"]
    return "\n".join(
        [
            f"{found['answers']:,} answers of {number_of(found['tasks'], 'task')} in "
            f"{number_of(found['workers'], 'thread')}, each behind a switch; "
            f"{found['reloads']:,} patches read again; {found['engine']}, {found['seconds']:,.0f} s",
            f"answers: {found['wrong']:,} wrong; {forms.get('bind', 0):,} bound, {forms['bake']:,} baked, "
            f"{forms['either']:,} the same in both forms",
            f"memory: {memory['warm_mib']:.1f} MiB when warm, {memory['end_mib']:.1f} at the end, "
            f"{memory['most_mib']:.1f} at most; least of each half {' and '.join(map(str, memory['least_mib']))}; "
            + (f"slope {slope:+.2f} KiB for 1,000 answers" if slope is not None else "too few answers for a slope"),
            *(
                f"{what}: {counts['before']} before, {counts['most']} at most, {counts['after']} after"
                for what, counts in (("file handles", found["handles"]), ("threads", found["threads"]))
            ),
        ]
    )
