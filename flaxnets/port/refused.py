"""Callables and attributes of torch that the operator table refuses, each with the reason.

A name without a prefix is a function of ``torch`` and a method of ``torch.Tensor``, including its in-place variant.
"""

_REASONS = {
    "the shape of its result depends on values. Fix: use torch.where or a mask, which keep the shape": """
        argwhere masked_select nonzero unique unique_consecutive
    """,
    "accesses the memory of a tensor, which JAX arrays do not expose. Fix: index or reshape": """
        as_strided as_strided_copy as_strided_scatter Tensor.const_data_ptr Tensor.data_ptr torch.empty_permuted
        torch.empty_strided Tensor.is_set_to Tensor.new_empty_strided Tensor.resize resize_as Tensor.set_ Tensor.storage
        Tensor.storage_offset Tensor.storage_type Tensor.stride Tensor.untyped_storage Tensor.dim_order
        Tensor.module_load Tensor.as_subclass torch.from_file torch.frombuffer torch.from_dlpack torch.to_dlpack
        torch.is_storage
    """,
    "a variant of a view for compilers. Fix: use the function without _copy": """
        torch.diagonal_copy torch.expand_copy torch.indices_copy torch.permute_copy torch.slice_copy torch.split_copy
        torch.split_with_sizes_copy torch.squeeze_copy torch.t_copy torch.transpose_copy torch.unbind_copy
        torch.unfold_copy torch.unsqueeze_copy torch.values_copy torch.view_as_complex_copy torch.view_as_real_copy
        torch.view_copy torch.ccol_indices_copy torch.col_indices_copy torch.crow_indices_copy torch.row_indices_copy
        slice_inverse
    """,
    "belongs to torch's autograd. Fix: use jax.grad or nnx.grad outside of the model": """
        Tensor.backward Tensor.grad Tensor.grad_dtype Tensor.grad_fn Tensor.is_leaf Tensor.output_nr
        Tensor.register_hook Tensor.register_post_accumulate_grad_hook Tensor.reinforce Tensor.requires_grad
        Tensor.retain_grad Tensor.retains_grad Tensor.volatile torch.set_anomaly_enabled
        torch.is_anomaly_check_nan_enabled autograd.grad autograd.backward autograd.set_grad_enabled
        torch.set_grad_enabled
    """,
    "JAX has no sparse arrays that behave like torch's. Fix: use dense arrays": """
        Tensor.ccol_indices Tensor.coalesce Tensor.col_indices Tensor.crow_indices Tensor.dense_dim Tensor.indices
        Tensor.row_indices Tensor.sparse_dim Tensor.sparse_mask Tensor.sparse_resize_ Tensor.values
        Tensor.sparse_resize_and_clear_ Tensor.to_sparse Tensor.to_sparse_bsc Tensor.to_sparse_bsr
        Tensor.to_sparse_coo Tensor.to_sparse_csc Tensor.to_sparse_csr torch.dsmm torch.hsmm torch.hspmm
        torch.saddmm smm sspaddmm torch.spmm resize_as_sparse torch.sparse_bsc_tensor torch.sparse_bsr_tensor
        torch.sparse_compressed_tensor torch.sparse_coo_tensor torch.sparse_csc_tensor torch.sparse_csr_tensor
    """,
    "works with nested tensors, which JAX does not have. Fix: pad and mask": "Tensor.to_padded_tensor",
    "works with quantized tensors, which JAX does not have. Fix: port the model before it is quantized": """
        torch.choose_qparams_optimized dequantize torch.empty_quantized torch.fake_quantize_per_channel_affine
        torch.fake_quantize_per_tensor_affine torch.fbgemm_linear_fp16_weight
        torch.fbgemm_linear_fp16_weight_fp32_activation torch.fbgemm_linear_int8_weight
        torch.fbgemm_linear_int8_weight_fp32_activation torch.fbgemm_linear_quantize_weight
        torch.fbgemm_pack_gemm_matrix_fp16 torch.fbgemm_pack_quantized_matrix torch.fused_moving_avg_obs_fake_quant
        int_repr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point
        Tensor.qscheme torch.quantize_per_channel torch.quantize_per_tensor torch.quantize_per_tensor_dynamic
        torch.quantized_batch_norm torch.quantized_gru torch.quantized_gru_cell torch.quantized_lstm
        torch.quantized_lstm_cell torch.quantized_max_pool1d torch.quantized_max_pool2d torch.quantized_max_pool3d
        torch.quantized_rnn_relu_cell torch.quantized_rnn_tanh_cell
    """,
    "a kernel for one type of device. Fix: use the function of torch.nn.functional": """
        torch.cudnn_affine_grid_generator torch.cudnn_batch_norm torch.cudnn_convolution
        torch.cudnn_convolution_add_relu torch.cudnn_convolution_relu torch.cudnn_convolution_transpose
        torch.cudnn_grid_sampler torch.cudnn_is_acceptable torch.miopen_batch_norm torch.miopen_convolution
        torch.miopen_convolution_add_relu torch.miopen_convolution_relu torch.miopen_convolution_transpose
        torch.miopen_ctc_loss torch.miopen_depthwise_convolution torch.miopen_rnn torch.mkldnn_adaptive_avg_pool2d
        torch.mkldnn_convolution torch.mkldnn_linear_backward_weights torch.mkldnn_max_pool2d
        torch.mkldnn_max_pool3d torch.mkldnn_rnn_layer Tensor.to_mkldnn F.grouped_mm F.scaled_grouped_mm F.scaled_mm
        torch.batch_norm_backward_elemt torch.batch_norm_backward_reduce torch.batch_norm_elemt
        torch.batch_norm_gather_stats torch.batch_norm_gather_stats_with_counts torch.batch_norm_stats
        torch.batch_norm_update_stats
    """,
    "the kernel behind a function of torch.nn.functional. Fix: use this function": """
        torch.binary_cross_entropy_with_logits torch.convolution torch.cosine_embedding_loss torch.ctc_loss
        torch.embedding_bag torch.embedding_renorm_ torch.feature_dropout torch.grid_sampler torch.grid_sampler_2d
        torch.grid_sampler_3d torch.hinge_embedding_loss torch.instance_norm torch.kl_div torch.margin_ranking_loss
        torch.native_batch_norm torch.native_dropout torch.native_group_norm torch.native_layer_norm
        torch.native_norm torch.poisson_nll_loss torch.triplet_margin_loss torch.norm_except_dim
        torch.frobenius_norm torch.nuclear_norm torch.segment_reduce
    """,
    "the kernel behind a layer. Fix: use nn.RNN, nn.LSTM, nn.GRU or their cells": """
        torch.gru torch.gru_cell torch.lstm torch.lstm_cell torch.rnn_relu torch.rnn_relu_cell torch.rnn_tanh
        torch.rnn_tanh_cell
    """,
    "returns pivots, error codes or a packed form that jax.numpy lacks. Fix: use torch.linalg.solve, inv or qr": """
        linalg.cholesky_ex linalg.inv_ex linalg.ldl_factor linalg.ldl_factor_ex linalg.ldl_solve linalg.lu
        linalg.lu_factor linalg.lu_factor_ex linalg.lu_solve linalg.solve_ex geqrf lu lu_solve
        torch.lu_unpack orgqr ormqr triangular_solve
    """,
    "was removed from torch or is deprecated. Fix: use torch.linalg": """
        eig lstsq torch.matrix_rank solve symeig Tensor.qr
    """,
    "draws random numbers inside an algorithm. Fix: use torch.linalg.svd or eigh": """
        torch.lobpcg torch.pca_lowrank torch.svd_lowrank
    """,
    "jax.scipy.special has no such function": """
        special.airy_ai special.bessel_j0 special.bessel_j1 special.bessel_y0 special.bessel_y1
        special.chebyshev_polynomial_t special.chebyshev_polynomial_u special.chebyshev_polynomial_v
        special.chebyshev_polynomial_w special.erfcx special.hermite_polynomial_h special.hermite_polynomial_he
        special.laguerre_polynomial_l special.legendre_polynomial_p special.modified_bessel_k0
        special.modified_bessel_k1 special.scaled_modified_bessel_k0 special.scaled_modified_bessel_k1
        special.shifted_chebyshev_polynomial_t special.shifted_chebyshev_polynomial_u
        special.shifted_chebyshev_polynomial_v special.shifted_chebyshev_polynomial_w special.spherical_bessel_j0
    """,
    "jax.numpy has no such function": """
        torch.gradient hash_tensor torch.histogramdd Tensor.chalf Tensor.sum_to_size torch.can_cast
    """,
    "calls a Python function on every element. Fix: use tensor operations": "Tensor.apply_ Tensor.map_ Tensor.map2_",
    "names a device, but arrays are placed outside of the model. Fix: omit it": """
        Tensor.device get_device Tensor.ipu Tensor.mtia Tensor.layout Tensor.record_stream torch.get_default_device
        torch.get_device_module torch.set_default_device torch.is_vulkan_available
    """,
    "draws from or sets torch's global generator. Fix: pass rngs": """
        torch.get_rng_state torch.initial_seed torch.Generator torch.manual_seed torch.seed torch.set_rng_state
        random.get_rng_state random.initial_seed random.manual_seed random.seed random.set_rng_state
        torch.thread_safe_generator
    """,
    "is control flow or a transformation over Python functions. Fix: use jax.lax or jax.vmap": """
        torch.cond torch.while_loop torch.vmap torch.compile torch.fork torch.wait
    """,
    "queries or configures the process or torch itself": """
        torch.are_deterministic_algorithms_enabled torch.autocast_decrement_nesting torch.autocast_increment_nesting
        torch.classproperty torch.clear_autocast_cache torch.compiled_with_cxx11_abi torch.get_autocast_cpu_dtype
        torch.get_autocast_dtype torch.get_autocast_gpu_dtype torch.get_autocast_ipu_dtype
        torch.get_autocast_xla_dtype torch.get_deterministic_debug_mode torch.get_file_path
        torch.get_float32_matmul_precision torch.get_num_interop_threads torch.get_num_threads
        torch.import_ir_module torch.import_ir_module_from_buffer torch.init_num_threads
        torch.is_autocast_cache_enabled torch.is_autocast_cpu_enabled torch.is_autocast_ipu_enabled
        torch.is_autocast_xla_enabled torch.is_deterministic_algorithms_warn_only_enabled
        torch.is_warn_always_enabled torch.load torch.merge_type_from_type_comment torch.parse_ir torch.parse_schema
        torch.parse_type_comment torch.prepare_multiprocessing_environment
        torch.profiler_allow_cudagraph_cupti_lazy_reinit_cuda12 torch.save torch.set_autocast_cache_enabled
        torch.set_autocast_cpu_dtype torch.set_autocast_cpu_enabled torch.set_autocast_dtype
        torch.set_autocast_enabled torch.set_autocast_gpu_dtype torch.set_autocast_ipu_dtype
        torch.set_autocast_ipu_enabled torch.set_autocast_xla_dtype torch.set_autocast_xla_enabled
        torch.set_default_dtype torch.set_default_tensor_type torch.set_deterministic_debug_mode
        torch.set_float32_matmul_precision torch.set_flush_denormal torch.set_num_interop_threads
        torch.set_num_threads torch.set_printoptions torch.set_warn_always torch.typename torch.unify_type_list
        torch.use_deterministic_algorithms F.assert_int_or_pair F.boolean_dispatch F.handle_torch_function
        F.has_torch_function F.has_torch_function_unary F.has_torch_function_variadic
    """,
    "is for symbolic shapes of torch's compiler": """
        torch.sym_constrain_range torch.sym_constrain_range_for_size torch.sym_float torch.sym_fresh_size
        torch.sym_int torch.sym_ite torch.sym_max torch.sym_min torch.sym_not torch.sym_sqrt torch.sym_sum
    """,
    "named dimensions and legacy functions are not supported. Fix: use new_zeros, new_tensor or an index": """
        Tensor.name Tensor.new Tensor.index
    """,
}


def _qualified(name: str) -> tuple[str, ...]:
    space, _, last = name.rpartition(".")
    spaces = {"": ("torch", "torch.Tensor"), "F": ("torch.nn.functional",), "torch": ("torch",)}
    return tuple(f"{each}.{last}" for each in spaces.get(space, (f"torch.{space}",)))


REFUSED = {
    qualified: reason for reason, names in _REASONS.items() for name in names.split() for qualified in _qualified(name)
}
