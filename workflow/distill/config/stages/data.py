"""Config slices of the data stages."""

from typing import Literal

from distill.config.base import Section
from distill.config.data import Source
from distill.config.models import FolderModel, HubModel


class GatherSource(Section):
    """Slice of gather_source; `name` is instructions, dev, plain_text or an evaluation set."""

    name: str
    source: Source
    seed: int


class MakeTokenizer(Section):
    """Slice of make_tokenizer; `model` is null for scratch models, whose tokenizer is trained."""

    model: HubModel | FolderModel | None
    vocabulary_size: int
    wrapper: str


class SplitData(Section):
    """Slice of split_data; `test` names the evaluation set that is cut, and rows are 0 where nothing is cut."""

    test: str | None
    test_rows: int
    dev_rows: int
    train_rows: int | None
    split_seed: int
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int


class PrepareEvaluation(Section):
    """Slice of prepare_evaluation.

    `part` is dev or test where the set is cut from the instructions, else null. `leave_out` names the test sets whose
    prompts leave dev. `max_total_tokens` is set for dev, whose responses are read, and null for a set that is only
    generated on.
    """

    name: str
    part: Literal["dev", "test"] | None
    leave_out: list[str] = []
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int | None = None
