"""KServe's ModelServer with a model class that runs onnxruntime, as its documentation shows. Runs in the environment `kserve`.

    python kserve_server.py --model NAME=FILE ... --port PORT --http-port PORT [--mode inline|pool] [--threads N]

`inline`: predict is a plain function, which KServe calls on its event loop (fastest for models that take microseconds).
`pool`: predict is a coroutine that hands the model to a pool of as many threads as there are cores.
Its line of log for every request is switched off (level WARNING), and so is its latency log.
"""

import argparse
import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import onnxruntime

CORES = len(os.sched_getaffinity(0))


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--mode", choices=["inline", "pool"], default="inline")
    parser.add_argument("--threads", type=int, default=CORES)
    return parser.parse_args()


given = options()
os.environ["KSERVE_LOGLEVEL"] = "WARNING"
import sys  # noqa: E402

sys.argv = sys.argv[:1]  # kserve reads the command line when it is imported

import kserve  # noqa: E402
from kserve import InferOutput, InferResponse, Model, ModelServer  # noqa: E402
from kserve.logging import logger  # noqa: E402

pool = ThreadPoolExecutor(CORES)


class OnnxModel(Model):
    """One ONNX file, one input, one output."""

    def __init__(self, name, path, threads):
        super().__init__(name)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name
        self.ready = True

    def answer(self, payload):
        array = self.session.run([self.output], {self.input: payload.inputs[0].as_numpy()})[0]
        output = InferOutput(name=self.output, shape=list(array.shape), datatype="FP32")
        output.set_data_from_numpy(array, binary_data=True)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


class Inline(OnnxModel):
    def predict(self, payload, headers=None, response_headers=None):
        return self.answer(payload)


class Pooled(OnnxModel):
    async def predict(self, payload, headers=None, response_headers=None):
        return await asyncio.get_running_loop().run_in_executor(pool, self.answer, payload)


if __name__ == "__main__":
    kserve.logging.configure_logging()
    logger.setLevel("WARNING")
    kind = Inline if given.mode == "inline" else Pooled
    models = [kind(*each.split("=", 1), given.threads) for each in given.model]
    server = ModelServer(http_port=given.http_port, grpc_port=given.port, enable_latency_logging=False, max_asyncio_workers=CORES)
    server.start(models)
