"""The small study, private copies of it, and the finished studies that are audited."""

from pathlib import Path

import pytest

from distill.files import ROOT_MANIFEST
from workplace import ROOT, micro_study, workplace

__all__ = ["micro_study", "workplace"]


@pytest.fixture(scope="session", params=["small", pytest.param("embedded", marks=pytest.mark.slow)])
def finished(request) -> Path:
    """The results of a finished study, which nobody changes: the small one, and the embedded one where it was run."""
    if request.param == "small":
        return request.getfixturevalue("micro_study").results
    if not (ROOT / "results" / ROOT_MANIFEST).is_file():
        pytest.skip("needs the results of the embedded study: make tables")
    return ROOT / "results"
