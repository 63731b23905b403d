//! `#[service]`, the one attribute of `wharf-guest`: check a signature, point at the token that is
//! wrong, expand to one call. What the call does is ordinary code in `wharf-guest`'s `export.rs`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, Item, ItemFn, ReturnType, Type};

/// Make a function that returns a `Router` the service this component exports.
///
/// ```ignore
/// #[wharf_guest::service]
/// fn app() -> Router {
///     Router::new().get("/", || "hello")
/// }
/// ```
///
/// The function runs once for each instance, before its first request. One crate has one service.
#[proc_macro_attribute]
pub fn service(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let (arguments, item) = (TokenStream::from(arguments), TokenStream::from(item));
    match expand(&arguments, item.clone()) {
        Ok(expanded) => expanded,
        // The item stays, so that a wrong signature is the only thing the compiler complains about.
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error)
        }
    }
    .into()
}

fn expand(arguments: &TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "#[service] takes no arguments"));
    }
    let function = as_function(syn::parse2(item)?)?;
    check(&function)?;
    let name = &function.sig.ident;
    Ok(quote! {
        #function
        ::wharf_guest::__private::export!(#name);
    })
}

fn as_function(item: Item) -> Result<ItemFn, Error> {
    match item {
        Item::Fn(function) => Ok(function),
        other => Err(Error::new(
            keyword(&other),
            "#[service] belongs on a function that returns a router: `fn app() -> Router`",
        )),
    }
}

/// The token that says what an item is, so that an error does not underline a whole block.
fn keyword(item: &Item) -> Span {
    match item {
        Item::Const(item) => item.const_token.span,
        Item::Enum(item) => item.enum_token.span,
        Item::Impl(item) => item.impl_token.span,
        Item::Mod(item) => item.mod_token.span,
        Item::Static(item) => item.static_token.span,
        Item::Struct(item) => item.struct_token.span,
        Item::Trait(item) => item.trait_token.span,
        Item::Type(item) => item.type_token.span,
        other => other.span(),
    }
}

fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(token.span, "handlers run synchronously: remove `async`"));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span, "the service function must be safe: remove `unsafe`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "the service function cannot be generic"));
    }
    if let Some(argument) = signature.inputs.first() {
        return Err(Error::new_spanned(
            argument,
            "the service function takes no arguments; a handler gets the request: `Router::new().post(\"/\", handler)`",
        ));
    }
    match &signature.output {
        ReturnType::Default => Err(Error::new(
            signature.paren_token.span.close(),
            "the service function must return a `Router`: add `-> Router`",
        )),
        ReturnType::Type(_, returned) if is_router(returned) => Ok(()),
        ReturnType::Type(_, returned) => {
            Err(Error::new_spanned(returned, "the service function must return a `Router`"))
        }
    }
}

/// Whether a type is written `Router`, or some path to it. The compiler checks that it is ours.
fn is_router(returned: &Type) -> bool {
    match returned {
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == "Router"),
        _ => false,
    }
}
