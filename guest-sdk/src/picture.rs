//! Pictures on the wire: a request's body becomes an [`Image`], an [`Image`] becomes a response.

use http::StatusCode;

use crate::bindings::wasi::http::types;
use crate::bindings::wasi::io::streams::{OutputStream, StreamError};
use crate::bindings::wharf::vision::images;
use crate::body::{BodyStream, HostStream, broken_body};
use crate::headers::media_type;
use crate::{Error, Format, FromRequest, Image, Multipart, Request, Result, VisionError, VisionErrorKind};

/// For a JPEG whose quality nobody set.
const DEFAULT_QUALITY: u8 = 90;

/// A picture as a response: the host encodes it straight into the answer's body. From [`Image::encoded`].
#[derive(Debug)]
pub struct Encoded {
    image: Image,
    format: Format,
    quality: u8,
}

impl Encoded {
    pub(crate) fn new(image: Image, format: Format) -> Self {
        Encoded { image, format, quality: DEFAULT_QUALITY }
    }

    /// For JPEG: 1 to 100; 90 unless set.
    pub fn quality(mut self, quality: u8) -> Self {
        self.quality = quality;
        self
    }

    pub(crate) fn media_type(&self) -> &'static str {
        match self.format {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
        }
    }

    pub(crate) fn write_to(&self, body: &OutputStream) -> std::result::Result<(), VisionError> {
        Ok(self.image.handle().encode_to(self.format, self.quality, body)?)
    }
}

/// Where in a body the picture is.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Body,
    Form,
}

/// What a content type promises. Anything that may be a picture is tried: the bytes decide. curl's
/// `--data-binary` says `application/x-www-form-urlencoded` unless told otherwise, so that counts too.
fn source(content_type: Option<&str>) -> Result<Source> {
    let Some(content_type) = content_type else { return Ok(Source::Body) };
    let media_type = media_type(content_type);
    match media_type.as_str() {
        "multipart/form-data" => Ok(Source::Form),
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(Source::Body),
        image if image.starts_with("image/") => Ok(Source::Body),
        other => Err(Error::unsupported_media_type(format!(
            "expected a picture (JPEG, PNG or WebP) as the body or in a form, got `{other}`"
        ))),
    }
}

impl FromRequest for Image {
    fn from_request(request: &mut Request) -> Result<Self> {
        match source(request.header("content-type"))? {
            Source::Form => Multipart::from_request(request)?.picture()?.image(),
            Source::Body => match request.open_body()? {
                BodyStream::Host(stream) => decode(&stream),
                BodyStream::Bytes(bytes) if bytes.is_empty() => {
                    Err(Error::bad_request("expected a picture, the request has no body"))
                }
                BodyStream::Bytes(bytes) => Ok(Image::decode(&bytes)?),
            },
        }
    }
}

fn decode(body: &HostStream) -> Result<Image> {
    match images::Image::decode_body(body.stream()) {
        Ok(handle) => Ok(Image::from_handle(handle)),
        Err(error) if error.kind == VisionErrorKind::Body => Err(cut_off(body, &error.message)),
        Err(error) => Err(VisionError::from(error).into()),
    }
}

/// Why the body under a picture ended: the stream says so once more, if its host keeps the cause.
fn cut_off(body: &HostStream, words: &str) -> Error {
    match body.stream().read(1) {
        Err(StreamError::LastOperationFailed(cause)) => broken_body(types::http_error_code(&cause), words),
        _ => Error::new(StatusCode::BAD_REQUEST, words),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn what_may_be_a_picture_is_tried() {
        for content_type in [
            None,
            Some("image/jpeg"),
            Some("IMAGE/PNG; x=y"),
            Some("application/octet-stream"),
            Some("application/x-www-form-urlencoded"),
        ] {
            assert_eq!(source(content_type), Ok(Source::Body), "{content_type:?}");
        }
        assert_eq!(source(Some("multipart/form-data; boundary=x")), Ok(Source::Form));
    }

    #[test]
    fn what_cannot_be_a_picture_is_named() {
        for content_type in ["application/json", "text/html; charset=utf-8", "text/plain", "multipart/mixed"] {
            let error = source(Some(content_type)).unwrap_err();
            assert_eq!(error.status(), 415);
            assert!(error.message().ends_with(&format!("got `{}`", media_type(content_type))), "{error}");
        }
    }

    #[test]
    fn an_empty_body_is_no_picture() {
        let error = Image::from_request(&mut Request::new(Method::POST, "/")).unwrap_err();
        assert_eq!((error.status().as_u16(), error.message()), (400, "expected a picture, the request has no body"));
    }

    #[test]
    fn a_form_without_a_picture_is_refused() {
        let mut request = Request::new(Method::POST, "/")
            .with_header("content-type", "multipart/form-data; boundary=X")
            .with_body("--X\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--X--\r\n");
        let error = Image::from_request(&mut request).unwrap_err();
        assert_eq!(
            (error.status().as_u16(), error.message()),
            (415, "expected a picture in the form, it has only `a`")
        );
    }
}
