"""What was made from what, as a Mermaid diagram."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.jobs import job_of
from distill.command import Command, add_results, say


def mermaid(archive: Archive, artifacts: list[Artifact]) -> Iterator[str]:
    """Yields the lines of a Mermaid flowchart of artifacts with all behind them; a cylinder came from outside."""
    nodes = {artifact.name: f"n{index}" for index, artifact in enumerate(artifacts)}
    yield "flowchart LR"
    yield from (f'    {node}["{name}"]' for name, node in nodes.items())
    for artifact in artifacts:
        for entry in archive.inputs(artifact):
            used = entry.artifact.name if entry.artifact else entry.uri
            if used not in nodes:
                nodes[used] = f"n{len(nodes)}"
                yield f'    {nodes[used]}[("{used}")]'
            yield f"    {nodes[used]} -- {entry.name} --> {nodes[artifact.name]}"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="an artifact or its file, and all behind it; none for everything")
    add_results(parser)


def _run(options: Namespace) -> int:
    archive = study_archive(options.results)
    artifacts = [*archive.artifacts.values()]
    if options.path:
        artifact = job_of(archive, options.path)
        artifacts = [artifact, *archive.upstream(artifact)]
    say(*mermaid(archive, artifacts))
    return 0


COMMAND = Command("graph", "draw what was made from what (Mermaid)", _add_arguments, _run)
