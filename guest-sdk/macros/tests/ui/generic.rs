use wharf_guest_macros::service;

struct Router;

#[service]
fn app<T: Default>() -> Router {
    Router
}

fn main() {}
