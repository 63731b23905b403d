use wharf_guest_macros::service;

struct Router;

#[service]
async fn app() -> Router {
    Router
}

fn main() {}
