"""The config's `efficiency` section: what the selected models cost to run."""

from pydantic import Field

from distill.config.base import Section


class Efficiency(Section):
    """Memory, latency, throughput and cost of each selected model, measured by the engine of `sampling`."""

    enabled: bool = Field(True, description="Whether they are measured, all in one job once the models are selected.")
    prompts: int = Field(
        20,
        ge=1,
        description="The first prompts of the first evaluation set: answered one at a time for the latency, together "
        "for the throughput; at least 1.",
    )
    price_per_hour: float | None = Field(
        1.0,
        ge=0,
        description="Price of this machine an hour, from which follows that of a million tokens; at least 0; null: no "
        "cost. The default is nobody's offer: it lets models be compared. A change reruns the tables alone.",
    )
    currency: str = Field("USD", description="Of the price.")
