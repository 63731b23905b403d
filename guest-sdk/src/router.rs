//! [`Router`]: from method and path to a handler.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::handler::{Endpoint, Handler, endpoint};
use crate::{Error, IntoResponse, Request, Response};

/// The routes of a service.
///
/// A pattern is `/`-separated; `{name}` stands for one segment and `{*name}`, at the end, for all that is
/// left (at least one). The most literal pattern wins: `/models/all` before `/models/{name}` before
/// `/{*rest}`. `GET` handlers also answer `HEAD`. Adding a method to a pattern twice keeps the later handler.
///
/// An unknown path is a 404; a known path with another method a 405 with `allow`.
///
/// ```
/// use wharf_guest::{Method, Path, Request, Router};
///
/// let app = Router::new().get("/hello/{name}", |Path(name): Path<String>| format!("hello {name}"));
/// assert_eq!(app.call(Request::new(Method::GET, "/hello/world")).body(), Some(b"hello world".as_slice()));
/// assert_eq!(app.call(Request::new(Method::POST, "/hello/world")).status(), 405);
/// ```
#[derive(Default)]
pub struct Router {
    /// Most specific first.
    routes: Vec<Route>,
    fallback: Option<Box<Endpoint>>,
    /// A pattern that is none. Every request is answered with it, so that the first one finds it.
    invalid: Option<String>,
}

struct Route {
    pattern: Vec<Segment>,
    /// `None` is any method.
    handlers: Vec<(Option<Method>, Box<Endpoint>)>,
}

/// In order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Parameter(String),
    Rest(String),
}

impl Router {
    /// No routes.
    pub fn new() -> Self {
        Router::default()
    }

    /// Answer `GET` and `HEAD` on a path.
    pub fn get<A: 'static>(self, pattern: &str, handler: impl Handler<A>) -> Self {
        self.route(Some(Method::GET), pattern, handler)
    }

    /// Answer `POST` on a path.
    pub fn post<A: 'static>(self, pattern: &str, handler: impl Handler<A>) -> Self {
        self.route(Some(Method::POST), pattern, handler)
    }

    /// Answer `PUT` on a path.
    pub fn put<A: 'static>(self, pattern: &str, handler: impl Handler<A>) -> Self {
        self.route(Some(Method::PUT), pattern, handler)
    }

    /// Answer `DELETE` on a path.
    pub fn delete<A: 'static>(self, pattern: &str, handler: impl Handler<A>) -> Self {
        self.route(Some(Method::DELETE), pattern, handler)
    }

    /// Answer any method on a path, unless it has a handler of its own.
    pub fn any<A: 'static>(self, pattern: &str, handler: impl Handler<A>) -> Self {
        self.route(None, pattern, handler)
    }

    /// Answer what no route does, in place of the 404.
    pub fn fallback<A: 'static>(mut self, handler: impl Handler<A>) -> Self {
        self.fallback = Some(endpoint(handler));
        self
    }

    fn route<A: 'static>(mut self, method: Option<Method>, pattern: &str, handler: impl Handler<A>) -> Self {
        let pattern = match parse(pattern) {
            Ok(pattern) => pattern,
            Err(problem) => {
                self.invalid.get_or_insert(format!("route `{pattern}`: {problem}"));
                return self;
            }
        };
        let at = match self.routes.iter().position(|route| same(&route.pattern, &pattern)) {
            Some(at) => at,
            None => {
                let at = self.routes.partition_point(|route| route.pattern < pattern);
                self.routes.insert(at, Route { pattern, handlers: Vec::new() });
                at
            }
        };
        if let Some(route) = self.routes.get_mut(at) {
            route.handlers.retain(|(known, _)| *known != method);
            route.handlers.push((method, endpoint(handler)));
        }
        self
    }

    /// Answer one request. The host calls this through `#[service]`; a test calls it itself.
    pub fn call(&self, mut request: Request) -> Response {
        let origin = format!("{} {}", request.method(), request.path());
        let response = self.answer(&mut request).unwrap_or_else(IntoResponse::into_response);
        if let Some(failure) = response.failure() {
            match response.status() {
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => log::warn!("{origin}: {failure}"),
                _ => log::error!("{origin}: {failure}"),
            }
        }
        response
    }

    fn answer(&self, request: &mut Request) -> Result<Response, Error> {
        if let Some(problem) = &self.invalid {
            return Err(Error::internal(problem));
        }
        let path = segments(request.path())?;
        let Some((route, parameters)) =
            self.routes.iter().find_map(|route| Some((route, capture(&route.pattern, &path)?)))
        else {
            return match &self.fallback {
                Some(fallback) => Ok(fallback(request)),
                None => Err(Error::not_found(format!("no route for {} {}", request.method(), request.path()))),
            };
        };
        match route.handler(request.method()) {
            Some(handler) => {
                request.set_parameters(parameters);
                Ok(handler(request))
            }
            None => Ok(route.method_not_allowed(request)),
        }
    }
}

impl Route {
    fn handler(&self, method: &Method) -> Option<&Endpoint> {
        let of = |wanted: Option<&Method>| {
            self.handlers.iter().find(|(known, _)| known.as_ref() == wanted).map(|(_, handler)| &**handler)
        };
        of(Some(method))
            .or_else(|| if method == Method::HEAD { of(Some(&Method::GET)) } else { None })
            .or_else(|| of(None))
    }

    fn method_not_allowed(&self, request: &Request) -> Response {
        let mut allowed: Vec<&str> =
            self.handlers.iter().filter_map(|(method, _)| Some(method.as_ref()?.as_str())).collect();
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
        let allowed = allowed.join(", ");
        let message = format!("{} is not possible on {}; possible: {allowed}", request.method(), request.path());
        Error::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response().with_header("allow", allowed)
    }
}

/// Two patterns that match the same paths, whatever their parameters are called.
fn same(a: &[Segment], b: &[Segment]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Parameter(_), Segment::Parameter(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        })
}

fn parse(pattern: &str) -> Result<Vec<Segment>, &'static str> {
    let Some(rest) = pattern.strip_prefix('/') else { return Err("a pattern starts with `/`") };
    let mut parsed = Vec::new();
    for segment in rest.split('/') {
        if matches!(parsed.last(), Some(Segment::Rest(_))) {
            return Err("`{*…}` comes last");
        }
        parsed.push(match segment.strip_prefix('{').map(|inner| inner.strip_suffix('}')) {
            Some(Some(name)) => match name.strip_prefix('*') {
                Some("") => return Err("a parameter needs a name: `{*name}`"),
                Some(name) => Segment::Rest(name.to_owned()),
                None if name.is_empty() => return Err("a parameter needs a name: `{name}`"),
                None => Segment::Parameter(name.to_owned()),
            },
            None if !segment.contains(['{', '}']) => Segment::Literal(segment.to_owned()),
            _ => return Err("a parameter is a whole segment: `/{name}/`"),
        });
    }
    Ok(parsed)
}

/// The decoded segments of a request's path.
fn segments(path: &str) -> Result<Vec<String>, Error> {
    let decode = |segment| match percent_decode_str(segment).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Error::bad_request(format!("the path segment `{segment}` is not UTF-8"))),
    };
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect()
}

/// The parameters of a path, if the pattern matches it.
fn capture(pattern: &[Segment], path: &[String]) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let mut left = path;
    for segment in pattern {
        let (first, rest) = left.split_first()?;
        match segment {
            Segment::Literal(literal) if literal == first => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(_) if first.is_empty() => return None,
            Segment::Parameter(name) => parameters.push((name.clone(), first.clone())),
            Segment::Rest(name) => {
                parameters.push((name.clone(), left.join("/")));
                return Some(parameters);
            }
        }
        left = rest;
    }
    left.is_empty().then_some(parameters)
}

#[cfg(test)]
mod tests;
