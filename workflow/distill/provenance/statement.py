"""What a record must hold: an in-toto Statement v1 with a SLSA provenance v1 predicate."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from distill.provenance.record import PREDICATE, STATEMENT

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


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
    command: list[str]
    code: str
    lock: str


class _Definition(BaseModel):
    externalParameters: _ExternalParameters  # noqa: N815 - SLSA's names
    internalParameters: _InternalParameters  # noqa: N815
    resolvedDependencies: list[_Input]  # noqa: N815


class _Builder(BaseModel):
    version: dict[str, str]


class _Times(BaseModel):
    startedOn: str  # noqa: N815
    finishedOn: str  # noqa: N815


class _Details(BaseModel):
    builder: _Builder
    metadata: _Times
    host: dict[str, Any]
    usage: dict[str, Any]
    tries: int
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
