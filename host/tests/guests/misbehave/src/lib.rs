//! One guest that does, by route, everything a host must survive, and tells what it got for it.
//!
//! A refusal by the host is no failure of the guest: such routes answer 200 with `{"outcome":"error",…}`. So a
//! test can tell what the guest says from what the host says about the guest.

mod floods;
mod inference;
mod surroundings;
mod wrecks;

use fixture::{IncomingRequest, Reply, Request, ResponseOutparam};

struct Misbehave;

impl fixture::Guest for Misbehave {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        fixture::report_panics();
        let request = Request::new(request);
        match request.path() {
            "/no-response" => drop(out),
            "/big-body" => floods::big_body(&request, out),
            "/drop-body" => floods::drop_body(out),
            "/trap-midway" => wrecks::trap_midway(out),
            path => answer(path, &request).send(out),
        }
    }
}

fixture::export!(Misbehave);

fn answer(path: &str, request: &Request) -> Reply {
    match path {
        "/ok" => Reply::text(200, "ok"),

        "/trap" => wrecks::trap(),
        "/panic" => wrecks::panic(),
        "/loop" => wrecks::spin(),
        "/alloc" => wrecks::allocate(),
        "/grow" => wrecks::grow(request),
        "/recurse" => wrecks::recurse(request),

        "/log-flood" => floods::log_flood(request),
        "/log" => floods::log(request),

        "/infer" => inference::infer(request),
        "/infer-wrong-shape" => inference::wrong_shape(),
        "/infer-wrong-dtype" => inference::wrong_datatype(),
        "/infer-wrong-name" => inference::wrong_name(),
        "/infer-missing-input" => inference::missing_input(),
        "/tensor-wrong-size" => inference::wrong_size(),
        "/open-foreign" => inference::open_foreign(),
        "/many-tensors" => inference::many_tensors(request),
        "/big-image" => inference::big_image(),
        "/decode" => inference::decode(request),

        "/read-all" => surroundings::read_all(request),
        "/ignore-body" => Reply::text(200, "ok"),
        "/echo-headers" => surroundings::echo_headers(request),
        "/status" => surroundings::status(request),
        "/sleep" => surroundings::sleep(request),
        "/egress" => surroundings::egress(request),
        "/env" => surroundings::env(request),
        "/counter" => surroundings::counter(),
        other => Reply::text(404, format!("misbehave has no route {other}")),
    }
}
