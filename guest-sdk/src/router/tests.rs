//! Routing by path, by method, and what is answered when nothing matches.

use http::Method;

use crate::{Path, Request, Response, Router};

fn app() -> Router {
    Router::new()
        .get("/{*rest}", |Path(rest): Path<String>| format!("rest {rest}"))
        .get("/models/{name}", |Path(name): Path<String>| format!("model {name}"))
        .get("/models/all", || "all")
        .get("/models/{name}/versions/{version}", |Path((name, version)): Path<(String, u32)>| {
            format!("{name} at {version}")
        })
        .post("/models/{id}", |Path(id): Path<String>| format!("made {id}"))
        .any("/any", |method: Method| method.to_string())
}

fn call(method: Method, path: &str) -> Response {
    app().call(Request::new(method, path))
}

fn text(response: &Response) -> &str {
    str::from_utf8(response.body().unwrap()).unwrap()
}

#[test]
fn the_most_literal_pattern_wins() {
    assert_eq!(text(&call(Method::GET, "/models/all")), "all");
    assert_eq!(text(&call(Method::GET, "/models/digits")), "model digits");
    assert_eq!(text(&call(Method::GET, "/models/digits/versions/3?x=1")), "digits at 3");
    assert_eq!(text(&call(Method::GET, "/a/b/c")), "rest a/b/c");
}

#[test]
fn parameters_are_decoded_after_splitting() {
    assert_eq!(text(&call(Method::GET, "/models/a%2Fb%20c")), "model a/b c");
    assert_eq!(call(Method::GET, "/models/%ff").status(), 400);
}

#[test]
fn one_path_may_have_many_methods() {
    assert_eq!(text(&call(Method::POST, "/models/digits")), "made digits");
    assert_eq!(text(&call(Method::HEAD, "/models/digits")), "model digits");
    assert_eq!(text(&call(Method::PATCH, "/any")), "PATCH");
}

#[test]
fn an_unknown_method_is_told_the_known_ones() {
    let response = call(Method::DELETE, "/models/digits");
    assert_eq!(response.status(), 405);
    assert_eq!(response.header("allow"), Some("GET, POST, HEAD"));
    assert_eq!(text(&response), r#"{"error":"DELETE is not possible on /models/digits; possible: GET, POST, HEAD"}"#);
}

#[test]
fn an_unknown_path_is_named() {
    let response = Router::new().get("/", || "home").call(Request::new(Method::GET, "/nowhere?x=1"));
    assert_eq!(response.status(), 404);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(text(&response), r#"{"error":"no route for GET /nowhere"}"#);
    assert_eq!(Router::new().get("/a", || "").call(Request::new(Method::GET, "/a/")).status(), 404);
}

#[test]
fn a_fallback_takes_what_is_left() {
    let app = Router::new().fallback(|| "anything");
    assert_eq!(text(&app.call(Request::new(Method::GET, "/nowhere"))), "anything");
}

#[test]
fn a_wrong_parameter_names_itself() {
    let response = call(Method::GET, "/models/digits/versions/three");
    assert_eq!(response.status(), 400);
    assert_eq!(text(&response), r#"{"error":"path: `version`: expected a whole number, got `three`"}"#);
}

#[test]
fn a_pattern_that_is_none_is_found_by_the_first_request() {
    for (pattern, problem) in [
        ("predict", "a pattern starts with `/`"),
        ("/{*rest}/x", "`{*…}` comes last"),
        ("/v{version}", "a parameter is a whole segment: `/{name}/`"),
        ("/{}", "a parameter needs a name: `{name}`"),
    ] {
        let response = Router::new().get("/", || "home").get(pattern, || "").call(Request::new(Method::GET, "/"));
        assert_eq!(response.status(), 500);
        assert_eq!(text(&response), format!(r#"{{"error":"route `{pattern}`: {problem}"}}"#));
    }
}

#[test]
fn the_later_handler_of_a_route_stays() {
    let app = Router::new().get("/{a}", || "first").get("/{b}", || "second");
    assert_eq!(text(&app.call(Request::new(Method::GET, "/x"))), "second");
}
