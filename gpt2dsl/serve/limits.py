"""Limits of requests, checked before any work is done for them."""

from __future__ import annotations

import attrs

from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.schema.sampling import Sampling


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of a server.

    Attributes:
        body: maximum bytes of the body of a request.
        stops: maximum number of stop strings.
        stop_length: maximum characters of each.
        texts: maximum number of running and waiting texts.
    """

    body: int = 1 << 20
    stops: int = 4
    stop_length: int = 256
    texts: int

    def check(self, body: Sampling, prompts: int) -> None:
        """Refuse a request that exceeds the limits, with an ApiError."""
        stops = body.stops
        if len(stops) > self.stops:
            message = f"stop: {len(stops)} texts are more than {self.stops}"
            cure = "--max-stops, task.max_stops in a recipe"
            raise ApiError(400, f"{message} ({cure})", param="stop")
        if longest := max((len(stop) for stop in stops if len(stop) > self.stop_length), default=0):
            message = f"stop: a text of {longest} characters is longer than {self.stop_length}"
            raise ApiError(400, message, param="stop")
        texts = prompts * body.candidates
        if texts > self.texts:
            message = f"n and prompt: {texts} texts are more than {self.texts}, which fit here"
            cure = "--batch and --queue, task.batch and task.queue in a recipe"
            raise ApiError(400, f"{message} at once ({cure})", param="n")
