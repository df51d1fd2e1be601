"""BentoML with our classifier, in an environment of its own: `bentoml serve bench.peers_bento:Classifier`."""

# no `from __future__ import annotations`: BentoML reads the types of the API from them

from pathlib import Path

import bentoml

from bench import floor, peers_serving


@bentoml.service(workers=floor.CORES, traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self._classifier = peers_serving.Classifier()

    @bentoml.api
    def predict(self, file: Path) -> dict[str, list[float]]:
        return {"probabilities": self._classifier.predict(file.read_bytes())}
