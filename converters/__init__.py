"""edgepatch.converters: from a backbone to one shared graph, TFLite or ONNX."""
