use wharf_guest_macros::service;

struct Router;

#[service]
fn app(_request: String) -> Router {
    Router
}

fn main() {}
