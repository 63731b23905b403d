//! Between here and registries: pull, push, login, and what a registry says of a name.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::call::{Call, blocking, not_offered, ok};
use super::images::tell;
use super::progress;
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::Credentials;
use crate::image::{Images, Reference};

const AUTH: &str = "x-registry-auth";

/// What clients send as `X-Registry-Auth`, and as the body of a login.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuthRequest {
    username: String,
    password: String,
    serveraddress: String,
    identitytoken: String,
}

impl AuthRequest {
    /// `None`: nobody in particular.
    pub fn credentials(self) -> Option<Credentials> {
        if self.username.is_empty() && self.identitytoken.is_empty() {
            return None;
        }
        let identity_token = (!self.identitytoken.is_empty()).then_some(self.identitytoken);
        Some(Credentials { username: self.username, password: self.password, identity_token })
    }
}

fn credentials(call: &Call) -> Result<Option<Credentials>> {
    Ok(call.encoded::<AuthRequest>(AUTH)?.credentials())
}

/// `NAME`, and a tag or a digest.
fn reference(name: &str, tag: &str) -> Result<Reference> {
    let separator = if tag.contains(':') { '@' } else { ':' };
    if tag.is_empty() { name.parse() } else { format!("{name}{separator}{tag}").parse() }
}

/// Without a tag, every tag, as for pushes.
pub async fn pull(call: Call) -> Result<Response> {
    let Some(name) = call.query.text("fromImage") else {
        return not_offered("import is not offered: build the image from a Dockerfile, or load an archive");
    };
    let reference = reference(name, call.query.text("tag").unwrap_or_default())?;
    let platform = call.query.text("platform").map(str::to_owned);
    let credentials = credentials(&call)?;
    let control = call.control.clone();
    let references = if reference.tag.is_none() && reference.digest.is_none() {
        let tags = control.registry.tags(&reference, credentials.as_ref()).await.map_err(refused)?;
        tags.iter().map(|tag| reference.with_tag(tag)).collect::<Result<Vec<_>>>()?
    } else {
        vec![reference]
    };
    progress::answer(move |reporter| async move {
        let listener = |progress| reporter.try_tell(progress);
        for reference in references {
            let pulled = control.registry.pull(&reference, credentials.as_ref(), platform.as_deref(), &listener).await;
            pulled.map_err(refused)?;
            let name = reference.familiar();
            tell(&control, "pull", &name, &name);
        }
        Ok(())
    })
    .await
}

pub async fn push(call: Call, name: &str) -> Result<Response> {
    let credentials = credentials(&call)?;
    let control = call.control.clone();
    let references = match call.query.text("tag") {
        Some(tag) => vec![reference(name, tag)?],
        None => all_tags(call.control.images.clone(), name).await?,
    };
    progress::answer(move |reporter| async move {
        let listener = |progress| reporter.try_tell(progress);
        for reference in references {
            control.registry.push(&reference, credentials.as_ref(), &listener).await.map_err(refused)?;
            let name = reference.familiar();
            tell(&control, "push", &name, &name);
        }
        Ok(())
    })
    .await
}

/// A registry that wants a password is no 401: Docker's client would ask for one on its terminal, and wait for ever
/// where it has none. Docker answers 500 too.
fn refused(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthorized => Error::new(ErrorKind::Failed, error.chain()),
        _ => error,
    }
}

async fn all_tags(images: Images, name: &str) -> Result<Vec<Reference>> {
    let wanted = reference(name, "")?.familiar_name();
    let list = blocking(move || images.list()).await?;
    let tags = list.iter().flat_map(|image| &image.tags).filter_map(|tag| tag.parse::<Reference>().ok());
    let tags: Vec<Reference> = tags.filter(|tag| tag.familiar_name() == wanted).collect();
    if tags.is_empty() {
        let message = format!("An image does not exist locally with the tag: {wanted}");
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Ok(tags)
}

/// The client keeps the credentials; here they are only tried.
pub async fn login(mut call: Call) -> Result<Response> {
    let request: AuthRequest = call.json().await?;
    let server = request.serveraddress.clone();
    let Some(credentials) = request.credentials() else {
        return Err(Error::invalid("a user name and a password, or a token, are needed to log in"));
    };
    call.control.registry.login(&server, &credentials).await?;
    ok(&json!({"Status": "Login Succeeded", "IdentityToken": ""}))
}

pub async fn distribution(call: Call, name: &str) -> Result<Response> {
    let reference: Reference = name.parse()?;
    let credentials = credentials(&call)?;
    let found = call.control.registry.resolve(&reference, credentials.as_ref()).await?;
    let descriptor = json!({
        "mediaType": found.media_type, "digest": found.digest.to_string(), "size": found.size,
    });
    ok(&json!({"Descriptor": descriptor, "Platforms": found.platforms}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_in_particular_has_no_credentials() {
        let credentials = |json| serde_json::from_str::<AuthRequest>(json).unwrap().credentials();
        assert!(credentials("{}").is_none());
        assert!(credentials(r#"{"username":"u","password":"p","serveraddress":"x"}"#).is_some());
        assert!(credentials(r#"{"identitytoken":"t"}"#).is_some_and(|found| found.identity_token.is_some()));
    }
}
