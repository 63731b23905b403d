//! Extractors: a handler's arguments, made from the request. [`Image`](crate::Image) and
//! [`Multipart`](crate::Multipart) have files of their own.

use http::Method;
use serde::de::DeserializeOwned;

use crate::headers::media_type;
use crate::{Error, Headers, Request, Result, values};

/// Something that can be made from a request. One extractor of a handler at most may take the body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor",
    note = "`Image`, `Json`, `Multipart`, `Query`, `Path`, `Headers`, `Method`, `String` and `Vec<u8>` are"
)]
pub trait FromRequest: Sized {
    /// Make it, or say which status the caller gets.
    fn from_request(request: &mut Request) -> Result<Self>;
}

/// JSON: as an argument the request's body, as a result the answer.
///
/// Another content type is a 415, no JSON a 400, JSON of another shape a 422.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        if let Some(content_type) = request.header("content-type") {
            let media_type = media_type(content_type);
            if media_type != "application/json" && !media_type.ends_with("+json") {
                return Err(Error::unsupported_media_type(format!(
                    "expected JSON (content-type: application/json), got `{media_type}`"
                )));
            }
        }
        let body = request.take_body()?;
        if body.is_empty() {
            return Err(Error::bad_request("expected JSON, the request has no body"));
        }
        serde_json::from_slice(&body).map(Json).map_err(|error| {
            let message = format!("JSON body: {error}");
            if error.is_data() { Error::unprocessable(message) } else { Error::bad_request(message) }
        })
    }
}

/// The query string as a struct of named fields, each text, number, bool, an enum without contents,
/// an `Option` or a `Vec` of these. `?draw` alone is `true`. A wrong or missing field is a 400 that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        let pairs = form_urlencoded::parse(request.query().as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        values::from_pairs(pairs).map(Query).map_err(|error| Error::bad_request(format!("query: {error}")))
    }
}

/// The path's parameters: one value, a tuple in the order of the pattern, or a struct by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Path<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        let pairs = request.parameters().to_vec();
        values::from_pairs(pairs).map(Path).map_err(|error| Error::bad_request(format!("path: {error}")))
    }
}

/// The body as it came.
impl FromRequest for Vec<u8> {
    fn from_request(request: &mut Request) -> Result<Self> {
        request.take_body()
    }
}

/// The body as text; anything but UTF-8 is a 400.
impl FromRequest for String {
    fn from_request(request: &mut Request) -> Result<Self> {
        String::from_utf8(request.take_body()?)
            .map_err(|error| Error::bad_request(format!("expected text: {}", error.utf8_error())))
    }
}

impl FromRequest for Headers {
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(request.headers().clone())
    }
}

impl FromRequest for Method {
    fn from_request(request: &mut Request) -> Result<Self> {
        Ok(request.method().clone())
    }
}

/// Not being there is `None`; being wrong still is an error.
impl<T: DeserializeOwned> FromRequest for Option<Json<T>> {
    fn from_request(request: &mut Request) -> Result<Self> {
        match request.header("content-type") {
            None => Ok(None),
            Some(_) => Json::from_request(request).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Options {
        #[serde(default)]
        top: Option<u32>,
        #[serde(default)]
        draw: bool,
        #[serde(default)]
        tag: Vec<String>,
    }

    fn post(content_type: &str, body: &str) -> Request {
        Request::new(Method::POST, "/").with_header("content-type", content_type).with_body(body)
    }

    fn failure<T: std::fmt::Debug>(result: Result<T>) -> (u16, String) {
        let error = result.unwrap_err();
        (error.status().as_u16(), error.message().to_owned())
    }

    #[test]
    fn a_query_becomes_a_struct() {
        let mut request = Request::new(Method::GET, "/?top=3&draw&tag=a+b&tag=%C3%A9");
        let Query(options) = Query::<Options>::from_request(&mut request).unwrap();
        assert_eq!(options, Options { top: Some(3), draw: true, tag: vec!["a b".into(), "é".into()] });
        let Query(none) = Query::<Options>::from_request(&mut Request::new(Method::GET, "/")).unwrap();
        assert_eq!(none, Options { top: None, draw: false, tag: vec![] });
    }

    #[test]
    fn a_wrong_query_names_the_field() {
        let mut request = Request::new(Method::GET, "/?top=many");
        let (status, message) = failure(Query::<Options>::from_request(&mut request));
        assert_eq!((status, message.as_str()), (400, "query: `top`: expected a whole number, got `many`"));
    }

    #[test]
    fn json_is_checked_from_outside_in() {
        let parse = |content_type, body| failure(Json::<Options>::from_request(&mut post(content_type, body)));
        assert_eq!(
            parse("text/html", "<p>"),
            (415, "expected JSON (content-type: application/json), got `text/html`".into())
        );
        assert_eq!(parse("application/json", ""), (400, "expected JSON, the request has no body".into()));
        assert_eq!(parse("application/json", "{\"top\":").0, 400);
        let (status, message) = parse("application/problem+json; charset=utf-8", "{\"top\":\"x\"}");
        assert_eq!(status, 422);
        assert!(message.contains("line 1 column"), "{message}");
    }

    #[test]
    fn the_body_is_read_once() {
        let mut request = post("text/plain", "hello");
        assert_eq!(String::from_request(&mut request).unwrap(), "hello");
        assert_eq!(failure(String::from_request(&mut request)).0, 500);
    }

    #[test]
    fn text_must_be_utf8() {
        let mut request = Request::new(Method::POST, "/").with_body(vec![0xff]);
        assert_eq!(failure(String::from_request(&mut request)).0, 400);
    }
}
