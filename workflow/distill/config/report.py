"""The config's `report` section: what results/report.html shows besides tables and figures."""

from pydantic import Field

from distill.config.base import Section


class Report(Section):
    """What results/report.html shows besides tables and figures."""

    prompts: int = Field(
        40, ge=0, description="Prompts of each set shown with all answers; 0 shows none, for data not to be passed on."
    )
