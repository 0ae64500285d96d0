"""Triton by PyTriton: a function bound to each model, batched by Triton. Runs in the environment `triton`.

python triton_bound.py --model NAME=FILE ... --port PORT --http-port PORT --metrics-port PORT [--threads N] [--delay-us N]
"""

import argparse
import os

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

CORES = len(os.sched_getaffinity(0))
KINDS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def main():
    given = options()
    config = TritonConfig(
        grpc_port=given.port, http_port=given.http_port, metrics_port=given.metrics_port, grpc_address="127.0.0.1", log_verbose=0
    )
    with Triton(config=config) as triton:
        for each in given.model:
            bind(triton, *each.split("=", 1), given)
        triton.serve()


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", action="append", required=True)
    for name in ("--port", "--http-port", "--metrics-port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--delay-us", type=int, default=0)
    return parser.parse_args()


def bind(triton, name, path, given):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = given.threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    source, answer = session.get_inputs()[0], session.get_outputs()[0]

    @batch
    def infer(**inputs):
        return session.run([answer.name], inputs)

    triton.bind(
        model_name=name,
        infer_func=infer,
        inputs=[Tensor(name=source.name, dtype=KINDS[source.type], shape=tuple(source.shape[1:]))],
        outputs=[Tensor(name=answer.name, dtype=np.float32, shape=tuple(answer.shape[1:]))],
        config=ModelConfig(max_batch_size=8, batcher=DynamicBatcher(max_queue_delay_microseconds=given.delay_us)),
        strict=False,
    )


if __name__ == "__main__":
    main()
