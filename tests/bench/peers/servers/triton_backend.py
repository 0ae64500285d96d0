"""A model of Triton's Python backend that runs onnxruntime: copied as `model.py` into Triton's model repository."""

import json
import os
import sys

sys.path.insert(0, os.environ["BENCH_PACKAGES"])  # Triton's embedded interpreter knows the standard library only

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The ONNX file of the parameter `onnx`; requests that Triton's dynamic batcher hands over together are run together."""

    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(parameters["threads"]["string_value"])
        path = parameters["onnx"]["string_value"]
        self.session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name

    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        answer = self.session.run([self.output], {self.input: joined})[0]
        responses, begin = [], 0
        for array in arrays:
            part = answer[begin : begin + len(array)]
            begin += len(array)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(self.output, part)]))
        return responses
