"""POST /embeddings: OpenAI's embeddings API over the router."""

from functions._edge import Call, Reply
from functions._orders import answer_headers, named_as, order_of
from functions._wire.embeddings import EmbeddingsBody, embeddings_body
from functions._wire.parsing import parse

ENDPOINT = "embeddings"


async def embeddings(call: Call) -> Reply:
    """Answer an embeddings request."""
    body = parse(call.body, EmbeddingsBody)
    order = order_of(call, body.request(), body.router, endpoint=ENDPOINT, model=body.model)
    with named_as(body.param):
        answer = await call.container.embeddings.answer(order)
    return Reply(embeddings_body(answer, body.encoding_format), headers=answer_headers(answer))
