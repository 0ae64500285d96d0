"""The same ONNX files behind our server, KServe, MLServer, Triton and in process, measured round by round."""
