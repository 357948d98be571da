"""What a search asks the database: templates, whose `{vectors}` is the model's table and `{visible}` the filter."""

# ruff: noqa: S608  # what is put together here are constants; every value is a parameter

from typing import Final

TUNE: Final = b"""
    SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.max_scan_tuples', %s, true),
        set_config('hnsw.iterative_scan', 'relaxed_order', true),
        -- What fits one tenant's numbers does not fit another's.
        set_config('plan_cache_mode', 'force_custom_plan', true)"""
COLLECTION: Final = b"""
    SELECT number, chunks, lengths, highest_label, restricted, calibration FROM collections
    WHERE tenant = %(tenant)s AND name = %(name)s"""
FREQUENCIES: Final = b"""
    SELECT lexeme, chunks FROM lexemes
    WHERE lexeme = ANY(%(lexemes)s) AND tenant = %(tenant)s
        AND collection = (SELECT number FROM collections WHERE tenant = %(tenant)s AND name = %(name)s)"""
_SEEN: Final = """
    (live_acl = '{{}}' OR live_acl && %(groups)s::text[]) AND live_label <= %(level)s
    AND (%(documents)s::uuid[] IS NULL OR documents.id = ANY(%(documents)s))
    AND (%(metadata)s::jsonb IS NULL OR live_metadata @> %(metadata)s)"""
ALLOWED: Final = f"""
    WITH collection AS (
        SELECT number, restricted OR highest_label > %(level)s AS is_mixed FROM collections
        WHERE tenant = %(tenant)s AND name = %(name)s
    ), allowed AS MATERIALIZED (
        SELECT number, chunks FROM documents
        WHERE tenant = %(tenant)s AND collection = (SELECT number FROM collection) AND chunks > 0
            AND (%(is_narrow)s OR (SELECT is_mixed FROM collection)) AND {_SEEN}
    )
    SELECT coalesce(sum(chunks), 0), CASE WHEN sum(chunks) <= %(small)s THEN array_agg(number) END FROM allowed"""
"""How many chunks the documents have that the scope holds, and which they are, when those are few."""
VISIBLE: Final = f"""
    CROSS JOIN LATERAL (
        SELECT FROM chunks JOIN documents ON documents.number = chunks.document
        WHERE chunks.tenant = %(tenant)s AND chunks.id = found.chunk AND chunks.label <= %(level)s AND {_SEEN} OFFSET 0
    ) AS visible"""
"""Asked of one candidate after the other, the best first, until there are enough."""

NEAREST: Final = """
    SELECT found.chunk, 1 - (embedding <=> %(vector)s::halfvec) FROM {vectors} AS found {visible}
    WHERE found.tenant = %(tenant)s AND found.collection = %(collection)s
    ORDER BY embedding <=> %(vector)s::halfvec LIMIT %(candidates)s"""
"""By the graph, in which a search goes on until it has enough (iterative scan)."""
NEAREST_OF_ALL: Final = """
    SELECT found.chunk, 1 - (embedding <=> %(vector)s::halfvec) AS similarity FROM {vectors} AS found {visible}
    WHERE found.tenant = %(tenant)s AND found.collection = %(collection)s
    ORDER BY similarity DESC LIMIT %(candidates)s"""
"""One by one: no index orders by this."""
NEAREST_OF_SOME: Final = """
    SELECT id, 1 - (embedding <=> %(vector)s::halfvec) AS similarity
    FROM chunks JOIN {vectors} AS vectors ON vectors.tenant = %(tenant)s AND vectors.chunk = chunks.id
    WHERE chunks.tenant = %(tenant)s AND document = ANY(%(allowed)s) AND chunks.label <= %(level)s
    ORDER BY similarity DESC LIMIT %(candidates)s"""

_WORTH: Final = "weight * word.count / (word.count + %(fixed)s + %(by_length)s * word.length)"
"""`shared.rag.bm25`, with the word's rarity and what is the same for all chunks in its weight."""
_WORD: Final = """
    CROSS JOIN LATERAL (
        SELECT chunk, count, length FROM postings
        WHERE collection = %(collection)s AND lexeme = asked.lexeme AND tenant = %(tenant)s {of} OFFSET 0
    ) AS word"""
"""A fence: what the planner thinks of how common a word is fits no word in particular."""
BY_WORDS: Final = f"""
    SELECT found.chunk, found.score FROM (
        SELECT rare.chunk, rare.score + coalesce((
            SELECT sum({_WORTH})
            FROM unnest(%(common)s::integer[], %(common_weights)s::float8[]) AS asked (lexeme, weight)
            {_WORD.format(of="AND chunk = rare.chunk")}), 0) AS score
        FROM (
            SELECT word.chunk, sum({_WORTH}) AS score
            FROM unnest(%(rare)s::integer[], %(rare_weights)s::float8[]) AS asked (lexeme, weight)
            {_WORD.format(of="")}
            GROUP BY word.chunk ORDER BY score DESC, word.chunk LIMIT %(looked_at)s
        ) AS rare
        ORDER BY score DESC, chunk OFFSET 0
    ) AS found {{visible}} ORDER BY found.score DESC, found.chunk LIMIT %(candidates)s"""
"""The best chunks with one of the rare words; the common words only count for those. Filtered last, one by one."""
BY_WORDS_OF_SOME: Final = f"""
    SELECT chunks.id, sum({_WORTH}) AS score
    FROM chunks CROSS JOIN unnest(
        %(rare)s::integer[] || %(common)s::integer[],
        %(rare_weights)s::float8[] || %(common_weights)s::float8[]) AS asked (lexeme, weight)
    {_WORD.format(of="AND chunk = chunks.id")}
    WHERE chunks.tenant = %(tenant)s AND document = ANY(%(allowed)s) AND label <= %(level)s
    GROUP BY chunks.id ORDER BY score DESC, chunks.id LIMIT %(candidates)s"""
PASSAGES: Final = """
    SELECT chunks.id, documents.id, live_title, source, ordinal, text, prefix, page, start_offset, end_offset, tokens,
        encode(chunks.sha, 'hex'), chunks.label, {embedding}
    FROM chunks JOIN documents ON documents.number = chunks.document {joined}
    WHERE chunks.tenant = %(tenant)s AND chunks.id = ANY(%(ids)s)"""
WITH_VECTORS: Final = "LEFT JOIN {vectors} AS vectors ON vectors.tenant = %(tenant)s AND vectors.chunk = chunks.id"

ACTIVE_MODEL: Final = b"SELECT name FROM embedding_models WHERE status = 'active'"
CALIBRATE: Final = b"UPDATE collections SET calibration = %s WHERE tenant = %s AND name = %s"
UNCALIBRATED: Final = b"""
    SELECT name FROM collections
    WHERE tenant = %s AND chunks > 0 AND (
        calibration IS NULL OR calibration->>'model' <> %s
        OR NOT chunks BETWEEN (calibration->>'chunks')::bigint / 2 AND (calibration->>'chunks')::bigint * 2)
    ORDER BY name LIMIT %s"""
