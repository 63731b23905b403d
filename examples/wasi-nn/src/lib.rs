//! A service on standard interfaces alone: `wasi:http` to be asked, `wasi:nn` to infer. It knows nothing of
//! the host it runs on, so it runs unchanged on every host that offers these two.

mod classify;
mod http;

/// Generated from `wit/` and the standard packages beside the guest SDK.
mod bindings {
    wit_bindgen::generate!({
        path: ["../../guest-sdk/wit", "wit"],
        world: "examples:wasi-nn/wasi-nn",
        generate_all,
    });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{IncomingRequest, Method, ResponseOutparam};
use http::Response;

const ABOUT: &str = "\
A handwritten digit on plain wasi:http and wasi:nn.

POST /classify  64 numbers (8 rows of 8, ink 1, paper 0) as a JSON array or separated by commas,
                or 256 bytes of little-endian f32 as application/octet-stream
";

/// Everything the service accepts is far smaller: 64 numbers.
const BODY_LIMIT: usize = 16 * 1024;

struct Service;

impl Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        answer(&request).send(out);
    }
}

bindings::export!(Service with_types_in bindings);

fn answer(request: &IncomingRequest) -> Response {
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    match (path, request.method()) {
        ("/" | "", Method::Get) => Response::text(200, ABOUT),
        ("/classify", Method::Post) => classify(request).unwrap_or_else(|refused| refused),
        ("/" | "", _) => Response::text(405, "/ takes GET").with("allow", "GET"),
        ("/classify", _) => Response::text(405, "/classify takes POST").with("allow", "POST"),
        _ => Response::text(404, &format!("no route {path}; there are GET / and POST /classify")),
    }
}

fn classify(request: &IncomingRequest) -> Result<Response, Response> {
    let body = http::read_body(request, BODY_LIMIT)?;
    let raw = http::header(request, "content-type").is_some_and(|kind| kind.starts_with("application/octet-stream"));
    let pixels = if raw { classify::pixels_from_bytes(body) } else { classify::pixels_from_text(&body) };
    let pixels = pixels.map_err(|message| Response::text(400, &message))?;
    classify::run(pixels)
        .map(|probabilities| Response::json(&classify::to_json(&probabilities)))
        .map_err(|failure| Response::text(failure.status(), &failure.to_string()))
}
