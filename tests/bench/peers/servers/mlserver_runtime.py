"""A custom runtime of MLServer that runs onnxruntime, as its documentation shows. Runs in the environment `mlserver`."""

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxRuntime(MLModel):
    """The ONNX file of `parameters.uri`; one input, one output."""

    async def load(self) -> bool:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, settings, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name
        return True

    async def predict(self, payload):
        given = payload.inputs[0]
        array = NumpyCodec.decode_input(given).reshape(given.shape)
        answer = self.session.run([self.output], {self.input: array})[0]
        output = NumpyCodec.encode_output(self.output, answer)
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])
