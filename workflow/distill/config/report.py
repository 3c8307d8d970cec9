"""The config's `report` section: what results/report.html shows, and figures and tables for a paper."""

from pydantic import Field

from distill.config.base import Section


class Report(Section):
    """What results/report.html shows besides tables and figures, and how a paper has those."""

    prompts: int = Field(
        40, ge=0, description="Prompts of each set shown with all answers; 0 shows none, for data not to be passed on."
    )
    labels: dict[str, str] = Field(
        {},
        description="What figures and LaTeX tables call a system, by name, e.g. {bd_sampled: BD}; others keep theirs.",
    )
    figure_width: float = Field(
        9.6, ge=3, le=20, description="Width of figures in inches, e.g. 3.3 for a column of two; in [3, 20]."
    )
