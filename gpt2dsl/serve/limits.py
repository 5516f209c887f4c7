"""How much a request may ask for: looked at before any work is done for it."""

from __future__ import annotations

import attrs

from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.schema.sampling import Sampling


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of a server.

    Attributes:
        body: bytes of a request's body.
        stops: texts before which a text may be cut.
        stop_length: characters of each.
        texts: that run and wait at most.
    """

    body: int = 1 << 20
    stops: int = 4
    stop_length: int = 256
    texts: int

    def check(self, body: Sampling, prompts: int) -> None:
        """Refuse a request that asks for too much.

        Args:
            body: of it.
            prompts: that it continues.

        Raises:
            ApiError: it does.
        """
        stops = body.stops
        if len(stops) > self.stops:
            message = f"stop: {len(stops)} texts are more than {self.stops} (--max-stops)"
            raise ApiError(400, message, param="stop")
        if longest := max((len(stop) for stop in stops if len(stop) > self.stop_length), default=0):
            message = f"stop: a text of {longest} characters is longer than {self.stop_length}"
            raise ApiError(400, message, param="stop")
        texts = prompts * body.candidates
        if texts > self.texts:
            message = f"n and prompt: {texts} texts are more than {self.texts}, which fit here"
            raise ApiError(400, f"{message} at once (--batch, --queue)", param="n")
