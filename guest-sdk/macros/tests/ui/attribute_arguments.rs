use wharf_guest_macros::service;

struct Router;

#[service(port = 5000)]
fn app() -> Router {
    Router
}

fn main() {}
