//! {{name}}: JSON in, JSON out. `POST /greet` takes `{"name": "Ada"}`.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_guest::{Error, Json, Result, Router, info, service};

/// In characters.
const LONGEST_NAME: usize = 80;

#[service]
fn app() -> Router {
    Router::new()
        .get("/", || "POST /greet takes {\"name\": \"Ada\"}\n")
        .post("/greet", greet)
}

#[derive(Deserialize)]
struct Person {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    message: String,
}

/// Handlers only take apart and put together: what there is to test is in `greeting`.
fn greet(Json(person): Json<Person>) -> Result<Json<Greeting>> {
    let message = greeting(&person.name)?;
    info!("greeting {} characters", message.chars().count());
    Ok(Json(Greeting { message }))
}

fn greeting(name: &str) -> Result<String, BadName> {
    let name = name.trim();
    match name.chars().count() {
        0 => Err(BadName::Empty),
        length if length > LONGEST_NAME => Err(BadName::TooLong(length)),
        _ => Ok(format!("Hello {name}")),
    }
}

/// Why a name cannot be greeted.
#[derive(Debug, PartialEq, Eq)]
enum BadName {
    Empty,
    /// Its length, in characters.
    TooLong(usize),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => write!(f, "`name` is empty"),
            BadName::TooLong(length) => {
                write!(f, "`name` has {length} characters, {LONGEST_NAME} at most")
            }
        }
    }
}

/// What the caller gets: a 422 with the sentence above.
impl From<BadName> for Error {
    fn from(bad: BadName) -> Self {
        Error::unprocessable(bad)
    }
}

#[cfg(test)]
mod tests {
    use wharf_guest::{Method, Request, Response};

    use super::*;

    fn post(body: &str) -> Response {
        app().call(
            Request::new(Method::POST, "/greet")
                .with_header("content-type", "application/json")
                .with_body(body),
        )
    }

    #[test]
    fn names_are_greeted() {
        assert_eq!(greeting(" Ada "), Ok("Hello Ada".to_owned()));
        assert_eq!(greeting("  "), Err(BadName::Empty));
        assert_eq!(greeting(&"a".repeat(81)), Err(BadName::TooLong(81)));
    }

    #[test]
    fn the_route_answers_json() {
        let response = post(r#"{"name": "Ada"}"#);
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.body(),
            Some(br#"{"message":"Hello Ada"}"#.as_slice())
        );
    }

    #[test]
    fn bad_input_gets_the_right_status() {
        assert_eq!(post(r#"{"name": ""}"#).status(), 422);
        assert_eq!(post(r#"{"nam": "Ada"}"#).status(), 422);
        assert_eq!(post("{").status(), 400);
        assert_eq!(
            app().call(Request::new(Method::GET, "/greet")).status(),
            405
        );
    }
}
