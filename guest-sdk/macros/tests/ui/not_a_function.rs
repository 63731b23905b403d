use wharf_guest_macros::service;

struct Router;

#[service]
struct App {
    router: Router,
}

fn main() {}
