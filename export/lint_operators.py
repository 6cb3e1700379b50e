"""Which operators an engine lacks, and the versions that it reads."""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.manifest import Target

__all__ = ["IR_VERSIONS", "LACKING", "MICROSOFT", "OPSETS"]

OPSETS: Mapping[Target, tuple[int, int]] = {"onnx": (7, 22), "openvino": (7, 23), "tensorrt": (9, 20)}
"""Oldest and newest of ONNX's own operators: those of onnxruntime 1.22 (ONNX 1.17; its documentation has 7 as the
oldest), of OpenVINO's table of operators, and of TensorRT 10.3 (ONNX 1.16; its parser's documentation says 9 to 20)."""

IR_VERSIONS: Mapping[Target, int] = {"onnx": 10, "tensorrt": 10}
"""Newest that is read: onnxruntime refuses a later one by number, and 1.22 has 10; TensorRT's provider is onnxruntime.
OpenVINO does not look."""

_SEQUENCES_AND_TEXT = frozenset(
    {
        *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceMap"),
        *("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
    }
)

LACKING: Mapping[Target, frozenset[str]] = {
    "onnx": frozenset({"ImageDecoder"}),
    "openvino": _SEQUENCES_AND_TEXT
    | {"Bernoulli", "DeformConv", "Det", "ImageDecoder", "MaxUnpool", "MelWeightMatrix"},
    "tensorrt": _SEQUENCES_AND_TEXT
    | {
        *("AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        *("CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "DeformConv", "Det"),
        *("DynamicQuantizeLinear", "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"),
        *("Multinomial", "NegativeLogLikelihoodLoss", "QLinearConv", "QLinearMatMul", "SequenceAt"),
        *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
        *("SoftmaxCrossEntropyLoss", "SplitToSequence", "Unique"),
        # In TensorRT since 10.4 and 10.5.
        *("BlackmanWindow", "HammingWindow", "HannWindow", "STFT"),
    },
}
"""Of ONNX's own, up to opset 22. onnxruntime: standard operators for which its CPU engine has neither a kernel nor a
function. OpenVINO: what its table of operators leaves empty. TensorRT: what TensorRT-RTX 1.7's parser says of itself
(``supports_operator``), and what onnx-tensorrt's changelog adds after 10.3."""

MICROSOFT: Mapping[Target, frozenset[str]] = {
    "onnx": frozenset(
        {
            *("Attention", "BiasGelu", "CDist", "ConvTransposeWithDynamicPads", "CropAndResize", "DequantizeLinear"),
            *("DynamicQuantizeMatMul", "ExpandDims", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "GatherND"),
            *("Gelu", "GridSample", "Inverse", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits"),
            *("MaxpoolWithMask", "MultiHeadAttention", "NhwcMaxPool", "Pad", "QAttention", "QGemm", "QLinearAdd"),
            *("QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu"),
            *("QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu", "Range"),
            *("RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "SparseToDenseMatMul"),
            *("TransposeMatMul", "Trilu", "Unique"),
        }
    ),
    "openvino": frozenset(
        {
            *("Attention", "BiasAdd", "BiasGelu", "DequantizeLinear", "DynamicQuantizeMatMul", "FastGelu", "FusedConv"),
            *("FusedGemm", "FusedMatMul", "GatherND", "Gelu", "GroupNorm", "GroupQueryAttention"),
            *("MatMulIntegerToFloat", "MatMulNBits", "Pad", "QLinearAdd", "QLinearAveragePool", "QLinearConcat"),
            *("QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax"),
            *("QLinearWhere", "QuantizeLinear", "QuickGelu", "Range", "RotaryEmbedding"),
            *("SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Trilu"),
        }
    ),
    "tensorrt": frozenset(),
}
"""Of com.microsoft, what a network of pictures may hold: onnxruntime has it on the CPU, OpenVINO in its table. No other
foreign domain is taken."""
