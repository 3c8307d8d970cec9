"""The slice of the config that `make_tokenizer` depends on."""

from distill.config.base import Section
from distill.config.given_models import FolderModel, HubModel


class MakeTokenizer(Section):
    """Slice of make_tokenizer; `model` is null for scratch models, whose tokenizer is trained."""

    model: HubModel | FolderModel | None
    vocabulary_size: int
    wrapper: str
