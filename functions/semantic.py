"""POST /semantic/embed and /semantic/analyze: vectors of texts, and what texts have to do with each other."""

from dataclasses import replace

from functions._edge import Call, Reply
from functions._orders import answer_headers, named_as, order_of, plain
from functions._wire.embeddings import embeddings_body
from functions._wire.parsing import parse
from functions._wire.semantic import AnalyzeTextsBody, EmbedBody, calls_body, found_body
from shared.services.semantic import SemanticService, moods_request, vectors_request

EMBED, ANALYZE = "semantic/embed", "semantic/analyze"


async def embed(call: Call) -> Reply:
    """Vectors of texts."""
    body = parse(call.body, EmbedBody)
    with named_as(body.param):
        order = order_of(call, body.embeddings.request(), body.router, endpoint=EMBED, model=body.model)
        answer = await call.container.embeddings.answer(order)
    return Reply(embeddings_body(answer, body.encoding_format), headers=answer_headers(answer))


async def analyze(call: Call) -> Reply:
    """What texts have to do with each other and what they say."""
    body = parse(call.body, AnalyzeTextsBody)
    question = body.question()
    # Admitted at the door: what the models use is settled here, whichever of them are called.
    request = vectors_request(question.texts, question.operations)
    for_vectors = order_of(call, request, body.vector_options(), endpoint=ANALYZE, model=body.model)
    for_moods = None
    if body.sentiment_model is not None:
        moods = moods_request(question.texts)
        for_moods = order_of(call, moods, body.router, endpoint=ANALYZE, model=body.sentiment_model)
        for_moods = replace(for_moods, ticket=None)
    service = SemanticService(call.container.embeddings, call.container.routing, call.container.ids)
    with named_as(body.param):
        found = await service.analyse(question, replace(for_vectors, ticket=None), for_moods)
    if call.ticket is not None:
        call.ticket.close(found.tokens)
    answer = {"request_id": call.request_id, **found_body(found), "calls": calls_body(found)}
    return Reply({**answer, "cost_usd": float(found.cost_usd)}, headers={"x-router-cost-usd": plain(found.cost_usd)})
