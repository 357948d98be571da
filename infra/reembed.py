"""Change the embedding model without a pause: ``python -m infra.reembed build|switch|sweep|drop|list [MODEL]``.

In this order, with the Function App's settings in the environment (docs/rag.md tells the whole way):

1. The registry knows the new model; documents are ingested and searched with the old one.
2. ``switch NEW`` embeds every chunk, has the new vectors searched, and embeds what came in between. It can be stopped
   and started again at any time.
3. The registry's alias ``auto`` names the new model, so that ingestion uses it. Until then ``sweep NEW`` catches up.
4. ``drop OLD``, when nobody will want to go back. Before that, ``sweep OLD`` and ``switch OLD`` lead back.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from shared import container
from shared.config import Settings, SettingsError
from shared.domain.errors import RouterError
from shared.services.reembedding import ReembeddingService, Swept
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.vector_tables import PostgresVectorTables

_NEEDS_NO_MODEL = "list"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.reembed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("build", "switch", "sweep", "drop", _NEEDS_NO_MODEL))
    parser.add_argument("model", nargs="?", help="an embedding model's id in the registry")
    options = parser.parse_args(arguments)
    if options.model is None and options.action != _NEEDS_NO_MODEL:
        parser.error(f"{options.action} needs a model")
    try:
        asyncio.run(_run(Settings.from_env(), options.action, options.model or ""))
    except (RouterError, SettingsError) as error:
        sys.stderr.write(f"reembed: {error}\n")
        return 1
    return 0


async def _run(settings: Settings, action: str, model: str) -> None:
    built = await container.build(settings)
    pool = PostgresPool(settings.postgres_dsn, application_name="llm-router-reembed", statement_timeout_s=300.0)
    try:
        tables = PostgresVectorTables(pool)
        service = ReembeddingService(tables, built.embeddings, built.clock, built.ids, _tell)
        match action:
            case "build":
                _tell(await service.build(model))
            case "switch":
                _tell(await service.switch(model))
            case "sweep":
                _tell(await service.sweep(model))
            case "drop":
                await service.drop(model)
        for table in await tables.all():
            sys.stdout.write(f"{table.status:9} {table.model} ({table.dimensions})\n")
    finally:
        await pool.aclose()
        await built.close()


def _tell(swept: Swept) -> None:
    refused = f", {swept.refused} that no deployment of it may see" if swept.refused else ""
    sys.stdout.write(f"{swept.model}: {swept.embedded} chunks embedded{refused}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
