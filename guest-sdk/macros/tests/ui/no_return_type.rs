use wharf_guest_macros::service;

struct Router;

#[service]
fn app() {
    Router;
}

fn main() {}
