use wharf_guest_macros::service;

struct Router;

#[service]
fn app() -> Result<Router, String> {
    Ok(Router)
}

fn main() {}
