"""The slice of the config that `split_data` depends on."""

from distill.config.base import Section


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
