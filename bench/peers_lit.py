"""LitServe with our classifier, in an environment of its own: `python -m bench.peers_lit PORT`."""

# no `from __future__ import annotations`: LitServe reads the type of `request` from it

import sys

import litserve
from fastapi import UploadFile

from bench import floor
from bench.peers_serving import Classifier


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._classifier = Classifier()

    def decode_request(self, request: UploadFile) -> bytes:  # it looks for this name
        return request.file.read()

    def predict(self, data: bytes) -> list[float]:
        return self._classifier.predict(data)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"probabilities": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=floor.CORES)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
