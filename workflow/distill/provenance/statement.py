"""What a record must hold: an in-toto Statement v1 with a SLSA provenance v1 predicate."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StrictBool

from distill.provenance.record import PREDICATE, STATEMENT

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _is_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


Time = Annotated[str, AfterValidator(_is_time)]


class _Digest(BaseModel):
    sha256: Sha256


class _Subject(BaseModel):
    name: str
    digest: _Digest


class _Input(_Subject):
    uri: str


class _ExternalParameters(BaseModel):
    rule: str
    settings: dict[str, Any]


class _InternalParameters(BaseModel):
    command: list[str] = Field(min_length=2)
    code: str
    lock: str
    git_commit: str | None = None
    clean: StrictBool | None = None


class _Definition(BaseModel):
    externalParameters: _ExternalParameters  # noqa: N815 - SLSA's names
    internalParameters: _InternalParameters  # noqa: N815
    resolvedDependencies: list[_Input]  # noqa: N815


class _Builder(BaseModel):
    version: dict[str, str]


class _Times(BaseModel):
    startedOn: Time  # noqa: N815
    finishedOn: Time  # noqa: N815


class _Details(BaseModel):
    builder: _Builder
    metadata: _Times
    host: dict[str, Any]
    usage: dict[str, Any]
    tries: int
    resumed: StrictBool | None = None
    notes: dict[str, Any]


class _Predicate(BaseModel):
    buildDefinition: _Definition  # noqa: N815
    runDetails: _Details  # noqa: N815


class Statement(BaseModel):
    """A whole record, as `write_record` writes it; what an audit reads of it must be there."""

    type: Literal[STATEMENT] = Field(alias="_type")  # type: ignore[valid-type]  # a constant, which pydantic reads
    predicateType: Literal[PREDICATE]  # type: ignore[valid-type]  # noqa: N815
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicate: _Predicate
