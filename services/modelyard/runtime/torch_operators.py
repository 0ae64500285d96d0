"""The operators that a torch.export program may call, by their names in ATen, and those that reckon with sizes.

All compute tensors from tensors and numbers. None opens a file (`from_file` would), takes code, or reaches another process.
"""

from __future__ import annotations

from typing import Final

OPERATORS: Final = frozenset(
    """
    _adaptive_avg_pool2d _assert_tensor_metadata _log_softmax _native_batch_norm_legit_no_training _softmax _to_copy
    _unsafe_view abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add addmm alias amax amin any arange argmax
    argmin avg_pool1d avg_pool2d avg_pool3d batch_norm bitwise_and bitwise_not bitwise_or bmm cat ceil channel_shuffle chunk
    clamp clamp_max clamp_min clone constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    convolution cos cumsum detach div dropout einsum elu embedding eq erf exp expand expand_as eye
    feature_dropout flatten flip floor floor_divide fmod full full_like gather ge gelu glu group_norm gt hardsigmoid hardswish
    hardtanh index index_select instance_norm isinf isnan layer_norm le leaky_relu lift_fresh_copy linear linspace log log10
    log1p log2 log_softmax logical_and logical_not logical_or logsumexp lt masked_fill matmul max max_pool1d max_pool2d
    max_pool2d_with_indices max_pool3d maximum mean min minimum mish mm movedim mul native_group_norm native_layer_norm ne neg
    new_full new_ones new_zeros norm one_hot ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal
    reflection_pad1d reflection_pad2d relu relu6 remainder repeat replication_pad1d replication_pad2d reshape roll round rsqrt
    rsub scaled_dot_product_attention scatter select selu sigmoid sign silu sin slice softmax softplus sort split
    split_with_sizes sqrt squeeze stack std sub sum sym_size t take tan tanh to topk transpose tril triu unbind unflatten
    unfold unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var var_mean view view_as where zeros
    zeros_like
    """.split()  # noqa: SIM905  # a list of words reads better than one of quotes
)
"""Operators of ATen that compute tensors from tensors, without a trailing underscore; of sizes see SIZE_OPERATORS."""
IN_PLACE: Final = frozenset(
    """
    add_ clamp_ detach_ div_ dropout_ elu_ hardsigmoid_ hardswish_ hardtanh_ leaky_relu_ mul_ relu_ relu6_ selu_ sigmoid_ silu_
    sub_ tanh_
    """.split()  # noqa: SIM905
)
"""Those that may change their first argument, where it was computed: never an input, a weight or a constant."""
SIZE_OPERATORS: Final = frozenset(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "neg"))
"""Arithmetic of sizes, by the names of Python's module `operator`."""
