//! Handlers: functions whose arguments are made from the request.

use crate::{FromRequest, IntoResponse, Request, Response};

/// A function of up to six extractors that returns something a response can be made of. `A` is the tuple
/// of its arguments; it only tells the implementations apart.
#[diagnostic::on_unimplemented(
    message = "this is not a handler",
    label = "arguments must be extractors (at most six), the result a response",
    note = "a handler is a plain function, e.g. `fn predict(image: Image) -> Result<Json<Answer>>`"
)]
pub trait Handler<A>: 'static {
    /// Make the arguments, call the function, make the response.
    fn call(&self, request: &mut Request) -> Response;
}

/// A handler whose arguments' types are forgotten.
pub(crate) type Endpoint = dyn Fn(&mut Request) -> Response;

pub(crate) fn endpoint<A: 'static>(handler: impl Handler<A>) -> Box<Endpoint> {
    Box::new(move |request| handler.call(request))
}

macro_rules! handlers {
    ($(($($argument:ident)*))*) => {$(
        #[allow(non_snake_case, unused_variables, reason = "one name serves as type and value")]
        impl<F, R, $($argument),*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + 'static,
            R: IntoResponse,
            $($argument: FromRequest,)*
        {
            fn call(&self, request: &mut Request) -> Response {
                $(
                    let $argument = match $argument::from_request(request) {
                        Ok(argument) => argument,
                        Err(error) => return error.into_response(),
                    };
                )*
                self($($argument),*).into_response()
            }
        }
    )*};
}

handlers! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E G) }
