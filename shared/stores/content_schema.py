"""The shape of ``[services.*.content]`` in the policy file. docs/content.md says what each field does."""

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.domain.kept_content import MAX_DAYS, ContentRules
from shared.domain.security import SecurityLevel
from shared.stores.registry_fields import Level, Table, storable_level


class ContentTable(Table):
    """``[services.*.content]``: the service opts in to having prompts and answers kept."""

    keep_days: Annotated[int, Field(ge=1, le=MAX_DAYS)]
    max_level: Annotated[Level, AfterValidator(storable_level)] = SecurityLevel.INTERNAL

    def to_domain(self) -> ContentRules:
        """The domain's rules."""
        return ContentRules(keep_days=self.keep_days, max_level=self.max_level)
