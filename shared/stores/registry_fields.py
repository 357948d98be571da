"""Types of single fields that the tables of the registry and policy files share."""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.domain.security import SecurityLevel


def money(value: object) -> object:
    """Prices are text in the file, so that none passes through a binary float.

    Raises:
        ValueError: not text, or no number.
    """
    if not isinstance(value, str):
        raise ValueError('write prices as text, such as "0.075"')  # noqa: TRY004  # pydantic collects ValueError only
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError("not a decimal number") from None


def _level(value: object) -> object:
    labels = {level.label: level for level in SecurityLevel}
    if not isinstance(value, str) or value not in labels:
        raise ValueError(f"must be one of {', '.join(labels)}")
    return labels[value]


def storable_level(level: SecurityLevel) -> SecurityLevel:
    """The level, if content of it may ever be kept.

    Raises:
        ValueError: it may not.
    """
    if level is SecurityLevel.RESTRICTED:
        raise ValueError("restricted content is never kept")
    return level


def price_start_problems(starts: Sequence[date], available_from: date) -> Iterator[str]:
    """What is wrong with the days from which a model's prices are in force, at least one."""
    if any(later <= earlier for earlier, later in pairwise(starts)):
        yield "price: periods must be in ascending order of effective_from, each day once"
    if min(starts) > available_from:
        yield (
            f"price: the first period starts on {min(starts)}, after lifecycle.available_from "
            f"({available_from}): calls between the two would have no price"
        )


Usd = Annotated[Decimal, BeforeValidator(money), Field(ge=0, le=9999, max_digits=10, decimal_places=6)]
"""USD, or USD per one million tokens."""
Factor = Annotated[Decimal, BeforeValidator(money), Field(gt=0, le=9, max_digits=4, decimal_places=3)]
Level = Annotated[SecurityLevel, BeforeValidator(_level)]
ModelId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
DeploymentId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._@-]{0,119}$")]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@/-]{0,119}$")]
Region = Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+[0-9]{1,2})?$")]
"""A Google Cloud location: ``global``, a multi-region (``us``, ``eu``) or a region such as ``europe-west4``."""
Zone = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Text = Annotated[str, Field(min_length=1, max_length=400)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Table(BaseModel):
    """Base of every table: strict types, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
