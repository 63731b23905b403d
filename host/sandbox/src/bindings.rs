//! Host bindings, generated from `guest-sdk/wit`: the only `bindgen!` of the host.

wasmtime::component::bindgen!({
    path: "../../guest-sdk/wit",
    world: "wharf:guest/extensions",
    imports: {
        "wharf:inference/models.[method]model.infer": async | trappable,
        "wharf:inference/models.[method]pending.finish": async | trappable,
        "wharf:vision/images.[static]image.decode-body": async | trappable,
        "wharf:vision/images.[method]image.encode-to": async | trappable,
        "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
        default: trappable,
    },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wharf:inference/tensors.tensor": wharf_tensor::Tensor,
        "wharf:inference/models.model": crate::inference::OpenModel,
        "wharf:inference/models.pending": crate::inference::Pending,
        "wharf:vision/images.image": wharf_vision::Image,
        "wasi:nn/tensor.tensor": crate::nn::NnTensor,
        "wasi:nn/graph.graph": crate::nn::Graph,
        "wasi:nn/inference.graph-execution-context": crate::nn::Context,
        "wasi:nn/errors.error": crate::nn::NnError,
    },
});
